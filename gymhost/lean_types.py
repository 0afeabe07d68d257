"""What is read of a verify's large body at first: msgspec skips what these types do not name."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from gymhost.trajectory import Texts

__all__ = ["decode", "keys"]


# gc=False: a trajectory has thousands of items, and none of them can be part of a circle
class Part(Struct, gc=False):
    """A part of a content; only some have a text."""

    text: str | None = None


class Item(Struct, gc=False):
    """An output item."""

    type: str | None = "message"
    role: str | None = None
    content: str | list[Part | str | None] | None = None


class Response(Struct, gc=False):
    """A Responses API response object."""

    output: list[Item] | None = None


class Body(Struct, gc=False):
    """A verify's body: what verify looks at. A value that stays JSON is b"" where it lacks."""

    response: Response | list[Item] | None
    session_id: Raw = Raw()
    verifier_metadata: Raw = Raw()
    # of an earlier verdict, which the echo leaves out
    reward: Raw = Raw()
    reward_components: Raw = Raw()
    mask_sample: Raw = Raw()
    failure_kind: Raw = Raw()
    unmasked_reward: Raw = Raw()


_BODY = msgspec.json.Decoder(Body)
_KEYS = msgspec.json.Decoder(dict[str, Raw])
_JSON = Body.__struct_fields__[1:]
_VERDICT = _JSON[2:]


def decode(raw: bytes) -> tuple[Texts, dict[str, bytes]] | None:
    """Return a body's texts, and the JSON of what else verify looks at: b"" where it lacks.

    `raw` must be UTF-8. None where it is no JSON, has other types, or a verdict.
    """
    try:
        body = _BODY.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    if any(getattr(body, key) for key in _VERDICT):
        return None
    # at once: to read the items, and to let go of them, takes three times as long when they are
    # no longer in the processor's caches
    return _texts(body), {key: bytes(getattr(body, key)) for key in _JSON}


def _texts(body: Body) -> Texts:
    response = body.response
    output = response.output if isinstance(response, Response) else response
    texts: list[str] = []
    for item in output or ():
        if item.role == "assistant" and item.type == "message":
            content = item.content
            if not isinstance(content, list):
                texts.append(content or "")
            elif len(content) == 1 and isinstance(part := content[0], Part):  # as most are
                texts.append(part.text or "")
            else:
                texts.append("".join([_text(part) for part in content]))
    return Texts("\n".join(texts), texts[-1] if texts else "")


def keys(raw: bytes) -> set[str]:
    """Return the keys of what `decode` has taken."""
    return set(_KEYS.decode(raw))


def _text(part: Part | str | None) -> str:
    return (part.text if isinstance(part, Part) else part) or ""
