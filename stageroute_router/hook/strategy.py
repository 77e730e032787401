"""The strategy that LiteLLM asks for a deployment, synchronously and asynchronously.

For a managed group: LiteLLM lists the deployments that are healthy for this very request, with all its filters;
the runtime chooses an arm among theirs; a replica of that arm is picked by LiteLLM's weights. Everything else is
left to LiteLLM's own choice: groups that are not managed, deployments that the caller pinned, and any call where
something of ours goes wrong.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

from litellm.types.router import CustomRoutingStrategyBase

from stageroute_router.entropy import random_128
from stageroute_router.errors import SettingsError
from stageroute_router.forking import ForkAware, survive_fork
from stageroute_router.hook.attempts import has_retry, healthy_at_a_level, own_limit_s, trail_of, untried
from stageroute_router.hook.deployments import GroupArms, model_id, read_arms
from stageroute_router.hook.embedding import Embedder, Embedding, is_asking
from stageroute_router.hook.episode import open_episodes
from stageroute_router.hook.failure import providers_fault, terms_of
from stageroute_router.hook.identify import key_of
from stageroute_router.hook.ledger import Ledger, MadeDecision, OpenDecision, Trail
from stageroute_router.hook.observer import NOTE, Report, observer, read_response
from stageroute_router.hook.origin import GIVEN, NOTES, notes_of, origin_of
from stageroute_router.hook.ports import Routing
from stageroute_router.hook.seam import Deployment, Request, Seam
from stageroute_router.hook.segment import (
    Call,
    SegmentSource,
    WrongPriceError,
    WrongSegmentError,
    price_of,
    text_of,
)
from stageroute_router.hook.stepping import Stepper
from stageroute_router.hook.tally import Leaving, Tally
from stageroute_router.hook.watching import watching

logger = logging.getLogger("stageroute_router")

# LiteLLM's legacy strategies choose asynchronously by calling the synchronous hook, which is us again.
_leaving_to_litellm: ContextVar[bool] = ContextVar("stageroute_leaving_to_litellm", default=False)

# What it looks like when a private detail of LiteLLM moved. LiteLLM's own refusals are none of these.
_SEAM_BROKE = (AttributeError, ImportError, TypeError)

_LOG_INTERVAL_S = 60.0


class StageRouteStrategy(CustomRoutingStrategyBase, ForkAware):
    """A LiteLLM routing strategy that asks StageRoute's runtime which arm to use.

    Args:
        router: the ``litellm.Router`` it is for.
        routing: the runtime.
        seed: of the choice among an arm's replicas; fresh entropy by default.
        predecessor: the strategy of the router that this one replaces: what becomes of its calls is heard here.
        strict: whether a deployment that cannot be used is an error, or is left out and logged.
        segments: where the segments of each group's calls come from; a group that is not named has none.
        embeddings: how the texts of calls are embedded, for groups whose segments are found so.

    Attributes:
        tally: what it counts of its own work.

    Raises:
        SettingsError: the router's deployments cannot be used.
    """

    def __init__(
        self,
        router: Any,  # noqa: ANN401 - its type differs between generations of LiteLLM
        routing: Routing,
        *,
        seed: int | None = None,
        predecessor: StageRouteStrategy | None = None,
        strict: bool = True,
        segments: Mapping[str, SegmentSource] | None = None,
        embeddings: Mapping[str, Embedding] | None = None,
    ) -> None:
        self._seam = Seam(router)
        self._routing = routing
        self._random = random.Random(seed)
        # Where that has no event loop it fails, and newer versions then skip the check instead of saying so.
        self._stepper = Stepper(waits=self._seam.counts_tokens())
        self._ledger: Ledger = Ledger() if predecessor is None else predecessor._ledger  # noqa: SLF001 - one of us
        self._over: object = None
        self.tally: Tally = Tally() if predecessor is None else predecessor.tally
        self._groups: dict[str, GroupArms] = {}
        self._orders: dict[str, Mapping[str, int]] = {}
        self._time_limit_s: float | None = None
        self._reading = threading.Lock()
        survive_fork(self)
        self._unpriced: set[str] = set()
        self._segments: Mapping[str, SegmentSource] = segments or {}
        self._embedders = {
            group: Embedder(router, routing, group=group, embedding=one, has_model=self._seam.has_model)
            for group, one in (embeddings or {}).items()
        }
        self._complained_at = -math.inf
        self._closed = False
        if self._seam.has_routing_plugins():
            msg = (
                "this router was built with plugins=[...]: LiteLLM does not run them when a custom strategy is "
                "attached, so a policy among them would be bypassed. Build the router without plugins"
            )
            raise SettingsError(msg)
        self._seam.changed()
        self._read_deployments(rejected=None if strict else routing.internal_error)

    def after_fork_in_child(self) -> None:
        """Pick replicas with a randomness of its own, and hold no lock of the parent's threads."""
        self._random = random.Random()
        self._reading = threading.Lock()

    # --- attaching -----------------------------------------------------------------------------------------

    def ensure_attached(self) -> None:
        """Attach to the router, unless it asks this strategy already. Register the observer likewise.

        LiteLLM drops strategies when it is reconfigured (``update_settings``). A strategy that somebody else
        attached in the meantime is left in place.
        """
        if self._closed:
            return
        observer.ensure_registered()
        attached = self._seam.attached()
        if attached is None:
            self._seam.attach(self)
        elif attached is not self and attached is not self._over:
            self._over = attached
            logger.warning(
                "another routing strategy (%s) was attached over StageRoute's; it is left in place",
                type(attached).__name__,
            )

    def listen(self) -> None:
        """Attach, and start hearing what becomes of calls."""
        observer.listen(self)
        attached = self._seam.attached()
        if isinstance(attached, StageRouteStrategy) and not attached.closed:
            msg = "this router is routed by StageRoute already; close() its control object before attaching again"
            raise SettingsError(msg)
        self._seam.attach(self)
        observer.ensure_registered()

    @property
    def closed(self) -> bool:
        """Whether every call is left to LiteLLM."""
        return self._closed

    def close(self) -> None:
        """Leave all calls to LiteLLM from now on, and stop listening."""
        self._closed = True
        observer.dismiss(self)

    def retire(self) -> None:
        """Stop listening, because a successor hears what becomes of the calls; those under way go on as before."""
        observer.dismiss(self)

    def is_for(self, router: object) -> bool:
        """Return whether this is the strategy of a router."""
        return self._seam.router is router

    def open_calls(self) -> int:
        """Return how many calls LiteLLM has not reported on yet."""
        return len(self._ledger)

    def group_left(self, key: str) -> str | None:
        """Return the group of a recent call that was left to LiteLLM's own choice, or None."""
        return self._ledger.group_left(key)

    def decision_made(self, key: str) -> MadeDecision | None:
        """Return the decision of a recent call, by the call's id or its answer's; None if it is not remembered."""
        return self._ledger.made(key)

    def also_known_as(self, key: str, *, response: object) -> None:
        """Make a call known by one more id: that of a call of LiteLLM's around it.

        Args:
            key: the other id.
            response: what the call returned, or an id it is known by.
        """
        decision = self._ledger.made(key_of(response))
        if decision is not None:
            self._ledger.also_known_as(key, decision)

    # --- what LiteLLM asks ---------------------------------------------------------------------------------

    async def async_get_available_deployment(
        self,
        model: str,
        messages: list[dict[str, str]] | None = None,
        input: str | list[Any] | None = None,  # noqa: A002 - LiteLLM's name
        specific_deployment: bool | None = False,  # noqa: FBT001, FBT002 - LiteLLM's signature
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Return the deployment for an asynchronous call."""
        request = {} if request_kwargs is None else request_kwargs
        asked = {"messages": messages, "input": input, "specific_deployment": specific_deployment}
        group = None if is_asking() else self._managed(model, pinned=specific_deployment)
        if group is not None:
            before = dict(request)
            trail = self._trail(request)
            try:
                healthy = await self._healthy(group, model, request, asked=asked, trail=trail)
            except _SEAM_BROKE as error:
                self._went_wrong(error, group=group)
            else:
                segment = await self._embedded(group, healthy, request, asked=asked)
                routed = self._route(
                    group,
                    healthy,
                    request,
                    asked={"model": model, **asked},
                    segment=segment,
                    trail=trail,
                )
                if routed is not None:
                    return routed
            _rewind(request, before)
        if not is_asking():
            self._leave(group or model, request)
        token = _leaving_to_litellm.set(True)
        try:
            chosen = await self._seam.ordinary_async(model, request, **asked)
        finally:
            _leaving_to_litellm.reset(token)
        return self._by_weight(chosen) if isinstance(chosen, list) else chosen

    def get_available_deployment(
        self,
        model: str,
        messages: list[dict[str, str]] | None = None,
        input: str | list[Any] | None = None,  # noqa: A002 - LiteLLM's name
        specific_deployment: bool | None = False,  # noqa: FBT001, FBT002 - LiteLLM's signature
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Return the deployment for a synchronous call."""
        asked = {"messages": messages, "input": input, "specific_deployment": specific_deployment}
        if _leaving_to_litellm.get() or is_asking():
            return self._seam.ordinary_sync(model, request_kwargs, **asked)
        # Older versions do not show the request of some synchronous calls to a strategy.
        request: Request = {} if request_kwargs is None else request_kwargs
        group = self._managed(model, pinned=specific_deployment)
        if group is not None:
            before = dict(request)
            thread = "" if request_kwargs is not None else f"thread-{threading.get_ident()}"
            trail = self._trail(request, thread=thread)
            try:
                healthy = self._stepper.run(
                    lambda: self._healthy(group, model, request, asked=asked, trail=trail),
                    rewind=lambda: _rewind(request, before),
                )
            except _SEAM_BROKE as error:
                self._went_wrong(error, group=group)
            else:
                segment = self._embedded_now(group, healthy, request, asked=asked)
                routed = self._route(
                    group,
                    healthy,
                    request,
                    asked={"model": model, **asked},
                    segment=segment,
                    trail=trail,
                    thread=thread,
                )
                if routed is not None:
                    _name_the_model(routed, request, model=model)
                    return routed if request_kwargs is not None else _with_call_id(routed, request)
            _rewind(request, before)
        self._leave(group or model, request)
        chosen = self._seam.ordinary_sync(model, request_kwargs, **asked)
        return chosen if request_kwargs is not None else _with_call_id(chosen, request)

    # --- what LiteLLM reports ------------------------------------------------------------------------------

    def heard(self, report: Report) -> None:
        """Take a report of any call in this process."""
        try:
            decision = self._ledger.claim(
                report.call_id, model_id=report.model_id, noted=report.noted, failed=report.failed
            )
            if decision is not None:
                if report.response_id is not None:
                    self._ledger.served(decision, report.response_id)
                    if watching.anybody:
                        watching.answered(report.response_id, self._ledger.made(report.response_id))
                self._conclude(decision, report)
            elif report.response_id is not None:
                self._ledger.answered(report.call_id, report.response_id)
            self.ensure_attached()
        except Exception as error:  # noqa: BLE001 - LiteLLM's logging is no place for our errors
            self._routing.internal_error(error)

    def shown(self, response: object) -> None:
        """Take what a response tells about its call, unless LiteLLM has reported the call before."""
        try:
            report = read_response(response)
        except Exception as error:  # noqa: BLE001 - a response may be of any make
            self._routing.internal_error(error)
        else:
            if report is not None:
                self.heard(report)

    def attempts_over(self, key: str, *, serving: str | None, error: object = None) -> None:
        """Take all attempts of a call but the serving one to have failed: its answer, or error, is going out.

        For servers that pass one logging object to all attempts: some versions of LiteLLM report only the first
        failure of it, and the others would stay open for an hour.

        Args:
            key: what the call is recognised by.
            serving: the decision that answered; None if none did.
            error: what the last attempt failed with, where none did.
        """
        over = self._ledger.over(key, serving=serving)
        for decision in over:
            # LiteLLM has tried again, which it does not where the request is to blame.
            kind = None if decision.terms.time_limit_s else "not reported"
            if serving is None and decision is over[-1]:
                kind = providers_fault(error, decision.terms, own_limit_s=decision.own_limit_s)
            self._fail(decision, kind=kind)

    def _fail(self, decision: OpenDecision, *, kind: str | None) -> None:
        _leave_episodes(decision)
        self._routing.failed(decision.decision_id, arm=decision.arm, deployment=decision.model_id, kind=kind)

    def _conclude(self, decision: OpenDecision, report: Report) -> None:
        if report.failed:
            kind = providers_fault(report.error, decision.terms, own_limit_s=decision.own_limit_s)
            self._fail(decision, kind=kind)
            return
        if report.from_cache:
            _leave_episodes(decision)
            self._routing.withdrawn(decision.decision_id)
            return
        known = self._groups.get(decision.group)  # unknown: a group of the router before this one
        arm = decision.arm
        if known is not None and not decision.minted:
            arm = known.by_model_id.get(report.model_id, arm)
        cost = report.cost_usd or (None if known is None else known.list_price(arm, report))
        if cost is None and report.cost_usd is None and arm not in self._unpriced:
            self._unpriced.add(arm)
            logger.warning(
                "LiteLLM knows no price for arm %r of group %r: its calls count as free. Set input_cost_per_token "
                "and output_cost_per_token in its model_info",
                arm,
                decision.group,
            )
        self._routing.settled(
            decision.decision_id,
            arm=arm,
            cost_usd=cost or 0.0,
            prompt_tokens=report.prompt_tokens,
            completion_tokens=report.completion_tokens,
            response_id=report.response_id,
            deployment=report.model_id,
        )

    # --- choosing ------------------------------------------------------------------------------------------

    def _managed(self, model: str, *, pinned: bool | None) -> str | None:
        """Return the managed group a requested name stands for; None to leave the call to LiteLLM."""
        if self._closed:
            self.tally.left("", Leaving.CLOSED)
            return None
        try:
            observer.ensure_registered()
            if pinned:
                self.tally.left("", Leaving.PINNED)
                return None
            group = self._seam.group_of(model)
            if not self._routing.manages(group):
                self.tally.left("", Leaving.UNMANAGED)
                return None
            if self._seam.changed():
                self._read_deployments(rejected=self._routing.internal_error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self._went_wrong(error, group="")
            return None
        return group

    def _route(
        self,
        group: str,
        healthy: Any,  # noqa: ANN401
        request: Request,
        *,
        asked: Mapping[str, Any],
        segment: str | None,
        trail: Trail | None,
        thread: str = "",
    ) -> Deployment | None:
        """Choose among healthy deployments, in a segment that was found already; None to leave the call to LiteLLM.

        Where the call has failed, in ``trail``, it does not go again as long as there is anywhere else to go.
        """
        began = time.perf_counter()
        try:
            if isinstance(healthy, Mapping):  # the caller pinned one: LiteLLM's own strategy takes it, too
                self.tally.left(group, Leaving.PINNED)
                self._leave(group, request)
                return healthy
            known = self._groups.get(group)
            replicas = {} if known is None else known.replicas(healthy)
            if not replicas:
                self.tally.left(group, Leaving.NO_ARM)
                return None
            if trail is not None:
                replicas = untried(replicas, trail, group=group)
            origin = origin_of(request)
            minted = origin is None and trail is None and not request.get("litellm_call_id")
            call_id = _call_id(request, trail) if origin is None else origin.call_id
            may_retry = has_retry(request, trail)
            routed = self._routing.choose(
                group,
                eligible={arm: [model_id(one) for one in ones] for arm, ones in replicas.items()},
                call_id=call_id,
                segment=self._segment(group, request, asked=asked) if segment is None else segment,
                price=self._price(group, request),
                caller=None if origin is None else origin.caller,
                has_retry=may_retry,
            )
            if routed is None:
                self.tally.left(group, Leaving.NO_CHOICE)
                return None
            deployment = self._replica(group, replicas[routed.arm], has_retry=may_retry)
            episodes = open_episodes(self._routing)
            for episode in episodes:
                episode.add(routed.decision_id)
            self._ledger.opened(
                _key(request),
                OpenDecision(
                    decision_id=routed.decision_id,
                    group=group,
                    arm=routed.arm,
                    stage=routed.stage,
                    probability=routed.probability,
                    shadow_price=routed.shadow_price,
                    model_id=model_id(deployment),
                    minted=minted,
                    episodes=episodes,
                    own_key=minted or origin is not None or (trail is not None and trail.own_key),
                    trace=str(request.get("litellm_trace_id") or ""),
                    thread=thread,
                    trail=trail,
                    terms=terms_of(request),
                    own_limit_s=own_limit_s(deployment, default=self._time_limit_s),
                ),
            )
            _note(request, routed.decision_id)
            _leave_to_the_deployment(request)
            _keep_from_the_provider(request)
            if watching.anybody:
                watching.made(str(request.get("litellm_call_id", "")), self._ledger.made(_key(request)))
            self.tally.chose(time.perf_counter() - began)
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self._went_wrong(error, group=group)
            return None
        return deployment

    async def _embedded(
        self,
        group: str,
        healthy: object,
        request: Request,
        *,
        asked: Mapping[str, Any],
    ) -> str | None:
        """Return the segment of a call by its text's embedding; None in groups whose segments are not found so.

        LiteLLM has listed who is healthy before: a call that none can serve costs no embedding.
        """
        embedder = self._embedders.get(group)
        if embedder is None or isinstance(healthy, Mapping):
            return None
        try:
            return await embedder.segment(text_of(request, asked))
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self._routing.internal_error(error)
            return ""

    def _embedded_now(
        self,
        group: str,
        healthy: object,
        request: Request,
        *,
        asked: Mapping[str, Any],
    ) -> str | None:
        """Do the same in a synchronous call."""
        embedder = self._embedders.get(group)
        if embedder is None or isinstance(healthy, Mapping):
            return None
        try:
            return embedder.segment_now(text_of(request, asked))
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self._routing.internal_error(error)
            return ""

    def _segment(self, group: str, request: Request, *, asked: Mapping[str, Any]) -> str:
        """Return the segment of a call; ``""`` where it has none, and where what names it cannot be used."""
        source = self._segments.get(group)
        if source is None:
            return ""
        try:
            by_text = partial(self._routing.segment_of_text, group)
            return source(Call(request=request, asked=asked, by_text=by_text))
        except WrongSegmentError as error:
            self.tally.misnamed(group)
            self._complain(
                f"count in no segment of their own, {self.tally.read().misnamed[group]} so far", group, error
            )
        except Exception as error:  # noqa: BLE001 - the application's function may raise anything
            self._routing.internal_error(error)
        return ""

    def _price(self, group: str, request: Request) -> float | None:
        """Return what the caller would pay for reward; None where it does not say, or not clearly."""
        try:
            return price_of(request)
        except WrongPriceError as error:
            self._complain("are left to the budget", group, error)
            return None

    def _complain(self, what: str, group: str, error: Exception) -> None:
        """Log what cannot be used at most once a minute: in a server, clients give it."""
        now = time.monotonic()
        if now - self._complained_at >= _LOG_INTERVAL_S:
            self._complained_at = now
            logger.warning("calls of group %r %s: %s", group, what, error)

    def _trail(self, request: Request, *, thread: str = "") -> Trail | None:
        """Return where this call has failed before; None at its first attempt."""
        try:
            return trail_of(self._ledger, request, thread=thread)
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self._routing.internal_error(error)
            return None

    def _healthy(
        self,
        group: str,
        model: str,
        request: Request,
        *,
        asked: Mapping[str, Any],
        trail: Trail | None,
    ) -> Coroutine[Any, Any, Any]:
        """Return what lists the deployments that are healthy for a request, at the first level that may answer it."""
        orders = self._orders.get(group)
        if not orders:
            return self._seam.healthy(model, request, **asked)
        tried = set() if trail is None else {one.model_id for one in trail.decisions}
        down = self._routing.unavailable(group)
        arms = self._groups[group].by_model_id
        hopeless = tried.union(one for one, arm in arms.items() if arm in down)
        return healthy_at_a_level(
            lambda: self._seam.healthy(model, request, **asked), request, orders=orders, hopeless=hopeless
        )

    def _replica(self, group: str, deployments: Sequence[Deployment], *, has_retry: bool) -> Deployment:
        """Pick one of an arm's replicas by LiteLLM's weights, seldom one that did not answer of late."""
        if len(deployments) == 1:
            return deployments[0]
        ids = [model_id(one) for one in deployments]
        return self._by_weight(
            deployments, factors=self._routing.replica_weights(group, ids, has_retry=has_retry)
        )

    def _by_weight(
        self, deployments: Sequence[Deployment], *, factors: Sequence[float] | None = None
    ) -> Deployment:
        """Pick as LiteLLM's simple shuffle does: by ``weight``, else ``rpm``, else ``tpm``, else uniformly."""
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

    def _went_wrong(self, error: Exception, *, group: str) -> None:
        """Count an error of ours for which a call is left to LiteLLM."""
        self.tally.left(group, Leaving.ERROR)
        self._routing.internal_error(error)

    def _leave(self, group: str, request: Request) -> None:
        """Remember that LiteLLM chose, so that a reward for this call can say so."""
        self._ledger.left(_key(request), group)

    def _read_deployments(self, *, rejected: Callable[[SettingsError], None] | None) -> None:
        """Tell the runtime about the arms there are now. Without ``rejected``, what is wrong is raised."""
        with self._reading:
            deployments = self._seam.deployments()
            self._time_limit_s = self._seam.time_limit_s()
            names = {str(deployment.get("model_name")) for deployment in deployments} | self._groups.keys()
            for name in sorted(filter(self._routing.manages, names)):
                read = read_arms(deployments, name, rejected=rejected)
                known = self._groups.get(name)
                self._groups[name] = read
                orders = self._seam.orders([one for one in deployments if one.get("model_name") == name])
                self._orders[name] = orders if len(set(orders.values())) > 1 else {}
                self._routing.set_deployments(name, read.deployments())
                if known is None or known.arms != read.arms:
                    try:
                        self._routing.set_arms(name, read.arms)
                    except SettingsError as error:
                        if rejected is None:
                            raise
                        rejected(error)


def _call_id(request: Request, trail: Trail | None = None) -> str:
    """Return LiteLLM's id of this attempt; where it has none yet, that of the call's first attempt, or a new one."""
    call_id = request.get("litellm_call_id")
    if not call_id:
        call_id = str(uuid.UUID(int=random_128(), version=4)) if trail is None else trail.call_id
        request["litellm_call_id"] = call_id
    return str(call_id)


def _key(request: Request) -> str:
    """Return what this attempt's end will be recognised by: the call's id, unless a server knows better."""
    return origin_of(request) or _call_id(request)


def _leave_episodes(decision: OpenDecision) -> None:
    for episode in decision.episodes:
        episode.discard(decision.decision_id)


def _note(request: Request, decision_id: str) -> None:
    """Write the decision's id where LiteLLM keeps its own notes about the call, if it does for this call."""
    notes_of(request)[NOTE] = decision_id


def _leave_to_the_deployment(request: Request) -> None:
    """Drop a request's own endpoint and key where they are None: LiteLLM would let them win over the deployment's.

    Frameworks that pass on all of their settings send them so: smolagents' ``LiteLLMRouterModel``, for one.
    """
    for name in ("api_base", "api_key", "base_url"):
        if name in request and request[name] is None:
            del request[name]


def _keep_from_the_provider(request: Request) -> None:
    """Move what the application says to us out of metadata that goes to the provider: it is nothing to it.

    Where LiteLLM keeps its notes apart (the Responses API), ``metadata`` is the provider's, which refuses what it does
    not know. The application's own dictionary is left as it is.
    """
    notes, sent = (request.get(key) for key in NOTES)
    if isinstance(notes, dict) and isinstance(sent, Mapping) and GIVEN in sent:
        notes.setdefault(GIVEN, sent[GIVEN])
        request["metadata"] = {key: value for key, value in sent.items() if key != GIVEN} or None


def _rewind(request: Request, before: Mapping[str, Any]) -> None:
    """Put back what LiteLLM's filters took out of a request: listing again needs it again."""
    for key, value in before.items():
        request.setdefault(key, value)


def _name_the_model(deployment: Deployment, request: Request, *, model: str) -> None:
    """Make ``Router.text_completion`` call the model that was chosen.

    Synchronous, it lets the requested name win over the deployment's: ``model="chat"`` would go to the provider.
    Only that method shows the strategy a request that names a model and has a prompt.
    """
    if request.get("model") == model and "prompt" in request:
        request["model"] = deployment["litellm_params"]["model"]


def _with_call_id(deployment: Deployment, request: Request) -> Deployment:
    """Send our call id along with the deployment, where LiteLLM did not show us the request."""
    return {
        **deployment,
        "litellm_params": {**deployment["litellm_params"], "litellm_call_id": request["litellm_call_id"]},
    }
