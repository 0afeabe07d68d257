"""The load generator: episodes over raw keep-alive connections, one for each worker.

It must not be what limits the server under test, so there is no HTTP client and no event loop in
it: requests come as bytes, an answer is a status line, a content-length and a body, and one thread
moves them all.
"""

from __future__ import annotations

import re
import selectors
import socket
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter
from types import TracebackType
from typing import NamedTuple

from benchmarks.errors import BenchmarkError

RECEIVE_BYTES = 256 * 1024
HEAD_BYTES = 64 * 1024
PATIENCE_SECONDS = 30.0
STATUS = re.compile(rb"HTTP/1\.1 (\d{3})\b")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*(?:\r\n|$)", re.IGNORECASE)

Address = tuple[str, int]


class Request(NamedTuple):
    """One step of an episode, and the pieces of its bytes."""

    step: str
    pieces: tuple[bytes, ...]


class Answer(NamedTuple):
    """What a request was answered."""

    status: int
    head: bytes
    body: bytearray


class Failed(Exception):
    """An episode that went wrong. The text is the kind, under which it is counted."""


Episode = Generator[Request, Answer, None]
"""Yields requests, is sent their answers, and raises Failed where one is not as it should be."""


@dataclass
class Window:
    """What has been measured."""

    episodes: int = 0
    """Those that went well."""
    failures: Counter[str] = field(default_factory=Counter)
    latencies: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds, of each answer of a step; `episode` has those of whole episodes."""
    answer_bytes: dict[str, int] = field(default_factory=dict)
    """The body of a step's last answer."""
    playing: int = 0
    """Workers that have an episode."""
    late: bool = False
    """Whether an answer was waited for too long. Then no further episodes are begun."""
    retired: int = 0
    """Workers that could not connect again."""


def episodes(
    play: Callable[[int], Episode], *, at_least: int, seconds: float = 0.0
) -> Iterator[Episode]:
    """Yield episodes for `seconds`, and `at_least` so many."""
    end = perf_counter() + seconds
    for number in count():
        if number >= at_least and perf_counter() >= end:
            return
        yield play(number)


class Load:
    """Open connections, and the episodes that are played over them.

    Raises: BenchmarkError: the server takes no connection, or the machine allows no more.
    """

    def __init__(
        self, address: Address, concurrency: int, *, patience: float = PATIENCE_SECONDS
    ) -> None:
        """An answer that is not whole after `patience` seconds is a failure."""
        self._patience = patience
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        try:
            for _ in range(concurrency):
                self._workers.append(_Worker(address, self._selector))
        except OSError as exc:
            self.close()
            raise BenchmarkError(
                f"connection {len(self._workers) + 1} of {concurrency} to port {address[1]} "
                f"can't be opened: {exc}."
            ) from exc

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for worker in self._workers:
            worker.close()
        self._selector.close()

    def play(self, played: Iterator[Episode]) -> Window:
        """Play episodes, as many at once as there are connections, until all have ended."""
        window = Window()
        for worker in self._workers:
            worker.start(played, window)
        # a glance at the clocks of all workers costs something, so it is taken now and then
        glance = self._patience / 4
        due = perf_counter() + glance
        while window.playing:
            for key, events in self._selector.select(glance):
                if events & selectors.EVENT_WRITE:
                    key.data.write()
                if events & selectors.EVENT_READ:
                    key.data.read()
            now = perf_counter()
            if now >= due:
                due = now + glance
                for worker in self._workers:
                    worker.check(now - self._patience)
        return window


