"""Decisions are on the spans of their calls, and evaluations become rewards, with OpenTelemetry's real SDK."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own imports warn in some versions
    import litellm
from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig
from opentelemetry import context, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stageroute_router.errors import NotAResponseError, SettingsError
from stageroute_router.telemetry.evaluations import EvaluationRewards, evaluating
from stageroute_router.telemetry.spans import DecisionSpans

pytestmark = pytest.mark.calls_litellm

MESSAGES = [{"role": "user", "content": "hello"}]


class Traced:
    """A tracer provider whose spans are kept, with decisions on them."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.spans = DecisionSpans()
        self.provider.add_span_processor(self.spans)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def traced() -> Iterator[Traced]:
    made = Traced()
    yield made
    made.provider.shutdown()


SPANS_HAVE_CALL_IDS = "litellm.call_id" in inspect.getsource(OpenTelemetry)


@pytest.fixture(params=["before the router", "after the router"])
def tracing_router(request: pytest.FixtureRequest, start: Any, traced: Traced) -> Iterator[Any]:
    """A router, and LiteLLM's own tracing, turned on before it or after."""
    early = request.param == "before the router"
    if early and not SPANS_HAVE_CALL_IDS:
        pytest.skip("this LiteLLM's spans name only the answer, which is known too late then")
    logger = OpenTelemetry(
        config=OpenTelemetryConfig(exporter=traced.exporter), tracer_provider=traced.provider
    )
    if early:
        litellm.callbacks.append(logger)
    router = start()
    if not early:
        litellm.callbacks.append(logger)
    yield router
    litellm.logging_callback_manager._reset_all_callbacks()


def call(router: Any, **changes: Any) -> Any:
    return router.completion(**{"model": "chat", "messages": MESSAGES, **changes})


def expected(router: Any, response: Any) -> dict[str, Any]:
    made = router.stageroute.strategy.decision_made(response.id)
    assert made is not None
    return {
        "stageroute.decision_id": made.decision_id,
        "stageroute.group": "chat",
        "stageroute.arm": made.arm,
        "stageroute.stage": made.stage,
        "stageroute.probability": made.probability,
        "stageroute.shadow_price": made.shadow_price,
    }


def ours(span: ReadableSpan) -> dict[str, Any]:
    return {key: value for key, value in (span.attributes or {}).items() if key.startswith("stageroute.")}


def test_litellms_spans_say_what_was_decided(tracing_router: Any, until: Any, traced: Traced) -> None:
    router = tracing_router
    responses = [call(router) for _ in range(3)]
    until(lambda: len(traced.named("litellm_request")) == 3)
    told = {span.attributes["gen_ai.response.id"]: ours(span) for span in traced.named("litellm_request")}
    assert told == {response.id: expected(router, response) for response in responses}
    made = told[responses[0].id]
    assert 0 < made["stageroute.probability"] <= 1


def test_asynchronous_calls_and_streams_too(tracing_router: Any, until: Any, traced: Traced) -> None:
    router = tracing_router

    async def calls() -> list[str]:
        answer = await router.acompletion(model="chat", messages=MESSAGES)
        chunks = [
            chunk async for chunk in await router.acompletion(model="chat", messages=MESSAGES, stream=True)
        ]
        while len(traced.named("litellm_request")) < 2:  # noqa: ASYNC110 - LiteLLM has no event for it
            await asyncio.sleep(0.01)
        return [answer.id, chunks[0].id]

    ids = asyncio.run(asyncio.wait_for(calls(), 20.0))
    told = {span.attributes["gen_ai.response.id"]: ours(span) for span in traced.named("litellm_request")}
    assert set(told) == set(ids)
    assert [made["stageroute.group"] for made in told.values()] == ["chat", "chat"]
    assert told[ids[0]]["stageroute.decision_id"] != told[ids[1]]["stageroute.decision_id"]


def test_calls_that_litellm_chose_for_say_nothing(tracing_router: Any, until: Any, traced: Traced) -> None:
    router = tracing_router
    call(router, model="other")
    until(lambda: traced.named("litellm_request"))
    assert ours(traced.named("litellm_request")[0]) == {}


