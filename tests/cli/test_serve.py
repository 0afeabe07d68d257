"""What `gymhost serve` refuses before it serves anything."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def refusal(run: Run, *arguments: str) -> str:
    """Run a server that can't start, and return the one line it says."""
    ran = run("serve", *arguments)
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("gymhost: ")
    return line.removeprefix("gymhost: ")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_port_in_use_is_one_clear_line(run: Run, backend: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert refusal(run, "--port", port, "--backend", backend) == (
            f"port {port} on 127.0.0.1 can't be taken: Address already in use. "
            "Try another one: --port 0 takes any that is free."
        )


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("x" * 80, "is no address of this machine"),
        ("192.0.2.1", "can't be taken: Cannot assign requested address. Try --host 127.0.0.1"),
    ],
)
def test_an_address_of_another_machine_is_refused(run: Run, host: str, said: str) -> None:
    assert said in refusal(run, "--port", "0", "--host", host)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.0.2.1", "gym.example"])
def test_without_a_key_only_this_machine_can_be_served(run: Run, host: str) -> None:
    said = refusal(run, "--port", "0", "--no-key", "--host", host)
    assert said.startswith("--no-key serves this machine alone")


def test_a_key_file_that_can_not_be_read_is_named(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "state" / "gymhost" / "control-key"
    file.mkdir(parents=True)
    assert str(file) in refusal(run, "--port", "0")


def test_a_corrupt_key_file_is_named(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "state" / "gymhost" / "control-key"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xff\x00\n")
    assert "Delete that file, and `gymhost serve` makes a new one" in refusal(run, "--port", "0")


def test_a_state_folder_that_can_not_be_written_has_a_way_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "gymhost").symlink_to("/proc/no/such/folder")
    assert "Set GYMHOST_API_KEY to a key of your own." in refusal(run, "--port", "0")


def test_a_key_that_no_header_takes_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GYMHOST_API_KEY", "zwei wörter")
    assert "GYMHOST_API_KEY can't be sent in a header" in refusal(run, "--port", "0")
