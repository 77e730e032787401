"""What becomes of a call reaches the right decision, once, whatever LiteLLM does in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import litellm
import pytest

from stageroute_router.hook.calls.observer import Report, observer, read_report

MESSAGES = [{"role": "user", "content": "hello"}]
BAD, GOOD, OTHER = "openai/gpt-4o", "openai/gpt-4o-mini", "openai/gpt-4.1"
RATE_LIMITED = "litellm.RateLimitError"

Call = Callable[..., Any]


def sync_call(made: Any, **asked: Any) -> Any:
    return made.router.completion(**{"model": "chat", "messages": MESSAGES, **asked})


def async_call(made: Any, **asked: Any) -> Any:
    async def main() -> Any:
        response = await made.router.acompletion(**{"model": "chat", "messages": MESSAGES, **asked})
        # LiteLLM reports in the background of this event loop.
        await asyncio.to_thread(made.routing.wait, len(made.routing.chosen))
        return response

    return asyncio.run(main())


both = pytest.mark.parametrize("call", [sync_call, async_call], ids=["sync", "async"])


def bad_first() -> Callable[[Any], str]:
    """Prefer the model that fails, once; then the other one, whether or not LiteLLM still offers the first."""
    order = iter([BAD])
    return lambda eligible: next(order, GOOD) if BAD in eligible else min(eligible)


@both
@pytest.mark.parametrize(
    "asked", [{}, {"litellm_call_id": "mine"}], ids=["our call id", "the caller's call id"]
)
def test_a_retry_is_a_decision_of_its_own(
    routed: Call, entry: Call, call: Call, asked: dict[str, str]
) -> None:
    made = routed(
        [entry("bad", BAD, answer=RATE_LIMITED), entry("good", GOOD)], prefer=bad_first(), num_retries=2
    )
    response = call(made, **asked)
    reports = {decision: (kind, said.get("arm")) for kind, decision, said in made.routing.wait(2)}
    assert reports == {"d0": ("failed", BAD), "d1": ("settled", GOOD)}
    assert made.control.record_reward(response, 1.0).decision_id == "d1"
    assert made.control.record_reward(response.id, 1.0).decision_id == "d1"
    assert len(made.control.strategy._decisions) == 0


@both
def test_attempts_at_the_same_deployment_under_one_call_id_all_fail(
    routed: Call, entry: Call, call: Call
) -> None:
    made = routed([entry("bad", BAD, answer=RATE_LIMITED)], num_retries=1, disable_cooldowns=True)

    async def main() -> None:
        with pytest.raises(litellm.RateLimitError):
            await made.router.acompletion(model="chat", messages=MESSAGES, litellm_call_id="mine")
        await asyncio.to_thread(made.routing.wait, 2, "failed")

    if call is async_call:
        asyncio.run(main())
    else:
        with pytest.raises(litellm.RateLimitError):
            sync_call(made, litellm_call_id="mine")
    assert {decision for _, decision, _ in made.routing.wait(2, "failed")} == {"d0", "d1"}


@both
def test_the_managed_group_that_a_call_falls_back_to_gets_the_credit(
    routed: Call, entry: Call, call: Call
) -> None:
    models = [entry("bad", BAD, answer=RATE_LIMITED), entry("other", OTHER, group="else")]
    made = routed(models, groups=["chat", "else"], fallbacks=[{"chat": ["else"]}])
    response = call(made)
    assert [group for group, _, _ in made.routing.chosen] == ["chat", "else"]
    reports = {decision: kind for kind, decision, _ in made.routing.wait(2)}
    assert reports == {"d0": "failed", "d1": "settled"}
    assert made.control.record_reward(response, 1.0).decision_id == "d1"


@both
def test_a_timeout_fails_the_decision(routed: Call, entry: Call, call: Call) -> None:
    made = routed([entry("bad", BAD, mock_timeout=True)])

    async def main() -> None:
        with pytest.raises(litellm.Timeout):
            await made.router.acompletion(model="chat", messages=MESSAGES, timeout=0.01)
        await asyncio.to_thread(made.routing.wait, 1, "failed")

    if call is async_call:
        asyncio.run(main())
    else:
        with pytest.raises(litellm.Timeout):
            made.router.completion(model="chat", messages=MESSAGES, timeout=0.01)
    assert [decision for _, decision, _ in made.routing.wait(1, "failed")] == ["d0"]


async def test_concurrent_calls_that_share_a_call_id_and_metadata_are_all_settled(
    routed: Call, entry: Call
) -> None:
    """A proxy's client may send the same id twice; an application may reuse its metadata dictionary."""
    made = routed([entry("a", BAD), entry("b", GOOD)])
    metadata: dict[str, Any] = {}
    await asyncio.gather(
        *(
            made.router.acompletion(
                model="chat", messages=MESSAGES, litellm_call_id="same", metadata=metadata
            )
            for _ in range(6)
        )
    )
    settled = await asyncio.to_thread(made.routing.wait, 6, "settled")
    assert {decision for _, decision, _ in settled} == {f"d{number}" for number in range(6)}


