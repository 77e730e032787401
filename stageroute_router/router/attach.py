"""The one-line change: a drop-in for ``litellm.Router``, and the same for a router that exists already."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from litellm.router import Router

from stageroute_router.errors import SettingsError
from stageroute_router.hook.compat import LiteLLMCompat
from stageroute_router.hook.segments.embedding import Embedding, embeddings
from stageroute_router.hook.segments.sources import SegmentSource, segment_sources
from stageroute_router.hook.strategy import StageRouteStrategy
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.rewards.tokens import RewardTokens
from stageroute_router.router.control import Control
from stageroute_router.router.token_keys import key_source
from stageroute_router.runtime.runtime import Runtime, open_runtime
from stageroute_router.settings.file import read_configuration, read_document, resolved
from stageroute_router.settings.options import Options
from stageroute_router.settings.parsing import Settings, parse_groups, parse_options
from stageroute_router.store.contract import DEFAULT_DATABASE

logger = logging.getLogger("stageroute_router")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Settings that were checked and a database that was opened, for one router after another.

    Args:
        routing: chooses and learns.
        tokens: makes and checks reward tokens.
        options: of the router as a whole.
        segments: where the segments of calls come from, by model group.
        embeddings: how their texts are embedded, where they are.
    """

    routing: Runtime
    tokens: RewardTokens
    options: Options
    segments: Mapping[str, SegmentSource]
    embeddings: Mapping[str, Embedding]


def prepare(settings: Settings) -> Prepared:
    """Open the database.

    Args:
        settings: checked.

    Raises:
        SettingsError: a reward token key, or the function that names segments, cannot be used.
        StoreError: the database cannot be used.
        TableError: a group's benchmark cannot be used.
    """
    groups, options = settings.groups, settings.options
    tokens = RewardTokens(
        key_source(options.reward_token_keys, database_url=settings.database_url),
        lifetime_s=options.token_lifetime_s,
    )
    segments = segment_sources(groups)
    routing = open_runtime(groups, database_url=settings.database_url, options=options)
    return Prepared(
        routing=routing, tokens=tokens, options=options, segments=segments, embeddings=embeddings(groups)
    )


def take_over(
    router: Any,  # noqa: ANN401 - its type differs between generations of LiteLLM
    prepared: Prepared,
    *,
    predecessor: StageRouteStrategy | None = None,
    strict: bool = True,
) -> Control:
    """Route a router's calls from now on.

    Args:
        router: a ``litellm.Router``.
        prepared: what to route them by.
        predecessor: the strategy of the router that this one replaces, whose open calls are taken along.
        strict: whether a deployment that cannot be used is an error, or is left out and logged.

    Raises:
        SettingsError: the router cannot be routed, or is routed by StageRoute already.
    """
    strategy = StageRouteStrategy(
        router,
        prepared.routing,
        seed=prepared.options.seed,
        predecessor=predecessor,
        strict=strict,
        segments=prepared.segments,
        embeddings=prepared.embeddings,
    )
    strategy.attach()
    if predecessor is not None:
        predecessor.detach()
    control = Control(
        strategy,
        prepared.routing,
        tokens=prepared.tokens,
        clients_may_replace=prepared.options.clients_may_replace,
    )
    router.stageroute = control
    router.record_reward = control.record_reward
    router.arecord_reward = control.arecord_reward
    return control


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

    ```python
    from litellm import Router
    from stageroute_router import attach

    existing = Router(model_list=model_list)
    control = attach(existing, stageroute={"chat": {"budget_usd_per_call": 0.002}}, database_url="memory://")
    control.close()
    ```
    """
    known_groups = {str(deployment.get("model_name")) for deployment in LiteLLMCompat(router).deployments()}
    checked = parse_options(options)
    groups = parse_groups(stageroute, known_groups=known_groups)
    prepared = prepare(Settings(groups=groups, options=checked, database_url=database_url))
    try:
        return take_over(router, prepared)
    except BaseException:
        prepared.routing.close()
        raise


class _Routed(type):
    """Makes a class of routers that LiteLLM's own class is not derived from: newer ones refuse to be."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Router) and isinstance(getattr(instance, "stageroute", None), Control)


