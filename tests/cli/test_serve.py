"""What `gymhost serve` refuses before it serves anything."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gymhost.config.settings import TABLE
from tests.cli.conftest import Run
from tests.distributions import install


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration in the working folder, which is not there yet."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "gymhost.yaml"


def refusal(run: Run, *arguments: str, code: int = 1) -> str:
    """Run a server that can't start, and return the one line it says."""
    ran = run("serve", *arguments)
    assert (ran.code, ran.out) == (code, "")
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


def test_uvicorn_on_trio_is_a_wrong_configuration(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("\nserver: uvicorn\n")
    said = refusal(run, "--backend", "trio", code=2)
    assert said == (
        "uvicorn (gymhost.yaml:2) runs on asyncio alone, and the backend is trio (--backend): "
        "use asyncio, or hypercorn."
    )
    monkeypatch.setenv("GYMHOST_BACKEND", "trio")
    assert "uvicorn (--server) runs" in refusal(run, "--server", "uvicorn", code=2)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("x" * 80, "is no address of this machine"),
        ("192.0.2.1", "can't be taken: Cannot assign requested address. Try --host 127.0.0.1"),
    ],
)
def test_an_address_of_another_machine_is_refused(run: Run, host: str, said: str) -> None:
    assert said in refusal(run, "--port", "0", "--host", host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "gym.example"])
def test_without_a_key_only_this_machine_can_be_served(run: Run, host: str) -> None:
    said = refusal(run, "--port", "0", "--no-key", "--host", host, code=2)
    assert said == (
        f"--no-key serves this machine alone, and {host!r} (--host) is more: use --host "
        "127.0.0.1, or leave --no-key out."
    )


def test_without_a_key_there_can_be_none_configured(
    run: Run, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("port: 0\nkeys:\n  - hunter22\n")
    said = refusal(run, "--no-key", code=2)
    assert said == "--no-key takes no keys, and gymhost.yaml:2 has some: leave one out."
    monkeypatch.setenv("GYMHOST_API_KEY", "hunter22")
    said = refusal(run, "--no-key", code=2)
    assert said == "--no-key takes no keys, and GYMHOST_API_KEY has some: leave one out."


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
    said = refusal(run, "--port", "0", code=2)
    assert said.startswith("GYMHOST_API_KEY: can't be sent in a header")


@pytest.mark.parametrize("command", [["serve"], ["list"], ["check"], ["config", "show"]])
def test_a_wrong_configuration_is_exit_code_two_and_nothing_is_started(
    run: Run, config: Path, site: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    install(site, "gym-loud", "print('imported')", {"loud": "Loud"})
    config.write_text("prot: 1\nstrict: maybe\n")
    monkeypatch.setenv("GYMHOST_GRACE", "long")
    ran = run(*command)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        "gymhost: GYMHOST_GRACE: must be a number, not the text 'long'",
        "gymhost: gymhost.yaml:1: prot: unknown key: did you mean 'port'?",
        "gymhost: gymhost.yaml:2: strict: must be true or false, not the text 'maybe'",
    ]
    ran = run(*command, "--config", "no.yaml")
    assert (ran.code, ran.err) == (2, "gymhost: --config: there is no file 'no.yaml'\n")


def test_a_port_of_the_file_that_is_in_use_is_a_failure_at_run_time(run: Run, config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config.write_text(f"port: {taken.getsockname()[1]}\n")
        assert "can't be taken: Address already in use" in refusal(run)


@pytest.mark.parametrize("command", [["serve"], ["config", "show"]])
def test_every_setting_with_a_flag_is_in_the_help(run: Run, command: list[str]) -> None:
    ran = run(*command, "--help")
    text = " ".join(ran.out.split())
    for row in TABLE.values():
        if row.flag is not None:
            assert f" {row.flag} " in text
            assert f"({row.variable}" in text
    assert "(GYMHOST_PORT; default 8000)" in text
    assert "--strict / --no-strict" in text
