"""What priors of the arms' rewards are worth when they are right, and what they cost when they are wrong.

Run: ``python -m benchmarks.learning.priors``; two minutes. First priors of arms, then those of arms in segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stageroute_router.core.arm import Arm, SegmentPrior
from stageroute_router.core.budget.account import Account
from stageroute_router.core.engine import Engine
from stageroute_router.core.estimators.posterior import PosteriorEstimator
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.snapshot import GroupPolicy
from stageroute_router.core.statistics import ArmStatistics

LOW, HIGH = 0.4, 0.8
"""True mean reward of the worst and of the best arm."""

COST_USD = 0.001

SEGMENTS = 4
"""How many there are in the world of segments."""

OPINIONS: dict[str, Callable[[Any], Any]] = {
    "right": lambda true: true,
    "exchanged": lambda true: LOW + HIGH - true,
    "opposite": lambda true: (HIGH - true) / (HIGH - LOW),
}
"""What is said of an arm, given the truth. ``"exchanged"``: the best is called the worst, and so on;
``"opposite"``: the best is said to earn 0, the worst 1."""


def earned(
    opinion: str | None, *, weight: float, arms: int, live: int, calls: int, seeds: Iterable[int]
) -> NDArray[np.float64]:
    """Return the true mean reward of the arm chosen: a row per seed, a column per call.

    Args:
        opinion: what is said of the arms, one of :data:`OPINIONS`; None for nothing.
        weight: how many observations that counts as.
        arms: how many there are, their rewards evenly spaced, in a random order, all of one cost.
        live: how many are live at once.
        calls: of a stream.
        seeds: one stream each; the same with every opinion.
    """
    return np.array(
        [_stream(opinion, weight=weight, arms=arms, live=live, calls=calls, seed=seed) for seed in seeds]
    )


def _stream(
    opinion: str | None, *, weight: float, arms: int, live: int, calls: int, seed: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng([seed, 1])
    true = {
        f"arm{index}": float(mean) for index, mean in enumerate(rng.permutation(np.linspace(LOW, HIGH, arms)))
    }
    candidates = [
        Arm(
            name=name,
            prior_cost_usd=COST_USD,
            prior_reward=None if opinion is None else OPINIONS[opinion](mean),
            prior_weight=0.0 if opinion is None else weight,
        )
        for name, mean in true.items()
    ]
    return _served(candidates, np.array([list(true.values())]), live=live, calls=calls, seed=seed, rng=rng)


def _served(
    candidates: list[Arm],
    true: NDArray[np.float64],
    *,
    live: int,
    calls: int,
    seed: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Route a stream; return the true mean reward of the arm chosen, by call.

    Args:
        candidates: the arms, with what is said of them.
        true: their mean rewards, shape (segments, arms).
        live: how many are live at once.
        calls: of the stream, each of a segment by chance.
        seed: of the engine.
        rng: of calls and rewards.
    """
    position = {arm.name: index for index, arm in enumerate(candidates)}
    policy = GroupPolicy(
        budget_usd=2 * COST_USD, max_live=live, schedule=EveryCalls(100), estimator=PosteriorEstimator()
    )
    paid = ArmStatistics(pulls=1, cost_count=1, cost_sum=COST_USD, cost_sumsq=COST_USD**2)
    engine = Engine(policy, seed=seed)
    snapshot = engine.start(candidates, now=0.0, cells={})
    reward = np.empty(calls)
    for call in range(calls):
        segment = int(rng.integers(len(true)))
        arm = engine.choose(snapshot, uniform=rng.random(), segment=str(segment)).arm
        reward[call] = true[segment, position[arm]]
        told = paid + ArmStatistics.of_reward(float(rng.random() < reward[call]))
        account = Account(calls=call + 1, spend_usd=(call + 1) * COST_USD)
        snapshot = engine.advance(
            snapshot,
            increments={arm: told},
            cells={(str(segment), arm): told},
            account=account,
            now=float(call),
        )
    return reward


