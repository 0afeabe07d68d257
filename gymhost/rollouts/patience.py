"""Ask a host that may be busy, or start again, until it answers."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import httpx2

from gymhost.client import ApiError
from gymhost.errors import GymhostError

__all__ = ["HostGone", "HostSilent", "Patience"]

PATIENCE_SECONDS = 60.0
FIRST_WAIT = 0.1
LONGEST_WAIT = 5.0
BUSY = frozenset({"over_capacity", "store_error"})
NOT_GYMHOSTS = frozenset({429, 502, 503, 504})
"""What a proxy answers for a server behind it."""

_T = TypeVar("_T")


class HostGone(GymhostError):
    """The host can't be reached, or does not take the key: there is no going on without it."""


class HostSilent(GymhostError):
    """The host took a request and did not answer it in time."""


class Patience:
    """How long a run waits for its host, before it gives up or takes a refusal for one."""

    def __init__(self, url: str, seconds: float = PATIENCE_SECONDS) -> None:
        self._url = url
        self._seconds = seconds

    async def ask(self, request: Callable[[], Awaitable[_T]]) -> _T:
        """Send a request that may be sent again, until it is answered.

        Raises: ApiError: the host refused, for good or for too long; HostSilent; HostGone.
        """
        waited, wait = 0.0, FIRST_WAIT
        while True:
            try:
                return await request()
            except ApiError as exc:
                if exc.status in (401, 403):
                    raise HostGone(f"{self._url} does not take the control key") from exc
                if waited >= self._seconds or not _is_busy(exc):
                    raise
                least = exc.retry_after or 0.0
            except (httpx2.ReadTimeout, httpx2.WriteTimeout) as exc:
                raise HostSilent("the host did not answer in time") from exc
            except httpx2.TransportError as exc:
                if waited >= self._seconds:
                    text = " ".join(str(exc).split()) or type(exc).__name__
                    raise HostGone(
                        f"no gymhost answers at {self._url} any more ({text}), for "
                        f"{self._seconds:g} s"
                    ) from exc
                least = 0.0
            # apart: hundreds of attempts would come back at once
            pause = max(least, wait * random.uniform(0.5, 1.5))
            await anyio.sleep(pause)
            waited += pause
            wait = min(wait * 2, LONGEST_WAIT)


def _is_busy(error: ApiError) -> bool:
    if error.failure_kind is None:
        return error.status in NOT_GYMHOSTS
    return error.status == 503 and (error.failure_kind in BUSY or error.retry_after is not None)