async def test_concurrent_calls_that_share_metadata_credit_the_arm_that_served(
    routed: Call, entry: Call
) -> None:
    made = routed([entry("a", BAD), entry("b", GOOD)])
    metadata: dict[str, Any] = {}
    calls = (made.router.acompletion(model="chat", messages=MESSAGES, metadata=metadata) for _ in range(6))
    await asyncio.gather(*calls)
    settled = await asyncio.to_thread(made.routing.wait, 6, "settled")
    arms = {routed.decision_id: routed.arm for _, _, routed in made.routing.chosen}
    assert {decision: said["arm"] for _, decision, said in settled} == arms


def report(**changes: Any) -> Report:
    plain = {
        "call_id": "c",
        "model_id": "a",
        "noted": None,
        "failed": False,
        "from_cache": False,
        "cost_usd": 0.5,
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "response_id": "r",
    }
    return Report(**{**plain, **changes})


def choose_once(made: Any, call_id: str = "c") -> None:
    request = {"litellm_call_id": call_id, "metadata": {}}
    made.control.strategy.get_available_deployment("chat", messages=MESSAGES, request_kwargs=request)


def test_a_call_that_is_reported_twice_is_settled_once(routed: Call, entry: Call) -> None:
    made = routed([entry("a")])
    choose_once(made)
    for _ in range(2):
        made.control.strategy.on_report(report())
    assert [kind for kind, _, _ in made.routing.reports] == ["settled"]


def test_a_report_from_the_cache_withdraws_the_decision(routed: Call, entry: Call) -> None:
    made = routed([entry("a")])
    choose_once(made)
    made.control.strategy.on_report(report(from_cache=True))
    assert [kind for kind, _, _ in made.routing.reports] == ["withdrawn"]


def test_reports_of_calls_that_are_not_ours_are_ignored(routed: Call, entry: Call) -> None:
    made = routed([entry("a")])
    choose_once(made)
    made.control.strategy.on_report(report(call_id="another"))
    made.control.strategy.on_report(report(failed=True, model_id="a deployment of another router"))
    assert made.routing.reports == []


def test_a_report_without_a_price_counts_as_free_and_says_so_once(
    routed: Call, entry: Call, caplog: pytest.LogCaptureFixture
) -> None:
    logging.disable(logging.NOTSET)
    made = routed([entry("a", "openai/without-a-price")])
    for call_id in ("c1", "c2"):
        choose_once(made, call_id)
        made.control.strategy.on_report(report(call_id=call_id, cost_usd=None))
    assert [said["cost_usd"] for _, _, said in made.routing.reports] == [0.0, 0.0]
    warned = [line for line in caplog.messages if "knows no price for arm 'openai/without-a-price'" in line]
    assert len(warned) == 1


def test_nothing_of_prompts_or_answers_is_read_from_a_callback() -> None:
    class Forbidden(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            assert key not in {"messages", "input", "additional_args", "original_response"}
            return super().get(key, default)

    said = read_report(
        Forbidden(litellm_call_id="c", response_cost=None, messages=MESSAGES), {"id": "r"}, failed=True
    )
    assert (said.call_id, said.response_id, said.cost_usd, said.model_id) == ("c", "r", None, "")


@pytest.mark.parametrize(
    "lists",
    [
        ("callbacks",),
        (
            "callbacks",
            "success_callback",
            "_async_success_callback",
            "failure_callback",
            "_async_failure_callback",
        ),
    ],
    ids=["callbacks", "all lists"],
)
@both
def test_a_framework_that_empties_litellms_callbacks_does_not_deafen_us(
    routed: Call, entry: Call, monkeypatch: pytest.MonkeyPatch, lists: tuple[str, ...], call: Call
) -> None:
    made = routed([entry("a")])
    for number in range(2):
        for name in lists:
            monkeypatch.setattr(litellm, name, [])
        call(made)
        # LiteLLM reads its lists when it reports, in a thread of its own: emptied before, they would hide the call.
        assert len(made.routing.wait(number + 1, "settled")) == number + 1
    assert observer in litellm.callbacks
