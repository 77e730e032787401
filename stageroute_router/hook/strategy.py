"""The strategy that LiteLLM asks for a deployment, synchronously and asynchronously.

For a managed group: LiteLLM lists the deployments that are healthy for this very request, with all its filters;
the runtime chooses an arm among theirs; a replica of that arm is picked by LiteLLM's weights. Everything else is
left to LiteLLM's own choice: groups that are not managed, deployments that the caller pinned, and any call where
something of ours goes wrong.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from litellm.types.router import CustomRoutingStrategyBase

from stageroute_router.errors import SettingsError
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.hook.calls.attempts import MOVED
from stageroute_router.hook.calls.counters import FallbackReason, StrategyCounters
from stageroute_router.hook.calls.observer import Report, observer, read_response
from stageroute_router.hook.calls.open_decisions import OpenDecisions
from stageroute_router.hook.calls.request import name_the_model, restore, with_call_id
from stageroute_router.hook.calls.response import key_of
from stageroute_router.hook.compat import LiteLLMCompat, Request
from stageroute_router.hook.interfaces import Routing
from stageroute_router.hook.known_deployments import KnownDeployments
from stageroute_router.hook.outcomes import Outcomes
from stageroute_router.hook.segments.embedding import Embedding, is_asking
from stageroute_router.hook.segments.finder import SegmentFinder
from stageroute_router.hook.segments.sources import SegmentSource
from stageroute_router.hook.selection import Attempt, Selection
from stageroute_router.hook.sync_bridge import SyncRunner

logger = logging.getLogger("stageroute_router")

# LiteLLM's legacy strategies choose asynchronously by calling the synchronous hook, which is us again.
_in_fallback: ContextVar[bool] = ContextVar("stageroute_in_fallback", default=False)


class StageRouteStrategy(CustomRoutingStrategyBase):
    """A LiteLLM routing strategy that asks StageRoute's runtime which arm to use.

    Args:
        router: the ``litellm.Router`` it is for.
        routing: the runtime.
        seed: of the choice among an arm's replicas; fresh entropy by default.
        predecessor: the strategy of the router that this one replaces: what becomes of its calls is reported here.
        strict: whether a deployment that cannot be used is an error, or is left out and logged.
        segments: where the segments of each group's calls come from; a group that is not named has none.
        embeddings: how the texts of calls are embedded, for groups whose segments are found so.

    Attributes:
        counters: what it counts of its own work.

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
        self._compat = compat = LiteLLMCompat(router)
        self._routing = routing
        if compat.has_routing_plugins():
            msg = (
                "this router was built with plugins=[...]: LiteLLM does not run them when a custom strategy is "
                "attached, so a policy among them would be bypassed. Build the router without plugins"
            )
            raise SettingsError(msg)
        # Where that has no event loop it fails, and newer versions then skip the check instead of saying so.
        self._sync_runner = SyncRunner(waits=compat.counts_tokens())
        self._decisions: OpenDecisions = OpenDecisions() if predecessor is None else predecessor._decisions  # noqa: SLF001 - one of us
        self.counters: StrategyCounters = StrategyCounters() if predecessor is None else predecessor.counters
        deployments = KnownDeployments(compat, routing, strict=strict)
        self._selection = Selection(
            compat,
            routing,
            decisions=self._decisions,
            counters=self.counters,
            deployments=deployments,
            segments=SegmentFinder(
                compat,
                routing,
                counters=self.counters,
                sources=segments or {},
                embeddings=embeddings or {},
            ),
            seed=seed,
        )
        self._outcomes = Outcomes(routing, decisions=self._decisions, deployments=deployments)
        self._attached_over: object = None
        self._closed = False

    # --- attaching -----------------------------------------------------------------------------------------

    def ensure_attached(self) -> None:
        """Attach to the router, unless it asks this strategy already. Register the observer likewise.

        LiteLLM drops strategies when it is reconfigured (``update_settings``). Another strategy that was attached in
        the meantime is left in place.
        """
        if self._closed:
            return
        observer.ensure_registered()
        attached = self._compat.attached()
        if attached is None:
            self._compat.attach(self)
        elif attached is not self and attached is not self._attached_over:
            self._attached_over = attached
            logger.warning(
                "another routing strategy (%s) was attached over StageRoute's; it is left in place",
                type(attached).__name__,
            )

    def attach(self) -> None:
        """Have LiteLLM ask this strategy and report to it what becomes of calls.

        Raises:
            SettingsError: the router is routed by StageRoute already.
        """
        observer.attach(self)
        attached = self._compat.attached()
        if isinstance(attached, StageRouteStrategy) and not attached.closed:
            msg = "this router is routed by StageRoute already; close() its control object before attaching again"
            raise SettingsError(msg)
        self._compat.attach(self)
        observer.ensure_registered()

    @property
    def closed(self) -> bool:
        """Whether every call is left to LiteLLM."""
        return self._closed

    def close(self) -> None:
        """Leave all calls to LiteLLM from now on, and take no more reports."""
        self._closed = True
        observer.detach(self)

    def detach(self) -> None:
        """Take no more reports, because a successor takes them; calls under way go on as before."""
        observer.detach(self)

    def is_for(self, router: object) -> bool:
        """Return whether this is the strategy of a router."""
        return self._compat.router is router

    def open_calls(self) -> int:
        """Return how many calls LiteLLM has not reported on yet."""
        return len(self._decisions)

    def group_left(self, key: str) -> str | None:
        """Return the group of a recent call that was left to LiteLLM's own choice, or None."""
        return self._decisions.unrouted_group(key)

    def decision_made(self, key: str, *, served_by: str | None = None) -> RoutingDecision | None:
        """Return the decision of a recent call, by the call's id or its answer's; None if it is not remembered.

        Args:
            key: the id.
            served_by: id of the deployment that answered: None is returned for a decision for another one, after which
                LiteLLM chose. Default: any.
        """
        return self._decisions.find(key, served_by=served_by)

    def add_alias(self, key: str, *, response: object) -> None:
        """Make a call known by one more id: that of a call of LiteLLM's around it.

        Args:
            key: the other id.
            response: what the call returned, or an id it is known by.
        """
        self._decisions.add_alias(key, key_of(response))

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
        attempt = None if is_asking() else self._attempt(model, request, asked=asked)
        if attempt is not None:
            try:
                healthy = await self._selection.healthy(attempt)
            except MOVED as error:
                self._selection.fall_back(error, group=attempt.group)
            else:
                segment = await self._selection.embedded(attempt, healthy)
                deployment = self._selection.choose(attempt, healthy, segment=segment)
                if deployment is not None:
                    return deployment
            restore(request, attempt.before)
        if not is_asking():
            self._selection.record_unrouted(model if attempt is None else attempt.group, request)
        token = _in_fallback.set(True)
        try:
            chosen = await self._compat.ordinary_async(model, request, **asked)
        finally:
            _in_fallback.reset(token)
        return self._selection.by_weight(chosen) if isinstance(chosen, list) else chosen

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
        if _in_fallback.get() or is_asking():
            return self._compat.ordinary_sync(model, request_kwargs, **asked)
        # Older versions do not show the request of some synchronous calls to a strategy.
        request: Request = {} if request_kwargs is None else request_kwargs
        thread = "" if request_kwargs is not None else f"thread-{threading.get_ident()}"
        attempt = self._attempt(model, request, asked=asked, thread=thread)
        if attempt is not None:
            try:
                healthy = self._sync_runner.run(
                    lambda: self._selection.healthy(attempt), rewind=lambda: restore(request, attempt.before)
                )
            except MOVED as error:
                self._selection.fall_back(error, group=attempt.group)
            else:
                segment = self._selection.embedded_now(attempt, healthy)
                deployment = self._selection.choose(attempt, healthy, segment=segment)
                if deployment is not None:
                    name_the_model(deployment, request, model=model)
                    return deployment if request_kwargs is not None else with_call_id(deployment, request)
            restore(request, attempt.before)
        self._selection.record_unrouted(model if attempt is None else attempt.group, request)
        chosen = self._compat.ordinary_sync(model, request_kwargs, **asked)
        return chosen if request_kwargs is not None else with_call_id(chosen, request)

    def _attempt(
        self, model: str, request: Request, *, asked: Mapping[str, Any], thread: str = ""
    ) -> Attempt | None:
        """Return the attempt that LiteLLM asks for; None where it is to choose."""
        if self._closed:
            self.counters.record_fallback("", FallbackReason.CLOSED)
            return None
        return self._selection.attempt(model, request, asked=asked, thread=thread)

    # --- what LiteLLM reports ------------------------------------------------------------------------------

    def on_report(self, report: Report) -> None:
        """Take LiteLLM's report of one attempt of any call in this process. Raises nothing."""
        try:
            self._outcomes.on_report(report)
            self.ensure_attached()
        except Exception as error:  # noqa: BLE001 - LiteLLM's logging is no place for our errors
            self._routing.internal_error(error)

    def on_response(self, response: object) -> None:
        """Take what a response tells about its call, unless LiteLLM has reported the call before. Raises nothing."""
        try:
            report = read_response(response)
        except Exception as error:  # noqa: BLE001 - a response may be of any make
            self._routing.internal_error(error)
        else:
            if report is not None:
                self.on_report(report)

    def fail_other_attempts(self, key: str, *, serving: str | None, error: object = None) -> None:
        """Take all attempts of a call but the serving one to have failed: its answer, or error, is going out.

        For servers that pass one logging object to all attempts: some versions of LiteLLM report only the first
        failure of it, and the others would stay open for an hour.

        Args:
            key: what the call is recognised by.
            serving: the decision that answered; None if none did.
            error: what the last attempt failed with, where none did.
        """
        self._outcomes.fail_other_attempts(key, serving=serving, error=error)