class StageRouteRouter(metaclass=_Routed):
    """A ``litellm.Router`` whose model groups are routed by StageRoute.

    What it makes is a ``litellm.Router``, with nothing overridden and three members more: ``stageroute`` has the status
    and the rest, ``record_reward`` and ``arecord_reward`` are its.

    Args:
        *args: as for ``litellm.Router``.
        stageroute: settings by model group; groups that are not named stay with LiteLLM's own strategy.
        database_url: where to keep what is learned, as an SQLAlchemy URL.
        stageroute_options: further options, as for :func:`attach`: ``reward_token_keys``, ``durability``, ….
        **kwargs: as for ``litellm.Router``.

    Raises:
        SettingsError: a setting cannot be used.
        StoreError: the database cannot be used.

    ```python
    from stageroute_router import StageRouteRouter

    router = StageRouteRouter(
        model_list=model_list,
        stageroute={"chat": {"budget_usd_per_call": 0.002}},
        database_url="memory://",
    )
    response = router.completion(model="chat", messages=[{"role": "user", "content": "hello"}])
    router.record_reward(response, 0.9)
    router.stageroute.close()
    ```
    """

    def __new__(
        cls,
        *args: Any,  # noqa: ANN401
        stageroute: Mapping[str, object],
        database_url: str = DEFAULT_DATABASE,
        stageroute_options: Mapping[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - a litellm.Router, see below
        """Make a router and route it."""
        router = Router(*args, **kwargs)
        attach(router, stageroute=stageroute, database_url=database_url, **(stageroute_options or {}))
        return router

    @classmethod
    def from_config_file(cls, path: str | PathLike[str], **kwargs: Any) -> StageRouteRouter:  # noqa: ANN401
        """Make a router from the configuration file of LiteLLM's proxy.

        ``model_list``, ``router_settings`` and ``stageroute_settings`` are read, values such as ``os.environ/NAME``
        from the environment; the proxy's other sections are its own. So one file serves a proxy and a program.

        Args:
            path: the YAML file.
            **kwargs: as for ``litellm.Router``; they come before the file's ``router_settings``.

        Raises:
            SettingsError: the file cannot be read, or a setting cannot be used.
            StoreError: the database cannot be used.

        ```python
        from pathlib import Path

        Path("config.yaml").write_text(
            '''
        model_list:
          - {model_name: chat, litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/HOME}}
          - {model_name: chat, litellm_params: {model: openai/gpt-4o, api_key: os.environ/HOME}}
        stageroute_settings:
          groups: {chat: {budget_usd_per_call: 0.002}}
        '''
        )
        with StageRouteRouter.from_config_file("config.yaml").stageroute as control:
            assert {arm.name for arm in control.status("chat").arms} == {"openai/gpt-4o-mini", "openai/gpt-4o"}
        ```
        """
        document = read_document(path)
        models = document.get("model_list")
        if not isinstance(models, list) or not models:
            raise SettingsError(f"{path}: there is no model_list; add one, as LiteLLM's proxy needs it")
        configuration = read_configuration(document, place=str(path))
        made: StageRouteRouter = cls(
            model_list=resolved(models, place=f"{path}: model_list"),
            stageroute=configuration.groups,
            database_url=configuration.database_url,
            stageroute_options=configuration.options,
            **{**_router_settings(document, path), **kwargs},
        )
        return made

    if TYPE_CHECKING:
        # What a router has that was made here. The rest is litellm.Router's, whose type differs between generations.
        stageroute: Control

        def record_reward(self, response: object, reward: object, *, source: str = "app") -> RewardReceipt:
            """Report how good an answer was; see :meth:`Control.record_reward`."""

        async def arecord_reward(
            self, response: object, reward: object, *, source: str = "app"
        ) -> RewardReceipt:
            """Report how good an answer was; see :meth:`Control.arecord_reward`."""

        def __getattr__(self, name: str) -> Any: ...  # noqa: ANN401


def _router_settings(document: Mapping[str, Any], path: object) -> dict[str, Any]:
    """Return the router's settings of a file; what a Router does not know is left out, as by the proxy."""
    given = document.get("router_settings") or {}
    if not isinstance(given, Mapping):
        raise SettingsError(f"{path}: router_settings must be a mapping; it is a {type(given).__name__}")
    known = _known_settings()
    if known is None:
        return dict(resolved(given, place=f"{path}: router_settings"))
    for name in given.keys() - known:
        logger.warning("%s: router_settings.%s is no setting of litellm.Router; it is left out", path, name)
    settings = {name: value for name, value in given.items() if name in known}
    return dict(resolved(settings, place=f"{path}: router_settings"))


def _known_settings() -> frozenset[str] | None:
    """Return the settings a Router takes; None where its constructor does not say."""
    parameters = inspect.signature(Router.__init__).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return frozenset(parameters)
