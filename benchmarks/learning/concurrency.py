"""What 200 calls at once spend under a small budget: LiteLLM's own budgets beside StageRoute's, in one run.

    python -m benchmarks.learning.concurrency [--cap 0.05] [--calls 200] [--repeats 1] [--json FILE]

Two simulated models over HTTP (a process of its own): ``dear`` costs $0.03 a call, ``cheap`` $0.0001; both answer
after so long that all calls of a burst are under way before the first cost is known. Every arrangement gets a process,
a provider and a router of its own, and two bursts of calls: one from cold, one after the first one's costs (and, for
StageRoute, rewards) are known.

The two kinds of budget do not mean the same:

- LiteLLM's ``provider_budget_config`` and a deployment's ``max_budget`` are **caps over a window**: a deployment
  whose *reported* spend has reached its cap is left out, and a call that has no deployment left is refused.
- StageRoute's ``budget_usd_per_call`` is **an average per call**: no call is ever refused; what a call is expected
  to cost is charged when it is dispatched. Here it is the cap divided by the calls of a burst, so that one burst may
  spend the cap, and two bursts twice the cap.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import numpy as np
from litellm.router import Router
from litellm.types.utils import BudgetConfig
from rich.console import Console
from rich.table import Table

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

DEAR_USD = 0.03
CHEAP_USD = 0.0001
PROMPT_TOKENS, COMPLETION_TOKENS = 500, 250  # what StageRoute expects before it has seen any
LATENCY_S = 3.0
REPORT_DEADLINE_S = 20.0
WINDOW = "1d"
MESSAGES = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """One way to ask for a budget.

    Args:
        name: what the table calls it.
        models: the group's models.
        provider_cap: LiteLLM's budget of the provider.
        dear_cap: LiteLLM's budget of the dear deployment.
        stageroute: whether StageRoute routes, with the budget per call.
        dear_prior_usd: what StageRoute is told that a dear call costs; None for the list price, which is right.
    """

    name: str
    models: tuple[str, ...] = ("dear", "cheap")
    provider_cap: bool = False
    dear_cap: bool = False
    stageroute: bool = False
    dear_prior_usd: float | None = None


ARRANGEMENTS = (
    Arrangement(name="LiteLLM, provider budget, dear only", models=("dear",), provider_cap=True),
    Arrangement(name="LiteLLM, provider budget", provider_cap=True),
    Arrangement(name="LiteLLM, budget on dear", dear_cap=True),
    Arrangement(name="StageRoute", stageroute=True),
    Arrangement(
        name="StageRoute, dear's price 100 x too low", stageroute=True, dear_prior_usd=DEAR_USD / 100
    ),
    Arrangement(name="StageRoute, dear said to be cheapest", stageroute=True, dear_prior_usd=CHEAP_USD / 10),
)


@dataclass(frozen=True, kw_only=True)
class Burst:
    """What one burst came to: calls answered by each model, refused ones, US dollars spent by it and in all."""

    dear: int
    cheap: int
    refused: int
    spent_usd: float
    total_spent_usd: float
    allowed_usd: float


def run(arrangement: Arrangement, *, cap_usd: float, calls: int, seed: int) -> list[Burst]:
    """Make both bursts of one arrangement and return what they came to."""
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)  # it warns of every price it is given
    with SimulatedProvider(_models(), seed=seed, process=True) as provider:
        return asyncio.run(_bursts(arrangement, provider, cap_usd=cap_usd, calls=calls, seed=seed))


def _models() -> list[SimulatedModel]:
    tokens = PROMPT_TOKENS + COMPLETION_TOKENS
    return [
        SimulatedModel(
            name=name,
            reward_mean=reward,
            input_usd_per_token=cost / tokens,
            output_usd_per_token=cost / tokens,
            latency_s=LATENCY_S,
            prompt_tokens=PROMPT_TOKENS,
            completion_tokens=COMPLETION_TOKENS,
        )
        for name, reward, cost in (("dear", 0.95, DEAR_USD), ("cheap", 0.6, CHEAP_USD))
    ]


async def _bursts(
    arrangement: Arrangement, provider: SimulatedProvider, *, cap_usd: float, calls: int, seed: int
) -> list[Burst]:
    with tempfile.TemporaryDirectory() as folder:
        router = _router(arrangement, provider, cap_usd=cap_usd, calls=calls, seed=seed, folder=folder)
        bursts: list[Burst] = []
        for number in (1, 2):
            before = _answered(provider)
            answers = await asyncio.gather(
                *(router.acompletion(model="chat", messages=MESSAGES) for _ in range(calls)),
                return_exceptions=True,
            )
            answered = [answer for answer in answers if not isinstance(answer, BaseException)]
            after = _answered(provider)
            spent = _dollars(after) - _dollars(before)
            bursts.append(
                Burst(
                    dear=after["dear"] - before["dear"],
                    cheap=after["cheap"] - before["cheap"],
                    refused=calls - len(answered),
                    spent_usd=spent,
                    total_spent_usd=_dollars(after),
                    allowed_usd=cap_usd * (number if arrangement.stageroute else 1),
                )
            )
            await _until_reported(router, provider, answered, spent_usd=_dollars(after))
        if arrangement.stageroute:
            await asyncio.to_thread(router.stageroute.close)
        return bursts


def _router(
    arrangement: Arrangement,
    provider: SimulatedProvider,
    *,
    cap_usd: float,
    calls: int,
    seed: int,
    folder: str,
) -> Any:  # noqa: ANN401 - LiteLLM's or ours
    entries = []
    for name in arrangement.models:
        extra: dict[str, Any] = {}
        if name == "dear" and arrangement.dear_cap:
            extra = {"max_budget": cap_usd, "budget_duration": WINDOW}
        if name == "dear" and arrangement.dear_prior_usd is not None:
            extra = {"model_info": {"stageroute": {"prior_cost_usd": arrangement.dear_prior_usd}}}
        entries.append(provider.deployment(name, "chat", **extra))
    if arrangement.stageroute:
        return StageRouteRouter(
            model_list=entries,
            num_retries=0,
            stageroute={"chat": {"budget_usd_per_call": cap_usd / calls}},
            stageroute_options={"seed": seed},
            database_url=f"sqlite:///{folder}/stageroute.db",
        )
    options: dict[str, Any] = {}
    if arrangement.provider_cap:
        budget = BudgetConfig(max_budget=cap_usd, budget_duration=WINDOW)
        options["provider_budget_config"] = {"openai": budget}
    return Router(model_list=entries, num_retries=0, **options)


async def _until_reported(
    router: Any,  # noqa: ANN401
    provider: SimulatedProvider,
    answered: list[Any],
    *,
    spent_usd: float,
) -> None:
    """Report rewards to StageRoute, and wait until all costs have reached the router that holds the budget."""
    if isinstance(router, StageRouteRouter):
        for answer in answered:
            await router.arecord_reward(answer, provider.outcome(answer).reward)
    deadline = time.monotonic() + REPORT_DEADLINE_S
    while time.monotonic() < deadline:
        if isinstance(router, StageRouteRouter):
            status: Any = await asyncio.to_thread(router.stageroute.status, "chat")
            reported = status.spend_usd if status.open_calls == 0 else 0.0
        else:
            spends = router.cache.in_memory_cache.cache_dict
            reported = sum(
                float(value)
                for key, value in spends.items()
                if key.startswith(("provider_spend:", "deployment_spend:"))
            )
            if not router.router_budget_logger.provider_budget_config:
                spent_usd = DEAR_USD * _answered(provider)["dear"]  # all that this budget counts
        if abs(reported - spent_usd) < 1e-6:
            return
        await asyncio.sleep(0.05)
    msg = f"LiteLLM reported ${reported:.4f} of the ${spent_usd:.4f} spent within {REPORT_DEADLINE_S:g} s"
    raise TimeoutError(msg)


def _answered(provider: SimulatedProvider) -> dict[str, int]:
    return {name: provider.counts(name)["answered"] for name in provider.models}


def _dollars(answered: Mapping[str, int]) -> float:
    return answered["dear"] * DEAR_USD + answered["cheap"] * CHEAP_USD


def measure(*, cap_usd: float, calls: int, repeats: int) -> list[dict[str, Any]]:
    """Return a row per arrangement, repeat and burst; LiteLLM's own are not repeated."""
    rows: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    for arrangement in ARRANGEMENTS:
        for seed in range(repeats if arrangement.stageroute else 1):
            # A process each: LiteLLM's budgets are callbacks of the process, and so are shared by its routers.
            with context.Pool(1) as pool:
                bursts = pool.apply(run, (arrangement,), {"cap_usd": cap_usd, "calls": calls, "seed": seed})
            rows.extend(
                {"name": arrangement.name, "seed": seed, "burst": name, **asdict(burst)}
                for name, burst in zip(("cold", "warm"), bursts, strict=True)
            )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cap", type=float, default=0.05, help="US dollars a burst may spend")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=1, help="seeds for StageRoute, which routes at random")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = measure(cap_usd=arguments.cap, calls=arguments.calls, repeats=arguments.repeats)
    table = Table(
        "budget",
        "burst",
        "dear",
        "cheap",
        "refused",
        "spent $",
        "so far $",
        "allowed $",
        "spent / allowed",
    )
    for row in rows:
        table.add_row(
            row["name"],
            row["burst"],
            *(str(row[key]) for key in ("dear", "cheap", "refused")),
            *(f"{row[key]:.3f}" for key in ("spent_usd", "total_spent_usd", "allowed_usd")),
            f"{row['total_spent_usd'] / row['allowed_usd']:.2f}",
        )
    console = Console(width=130)
    console.print(table)
    worst = {
        name: float(
            np.max([row["total_spent_usd"] / row["allowed_usd"] for row in rows if row["name"] == name])
        )
        for name in dict.fromkeys(row["name"] for row in rows)
    }
    console.print(
        "Most spent over allowed: " + "; ".join(f"{name}: {most:.2f}" for name, most in worst.items())
    )
    console.print(
        "A cap refuses calls once its spend is known; an average per call refuses none. Every call overlaps."
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
