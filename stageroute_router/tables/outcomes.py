"""A table of recorded outcomes: what each of M models did with each of Q queries, and what that cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stageroute_router.errors import TableError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutcomeTable:
    """Recorded outcomes of M models on Q queries. Checked when made; not to be changed.

    Args:
        name: what messages call it, for example its file.
        models: model names, length M, unique.
        reward: in [0, 1], shape (Q, M).
        cost_usd: US dollars of the call, 0 or more, shape (Q, M).
        task: the benchmark or category of each query, length Q, or None.
        release: release date of each model (ISO; "" where unknown), length M, or None.
        input_usd_per_token: list price of a prompt token, US dollars, NaN where unknown, shape (M,), or None.
        output_usd_per_token: list price of a completion token, likewise.
        prompt_tokens: prompt tokens of the call, NaN where unknown, shape (Q, M), or None.
        completion_tokens: completion tokens of the call, likewise.
        prompts: text of each query, None where unknown, length Q, or None.

    Raises:
        TableError: no rows, no models, shapes that do not fit, a name twice, a number out of its domain.

    >>> table = OutcomeTable(
    ...     models=("small", "large"), reward=np.array([[0.0, 1.0]]), cost_usd=np.array([[0.001, 0.01]])
    ... )
    >>> table.queries, table.mean_cost_usd.tolist()
    (1, [0.001, 0.01])
    """

    models: tuple[str, ...]
    reward: Floats
    cost_usd: Floats
    name: str = "table"
    task: tuple[str, ...] | None = None
    release: tuple[str, ...] | None = None
    input_usd_per_token: Floats | None = None
    output_usd_per_token: Floats | None = None
    prompt_tokens: Floats | None = None
    completion_tokens: Floats | None = None
    prompts: Sequence[str | None] | None = None

    def __post_init__(self) -> None:
        """Check shapes and domains."""
        self._check_shapes()
        self._check_values(
            "reward",
            self.reward,
            bad=~((self.reward >= 0.0) & (self.reward <= 1.0)),
            fix="rewards must lie in [0, 1]; rescale the scores",
        )
        self._check_values(
            "cost_usd",
            self.cost_usd,
            bad=~((self.cost_usd >= 0.0) & np.isfinite(self.cost_usd)),
            fix="every call needs its cost in US dollars, 0 or more",
        )
        for column in ("prompt_tokens", "completion_tokens"):
            tokens = getattr(self, column)
            if tokens is not None:
                fix = "token counts must be 0 or more, or missing"
                self._check_values(column, tokens, bad=(tokens < 0.0) | np.isinf(tokens), fix=fix)
        for column in ("input_usd_per_token", "output_usd_per_token"):
            prices = getattr(self, column)
            for model, price in zip(self.models, () if prices is None else prices, strict=False):
                if price < 0.0 or np.isinf(price):
                    message = (
                        f"{self.name}: {column} of {model!r} is {price}; prices must be 0 or more, or missing"
                    )
                    raise TableError(message)

    def _check_shapes(self) -> None:
        queries, models = np.shape(self.reward)[0] if np.ndim(self.reward) else 0, len(self.models)
        if not models:
            raise TableError(f"{self.name}: no models; a table needs at least one")
        if not queries:
            raise TableError(f"{self.name}: no rows; a table needs at least one query")
        twice = {name for name in self.models if self.models.count(name) > 1}
        if twice or not all(self.models):
            listed = ", ".join(sorted(twice)) or "the empty name"
            raise TableError(f"{self.name}: model names must be unique and not empty; see {listed}")
        wanted = {
            "reward": (queries, models),
            "cost_usd": (queries, models),
            "task": (queries,),
            "prompts": (queries,),
            "release": (models,),
            "input_usd_per_token": (models,),
            "output_usd_per_token": (models,),
            "prompt_tokens": (queries, models),
            "completion_tokens": (queries, models),
        }
        for column, shape in wanted.items():
            value = getattr(self, column)
            if value is None:
                continue
            found = value.shape if isinstance(value, np.ndarray) else (len(value),)
            if found != shape:
                message = (
                    f"{self.name}: {column} has the shape {found}, but {queries} queries and {models} models "
                    f"make it {shape}"
                )
                raise TableError(message)

    def _check_values(self, column: str, values: Floats, *, bad: npt.NDArray[np.bool_], fix: str) -> None:
        if bad.any():
            row, model = (int(index) for index in np.argwhere(bad)[0])
            more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
            place = f"{self.name}: {column} of row {row}, model {self.models[model]!r}"
            message = f"{place} is {values[row, model]}{more}; {fix}"
            raise TableError(message)

    @property
    def queries(self) -> int:
        """Number of queries, Q."""
        return int(self.reward.shape[0])

    @property
    def mean_reward(self) -> Floats:
        """True mean reward of each model, shape (M,)."""
        return np.asarray(self.reward.mean(axis=0))

    @property
    def mean_cost_usd(self) -> Floats:
        """True mean cost of each model in US dollars, shape (M,)."""
        return np.asarray(self.cost_usd.mean(axis=0))


def prior_costs(table: OutcomeTable) -> tuple[float | None, ...]:
    """Return what a call to each model is expected to cost before it is tried, US dollars; None where unknown.

    A model's list prices times the token counts *of the group*: means over all models and rows, since that is
    what a team knows of its traffic before it knows a model's own verbosity. Where a table has no completion tokens at
    all, its costs are taken to be those of the prompts alone.

    >>> table = OutcomeTable(
    ...     models=("small", "large"), reward=np.ones((1, 2)), cost_usd=np.ones((1, 2)),
    ...     input_usd_per_token=np.array([1e-6, np.nan]), output_usd_per_token=np.array([2e-6, np.nan]),
    ...     prompt_tokens=np.array([[100.0, 300.0]]), completion_tokens=np.array([[10.0, np.nan]]),
    ... )
    >>> small, large = prior_costs(table)
    >>> round(small, 9), large
    (0.00022, None)
    """
    prompt = _known_mean(table.prompt_tokens)
    if table.input_usd_per_token is None or prompt is None:
        return (None,) * len(table.models)
    expected = table.input_usd_per_token * prompt
    completion = _known_mean(table.completion_tokens)
    if completion is not None:
        if table.output_usd_per_token is None:
            return (None,) * len(table.models)
        expected = expected + table.output_usd_per_token * completion
    return tuple(None if np.isnan(cost) else float(cost) for cost in expected)


def _known_mean(tokens: Floats | None) -> float | None:
    if tokens is None or np.isnan(tokens).all():
        return None
    return float(np.nanmean(tokens))
