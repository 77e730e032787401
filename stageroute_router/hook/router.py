"""The one-line change: a drop-in for ``litellm.Router``, and the same for a router that exists already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from litellm.router import Router

from stageroute_router.hook.control import Control
from stageroute_router.hook.seam import Seam
from stageroute_router.hook.strategy import StageRouteStrategy
from stageroute_router.receipt import RewardReceipt
from stageroute_router.reward_keys import key_source
from stageroute_router.reward_token import RewardTokens
from stageroute_router.runtime import open_runtime
from stageroute_router.settings import parse_options

DEFAULT_DATABASE = "sqlite:///stageroute.db"


def attach(
    router: Any,  # noqa: ANN401 - its type differs between generations of LiteLLM
    *,
    stageroute: Mapping[str, object],
    database_url: str = DEFAULT_DATABASE,
    **options: Any,  # noqa: ANN401
) -> Control:
    """Route the calls of a router's model groups by StageRoute.

    Args:
        router: a ``litellm.Router``.
        stageroute: settings by model group; groups that are not named stay with LiteLLM's own strategy.
        database_url: where to keep what is learned, as an SQLAlchemy URL.
        **options: of the router as a whole, see :class:`~stageroute_router.settings.Options`: ``reward_token_keys``,
            ``durability``, ``seed``, and so on.

    Returns:
        The handle for status, rewards and episodes; ``router.stageroute`` is the same.

    Raises:
        SettingsError: a setting cannot be used, or the router is routed by StageRoute already.
        StoreError: the database cannot be used.
    """
    given = parse_options(options)
    tokens = RewardTokens(
        key_source(given.reward_token_keys, database_url=database_url), lifetime_s=given.token_lifetime_s
    )
    groups = {str(deployment.get("model_name")) for deployment in Seam(router).deployments()}
    routing = open_runtime(stageroute, known_groups=groups, database_url=database_url, options=given)
    try:
        strategy = StageRouteStrategy(router, routing, seed=given.seed)
        strategy.listen()
    except BaseException:
        routing.close()
        raise
    control = Control(strategy, routing, tokens=tokens, clients_may_replace=given.clients_may_replace)
    router.stageroute = control
    return control


class StageRouteRouter(Router):
    """A ``litellm.Router`` whose model groups are routed by StageRoute.

    Nothing of ``litellm.Router`` is overridden; ``router.stageroute`` has the status and the rest.

    Args:
        *args: as for ``litellm.Router``.
        stageroute: settings by model group; groups that are not named stay with LiteLLM's own strategy.
        database_url: where to keep what is learned, as an SQLAlchemy URL.
        stageroute_options: further options, as for :func:`attach`: ``reward_token_keys``, ``durability``, ….
        **kwargs: as for ``litellm.Router``.

    Raises:
        SettingsError: a setting cannot be used.
        StoreError: the database cannot be used.
    """

    stageroute: Control

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        stageroute: Mapping[str, object],
        database_url: str = DEFAULT_DATABASE,
        stageroute_options: Mapping[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        attach(self, stageroute=stageroute, database_url=database_url, **(stageroute_options or {}))

    def record_reward(self, response: object, reward: object, *, source: str = "app") -> RewardReceipt:
        """Report how good an answer was; see :meth:`Control.record_reward`."""
        return self.stageroute.record_reward(response, reward, source=source)

    async def arecord_reward(self, response: object, reward: object, *, source: str = "app") -> RewardReceipt:
        """Report how good an answer was; see :meth:`Control.arecord_reward`."""
        return await self.stageroute.arecord_reward(response, reward, source=source)
