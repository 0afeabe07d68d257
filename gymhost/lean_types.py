"""What is read of a verify's large body at first: msgspec skips what these types do not name."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

__all__ = ["Body", "decode", "keys"]


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

    def messages(self) -> tuple[str, ...]:
        """Return the texts of the assistant's messages, as `Trajectory` defines them."""
        response = self.response
        output = response.output if isinstance(response, Response) else response
        found: list[str] = []
        for item in output or ():
            if item.role == "assistant" and item.type == "message":
                content = item.content
                if not isinstance(content, list):
                    found.append(content or "")
                elif len(content) == 1:  # as most have
                    found.append(_text(content[0]))
                else:
                    found.append("".join([_text(part) for part in content]))
        return tuple(found)


_BODY = msgspec.json.Decoder(Body)
_KEYS = msgspec.json.Decoder(dict[str, Raw])
_VERDICT = Body.__struct_fields__[3:]


def decode(raw: bytes) -> Body | None:
    """Return a body that is UTF-8; None where it is no JSON, has other types, or a verdict."""
    try:
        body = _BODY.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    return None if any(getattr(body, key) for key in _VERDICT) else body


def keys(raw: bytes) -> set[str]:
    """Return the keys of what `decode` has taken."""
    return set(_KEYS.decode(raw))


def _text(part: Part | str | None) -> str:
    return (part.text if isinstance(part, Part) else part) or ""
