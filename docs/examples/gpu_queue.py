"""An extension: scoring waits for one of a few GPUs. A wrapper waits by yielding an awaitable."""

import anyio

from gymhost import VerifyResult, Wrapper, hookimpl


class GpuQueue:
    def __init__(self, gpus: int = 1) -> None:
        self.gpus = anyio.CapacityLimiter(gpus)

    @hookimpl(wrapper=True)
    def verify(self) -> Wrapper[VerifyResult]:
        borrower = object()
        yield self.gpus.acquire_on_behalf_of(borrower)
        try:
            return (yield)
        finally:
            self.gpus.release_on_behalf_of(borrower)