def test_a_foreign_span_of_the_answer_gets_it_too(start: Any, until: Any, traced: Traced) -> None:
    router = start()
    response = call(router)
    until(lambda: router.stageroute.status("chat").open_calls == 0)
    tracer = traced.provider.get_tracer("an agent's")
    with tracer.start_as_current_span("chat") as span:
        span.set_attribute("gen_ai.response.id", response.id)
    with tracer.start_as_current_span("unrelated") as span:
        span.set_attribute("gen_ai.response.id", "chatcmpl-of-another-service")

    def fail() -> None:
        with tracer.start_as_current_span("failing") as span:
            span.set_attribute("gen_ai.response.id", response.id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert ours(traced.named("chat")[0]) == expected(router, response)
    assert ours(traced.named("unrelated")[0]) == {}
    assert ours(traced.named("failing")[0]) == expected(router, response)
    assert not traced.named("failing")[0].status.is_ok


def test_two_of_them_write_the_same_and_a_span_ends_once(start: Any, until: Any, traced: Traced) -> None:
    traced.provider.add_span_processor(second := DecisionSpans())
    router = start()
    response = call(router)
    until(lambda: router.stageroute.status("chat").open_calls == 0)
    span = traced.provider.get_tracer("an agent's").start_span("chat")
    span.set_attribute("gen_ai.response.id", response.id)
    span.end(end_time=span.start_time + 5)
    (ended,) = traced.named("chat")
    assert (ended.end_time, ours(ended)) == (span.start_time + 5, expected(router, response))
    context = ended.get_span_context()
    assert (
        second.decision_of(trace_id=context.trace_id, span_id=context.span_id)
        == expected(router, response)["stageroute.decision_id"]
    )


def test_what_was_shut_down_is_told_nothing_more(start: Any, until: Any) -> None:
    traced = Traced()
    traced.spans.shutdown()
    router = start()
    response = call(router)
    until(lambda: router.stageroute.status("chat").open_calls == 0)
    with traced.provider.get_tracer("an agent's").start_as_current_span("chat") as span:
        span.set_attribute("gen_ai.response.id", response.id)
    assert ours(traced.named("chat")[0]) == {}


# --- evaluations ----------------------------------------------------------------------------------------------


class Evaluated:
    """A logger provider that takes evaluations as rewards."""

    def __init__(self, control: Any, **options: Any) -> None:
        self.rewards = EvaluationRewards(
            control, **{"scales": {"helpful": (1, 5), "toxic": (1, 0)}, **options}
        )
        self.provider = LoggerProvider()
        self.provider.add_log_record_processor(self.rewards)

    def emit(self, name: str = "helpful", score: object = 4, **attributes: Any) -> None:
        self.provider.get_logger("a judge").emit(
            event_name="gen_ai.evaluation.result",
            attributes={
                "gen_ai.evaluation.name": name,
                **({} if score is None else {"gen_ai.evaluation.score.value": score}),
                **attributes,
            },
        )


@pytest.fixture(autouse=True)
def _loud() -> None:
    logging.disable(logging.NOTSET)


def total(router: Any) -> tuple[int, float]:
    arms = router.stageroute.status("chat").arms
    return (
        sum(arm.reward_count for arm in arms),
        sum(arm.reward_count * (arm.reward_mean or 0.0) for arm in arms),
    )


def test_an_evaluation_that_names_the_answer_is_a_reward(start: Any, until: Any) -> None:
    router = start()
    judged = Evaluated(router.stageroute)
    first, second = call(router), call(router)
    judged.emit("helpful", 4, **{"gen_ai.response.id": first.id})
    judged.emit("toxic", 0.25, **{"gen_ai.response.id": first.id})
    judged.emit("toxic", True, **{"gen_ai.response.id": second.id})  # noqa: FBT003 - as an event carries it
    until(lambda: judged.rewards.counts.get("recorded") == 3)
    assert total(router) == (3, pytest.approx(0.75 + 0.75 + 0.0))
    assert router.record_reward(first, 0.75, source="otel:helpful").status == "unchanged"
    judged.emit("helpful", 5, **{"gen_ai.response.id": first.id})  # judged again: it replaces
    until(lambda: judged.rewards.counts.get("recorded") == 4)
    assert total(router) == (3, pytest.approx(1.0 + 0.75 + 0.0))


def test_an_evaluation_finds_its_call_by_decision_baggage_or_span(
    start: Any, until: Any, traced: Traced
) -> None:
    router = start()
    judged = Evaluated(router.stageroute, spans=traced.spans)
    by_attribute, by_baggage, by_span = call(router), call(router), call(router)
    until(lambda: router.stageroute.status("chat").open_calls == 0)
    judged.emit(**{"stageroute.decision_id": expected(router, by_attribute)["stageroute.decision_id"]})
    with evaluating(by_baggage):
        judged.emit()
    tracer = traced.provider.get_tracer("an agent's")
    with tracer.start_as_current_span("chat") as span:
        span.set_attribute("gen_ai.response.id", by_span.id)
    token = context.attach(trace.set_span_in_context(span))
    judged.emit()
    context.detach(token)
    until(lambda: judged.rewards.counts.get("recorded") == 3)
    for response in (by_attribute, by_baggage, by_span):
        assert router.record_reward(response, 0.75, source="otel:helpful").status == "unchanged"
    judged.emit()  # outside of everything
    assert judged.rewards.counts["no_call"] == 1
    with pytest.raises(NotAResponseError), evaluating(object()):
        pass


@pytest.mark.parametrize(
    ("name", "score", "verdict"),
    [
        ("helpful", 5.5, "bad_score"),
        ("helpful", 0, "bad_score"),
        ("helpful", math.nan, "bad_score"),
        ("helpful", math.inf, "bad_score"),
        ("helpful", "good", "bad_score"),
        ("helpful", None, "bad_score"),
        ("other", 3, "not_accepted"),
        ("Helpful", 3, "not_accepted"),
    ],
)
def test_what_cannot_be_a_reward_is_counted_and_raises_nothing(
    start: Any, name: str, score: object, verdict: Any, caplog: pytest.LogCaptureFixture
) -> None:
    router = start(database_url="memory://")
    judged = Evaluated(router.stageroute)
    response = call(router)
    with caplog.at_level(logging.WARNING, logger="stageroute_router"):
        for _ in range(2):
            judged.emit(name, score, **{"gen_ai.response.id": response.id})
    assert judged.rewards.counts == {verdict: 2}
    assert total(router) == (0, 0)
    said = [record for record in caplog.records if record.name == "stageroute_router"]
    assert len(said) == (verdict == "bad_score")  # once a minute; others' evaluations are nothing to log


def test_an_evaluation_of_an_unrouted_call_is_counted(start: Any, until: Any) -> None:
    router = start(database_url="memory://")
    judged = Evaluated(router.stageroute)
    unrouted = call(router, model="other")
    until(lambda: router.stageroute.strategy.group_left(unrouted.id))
    judged.emit(**{"gen_ai.response.id": unrouted.id})
    judged.emit(**{"stageroute.decision_id": "not-a-decision"})
    until(lambda: judged.rewards.counts.get("unknown") == 1)
    assert judged.rewards.counts == {"unmanaged": 1, "unknown": 1}
    router.stageroute.close()
    judged.emit(**{"gen_ai.response.id": "chatcmpl-1"})
    assert judged.rewards.counts["not_stored"] == 1


def test_other_events_are_not_looked_at(start: Any) -> None:
    router = start(database_url="memory://")
    judged = Evaluated(router.stageroute)
    judged.provider.get_logger("an application").emit(
        body="hello", attributes={"gen_ai.evaluation.name": "helpful"}
    )
    assert judged.rewards.counts == {}


def test_emitting_waits_for_no_database(start: Any, until: Any, settings: Any) -> None:
    router = start()
    judged = Evaluated(router.stageroute)
    response = call(router)
    router.stageroute.status()
    path = settings["database_url"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        judged.emit(**{"gen_ai.response.id": response.id})  # waiting would be for ever: the lock is ours
        assert judged.rewards.counts == {}
        other.execute("ROLLBACK")
    until(lambda: judged.rewards.counts.get("recorded") == 1)
    assert total(router) == (1, 0.75)


@pytest.mark.parametrize(
    "scales",
    [
        {},
        {"helpful": (1, 1)},
        {"helpful": (1,)},
        {"helpful": "15"},
        {"helpful": (0, math.inf)},
        {"a\nb": (0, 1)},
    ],
)
def test_scales_that_cannot_be_used_are_refused(start: Callable[..., Any], scales: Any) -> None:
    router = start(database_url="memory://")
    with pytest.raises(SettingsError):
        EvaluationRewards(router.stageroute, scales=scales)
