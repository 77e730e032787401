"""Selects a deployment for one call of a managed group: LiteLLM lists the healthy ones, the runtime chooses an arm.

Nothing of ours that goes wrong here reaches the call: LiteLLM chooses then, as it would without us.
"""

from __future__ import annotations

import random
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stageroute_router.hook.calls.attempts import healthy_at_a_level, own_limit_s, untried
from stageroute_router.hook.calls.counters import FallbackReason, StrategyCounters
from stageroute_router.hook.calls.episode import open_episodes
from stageroute_router.hook.calls.listeners import watching
from stageroute_router.hook.calls.observer import observer
from stageroute_router.hook.calls.open_decisions import OpenDecision, OpenDecisions, Trail
from stageroute_router.hook.calls.request import (
    attempt_key,
    call_id_of,
    ensured_call_id,
    has_retry,
    origin_of,
    prepare,
    terms_of,
    trace_of,
    trail_of,
)
from stageroute_router.hook.compat import Deployment, LiteLLMCompat, Request
from stageroute_router.hook.deployments import model_id
from stageroute_router.hook.interfaces import Routing
from stageroute_router.hook.known_deployments import KnownDeployments
from stageroute_router.hook.segments.finder import SegmentFinder
from stageroute_router.process.fork import ForkAware, survive_fork


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of a call that LiteLLM wants a deployment for.

    Args:
        group: the managed group.
        model: the name that was asked for.
        request: its keyword arguments; LiteLLM's filters and we change them.
        before: the same as they were at first.
        asked: what LiteLLM passes apart: messages, input, and whether one deployment was named.
        trail: where its call has failed before; None at the first attempt.
        thread: names the calling thread where LiteLLM did not show the request; ``""`` otherwise.
    """

    group: str
    model: str
    request: Request
    before: Mapping[str, Any]
    asked: Mapping[str, Any]
    trail: Trail | None
    thread: str = ""


class Selection(ForkAware):
    """Selects deployments.

    Args:
        compat: the router.
        routing: the runtime.
        decisions: is given each decision.
        counters: count choices and fallbacks.
        deployments: the router's.
        segments: finds each call's segment and price.
        seed: of the choice among an arm's replicas; fresh entropy by default.
    """

    def __init__(
        self,
        compat: LiteLLMCompat,
        routing: Routing,
        *,
        decisions: OpenDecisions,
        counters: StrategyCounters,
        deployments: KnownDeployments,
        segments: SegmentFinder,
        seed: int | None = None,
    ) -> None:
        self._compat = compat
        self._routing = routing
        self._decisions = decisions
        self._counters = counters
        self._deployments = deployments
        self._segments = segments
        self._random = random.Random(seed)
        survive_fork(self)

    def after_fork_in_child(self) -> None:
        """Pick replicas with a randomness of its own."""
        self._random = random.Random()

    def attempt(
        self, model: str, request: Request, *, asked: Mapping[str, Any], thread: str = ""
    ) -> Attempt | None:
        """Return the attempt of a managed group that LiteLLM asks for; None where LiteLLM is to choose.

        Args:
            model: the name that was asked for.
            request: the attempt's keyword arguments.
            asked: what LiteLLM passes apart.
            thread: names the calling thread where LiteLLM did not show the request.
        """
        group = self._managed(model, pinned=asked["specific_deployment"])
        if group is None:
            return None
        before = dict(request)
        try:
            trail = trail_of(self._decisions, request, thread=thread)
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self._routing.internal_error(error)
            trail = None
        return Attempt(
            group=group, model=model, request=request, before=before, asked=asked, trail=trail, thread=thread
        )

    def _managed(self, model: str, *, pinned: bool | None) -> str | None:
        """Return the managed group a requested name stands for; None where LiteLLM is to choose."""
        try:
            observer.ensure_registered()
            if pinned:
                self._counters.record_fallback("", FallbackReason.PINNED)
                return None
            group = self._compat.group_of(model)
            if not self._routing.manages(group):
                self._counters.record_fallback("", FallbackReason.UNMANAGED)
                return None
            self._deployments.refresh()
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self.fall_back(error, group="")
            return None
        return group

    def healthy(self, attempt: Attempt) -> Coroutine[Any, Any, Any]:
        """Return what lists the deployments that are healthy for an attempt, at the first level that may answer it."""
        group, model, request, asked = attempt.group, attempt.model, attempt.request, attempt.asked
        orders = self._deployments.orders.get(group)
        if not orders:
            return self._compat.healthy(model, request, **asked)
        tried = set() if attempt.trail is None else {one.deployment for one in attempt.trail.attempts}
        down = self._routing.unavailable(group)
        arms = self._deployments.groups[group].by_model_id
        hopeless = tried.union(one for one, arm in arms.items() if arm in down)
        return healthy_at_a_level(
            lambda: self._compat.healthy(model, request, **asked), request, orders=orders, hopeless=hopeless
        )

    async def embedded(self, attempt: Attempt, healthy: object) -> str | None:
        """Return the segment of an attempt by its text's embedding; None in groups whose segments are not found so.

        LiteLLM has listed who is healthy before: a call that none can serve costs no embedding.
        """
        if isinstance(healthy, Mapping):
            return None
        return await self._segments.embedded(attempt.group, attempt.request, asked=attempt.asked)

    def embedded_now(self, attempt: Attempt, healthy: object) -> str | None:
        """Do the same in a synchronous call."""
        if isinstance(healthy, Mapping):
            return None
        return self._segments.embedded_now(attempt.group, attempt.request, asked=attempt.asked)

    def choose(
        self,
        attempt: Attempt,
        healthy: Any,  # noqa: ANN401 - as LiteLLM lists them
        *,
        segment: str | None,
    ) -> Deployment | None:
        """Choose among healthy deployments and remember the decision; None where LiteLLM is to choose.

        Where the call has failed it does not go again as long as there is anywhere else to go.

        Args:
            attempt: of the call.
            healthy: what LiteLLM listed: deployments, or the one that the caller pinned.
            segment: the call's, where it was found already.
        """
        began = time.perf_counter()
        try:
            if isinstance(healthy, Mapping):  # LiteLLM's own strategy takes a pinned one, too
                self._counters.record_fallback(attempt.group, FallbackReason.PINNED)
                self.record_unrouted(attempt.group, attempt.request)
                return healthy
            chosen = self._chosen(attempt, healthy, segment=segment)
            if isinstance(chosen, FallbackReason):
                self._counters.record_fallback(attempt.group, chosen)
                return None
            self._counters.record_choice(time.perf_counter() - began)
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self.fall_back(error, group=attempt.group)
            return None
        return chosen

    def _chosen(
        self, attempt: Attempt, healthy: Sequence[Deployment], *, segment: str | None
    ) -> Deployment | FallbackReason:
        """Return the deployment that an attempt is routed to, or why it is not."""
        group, request, trail = attempt.group, attempt.request, attempt.trail
        arms = self._deployments.groups.get(group)
        replicas = {} if arms is None else arms.replicas(healthy)
        if not replicas:
            return FallbackReason.NO_ARM
        if trail is not None:
            replicas = untried(replicas, trail, group=group)
        origin = origin_of(request)
        minted = origin is None and trail is None and not call_id_of(request)
        call_id = ensured_call_id(request, trail) if origin is None else origin.call_id
        may_retry = has_retry(request, trail)
        if segment is None:
            asked = {"model": attempt.model, **attempt.asked}
            segment = self._segments.segment(group, request, asked=asked)
        decision = self._routing.choose(
            group,
            eligible={arm: [model_id(one) for one in ones] for arm, ones in replicas.items()},
            call_id=call_id,
            segment=segment,
            price=self._segments.price(group, request),
            caller=None if origin is None else origin.caller,
            has_retry=may_retry,
        )
        if decision is None:
            return FallbackReason.NO_CHOICE
        deployment = self._replica(group, replicas[decision.arm], has_retry=may_retry)
        episodes = open_episodes(self._routing)
        for episode in episodes:
            episode.add(decision.decision_id)
        self._decisions.add(
            attempt_key(request),
            OpenDecision(
                decision=decision,
                deployment=model_id(deployment),
                minted=minted,
                episodes=episodes,
                own_key=minted or origin is not None or (trail is not None and trail.own_key),
                trace=trace_of(request),
                thread=attempt.thread,
                trail=trail,
                terms=terms_of(request),
                own_limit_s=own_limit_s(deployment, default=self._deployments.time_limit_s),
            ),
        )
        prepare(request, decision.decision_id)
        if watching.active:
            watching.made(call_id_of(request), decision)
        return deployment

    def _replica(self, group: str, deployments: Sequence[Deployment], *, has_retry: bool) -> Deployment:
        """Pick one of an arm's replicas by LiteLLM's weights, seldom one that did not answer of late."""
        if len(deployments) == 1:
            return deployments[0]
        ids = [model_id(one) for one in deployments]
        return self.by_weight(
            deployments, factors=self._routing.replica_weights(group, ids, has_retry=has_retry)
        )

    def by_weight(
        self, deployments: Sequence[Deployment], *, factors: Sequence[float] | None = None
    ) -> Deployment:
        """Pick as LiteLLM's simple shuffle does: by ``weight``, else ``rpm``, else ``tpm``, else uniformly.

        Args:
            deployments: at least one.
            factors: by how much less each is to be picked; not at all by default.
        """
        if len(deployments) == 1:
            return deployments[0]
        for metric in ("weight", "rpm", "tpm"):
            weights = [float(deployment["litellm_params"].get(metric) or 0) for deployment in deployments]
            if max(weights) > 0:
                break
        else:
            if factors is None:
                return self._random.choice(deployments)
            weights = [1.0] * len(deployments)
        if factors is not None:
            weights = [weight * factor for weight, factor in zip(weights, factors, strict=True)]
        return self._random.choices(deployments, weights=weights)[0]

    def fall_back(self, error: Exception, *, group: str) -> None:
        """Count an error of ours for which LiteLLM chooses."""
        self._counters.record_fallback(group, FallbackReason.ERROR)
        self._routing.internal_error(error)

    def record_unrouted(self, group: str, request: Request) -> None:
        """Remember that LiteLLM chooses for a call, so that a reward for it can say so."""
        self._decisions.add_unrouted(attempt_key(request), group)
