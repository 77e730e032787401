"""The settings of a group."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, model_validator

from stageroute_router.core.estimators.base import ConfidenceRule
from stageroute_router.core.estimators.paper import PaperRule
from stageroute_router.core.estimators.posterior import PosteriorRule
from stageroute_router.core.evidence.evidence import ExpectedTokens
from stageroute_router.core.schedule import Manual
from stageroute_router.core.snapshot import GroupPolicy
from stageroute_router.settings.segments import SegmentSettings
from stageroute_router.settings.stage import StageSettings
from stageroute_router.settings.values import Dollars, Strict, Tokens, UnitInterval, number, table_path
from stageroute_router.tables.benchmark import DEFAULT_WEIGHT


class GroupSettings(Strict):
    """Settings of one managed model group.

    Args:
        budget_usd_per_call: average US dollars a call may cost, > 0. Required.
        max_live_models: most models kept live at once, >= 1; more than there are candidates is fine. Default 5.
        stage: when maintenance windows open; ``{"calls": 500}`` by default.
        confidence: ``"posterior"`` (default: the rule that measures best) or ``"paper"`` (the paper's bounds).
        gamma: width of the paper's bounds, > 0; only with ``confidence="paper"``. Default 0.1.
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
    confidence: Literal["posterior", "paper"] = "posterior"
    gamma: Dollars | None = None
    pacing: StrictBool | None = None
    max_unproven_in_flight: Annotated[StrictInt, BeforeValidator(number), Field(ge=1)] = 8
    pace_priced_calls: StrictBool = True
    failure_reward: UnitInterval | None = None
    expected_prompt_tokens: Tokens = 500
    expected_completion_tokens: Tokens = 250
    segments: SegmentSettings | None = None
    benchmark: Annotated[str, BeforeValidator(table_path)] | None = None
    benchmark_weight: Dollars | None = None

    @model_validator(mode="after")
    def _gamma_is_the_papers(self) -> GroupSettings:
        if self.gamma is not None and self.confidence != "paper":
            msg = '"gamma" belongs to confidence="paper"; remove it or choose that'
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

    def policy(self) -> GroupPolicy:
        """Return what the engine needs of these settings."""
        rule: ConfidenceRule
        if self.confidence == "paper":
            rule = PaperRule(gamma=float(self.gamma or 0.1), paced=bool(self.pacing))
        else:
            rule = PosteriorRule(paced=self.pacing is not False)
        return GroupPolicy(
            budget_usd=float(self.budget_usd_per_call),
            max_live=self.max_live_models,
            schedule=Manual() if self.stage == "manual" else self.stage.schedule(),
            rule=rule,
            expected_tokens=ExpectedTokens(
                prompt=float(self.expected_prompt_tokens),
                completion=float(self.expected_completion_tokens),
            ),
            max_unproven_in_flight=self.max_unproven_in_flight,
            pace_priced_calls=self.pace_priced_calls,
        )
