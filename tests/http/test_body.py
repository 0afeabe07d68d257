"""A request's body: read within its limit, parsed once, and every JSON of it taken or refused."""

from __future__ import annotations

from typing import Any

import pytest

from gymhost.config import EnvironmentConfig
from gymhost.errors import BodyTooLarge, InvalidBody
from gymhost.http import api, body
from gymhost.http.body import ClientGone, parse_json, parse_object
from gymhost.http.http_exchange import HttpExchange
from gymhost.limits import Limits
from tests.environments import Diary
from tests.served import serve

LIMIT = 10


class Pieces:
    """A body that arrives piece by piece; it says how many were taken."""

    def __init__(self, *pieces: bytes | None) -> None:
        """None is a client that leaves."""
        self.pieces = list(pieces)
        self.taken = 0

    async def __call__(self) -> dict[str, Any]:
        piece = self.pieces[self.taken]
        self.taken += 1
        if piece is None:
            return {"type": "http.disconnect"}
        more = self.taken < len(self.pieces)
        return {"type": "http.request", "body": piece, "more_body": more}


def scope(length: str | None = None) -> dict[str, Any]:
    headers = [] if length is None else [(b"content-length", length.encode())]
    return {"type": "http", "headers": headers}


async def read_body(scope: dict[str, Any], receive: Pieces, limit: int) -> bytes:
    async def send(message: Any) -> None:
        raise AssertionError("nothing is answered")

    return await HttpExchange(scope, receive, send).read_body(limit)


@pytest.mark.parametrize(
    "pieces", [[b""], [b"0123456789"], [b"01234", b"56789"], [b"", b"0", b""], [b"0"] * 10]
)
async def test_a_body_within_its_limit_is_read_whole(pieces: list[bytes]) -> None:
    assert await read_body(scope(), Pieces(*pieces), LIMIT) == b"".join(pieces)


@pytest.mark.parametrize(
    ("length", "pieces", "taken"),
    [
        ("11", [b"0" * 11], 0),
        (None, [b"0" * 11], 1),
        (None, [b"0" * 6, b"0" * 6, b"0" * 6], 2),
        ("5", [b"0" * 11], 1),
        ("nonsense", [b"0" * 11], 1),
    ],
)
async def test_a_body_past_its_limit_is_refused_before_it_is_read_whole(
    length: str | None, pieces: list[bytes], taken: int
) -> None:
    receive = Pieces(*pieces)
    with pytest.raises(BodyTooLarge):
        await read_body(scope(length), receive, LIMIT)
    assert receive.taken == taken


@pytest.mark.parametrize("pieces", [[None], [b"0", None]])
async def test_a_client_that_leaves_before_its_body_has_come_is_told_nothing(
    pieces: list[bytes | None],
) -> None:
    with pytest.raises(ClientGone):
        await read_body(scope(), Pieces(*pieces), LIMIT)


async def test_a_request_whose_client_leaves_ends_without_an_error() -> None:
    async with serve({"diary": Diary()}) as served:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        key = f"Bearer {served.client.key}".encode()
        request = {
            "type": "http",
            "method": "POST",
            "path": "/envs/diary/seed_session",
            "query_string": b"",
            "headers": [(b"authorization", key)],
        }
        await served.client.app(request, Pieces(b"{", None), send)
        assert sent[0]["status"] == 400
        assert served.mount("diary").counts == {}


async def test_a_control_plane_body_past_its_limit_is_413_and_counted() -> None:
    config = EnvironmentConfig(plugin=Diary(), limits=Limits(body_bytes=100))
    async with serve({"diary": config, "other": Diary()}) as served:
        body = b'{"a": "' + b"x" * 100 + b'"}'
        for page in ("seed_session", "verify", "close_session"):
            answer = await served.post("diary", page, body)
            assert (answer.status_code, answer.json()["failure_kind"]) == (413, "body_too_large")
        assert served.mount("diary").counts == {"body_too_large": 3}
        await served.seed("diary")
        assert (await served.post("other", "seed_session", body)).status_code == 200


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b'"\\ud83d"', "\ufffd"),
        (b'"\\uDE00 x \\ud83d"', "\ufffd x \ufffd"),
        (b'"\\ud83d\\ud83d\\ude00"', "\ufffd\N{GRINNING FACE}"),
        (b'"\\\\ud83d \\ud83d"', "\\ud83d \ufffd"),
        (b'{"\\ud83d": 1}', {"\ufffd": 1}),
        ('"Grüße"'.encode(), "Grüße"),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"1e-400", 0.0),
        (b"1.5e308", 1.5e308),
        (b'["1e400", "' + b"9" * 400 + b'"]', ["1e400", "9" * 400]),
        (b'{"1e400": {"a": [true, null]}}', {"1e400": {"a": [True, None]}}),
    ],
)
def test_json_is_taken(raw: bytes, value: Any) -> None:
    assert parse_json(raw) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"9" * 250 + b"e99",
        b'{"a": [-1E+0400]}',
        b"9" * 400 + b".5",
        b"[1]2",
        b'"\xff"',
        b'"\\ud83d',
        b"\xef\xbb\xbf{}",
        b"'a'",
        b"[" * 500 + b"]" * 500,
    ],
)
def test_what_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        parse_json(raw)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"null", "null"),
        (b"true", "a boolean"),
        (b"1", "a number"),
        (b"1.5", "a number"),
        (b'"x"', "a string"),
        (b"[]", "an array"),
    ],
)
def test_a_body_must_be_an_object(raw: bytes, kind: str) -> None:
    with pytest.raises(InvalidBody, match=f"must be a JSON object, not {kind}"):
        parse_object(raw)


def test_no_body_is_an_empty_object() -> None:
    assert parse_object(b"") == {}


async def test_a_body_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def counting(raw: bytes, *, finite: bool = True) -> Any:
        parsed.append(raw)
        return body.parse_object(raw, finite=finite)

    monkeypatch.setattr(api, "parse_object", counting)
    async with serve({"diary": Diary()}) as served:
        session = await served.seed("diary")
        await served.verify(session, b'{"a": 1}')
        await served.close(session)
    assert parsed == [b"{}", b'{"a": 1}', b"{}"]