def earned_by_segment(
    opinion: str | None,
    *,
    weight: float,
    arms: int,
    live: int,
    calls: int,
    seeds: Iterable[int],
    only_arms: bool = False,
) -> NDArray[np.float64]:
    """Return the same in a world of segments, in each of which the arms come in another order.

    Args:
        opinion: as of :func:`earned`, of each arm in each segment; ``"displaced"`` is the truth of another segment.
        weight: how many observations that counts as, for each arm and for each arm in each segment.
        arms: how many there are.
        live: how many are live at once.
        calls: of a stream, each of a segment by chance.
        seeds: one stream each; the same with every opinion.
        only_arms: say only what arms are worth over all segments.
    """
    return np.array(
        [
            _stream_by_segment(
                opinion, weight=weight, arms=arms, live=live, calls=calls, seed=seed, only_arms=only_arms
            )
            for seed in seeds
        ]
    )


def _stream_by_segment(
    opinion: str | None, *, weight: float, arms: int, live: int, calls: int, seed: int, only_arms: bool
) -> NDArray[np.float64]:
    rng = np.random.default_rng([seed, 2])
    true = np.array([rng.permutation(np.linspace(LOW, HIGH, arms)) for _ in range(SEGMENTS)])
    if opinion is None:
        candidates = [Arm(name=str(arm), prior_cost_usd=COST_USD) for arm in range(arms)]
    else:
        said = np.roll(true, 1, axis=0) if opinion == "displaced" else OPINIONS[opinion](true)
        candidates = [
            Arm(
                name=str(arm),
                prior_cost_usd=COST_USD,
                prior_reward=float(said[:, arm].mean()),
                prior_weight=weight,
                segment_priors=()
                if only_arms
                else tuple(
                    SegmentPrior(segment=str(segment), reward=float(said[segment, arm]), weight=weight)
                    for segment in range(SEGMENTS)
                ),
            )
            for arm in range(arms)
        ]
    return _served(candidates, true, live=live, calls=calls, seed=seed, rng=rng)


def _compared(parts: NDArray[np.float64], without: NDArray[np.float64]) -> str:
    difference = parts.mean(axis=1) - without.mean(axis=1)
    return f"{difference.mean():+.3f} ± {2 * difference.std(ddof=1) / len(difference) ** 0.5:.3f}"


def main(*, seeds: int = 24, calls: int = 2000) -> None:
    """Print a row per opinion and weight: reward per call less that without a prior, ± two standard errors."""
    worlds = ((3, 2), (8, 3))
    nothing = [
        earned(None, weight=0, arms=arms, live=live, calls=calls, seeds=range(seeds)) for arms, live in worlds
    ]
    print(
        "| the prior is | weight | "
        + " | ".join(f"{arms} arms: first 100 | last 1,000 | all" for arms, _ in worlds)
    )
    for opinion in OPINIONS:
        for weight in (5.0, 20.0, 100.0):
            cells = []
            for (arms, live), without in zip(worlds, nothing, strict=True):
                with_it = earned(
                    opinion, weight=weight, arms=arms, live=live, calls=calls, seeds=range(seeds)
                )
                cells += [
                    _compared(with_it[:, part], without[:, part])
                    for part in (slice(100), slice(-1000, None), slice(None))
                ]
            print(f"| {opinion} | {weight:g} | " + " | ".join(cells), flush=True)
    _by_segment(seeds=seeds, calls=calls)


def _by_segment(*, seeds: int, calls: int) -> None:
    arms, live = 8, 4
    world: dict[str, Any] = {"arms": arms, "live": live, "calls": calls, "seeds": range(seeds)}
    without = earned_by_segment(None, weight=0, **world)
    print(f"| {SEGMENTS} segments, {arms} arms: the prior is | weight | first 100 | last 1,000 | all")
    for opinion in (*OPINIONS, "displaced"):
        for only_arms in (True, False):
            for weight in (5.0, 20.0):
                with_it = earned_by_segment(opinion, weight=weight, only_arms=only_arms, **world)
                cells = [
                    _compared(with_it[:, part], without[:, part])
                    for part in (slice(100), slice(-1000, None), slice(None))
                ]
                told = "of arms" if only_arms else "of arms in segments"
                print(f"| {opinion}, {told} | {weight:g} | " + " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
