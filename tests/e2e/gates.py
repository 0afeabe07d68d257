"""The test's side of the gates at which the code of `worlds/gated.py` waits."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


class Arrival:
    """Code that waits at a gate."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._reader = stream.makefile("r", encoding="utf-8")
        self.place = self._reader.readline().strip()

    def release(self) -> None:
        """Let it go on."""
        self._stream.sendall(b"\n")

    def close(self) -> None:
        """Let it go on, however it is."""
        self._reader.close()
        self._stream.close()

    def wait_gone(self) -> None:
        """Wait until it has gone on, or was cancelled."""
        assert self._reader.readline() == ""


class Gate:
    """A place at which a process's code waits for this one."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._arrivals: list[Arrival] = []
        self.port: int = listener.getsockname()[1]

    def wait(self) -> Arrival:
        """Wait until some code has arrived."""
        stream, _ = self._listener.accept()
        stream.settimeout(20)
        arrival = Arrival(stream)
        self._arrivals.append(arrival)
        return arrival


@contextmanager
def open_gate() -> Iterator[Gate]:
    """Open one. Its end lets nobody wait any longer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        gate = Gate(listener)
        try:
            yield gate
        finally:
            for arrival in gate._arrivals:
                arrival.close()
