"""The result of a replay: every choice, and the figures computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

QUARTERS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReplayResult:
    """A replayed stream of T calls over M models.

    Args:
        name: what was replayed.
        models: names, length M.
        row: row of the table of each call, shape (T,).
        model: index of the model that answered each call, shape (T,).
        stage: number of the stage each call was made in, from 1, shape (T,).
        reward: reward of each call, shape (T,).
        cost_usd: cost of each call in US dollars, shape (T,).
        arrival: per model, the call from which on it existed, shape (M,).
        live: per stage and model, whether it was live, shape (stages, M).
        budget_usd: budget per call.
        oracle_reward_per_call: mean reward of the best mixture with the true means, re-solved at every arrival,
            shape (T,).
        oracle_spend_usd: what that mixture spends in all.
        feasible: whether models existed from the start that keep the budget, throughput shares included.
        elapsed_s: time all decisions and updates took, seconds.
    """

    name: str
    models: tuple[str, ...]
    row: NDArray[np.int64]
    model: NDArray[np.int64]
    stage: NDArray[np.int64]
    reward: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    arrival: NDArray[np.int64]
    live: NDArray[np.bool_]
    budget_usd: float
    oracle_reward_per_call: NDArray[np.float64]
    oracle_spend_usd: float
    feasible: bool
    elapsed_s: float

    @property
    def calls(self) -> int:
        """Number of calls, T."""
        return len(self.row)

    @property
    def oracle_reward(self) -> float:
        """Total reward of the optimum."""
        return float(self.oracle_reward_per_call.sum())

    @property
    def reward_ratio(self) -> float:
        """Total reward over the oracle's."""
        return float(self.reward.sum() / self.oracle_reward) if self.oracle_reward else float("nan")

    @property
    def spend_ratio(self) -> float:
        """Total cost over the budget for all calls."""
        return float(self.cost_usd.sum() / (self.budget_usd * self.calls))

    @property
    def spend_ratio_quarters(self) -> list[float]:
        """Cost over budget in each quarter of the stream."""
        parts = np.array_split(self.cost_usd, QUARTERS)
        return [float(part.sum() / (self.budget_usd * len(part))) for part in parts if len(part)]

    @property
    def calls_per_model(self) -> dict[str, int]:
        """How many calls each model answered."""
        counts = np.bincount(self.model, minlength=len(self.models))
        return dict(zip(self.models, counts.tolist(), strict=True))

    def to_dict(self) -> dict[str, object]:
        """Return the figures as plain values, ready for JSON.

        ```python
        from stageroute_router.core.estimators.posterior import PosteriorEstimator
        from stageroute_router.tables.routerbench import synthetic_table
        from stageroute_router.replay.run import replay
        from stageroute_router.replay.stream import draw_stream

        table = synthetic_table(seed=0, queries=200)
        stream = draw_stream(table, seed=0, calls=200)
        result = replay(table, stream, name="mine", estimator=PosteriorEstimator(), seed=0)
        assert result.to_dict()["calls"] == sum(result.calls_per_model.values()) == 200
        ```
        """
        first_calls = np.searchsorted(self.stage, np.arange(1, len(self.live) + 1))
        return {
            "table": self.name,
            "calls": self.calls,
            "budget_usd_per_call": self.budget_usd,
            "reward": float(self.reward.sum()),
            "oracle_reward": self.oracle_reward,
            "reward_ratio": self.reward_ratio,
            "spend_usd": float(self.cost_usd.sum()),
            "oracle_spend_usd": self.oracle_spend_usd,
            "spend_ratio": self.spend_ratio,
            "spend_ratio_quarters": self.spend_ratio_quarters,
            "feasible": self.feasible,
            "decisions_per_second": self.calls / self.elapsed_s if self.elapsed_s else None,
            "calls_per_model": self.calls_per_model,
            "stages": [
                {
                    "stage": number + 1,
                    "first_call": int(first_calls[number]),
                    "live": [self.models[index] for index in np.flatnonzero(members)],
                }
                for number, members in enumerate(self.live)
            ],
        }

    def save_choices(self, path: Path) -> None:
        """Write every choice to an ``.npz`` file, so that the figures can be recomputed.

        Keys: ``row``, ``model``, ``stage`` (per call, in order), ``arrival`` (per model), ``live`` (per stage and
        model).

        Args:
            path: the file.

        Raises:
            OSError: it cannot be written.

        ```python
        from pathlib import Path

        import numpy as np

        result.save_choices(Path("choices.npz"))
        with np.load("choices.npz") as choices:
            again = table.reward[choices["row"], choices["model"]].sum()
        assert again == result.reward.sum()
        ```
        """
        # Through an open file, so that numpy does not append an ending of its own.
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                row=self.row,
                model=self.model,
                stage=self.stage,
                arrival=self.arrival,
                live=self.live,
            )
