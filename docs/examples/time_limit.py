"""An extension: a time limit for each environment's verify."""

from collections.abc import Mapping

import anyio

from gymhost import VerifyResult, Wrapper, hookimpl


class TimeLimit:
    """Ends a verify that takes longer than the seconds its environment has."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = seconds

    @hookimpl(wrapper=True)
    def verify(self, environment: str) -> Wrapper[VerifyResult]:
        with anyio.fail_after(self.seconds.get(environment)):
            return (yield)
