"""What verify returned, as a VerifyResult, and as the JSON that is recorded."""

from __future__ import annotations

import math
from typing import Any

import pydantic_core

from gymhost.models import VerifyResult

__all__ = ["as_result", "checked_result", "dump_result", "dump_score"]


def as_result(score: Any) -> VerifyResult:
    """Return a score as a VerifyResult; one that is one already is not checked again.

    Raises: ValueError: no finite number.
    """
    return score if isinstance(score, VerifyResult) else VerifyResult(reward=score)


def dump_score(score: Any) -> bytes:
    """Return what verify returned as JSON.

    Raises: ValueError: no finite number, or what `dump_result` refuses.
    """
    if type(score) is float and math.isfinite(score):  # as from most environments
        return b'{"reward":%b}' % pydantic_core.to_json(score)
    return dump_result(as_result(score))


def checked_result(score: Any) -> VerifyResult:
    """Return a score as a VerifyResult that can be recorded.

    Raises: ValueError: no finite number, or what `dump_result` refuses.
    """
    result = as_result(score)
    dump_result(result)
    return result


def dump_result(result: VerifyResult) -> bytes:
    """Return a result as JSON.

    Raises: ValueError: an extra that is not finite JSON, or what was set after it was made.
    """
    given = result.model_dump(warnings=False)  # it is validated next
    fields = VerifyResult.model_validate(given).model_dump()
    if not fields["reward_components"]:
        del fields["reward_components"]
    plain = pydantic_core.to_jsonable_python(fields)
    _refuse_non_finite(plain)
    return pydantic_core.to_json(plain)


def _refuse_non_finite(value: Any, path: str = "") -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path or 'the result'} is not a finite number")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{path}.{key}" if path else str(key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_non_finite(item, f"{path}[{index}]")