class _Worker:
    """One connection, and the episode that is played over it."""

    def __init__(self, address: Address, selector: selectors.BaseSelector) -> None:
        self._address = address
        self._selector = selector
        self._played: Iterator[Episode] = iter(())
        self._window = Window()
        self._episode: Episode | None = None
        self._step = ""
        self._begun = self._sent = 0.0
        self._unsent: list[memoryview] = []
        self._buffer = bytearray()
        self._status = self._body = self._end = 0
        self._socket: socket.socket | None = None
        self._connect()

    def start(self, played: Iterator[Episode], window: Window) -> None:
        """Begin with the next episode, if there is one."""
        self._played, self._window = played, window
        window.playing += 1
        if self._socket is None:
            self._reconnect()
        else:
            self._next()

    def check(self, limit: float) -> None:
        """Give up a request that was sent before `limit`."""
        if self._episode is not None and self._sent < limit:
            self._window.late = True
            self._break("no answer in time")

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address, 5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._selector.register(self._socket, selectors.EVENT_READ, self)

    def _next(self) -> None:
        self._episode = None if self._window.late else next(self._played, None)
        if self._episode is None:
            self._window.playing -= 1
            return
        self._begun = perf_counter()
        self._send(next(self._episode))

    def _send(self, request: Request) -> None:
        self._step = request.step
        self._unsent = [memoryview(piece) for piece in request.pieces]
        self._buffer = bytearray()
        self._end = 0
        self._sent = perf_counter()
        self.write()

    def write(self) -> None:
        """Write what the connection takes, and wait to write where that is not all."""
        assert self._socket is not None
        try:
            written = self._socket.sendmsg(self._unsent)
        except BlockingIOError:
            written = 0
        except OSError:
            # the answer may say why, and where there is none the read fails
            self._unsent.clear()
            written = 0
        while self._unsent and written >= len(self._unsent[0]):
            written -= len(self._unsent.pop(0))
        events = selectors.EVENT_READ
        if self._unsent:
            self._unsent[0] = self._unsent[0][written:]
            events |= selectors.EVENT_WRITE
        if self._selector.get_key(self._socket).events != events:
            self._selector.modify(self._socket, events, self)

    def read(self) -> None:
        """Read what has come, and go on with the episode where that completes an answer."""
        assert self._socket is not None
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self._episode is None:
            if not data:
                self.close()  # nothing was asked: the next window opens another one
            return
        if not data:
            where = "within an answer" if self._buffer else "instead of an answer"
            self._break(f"connection closed {where}")
            return
        self._buffer += data
        if not self._end and not self._read_head():
            return
        if len(self._buffer) == self._end:
            self._answer()
        elif len(self._buffer) > self._end:
            self._break("more than one answer")

    def _read_head(self) -> bool:
        """Find where the answer ends. Returns whether it is known."""
        self._body = self._buffer.find(b"\r\n\r\n") + 4
        if self._body < 4:
            if len(self._buffer) > HEAD_BYTES:
                self._break("not HTTP/1.1")
            return False
        status = STATUS.match(self._buffer)
        if status is None:
            self._break("not HTTP/1.1")
            return False
        length = LENGTH.search(self._buffer, 0, self._body)
        if length is None:
            self._break("an answer without content-length")
            return False
        self._status = int(status[1])
        self._end = self._body + int(length[1])
        return True

    def _answer(self) -> None:
        now = perf_counter()
        window, episode = self._window, self._episode
        assert episode is not None
        answer = Answer(self._status, bytes(self._buffer[: self._body]), self._buffer[self._body :])
        window.latencies[self._step].append(now - self._sent)
        window.answer_bytes[self._step] = len(answer.body)
        if self._unsent:
            self._break(f"HTTP {self._status} before all was sent")
            return
        try:
            request = episode.send(answer)
        except StopIteration:
            window.episodes += 1
            window.latencies["episode"].append(now - self._begun)
            self._next()
        except Failed as exc:
            window.failures[f"{self._step}: {exc}"] += 1
            self._next()
        else:
            self._send(request)

    def _break(self, kind: str) -> None:
        """Count a failure after which the connection can't be used."""
        self._window.failures[f"{self._step}: {kind}"] += 1
        self._reconnect()

    def _reconnect(self) -> None:
        """Go on with another connection, or, where there is none, not at all."""
        self._episode = None
        self.close()
        try:
            self._connect()
        except OSError:
            self._window.failures["connect: refused"] += 1  # fewer at once than the table says
            self._window.retired += 1
            self._window.playing -= 1
        else:
            self._next()
