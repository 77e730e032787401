"""What became of calls: matches LiteLLM's reports with open decisions and tells the runtime."""

from __future__ import annotations

import logging

from stageroute_router.hook.calls.failure import providers_fault
from stageroute_router.hook.calls.listeners import watching
from stageroute_router.hook.calls.observer import Report
from stageroute_router.hook.calls.open_decisions import OpenDecision, OpenDecisions
from stageroute_router.hook.interfaces import Routing
from stageroute_router.hook.known_deployments import KnownDeployments

logger = logging.getLogger("stageroute_router")


class Outcomes:
    """Concludes open decisions.

    Args:
        routing: the runtime.
        decisions: the open decisions.
        deployments: the router's.
    """

    def __init__(self, routing: Routing, *, decisions: OpenDecisions, deployments: KnownDeployments) -> None:
        self._routing = routing
        self._decisions = decisions
        self._deployments = deployments
        self._unpriced: set[str] = set()

    def on_report(self, report: Report) -> None:
        """Take LiteLLM's report of one attempt of any call in this process."""
        attempt = self._decisions.match(
            report.call_id, model_id=report.model_id, noted=report.noted, failed=report.failed
        )
        if report.response_id is not None:
            self._decisions.add_response_id(report.call_id, report.response_id, attempt=attempt)
        if attempt is None:
            return
        if report.response_id is not None and watching.active:
            watching.answered(report.response_id, attempt.decision)
        self._conclude(attempt, report)

    def fail_other_attempts(self, key: str, *, serving: str | None, error: object = None) -> None:
        """Take all attempts of a call but the serving one to have failed; see the strategy's method."""
        attempts = self._decisions.fail_others(key, serving=serving)
        for attempt in attempts:
            # LiteLLM has tried again, which it does not where the request is to blame.
            kind = None if attempt.terms.time_limit_s else "not reported"
            if serving is None and attempt is attempts[-1]:
                kind = providers_fault(error, attempt.terms, own_limit_s=attempt.own_limit_s)
            self._fail(attempt, kind=kind)

    def _fail(self, attempt: OpenDecision, *, kind: str | None) -> None:
        _discard_from_episodes(attempt)
        self._routing.failed(
            attempt.decision_id, arm=attempt.decision.arm, deployment=attempt.deployment, kind=kind
        )

    def _conclude(self, attempt: OpenDecision, report: Report) -> None:
        if report.failed:
            kind = providers_fault(report.error, attempt.terms, own_limit_s=attempt.own_limit_s)
            self._fail(attempt, kind=kind)
            return
        if report.from_cache:
            _discard_from_episodes(attempt)
            self._routing.withdrawn(attempt.decision_id)
            return
        group, arm = attempt.decision.group, attempt.decision.arm
        known = self._deployments.groups.get(group)  # unknown: a group of the router before this one
        if known is not None and not attempt.minted:
            arm = known.by_model_id.get(report.model_id, arm)
        cost = report.cost_usd or (None if known is None else known.list_price(arm, report))
        if cost is None and report.cost_usd is None and arm not in self._unpriced:
            self._unpriced.add(arm)
            logger.warning(
                "LiteLLM knows no price for arm %r of group %r: its calls count as free. Set input_cost_per_token "
                "and output_cost_per_token in its model_info",
                arm,
                group,
            )
        self._routing.settled(
            attempt.decision_id,
            arm=arm,
            cost_usd=cost or 0.0,
            prompt_tokens=report.prompt_tokens,
            completion_tokens=report.completion_tokens,
            response_id=report.response_id,
            deployment=report.model_id,
        )


def _discard_from_episodes(attempt: OpenDecision) -> None:
    for episode in attempt.episodes:
        episode.discard(attempt.decision_id)
