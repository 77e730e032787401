"""What a burst of calls can spend before the first cost is known, through LiteLLM and over HTTP."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest

from stageroute_router import StageRouteRouter
from stageroute_router.reports.status import GroupStatus
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

pytestmark = pytest.mark.calls_litellm

CALLS = 48
DEAR_USD = 0.03
CHEAP_USD = 0.0001
BUDGET_USD = 0.0003
TOKENS = 750
MOST_UNPROVEN = 8
LATENCIES_S = (1.0, 4.0, 16.0)
"""Answers take the first; where the machine is so busy that calls do not overlap, the next."""

DEADLINE_S = 40.0


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Calls answered by each model, and what the router's status says after them."""

    dear: int
    cheap: int
    status: GroupStatus

    @property
    def usd(self) -> float:
        return self.dear * DEAR_USD + self.cheap * CHEAP_USD


def the_models(latency_s: float) -> list[SimulatedModel]:
    return [
        SimulatedModel(
            name=name,
            reward_mean=reward,
            prompt_tokens=500,
            completion_tokens=250,
            input_usd_per_token=usd / TOKENS,
            output_usd_per_token=usd / TOKENS,
            latency_s=latency_s,
        )
        for name, reward, usd in (("dear", 0.95, DEAR_USD), ("cheap", 0.6, CHEAP_USD))
    ]


def a_router(provider: SimulatedProvider, *, dear_said_to_cost: float) -> StageRouteRouter:
    prior = {"stageroute": {"prior_cost_usd": dear_said_to_cost}}
    return StageRouteRouter(
        model_list=[
            provider.deployment("dear", "chat", model_info=prior),
            provider.deployment("cheap", "chat"),
        ],
        num_retries=0,
        stageroute={"chat": {"budget_usd_per_call": BUDGET_USD, "max_unproven_in_flight": MOST_UNPROVEN}},
        stageroute_options={"seed": 3},
        database_url="memory://",
    )


def counted(provider: SimulatedProvider, what: str) -> dict[str, int]:
    return {name: provider.counts(name)[what] for name in provider.models}


async def burst(router: StageRouteRouter, provider: SimulatedProvider) -> tuple[list[Any], bool]:
    """Make all calls at once; return the answers, and whether the last call came before the first answer."""
    before = sum(counted(provider, "requests").values())
    calls = [
        asyncio.create_task(router.acompletion(model="chat", messages=[{"role": "user", "content": "hello"}]))
        for _ in range(CALLS)
    ]
    overlapped = False
    deadline = time.monotonic() + DEADLINE_S
    while not any(call.done() for call in calls) and time.monotonic() < deadline:
        arrived = sum((await asyncio.to_thread(counted, provider, "requests")).values()) - before
        if arrived == CALLS:
            overlapped = not any(call.done() for call in calls)
            break
    return await asyncio.gather(*calls), overlapped


async def settled(router: StageRouteRouter, calls: int) -> GroupStatus:
    """Wait until LiteLLM has reported all costs (it does so in the background) and they are committed."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        status = await asyncio.to_thread(router.stageroute.status, "chat")
        assert isinstance(status, GroupStatus)
        if status.open_calls == 0 and status.calls == calls:
            return status
    pytest.fail(f"not settled in time: {status}")


async def two_bursts(dear_said_to_cost: float) -> list[Spent]:
    """Make a burst from cold, one when all costs and rewards are known, and return what each spent."""
    for latency_s in LATENCIES_S:
        with SimulatedProvider(the_models(latency_s), seed=4, process=True) as provider:
            router = a_router(provider, dear_said_to_cost=dear_said_to_cost)
            try:
                answers, overlapped = await burst(router, provider)
                if not overlapped:
                    continue
                first = counted(provider, "answered")
                for answer in answers:
                    await router.arecord_reward(answer, provider.outcome(answer).reward)
                spent = [Spent(**first, status=await settled(router, CALLS))]
                await burst(router, provider)
                both = counted(provider, "answered")
                second = {name: both[name] - first[name] for name in both}
                spent.append(Spent(**second, status=await settled(router, 2 * CALLS)))
                return spent
            finally:
                router.stageroute.close()
    pytest.fail(f"{CALLS} calls did not overlap even where an answer takes {LATENCIES_S[-1]:g} s")


async def test_a_burst_at_the_right_price_keeps_the_budget_before_any_cost_is_known() -> None:
    cold, warm = await two_bursts(DEAR_USD)

    # Every call goes to `dear` with a probability of at most (budget - cheap) / (dear - cheap) = 0.0067, a fifth more
    # for the width of the cost draws: 0.4 calls of 48 by expectation, and 5 or more once in 15,000 bursts. That calls
    # to `cheap` are under way must not push others to `dear`.
    for burst_spent in (cold, warm):
        assert burst_spent.dear + burst_spent.cheap == CALLS
        assert burst_spent.dear <= 4
    assert cold.status.spend_usd == pytest.approx(cold.usd, rel=1e-9)
    assert warm.status.spend_usd == pytest.approx(cold.usd + warm.usd, rel=1e-9)


async def test_a_burst_at_a_wrong_price_spends_no_more_than_the_calls_that_may_try_it() -> None:
    cold, warm = await two_bursts(DEAR_USD / 100)

    # Cold. `dear` is said to cost no more than the budget, so that nearly every call would go there. But no cost is
    # known before the last call is dispatched, so that it stays unproven, and at most MOST_UNPROVEN calls are under
    # way to it; the others go to `cheap`. The burst spends at most MOST_UNPROVEN * DEAR_USD + (CALLS - MOST_UNPROVEN)
    # * CHEAP_USD = $0.244; without the limit it would be up to CALLS * DEAR_USD = $1.44.
    assert cold.dear <= MOST_UNPROVEN
    assert cold.usd <= MOST_UNPROVEN * DEAR_USD + (CALLS - MOST_UNPROVEN) * CHEAP_USD + 1e-9
    assert cold.dear > 4  # or the price was not believed, and nothing was tested

    # Warm. The first burst spent at least 5 * $0.03 of the $0.0144 it was allowed. Repaid over half a stage of 500
    # calls, that leaves less than nothing per call: the budget is that of the cheapest mixture and 2 % of tolerance,
    # so `dear` has a probability below 0.02 * cheap / dear = 0.0001 per call, and a second call of 48 one in 80,000.
    assert warm.dear <= 1
    assert warm.status.spend_usd == pytest.approx(cold.usd + warm.usd, rel=1e-9)
