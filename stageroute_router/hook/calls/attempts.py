"""The attempts of one call: where it has failed, whether it is tried again, and where it may still go.

LiteLLM asks for a deployment anew at each retry, ``order`` level and fallback, and its newer versions tell a custom
strategy nothing of what has happened before. Open decisions know it, by whatever the attempts share: the call's id, the
note in its metadata, LiteLLM's trace id, or the thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from stageroute_router.hook.calls.failure import seconds
from stageroute_router.hook.calls.open_decisions import Trail
from stageroute_router.hook.calls.request import order_of, set_order
from stageroute_router.hook.compat import Deployment, Request
from stageroute_router.hook.deployments import model_id

MOVED = (AttributeError, ImportError, TypeError)
"""What it looks like when a private detail of LiteLLM moved. LiteLLM's own refusals are none of these."""


def untried(
    replicas: dict[str, list[Deployment]], trail: Trail, *, group: str
) -> dict[str, list[Deployment]]:
    """Return where a call may still go: other arms, else other replicas, else everywhere, because all have failed.

    Args:
        replicas: the healthy deployments of each arm.
        trail: where the call has failed.
        group: the model group it is for now.
    """
    arms = {one.decision.arm for one in trail.attempts if one.decision.group == group}
    others = {arm: ones for arm, ones in replicas.items() if arm not in arms}
    if others:
        return others
    ids = {one.deployment for one in trail.attempts}
    rest = {arm: [one for one in ones if model_id(one) not in ids] for arm, ones in replicas.items()}
    return {arm: ones for arm, ones in rest.items() if ones} or replicas


def own_limit_s(deployment: Deployment, *, default: float | None) -> float | None:
    """Return a deployment's own limit for an answer, in seconds; ``default`` where it sets none."""
    own = seconds(deployment["litellm_params"].get("timeout"))
    return default if own is None else own


async def healthy_at_a_level(
    listing: Callable[[], Coroutine[Any, Any, Any]],
    request: Request,
    *,
    orders: Mapping[str, int],
    hopeless: Collection[str],
) -> Any:  # noqa: ANN401 - as LiteLLM lists them
    """Return the healthy deployments of LiteLLM's ``order`` levels up to the first one that may answer a call.

    LiteLLM goes on to the next level when the deployments of one have failed. Since 1.110 it does not tell a custom
    strategy which level it is at.

    Args:
        listing: lists the healthy deployments of the level that ``request`` targets, or of the lowest.
        request: of the attempt; ``_target_order`` in it is LiteLLM's.
        orders: level by deployment id.
        hopeless: deployments that the call has failed at, and those that do not answer.

    Raises:
        Exception: LiteLLM's own error where no level has a healthy deployment; fallbacks depend on it.
    """
    target = order_of(request)
    levels = [one for one in sorted(set(orders.values())) if target is None or one >= target]
    healthy: list[Deployment] = []
    refused: Exception | None = None
    for level in levels:
        if any(orders.get(model_id(one), level) >= level for one in healthy):
            continue  # LiteLLM has passed over levels without a healthy deployment itself
        if level != levels[0]:
            set_order(request, level)
        try:
            found = await listing()
        except MOVED:
            raise
        except Exception as error:  # noqa: BLE001 - LiteLLM's own, raised below where no level has any
            refused = refused or error
            continue
        if isinstance(found, Mapping):
            return found
        healthy.extend(found)
        if any(model_id(one) not in hopeless for one in found):
            return healthy
    if refused is not None and not healthy:
        raise refused
    return healthy
