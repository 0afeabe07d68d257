"""Where the control key comes from, and where it is kept."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gymhost.control_key import find_key, is_this_machine, key_path, mint_key
from gymhost.errors import ServeError


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's state folder, which is not there yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("GYMHOST_API_KEY", raising=False)
    return tmp_path / "state"


def keep(text: str | bytes) -> None:
    key_path().parent.mkdir(parents=True)
    key_path().write_bytes(text.encode() if isinstance(text, str) else text)


def test_there_is_no_key_until_one_is_minted() -> None:
    assert find_key() is None
    key = mint_key()
    assert find_key() == key


def test_a_minted_key_is_for_this_user_alone() -> None:
    mint_key()
    assert stat.S_IMODE(key_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(key_path().parent.stat().st_mode) == 0o700
    assert list(key_path().parent.iterdir()) == [key_path()]


def test_keys_differ_from_user_to_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mint_key()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert mint_key() != first
    assert len(first) >= 40


def test_minting_returns_the_key_that_another_process_has_kept_meanwhile() -> None:
    keep("of-another-server\n")
    assert mint_key() == "of-another-server"
    assert list(key_path().parent.iterdir()) == [key_path()]


@pytest.mark.parametrize("empty", ["", "\n", "  \n\n"])
def test_an_empty_file_holds_no_key(empty: str) -> None:
    keep(empty)
    assert find_key() is None
    assert mint_key() == find_key()
    assert stat.S_IMODE(key_path().stat().st_mode) == 0o600


@pytest.mark.parametrize("corrupt", [b"\x00\xff\xfe", b"one\ntwo\n", "schlüssel".encode(), b"a b"])
def test_a_corrupt_file_is_named_with_what_to_do(corrupt: bytes) -> None:
    keep(corrupt)
    with pytest.raises(ServeError, match="Delete that file") as caught:
        find_key()
    assert str(key_path()) in str(caught.value)


def test_a_file_that_can_not_be_read_is_an_error_with_its_cause() -> None:
    key_path().mkdir(parents=True)
    with pytest.raises(ServeError, match="could not be read") as caught:
        find_key()
    assert isinstance(caught.value.__cause__, OSError)


def test_a_state_folder_that_can_not_be_written_is_an_error_with_a_way_out(state: Path) -> None:
    state.write_text("a file where the folder should be")
    with pytest.raises(ServeError, match="Set GYMHOST_API_KEY") as caught:
        mint_key()
    assert str(state) in str(caught.value)


def test_a_configured_key_comes_first() -> None:
    mint_key()
    assert find_key({"GYMHOST_API_KEY": " my-own-key\n"}) == "my-own-key"


def test_an_empty_variable_is_no_key() -> None:
    key = mint_key()
    assert find_key({"GYMHOST_API_KEY": ""}) == find_key({"GYMHOST_API_KEY": " "}) == key


@pytest.mark.parametrize("unusable", ["zwei wörter", "naïve", "a\tb", "a\x7fb"])
def test_a_configured_key_that_no_header_takes_is_refused(unusable: str) -> None:
    with pytest.raises(ServeError, match="in GYMHOST_API_KEY can't be sent in a header") as caught:
        find_key({"GYMHOST_API_KEY": unusable})
    assert unusable not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *((host, True) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0")),
        *((host, False) for host in ("gym.example", "localhost.gym.example", "203.0.113.7", "")),
        *((host, False) for host in ("2001:db8::1", "::ffff:203.0.113.7", "224.0.0.1", "127.1")),
    ],
)
def test_the_minted_key_is_for_addresses_of_this_machine(host: str, here: bool) -> None:
    key = mint_key()
    assert is_this_machine(host) is here
    assert find_key({}, host=host) == (key if here else None)
    assert find_key({"GYMHOST_API_KEY": "mine"}, host=host) == "mine"
