"""An extension: log each verify that is slow, and what it ended in."""

import logging
import time
from collections.abc import Generator

from gymhost import Session, VerifyResult, hookimpl

Score = VerifyResult | float
logger = logging.getLogger("slow_verify")


class SlowVerify:
    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds

    @hookimpl(wrapper=True)
    def verify(self, environment: str, session: Session) -> Generator[None, Score, Score]:
        started, outcome = time.monotonic(), "an error"
        try:
            result = yield
            outcome = "a score"
            return result
        finally:
            seconds = time.monotonic() - started
            if seconds >= self.seconds:
                logger.warning("%s %s: %s in %.1f s", environment, session.id, outcome, seconds)
