"""An extension: log each verify that is slow, and what it ended in."""

import logging
import time

from gymhost import Session, VerifyResult, Wrapper, hookimpl

logger = logging.getLogger("slow_verify")


class SlowVerify:
    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds

    @hookimpl(wrapper=True)
    def verify(self, environment: str, session: Session) -> Wrapper[VerifyResult]:
        started, outcome = time.monotonic(), "an error"
        try:
            result = yield
            outcome = "a score"
            return result
        finally:
            seconds = time.monotonic() - started
            if seconds >= self.seconds:
                logger.warning("%s %s: %s in %.1f s", environment, session.id, outcome, seconds)
