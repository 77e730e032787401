"""The members of ``litellm.Router`` we rely on, and where each generation of LiteLLM keeps them.

Everything is found by looking for it, never by comparing versions:

==========================  ======================================  ==========================================
what                        before the Router became a facade       since
==========================  ======================================  ==========================================
healthy deployments         ``async_get_healthy_deployments``       ``select(..., kind="healthy")``
attaching a strategy        ``set_custom_routing_strategy``         ``register_plugin``
deployments, aliases        ``model_list``, ``model_group_alias``   ``registry()``
LiteLLM's ordinary choice   the two methods on the Router's class   the same, on the class of the Router's core
==========================  ======================================  ==========================================

From 1.110 on the core asks the attached strategy even there; it is shown a view of itself without one.

The old names still work on the facade, but warn: they are only touched where the new ones are missing. The
ordinary choice has no public name (``select(kind="pick")`` would come back to the attached strategy), so it is
the one place that reads private names; where they are not found, replicas are picked by weight.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from stageroute_router.hook.calls.failure import seconds
from stageroute_router.settings.parsing import is_model_of

Deployment = Mapping[str, Any]
"""One entry of a router's model list, as LiteLLM keeps it."""

Request = dict[str, Any]
"""The keyword arguments of one attempt of a call. A retry gets a dictionary of its own."""

_ASYNC_CHOICE = ("_core_async_get_available_deployment", "async_get_available_deployment")
_SYNC_CHOICE = "get_available_deployment"
_STRATEGY = "_custom_strategy"


