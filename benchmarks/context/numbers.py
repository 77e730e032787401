"""What a contextual router knows of a call: the built-in featuriser's numbers of its prompt, standardised."""

from __future__ import annotations

import numpy as np

from stageroute_router.core.arrays import FloatArray
from stageroute_router.core.segments.clusters import CLIP_SD
from stageroute_router.core.segments.features import BYTES
from stageroute_router.errors import SettingsError
from stageroute_router.replay.segments import prompts_of
from stageroute_router.tables.outcomes import OutcomeTable

FITTED_CALLS = 200
"""Calls from which the mean and deviation of each number are computed; until then the policy ignores prompts."""


class PromptNumbers:
    """The numbers of each query of a table, once the first calls have shown their scale.

    Standardised and cut off as those that automatic segments are found by: mean 0 and deviation 1 over the first
    calls, 3 deviations at most.

    Args:
        table: recorded outcomes with prompts.
        seed: where a prompt is not recorded, another one takes its place.
        by_chance: give each query the numbers of another one: the control, which tells equal queries from different
            ones and nothing else.
        calls: how many calls to fit on, at least 2.

    Raises:
        SettingsError: the table has no prompts, or ``calls`` is too small.
    """

    def __init__(
        self, table: OutcomeTable, *, seed: int, by_chance: bool = False, calls: int = FITTED_CALLS
    ) -> None:
        if calls < 2:
            msg = f"calls must be at least 2, for a deviation, not {calls}"
            raise SettingsError(msg)
        rows = np.array([BYTES.vector(prompt) for prompt in prompts_of(table, seed=seed)])
        if by_chance:
            rows = rows[np.random.default_rng([seed, 99]).permutation(len(rows))]
        self._rows = rows
        self._calls = calls
        self._seen: list[int] = []
        self._standardised: FloatArray | None = None

    @property
    def size(self) -> int:
        """How many numbers a call has."""
        return int(self._rows.shape[1])

    @property
    def ready(self) -> bool:
        """Whether enough calls came."""
        return self._standardised is not None

    def see(self, row: int) -> None:
        """Count a call with this query among the first, if they are not complete."""
        if self._standardised is not None:
            return
        self._seen.append(row)
        if len(self._seen) == self._calls:
            first = self._rows[self._seen]
            deviation = first.std(axis=0)
            scaled = (self._rows - first.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
            self._standardised = np.clip(scaled, -CLIP_SD, CLIP_SD)

    def of(self, rows: list[int]) -> FloatArray:
        """Return the numbers of some queries, shape (queries, numbers).

        Args:
            rows: of the table.

        Raises:
            RuntimeError: not enough calls came yet.
        """
        if self._standardised is None:
            msg = f"numbers are standardised on {self._calls} calls, and {len(self._seen)} came"
            raise RuntimeError(msg)
        return self._standardised[rows]
