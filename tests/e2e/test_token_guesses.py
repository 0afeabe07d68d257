"""A hundred thousand guesses of tokens, against two hundred sessions: none opens anything."""

from __future__ import annotations

import base64
import itertools
import json
import random
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha1, sha256, sha512

import psutil
import pytest

from gymhost.http.mcp import TOKEN_HEADER
from tests.distributions import install
from tests.e2e.raw import Answer, Pipeline, connect
from tests.e2e.servers import Server, Servers, seed, verify
from tests.e2e.vaults import VAULT
from tests.http.wire import HANDSHAKE, MODERN, call

ENVIRONMENTS = ("north", "east", "south", "west")
SESSIONS = 200
AT_ONCE = 50
"""Requests on their way at the same time."""
# What is kept of each guess would be more than this: 90,000 hashes in a set take 14 MiB.
GROWTH = 6 * 1024 * 1024
BAD_TOKEN = b"The session token is not valid here."


@dataclass(frozen=True)
class Session:
    """A live session, and what its agent has."""

    environment: str
    id: str
    token: str


@dataclass(frozen=True)
class Guess:
    """A token that was never minted, or not for this environment."""

    kind: str
    environment: str
    token: bytes


def start(servers: Servers, backend: str) -> tuple[Server, list[Session]]:
    """Serve four environments, and seed sessions in each."""
    install(servers.folder, "vault", VAULT, dict.fromkeys(ENVIRONMENTS, "Vault"))
    server = servers.start("--backend", backend)
    with server.client() as http:
        names = itertools.islice(itertools.cycle(ENVIRONMENTS), SESSIONS)
        return server, [Session(name, *seed(http, name)) for name in names]


def guesses_at(session: Session, sessions: list[Session], key: str) -> Mapping[str, list[bytes]]:
    """Return guesses by somebody who knows everything but this token, and this token almost."""
    token = session.token
    raw = token.encode()
    others = [each for each in sessions if each.environment != session.environment]
    digests = [
        digest
        for hashed in (sha1, sha256, sha512)
        for of in (raw, _decoded(token), session.id.encode())
        for digest in _as_text(hashed(of).digest())
    ]
    return {
        "a bit of the text": list(_sendable(_bit_edits(raw))),
        "a bit of the 256": [_encoded(each) for each in _bit_edits(_decoded(token))],
        "the unused bits": [raw[:-1] + each for each in _same_bits(token)],
        "truncated": [raw[:size] for size in range(1, 43)] + [raw[size:] for size in range(1, 43)],
        "extended": [
            raw + each for each in (b"=", b"A", b"\xff", b".", b",x", b"; x", raw, b"%00")
        ],
        "dressed": [b"Bearer " + raw, b'"%b"' % raw, b"'%b'" % raw, b"b'%b'" % raw, b"[%b]" % raw],
        "another case": [raw.swapcase(), raw.upper(), raw.lower(), raw.title()],
        "written otherwise": [
            raw.replace(b"-", b"+").replace(b"_", b"/") + b"=",
            "".join(f"%{each:02x}" for each in raw).encode(),
            raw[::-1],
            *_as_text(_decoded(token))[:1],
        ],
        "of another environment": [each.token.encode() for each in others],
        "a hash": digests,
        "a session's id": [session.id.encode(), *(each.id.encode() for each in others[:5])],
        "the control key": [key.encode(), b"Bearer " + key.encode()],
        "at random": [secrets.token_urlsafe(32).encode() for _ in range(40)],
        "a word": [b"null", b"0", b"*", b"' or 1=1 --", b"../../x", b"true", b"admin", b"\xc3\xa9"],
    }