class LiteLLMCompat:
    """One router, seen through the members that its generation of LiteLLM offers.

    Args:
        router: a ``litellm.Router``.
    """

    def __init__(self, router: Any) -> None:  # noqa: ANN401 - its type differs between generations
        self.router = router
        self._facade = hasattr(router, "registry") and hasattr(router, "select")
        self._registry = router.registry() if self._facade else None
        self._list_healthy = router.select if self._facade else router.async_get_healthy_deployments
        # A facade forwards every attribute by exception handling; its core is what LiteLLM itself calls.
        self._core = vars(router).get("_core", router)
        self._unrouted = _without_strategy(self._core)
        self._seen: object = None

    async def healthy(self, model: str, request: Request, **asked: Any) -> Any:  # noqa: ANN401
        """Return what LiteLLM finds healthy for a request, after all its filters.

        A list of deployments, or one deployment (a mapping) if the caller pinned it.

        Raises:
            Exception: LiteLLM's own error if there is none; fallbacks depend on it.
        """
        if self._facade:
            return await self._list_healthy(model, request, kind="healthy", **asked)
        return await self._list_healthy(model=model, request_kwargs=request, **asked)

    async def ordinary_async(self, model: str, request: Request, **asked: Any) -> Any:  # noqa: ANN401
        """Return the deployment that LiteLLM would choose without us, in an asynchronous call."""
        choose = self._class_method(*_ASYNC_CHOICE)
        if choose is not None:
            return await choose(self._core, model=model, request_kwargs=request, **asked)
        if self._unrouted is not self._core:
            return await self._unrouted.select(model, request, kind="pick", **asked)
        return await self.healthy(model, request, **asked)

    def ordinary_sync(self, model: str, request: Request | None, **asked: Any) -> Any:  # noqa: ANN401
        """Return the deployment that LiteLLM would choose without us, in a synchronous call."""
        choose = self._class_method(_SYNC_CHOICE)
        if choose is None:
            msg = f"{type(self.router).__name__} has no {_SYNC_CHOICE} any more"
            raise AttributeError(msg)
        return choose(self._unrouted, model=model, request_kwargs=request, **asked)

    def deployments(self) -> Sequence[Deployment]:
        """Return all deployments of the router, in configured order."""
        if self._registry is not None:
            return list(self._registry.all() or ())
        return list(self.router.model_list or ())

    def changed(self) -> bool:
        """Return whether deployments were added, replaced or removed since the last call.

        Costs two attribute reads. Without a registry's version number, the list itself tells: LiteLLM appends
        what it adds or replaces, pops what it removes, and makes a new list when it is reconfigured, so every
        change shows in the list's identity, its length, or the identity of its last entry (kept here, so that
        its identity cannot be reused).
        """
        now: object
        if self._registry is not None:
            now = self._registry.version
        else:
            models = self.router.model_list or []
            now = (models, len(models), models[-1] if models else None)
        seen, self._seen = self._seen, now
        if isinstance(now, tuple) and isinstance(seen, tuple):
            return now[0] is not seen[0] or now[1] != seen[1] or now[2] is not seen[2]
        return now != seen

    def group_of(self, model: str) -> str:
        """Return the model group that LiteLLM resolves a requested name to (``model_group_alias``)."""
        aliases = self.router.model_group_alias if self._registry is None else self._registry.aliases()
        target = aliases.get(model) if aliases else None
        if isinstance(target, Mapping):  # {"model": ..., "hidden": ...}
            target = target.get("model")
        return model if target is None else str(target)

    def orders(self, deployments: Sequence[Deployment]) -> dict[str, int]:
        """Return the ``order`` level of each deployment that has one, by the deployment's id."""
        levels = ((one, (one.get("litellm_params") or {}).get("order")) for one in deployments)
        return {
            str((one.get("model_info") or {}).get("id", "")): order
            for one, order in levels
            if isinstance(order, int) and not isinstance(order, bool)
        }

    def time_limit_s(self) -> float | None:
        """Return the router's own limit for an answer, in seconds, which deployments without one have; None without."""
        settings = self.router.settings() if self._facade else self.router
        return seconds(getattr(settings, "timeout", None))

    def has_model(self, name: str) -> bool:
        """Return whether the router has deployments of that name, or of a pattern that it fits."""
        names = {str(deployment.get("model_name")) for deployment in self.deployments()}
        return is_model_of(self.group_of(name), names)

    def has_routing_plugins(self) -> bool:
        """Return whether the router was built with ``plugins=[...]``, which a strategy would bypass."""
        if self._registry is not None:
            return bool(self._registry.plugins("routing"))
        return bool(getattr(self.router, "routing_plugins", None))

    def counts_tokens(self) -> bool:
        """Return whether LiteLLM counts each prompt's tokens before a choice, which it does in another thread."""
        settings = self.router.settings() if self._facade else self.router
        return bool(settings.enable_pre_call_checks)

    def attach(self, strategy: object) -> None:
        """Make LiteLLM ask ``strategy`` for deployments."""
        register = getattr(self.router, "register_plugin", None) or self.router.set_custom_routing_strategy
        register(strategy)

    def attached(self) -> object:
        """Return the strategy that LiteLLM asks now, or None if it chooses itself."""
        choose: Any = getattr(self.router, _SYNC_CHOICE)
        while choose is not None:
            owner = getattr(choose, "__self__", None)
            if owner is not None:
                return None if owner is self.router or owner is self._core else owner
            choose = getattr(choose, "__wrapped__", None)
        return None

    def _class_method(self, *names: str) -> Callable[..., Any] | None:
        for name in names:
            found: Callable[..., Any] | None = getattr(type(self._core), name, None)
            if callable(found):
                return found
        return None


def _without_strategy(core: Any) -> Any:  # noqa: ANN401
    """Return a router's core as if no strategy were attached to it: the same state, whatever becomes of it.

    Hiding the strategy in the core itself would hide it from the calls of other threads, too.
    """
    if _STRATEGY not in vars(core):
        return core
    kind = type(core)
    view: Any = object.__new__(type(kind.__name__, (kind,), {_STRATEGY: property(lambda _: None)}))
    view.__dict__ = vars(core)
    return view


Healthy = Callable[[], Coroutine[Any, Any, Any]]
"""Starts one listing of healthy deployments."""
