"""An extension: scoring waits for one of a few GPUs. A wrapper waits by yielding an awaitable."""

from collections.abc import Generator
from typing import Any

import anyio

from gymhost import VerifyResult, hookimpl

Score = VerifyResult | float


class GpuQueue:
    def __init__(self, gpus: int = 1) -> None:
        self.gpus = anyio.CapacityLimiter(gpus)

    @hookimpl(wrapper=True)
    def verify(self) -> Generator[Any, Score, Score]:
        borrower = object()
        yield self.gpus.acquire_on_behalf_of(borrower)
        try:
            return (yield)
        finally:
            self.gpus.release_on_behalf_of(borrower)