def _bit_edits(raw: bytes) -> Iterator[bytes]:
    for bit in range(len(raw) * 8):
        edited = bytearray(raw)
        edited[bit // 8] ^= 1 << bit % 8
        yield bytes(edited)


def _sendable(values: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what a header takes: no control characters."""
    return (each for each in values if all(byte >= 0x20 and byte != 0x7F for byte in each))


def _decoded(token: str) -> bytes:
    return base64.urlsafe_b64decode(f"{token}=")


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _as_text(digest: bytes) -> list[bytes]:
    return [digest.hex().encode(), _encoded(digest), base64.b64encode(digest)]


def _same_bits(token: str) -> list[bytes]:
    """Return the last characters that decode to the same 256 bits: 43 characters have 258."""
    alphabet = string.ascii_letters + string.digits + "-_"
    same = [each for each in alphabet if _decoded(token[:-1] + each) == _decoded(token)]
    assert len(same) == 4
    return [each.encode() for each in same if each != token[-1]]


def choose(sessions: list[Session], key: str, number: int) -> list[Guess]:
    """Return that many guesses, of each kind some, at all sessions in turn."""
    dice = random.Random(4)
    chosen: list[Guess] = []
    real = {(each.environment, each.token.encode()) for each in sessions}
    each_gets = number // len(sessions)
    for session in sessions:
        by_kind = guesses_at(session, sessions, key)
        few = {
            kind: values[:40] for kind, values in by_kind.items() if not kind.startswith("a bit")
        }
        mine = [(kind, value) for kind, values in few.items() for value in values]
        mine = dice.sample(mine, min(len(mine), each_gets // 2))
        edits = [(kind, v) for kind in by_kind.keys() - few.keys() for v in by_kind[kind]]
        mine += dice.sample(sorted(edits), each_gets - len(mine))
        chosen += [Guess(kind, session.environment, value) for kind, value in mine]
    assert not {(each.environment, each.token) for each in chosen} & real
    dice.shuffle(chosen)
    return chosen


def request(environment: str, token: bytes, note: str, version: str = HANDSHAKE[0]) -> bytes:
    """Return a call of a tool, as bytes: no client sends all of these tokens."""
    sent = call(version, "write", None, note=note)
    headers = [f"{name}: {value}" for name, value in sent.headers.items() if value is not None]
    lines = [f"POST /envs/{environment}/mcp HTTP/1.1", "host: localhost", *headers]
    start = "\r\n".join([*lines, f"content-length: {len(sent.content)}", f"{TOKEN_HEADER}: "])
    return start.encode() + token + b"\r\n\r\n" + sent.content


@pytest.mark.timeout(600)  # 45 seconds on a core of its own
@pytest.mark.parametrize(
    ("backend", "number"), [("asyncio", 100_000), ("trio", 10_000)], ids=["asyncio", "trio"]
)
def test_no_guess_opens_a_session_and_the_real_token_always_does(
    servers: Servers, backend: str, number: int
) -> None:
    server, sessions = start(servers, backend)
    assert server.key is not None
    guesses = choose(sessions, server.key, number)
    assert len(guesses) == number
    kinds = {each.kind for each in guesses}
    assert len(kinds) == 14
    controls: dict[str, list[str]] = {session.id: [] for session in sessions}
    process = psutil.Process(server.process.pid)
    answers: set[Answer] = set()
    settled = 0
    with connect(server) as client, Pipeline(client) as pipeline:
        for thousand in range(number // 1000):
            if thousand == number // 10_000:
                settled = process.memory_info().rss
            batch = guesses[thousand * 1000 : (thousand + 1) * 1000]
            for first in range(0, len(batch), AT_ONCE):
                some = batch[first : first + AT_ONCE]
                answers |= set(pipeline.send([request(g.environment, g.token, "no") for g in some]))
            session = sessions[thousand * 7 % SESSIONS]
            note = f"control {thousand}"
            controls[session.id].append(note)
            real = request(session.environment, session.token.encode(), note)
            (answer,) = pipeline.send([real])
            result = json.loads(answer.body)["result"]
            assert result["isError"] is False
            assert result["content"][0]["text"] == "\n".join(controls[session.id])
        assert process.memory_info().rss - settled < GROWTH

        (refusal,) = answers  # one answer to all, byte for byte
        assert refusal.head.startswith(b"HTTP/1.1 200 ")
        result = json.loads(refusal.body)["result"]
        assert result == {
            "content": [{"type": "text", "text": BAD_TOKEN.decode()}],
            "isError": True,
        }
        modern = [request(g.environment, g.token, "no", MODERN) for g in guesses[:1000]]
        told = set(pipeline.send(modern))
        assert len(told) == len(ENVIRONMENTS)  # 2026-07-28 names the server in each answer
        assert all(BAD_TOKEN in each.body for each in told)

    with server.client() as http:
        for session in sessions:
            record = http.get(f"/sessions/{session.id}").json()
            assert [each["arguments"]["note"] for each in record["calls"]] == controls[session.id]
            assert record["failures"] == {}
            assert "no" not in record["state"]["notes"]
            reward = verify(http, session.id, session.environment).json()["reward"]
            assert reward == len(controls[session.id])
        listed = {each["name"]: each["counts"] for each in http.get("/envs").json()["environments"]}
        assert sum(listed[name]["no_session"] for name in ENVIRONMENTS) == number + 1000
        for counts in (listed[name] for name in ENVIRONMENTS):
            assert len(counts) < 8  # nothing is counted under what a guess says
    assert "WARNING" not in server.log
    assert "ERROR" not in server.log
