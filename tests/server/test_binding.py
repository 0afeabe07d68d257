"""Taking a port."""

from __future__ import annotations

import socket

import pytest

from gymhost.errors import ServeError
from gymhost.server import bind


def test_a_free_port_is_taken() -> None:
    with bind("127.0.0.1", 0) as bound:
        host, port = bound.getsockname()
        assert host == "127.0.0.1"
        assert port > 0


def test_a_port_taken_by_somebody_who_listens_is_refused() -> None:
    with bind("127.0.0.1", 0) as first, pytest.raises(ServeError, match="already in use") as caught:
        bind("127.0.0.1", first.getsockname()[1])
    assert isinstance(caught.value.__cause__, OSError)


def test_a_port_that_others_may_share_is_still_taken_for_one() -> None:
    """SO_REUSEADDR lets two sockets bind a port as long as neither listens."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        with bind("127.0.0.1", other.getsockname()[1]), pytest.raises(OSError, match="in use"):
            other.listen()


@pytest.mark.parametrize(
    ("host", "said"), [("192.0.2.1", "Try --host"), ("x" * 80, "is no address of this machine")]
)
def test_an_address_of_another_machine_is_refused(host: str, said: str) -> None:
    with pytest.raises(ServeError, match=said):
        bind(host, 0)


def test_a_name_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)  # a real one would ask the network
    with pytest.raises(ServeError, match=r"'nowhere' is no address of this machine: .*not known"):
        bind("nowhere", 0)
