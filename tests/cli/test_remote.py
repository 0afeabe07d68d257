"""What is said where the running gymhost can't be asked."""

from __future__ import annotations

import httpx2
import pytest

from gymhost.cli.remote import Remote, RemoteError, connected

REMOTE = Remote("http://gym.test", "key", named=True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx2.ReadTimeout("late"), "http://gym.test did not answer in time"),
        (httpx2.ConnectTimeout("late"), "no gymhost answers at http://gym.test (late): start one "),
        (
            httpx2.ReadError(""),
            "what answers at http://gym.test broke off, or is no gymhost: ReadE",
        ),
        (
            httpx2.ConnectError("refused", request=httpx2.Request("POST", "http://mcp.test:1/x/y")),
            "no gymhost answers at http://mcp.test:1 (refused): ",
        ),
    ],
)
async def test_a_connection_that_fails_is_one_line(error: httpx2.HTTPError, said: str) -> None:
    with pytest.raises(RemoteError) as caught:
        async with connected(REMOTE):
            raise error
    assert str(caught.value).startswith(said)
    assert caught.value.__cause__ is error
