"""The settings of a group."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from stageroute_router.core.estimators import registry
from stageroute_router.core.evidence.evidence import ExpectedTokens
from stageroute_router.core.schedule import Manual
from stageroute_router.core.snapshot import GroupPolicy
from stageroute_router.settings.segments import SegmentSettings
from stageroute_router.settings.stage import StageSettings
from stageroute_router.settings.values import Amount, Dollars, Strict, UnitInterval, number, table_path
from stageroute_router.tables.benchmark import DEFAULT_WEIGHT, BenchmarkTable, read_benchmark

FORMER_ESTIMATOR = "confidence"
"""What ``estimator`` was called; accepted still."""


def _registered(name: str) -> str:
    registry.factory_of(name)
    return name


class GroupSettings(Strict):
    """Settings of one managed model group.

    Args:
        budget_usd_per_call: average US dollars a call may cost, > 0. Required.
        max_live_models: most models kept live at once, >= 1; more than there are candidates is fine. Default 5.
        stage: when maintenance windows open; ``{"calls": 500}`` by default.
        estimator: how observations become the rewards and costs to plan with: ``"posterior"`` (default: the one that
            measures best), ``"paper"`` (the paper's bounds), or the name of an installed package's
            (:mod:`stageroute_router.core.estimators.registry`). Its former name is accepted: ``confidence``.
        gamma: width of the paper's bounds, > 0; only with ``estimator="paper"``. Default 0.1.
        pacing: whether the budget follows realised spend. Default: yes for ``"posterior"``, no for ``"paper"``.
        max_unproven_in_flight: most calls under way to an arm of which fewer than 5 costs are known, >= 1, so that a
            burst cannot spend hundreds of calls on a wrong price. Default 8. The cheapest arm by list price may get
            more where the others cannot keep the budget.
        failure_reward: reward in [0, 1] that a call which failed at its provider counts as; None (default) for
            no reward: an outage says nothing about the quality of answers, and calls leave an arm that does not
            answer without it. A call that failed by a mistake of its own never gets it.
        expected_prompt_tokens: prompt tokens of a typical call, used to turn list prices into expected costs
            until calls have been observed. Default 500.
        expected_completion_tokens: completion tokens of a typical call, likewise. Default 250.
        segments: how calls are told apart, see :class:`SegmentSettings`; None (default): they are not.
        pace_priced_calls: whether calls that come with a price of their own, in
            ``metadata={"stageroute": {"price": 50}}``, are paid out of the budget like all others: what they spend
            more, others spend less. Default yes; with False, pacing is left to the calls without.
        benchmark: path of a table of evaluated prompts (:mod:`stageroute_router.tables.benchmark`), what arms are
            believed to be worth until rewards say otherwise; read when the router is made. None (default) for none.
        benchmark_weight: most observations that an arm's scores in it count as, > 0; only with ``benchmark``.
            Default 20.
    """

    budget_usd_per_call: Dollars
    max_live_models: Annotated[StrictInt, BeforeValidator(number), Field(ge=1)] = 5
    stage: StageSettings | Literal["manual"] = Field(default_factory=lambda: StageSettings(calls=500))
    estimator: Annotated[StrictStr, AfterValidator(_registered)] = Field(
        default=registry.DEFAULT_ESTIMATOR, validation_alias=AliasChoices("estimator", FORMER_ESTIMATOR)
    )
    gamma: Dollars | None = None
    pacing: StrictBool | None = None
    max_unproven_in_flight: Annotated[StrictInt, BeforeValidator(number), Field(ge=1)] = 8
    pace_priced_calls: StrictBool = True
    failure_reward: UnitInterval | None = None
    expected_prompt_tokens: Amount = 500
    expected_completion_tokens: Amount = 250
    segments: SegmentSettings | None = None
    benchmark: Annotated[str, BeforeValidator(table_path)] | None = None
    benchmark_weight: Dollars | None = None

    @model_validator(mode="after")
    def _estimator_takes_gamma(self) -> GroupSettings:
        if self.gamma is not None and not registry.takes(self.estimator, "gamma"):
            msg = '"gamma" belongs to estimator="paper"; remove it or choose that'
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _weight_is_of_a_benchmark(self) -> GroupSettings:
        if self.benchmark_weight is not None and self.benchmark is None:
            msg = '"benchmark_weight" needs "benchmark", the table that it weighs; remove it or add that'
            raise ValueError(msg)
        return self

    @property
    def most_benchmark_weight(self) -> float:
        """Most observations that an arm's scores in the benchmark count as."""
        return float(self.benchmark_weight or DEFAULT_WEIGHT)

    @cached_property
    def benchmark_table(self) -> BenchmarkTable | None:
        """What the benchmark says; None without one. The file is read when this is first asked for, and only then.

        Raises:
            TableError: it cannot be used.
        """
        return None if self.benchmark is None else read_benchmark(self.benchmark)

    def policy(self) -> GroupPolicy:
        """Return what the engine needs of these settings."""
        return GroupPolicy(
            budget_usd=float(self.budget_usd_per_call),
            max_live=self.max_live_models,
            schedule=Manual() if self.stage == "manual" else self.stage.schedule(),
            estimator=registry.make(
                self.estimator, gamma=None if self.gamma is None else float(self.gamma), paced=self.pacing
            ),
            expected_tokens=ExpectedTokens(
                prompt=float(self.expected_prompt_tokens),
                completion=float(self.expected_completion_tokens),
            ),
            max_unproven_in_flight=self.max_unproven_in_flight,
            pace_priced_calls=self.pace_priced_calls,
        )
