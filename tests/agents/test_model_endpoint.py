"""How patiently a model is asked, and what its refusals come to: over a real socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import pytest

from gymhost.agents.base import AgentFailure
from gymhost.agents.model_endpoint import ContextOverflow, ModelEndpoint
from gymhost.models import JSONObject
from tests.e2e.openai_endpoint import KEY, Answers, Drips, Endpoint, Says, refusal, scripted

QUESTION: JSONObject = {"model": "scripted", "input": []}
HELLO = Says("Hello.")


class Pauses(list[float]):
    """Notes how long it was to be waited, and does not wait."""

    async def sleep(self, seconds: float) -> None:
        self.append(seconds)
        await anyio.lowlevel.checkpoint()


async def ask(endpoint: Endpoint, **options: Any) -> JSONObject:
    model = ModelEndpoint(endpoint.url, KEY, **{"attempts": 3, **options})
    with anyio.fail_after(30):
        async with model.open() as http:
            return await model.post(http, "responses", QUESTION)


async def refused(endpoint: Endpoint, **options: Any) -> AgentFailure:
    with pytest.raises(AgentFailure) as raised:
        await ask(endpoint, **options)
    return raised.value


NOW = {"retry-after": "0"}


@pytest.mark.parametrize(
    ("steps", "failure_class", "terminal", "message"),
    [
        pytest.param([Drips()], "model_timeout", False, "not answer in 2 s", id="it hangs"),
        pytest.param([Drips(b" ")], "model_timeout", False, "not answer in 2 s", id="it drips"),
        pytest.param([Answers(body=b"data: {]")], "model_error", False, "'data: {]'", id="garbage"),
        pytest.param([Answers(body=b"")], "model_error", False, "nothing", id="nothing"),
        pytest.param([Answers(body=b"[1]")], "model_error", False, "'[1]'", id="no object"),
        pytest.param([Answers(body=b'{"a": NaN}')], "model_error", False, "NaN", id="NaN"),
        pytest.param([Answers(body=b"[" * 10_000)], "model_error", False, "[[[", id="deep"),
        pytest.param(
            [Answers(429, {"error": {"message": "slow down"}}, NOW)] * 3,
            *("model_rate_limited", False, "429: slow down"),
            id="busy",
        ),
        pytest.param(
            [Answers(429, b"", {"retry-after": "3600"})],
            *("model_rate_limited", False, "429: nothing"),
            id="busy for an hour",
        ),
        pytest.param(
            [refusal("pay up", 429, code="insufficient_quota")],
            *("model_error", True, "pay up"),
            id="no money",
        ),
        pytest.param(
            [Answers(500, {"detail": "oops"}, NOW)] * 3,
            *("model_error", False, "500: oops"),
            id="broken",
        ),
        pytest.param(
            [Answers(502, b"<html>", NOW)] * 3, "model_error", False, "502: '<html>'", id="no JSON"
        ),
        pytest.param(
            [Answers(200, {"error": {"message": "no", "code": "server_error"}}, NOW)] * 3,
            *("model_error", False, "500: no"),
            id="a status within",
        ),
        pytest.param(
            [Answers(200, {"error": "no"})], "model_error", False, "200: no", id="an error alone"
        ),
        pytest.param(
            [refusal(f"wrong key: {KEY}", 401)],
            *("model_error", True, "401: wrong key: ***"),
            id="a wrong key",
        ),
        pytest.param([refusal("no model", 404)], "model_error", True, "no model", id="no model"),
        pytest.param(
            [Answers(307, b"", {"location": "/v2"})], "model_error", True, "307", id="elsewhere"
        ),
        pytest.param([refusal("m" * 10_000)], "model_error", True, "mmm", id="a long complaint"),
    ],
)
async def test_a_bad_endpoint_is_a_failure_with_its_class(
    steps: list[Answers | Drips], failure_class: str, terminal: bool, message: str
) -> None:
    with scripted(*steps, HELLO) as endpoint:
        failed = await refused(endpoint, timeout=2)
        assert len(endpoint.heard) == len(steps)
    assert (failed.failure_class, failed.terminal) == (failure_class, terminal)
    assert message in str(failed)
    assert KEY not in str(failed)
    assert len(str(failed)) <= 500


async def test_an_answer_without_end_is_not_read_to_it() -> None:
    with scripted(Drips(b"x" * 2**20)) as endpoint:
        failed = await refused(endpoint)
        assert await anyio.to_thread.run_sync(endpoint.hung_up.wait, 20)
    assert failed.failure_class == "model_error"
    assert "64 MiB" in str(failed)


async def test_an_endpoint_that_is_not_there_is_asked_again() -> None:
    with scripted() as endpoint:
        pass
    pauses = Pauses()
    failed = await refused(endpoint, sleep=pauses.sleep)
    assert (failed.failure_class, failed.terminal) == ("model_error", False)
    assert "can't be asked" in str(failed)
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("headers", "shortest", "longest"),
    [
        ({"retry-after": "7"}, 7.0, 8.75),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5, 1.875),
        ({"retry-after": "-1"}, 0.0, 0.0),
        ({"retry-after": "soon"}, 0.5, 1.0),
        ({"retry-after": "nan"}, 0.5, 1.0),
        ({"retry-after": "inf"}, 0.5, 1.0),
        ({}, 0.5, 1.0),
    ],
)
async def test_a_pause_is_as_long_as_the_server_asks(
    headers: dict[str, str], shortest: float, longest: float
) -> None:
    pauses = Pauses()
    with scripted(Answers(503, b"", headers), HELLO) as endpoint:
        assert (await ask(endpoint, sleep=pauses.sleep))["status"] == "completed"
    (pause,) = pauses
    assert shortest <= pause <= longest


async def test_a_pause_may_end_at_a_date() -> None:
    pauses = Pauses()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    with scripted(Answers(429, b"", {"retry-after": date}), HELLO) as endpoint:
        await ask(endpoint, sleep=pauses.sleep)
    assert 1 <= pauses[0] <= 37.5


async def test_pauses_grow_and_are_never_the_same_for_all() -> None:
    pauses = Pauses()
    with scripted(*[Answers(500)] * 9) as endpoint:
        await refused(endpoint, attempts=9, sleep=pauses.sleep)
        assert len(endpoint.heard) == 9
    for number, pause in enumerate(pauses):
        most = min(2.0**number, 30)
        assert most / 2 <= pause <= most
    assert pauses != [min(2.0**number, 30) for number in range(8)]


@pytest.mark.parametrize(
    "complaint",
    [
        refusal("too much", code="context_length_exceeded"),
        refusal("This model's maximum context length is 4096 tokens.", code=400),
        refusal("The input (61709 tokens) is longer than the model's context length", code=400),
        refusal("the request exceeds the available context size. try ...", 500, code=500),
    ],
)
async def test_a_conversation_that_is_too_long_is_told_from_other_errors(
    complaint: Answers,
) -> None:
    with scripted(complaint) as endpoint:
        assert isinstance(await refused(endpoint), ContextOverflow)


async def test_without_a_key_no_key_is_sent() -> None:
    with scripted(HELLO) as endpoint:
        model = ModelEndpoint(endpoint.url + "/")
        async with model.open() as http:
            await model.post(http, "responses", QUESTION)
    assert "authorization" not in {name.lower() for name in endpoint.heard[0].headers}


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: ModelEndpoint("127.0.0.1:8000/v1"), "base_url must be"),
        (lambda: ModelEndpoint("http:///v1"), "base_url must be"),
        (lambda: ModelEndpoint("http://h:port/v1"), "is no URL"),
        (lambda: ModelEndpoint("http://h/v1", "a\nb"), "api_key"),
        (lambda: ModelEndpoint("http://h/v1", ""), "api_key"),
        (lambda: ModelEndpoint("http://h/v1", timeout=0), "timeout"),
        (lambda: ModelEndpoint("http://h/v1", attempts=0), "attempts"),
    ],
)
def test_options_that_can_not_be_used_are_refused(
    build: Callable[[], Awaitable[Any]], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        build()
