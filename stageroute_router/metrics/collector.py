"""Prometheus metrics of a router: its groups' status and its store's health, read when they are scraped.

Needs the extra ``metrics``. ``docs/metrics.md`` tells what each metric means, and what to be woken for.

>>> from prometheus_client import CollectorRegistry
>>> registry = CollectorRegistry()
>>> registry.register(StageRouteCollector(lambda: None))  # an application says expose(router.stageroute) instead
>>> [sample.value for family in registry.collect() for sample in family.samples if sample.name == "stageroute_up"]
[0.0]
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import get_args

try:
    from prometheus_client import REGISTRY, CollectorRegistry
except ImportError as error:
    msg = 'metrics need prometheus_client: pip install "stageroute-router[metrics]"'
    raise ImportError(msg) from error

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from stageroute_router.errors import SettingsError
from stageroute_router.metrics.families import Shown
from stageroute_router.process.logs import loggable
from stageroute_router.reports.figures import (
    ARM_FIGURES,
    GROUP_FIGURES,
    SEGMENT_FIGURES,
    STORE_FIGURES,
    WORTH_FIGURES,
)
from stageroute_router.router.control import Control
from stageroute_router.store.health import HealthState

logger = logging.getLogger("stageroute_router")

_LOG_INTERVAL_S = 60.0


class StageRouteCollector(Collector):
    """Reads a router's status at each scrape. It waits for nothing, and costs routing nothing.

    What is a counter never goes back in one worker: where the status does (a reward was revoked or replaced, a call
    that was given up as lost turned out cheaper), the highest value is shown until the status has caught up.

    Args:
        control: returns the handle of the routing, or None while there is none.
    """

    def __init__(self, control: Callable[[], Control | None]) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._highest: dict[tuple[str, ...], float] = {}
        self._seen: Callable[[], Control | None] = lambda: None
        self._last_logged = -math.inf
        self._version = version("stageroute-router")

    @property
    def control(self) -> Control | None:
        """The handle of the routing that is shown, or None while there is none that is open."""
        control = self._control()
        return None if control is None or control.strategy.closed else control

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without samples, for a registry to know their names."""
        return Shown(worker="", highest={}).families.values()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now. Never raises: other metrics are on the same page."""
        with self._lock:
            worker = str(os.getpid())
            try:
                shown = self._read(worker)
            except Exception as error:  # noqa: BLE001 - LiteLLM's own metrics are scraped with ours
                self._log(error)
                shown = Shown(worker=worker, highest={})
                shown.add("stageroute_up", 0.0)
            shown.add("stageroute_build_info", 1.0, self._version)
            return shown.families.values()

    def _read(self, worker: str) -> Shown:
        control = self.control
        if control is None:
            shown = Shown(worker=worker, highest={})
            shown.add("stageroute_up", 0.0)
            return shown
        if self._seen() is not control:  # another routing counts anew, perhaps in another database
            self._highest.clear()
            self._seen = weakref.ref(control)
        shown = Shown(worker=worker, highest=self._highest)
        shown.add("stageroute_up", 1.0)
        groups = control.known_status().groups
        for group in groups:
            shown.add_figures(GROUP_FIGURES, group, group.name)
            for arm in group.arms:
                shown.add_figures(ARM_FIGURES, arm, group.name, arm.name)
                shown.add_sum(
                    "stageroute_arm_reward",
                    group.name,
                    arm.name,
                    count=arm.reward_count,
                    mean=arm.reward_mean,
                )
                shown.add_sum(
                    "stageroute_arm_cost_usd",
                    group.name,
                    arm.name,
                    count=arm.cost_count,
                    mean=arm.cost_mean_usd,
                )
            for segment in group.segments:
                shown.add_figures(SEGMENT_FIGURES, segment, group.name, segment.name)
                for name, probability in segment.probabilities.items():
                    shown.add(
                        "stageroute_segment_probability_ratio", probability, group.name, segment.name, name
                    )
            if group.segment_worth is not None:
                shown.add_figures(WORTH_FIGURES, group.segment_worth, group.name)
        counted = control.strategy.counters.read()
        shown.add_counted(counted, groups=[group.name for group in groups])
        shown.add_without_segment(
            {"misnamed": counted.misnamed, "unread": control.routing.segment_failures()},
            groups=[group.name for group in groups],
        )
        health = control.health()
        shown.add_figures(STORE_FIGURES, health)
        for state in get_args(HealthState):
            shown.add("stageroute_store_state", float(health.state == state), state)
        return shown

    def _log(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._last_logged >= _LOG_INTERVAL_S:
            self._last_logged = now
            logger.error("stageroute_router's metrics could not be read:\n%s", loggable(error))


def expose(control: Control, *, registry: CollectorRegistry = REGISTRY) -> StageRouteCollector:
    """Show a router's metrics in a registry, for as long as the router lives and is not closed.

    Args:
        control: ``router.stageroute``.
        registry: prometheus_client's own by default, which ``prometheus_client.start_http_server`` and web
            frameworks' integrations serve. With ``PROMETHEUS_MULTIPROC_DIR`` they serve files instead, which no
            collector is in: make a registry and serve that.

    Returns:
        The collector; ``registry.unregister`` takes it out again.

    Raises:
        SettingsError: the registry shows another router. The names of metrics do not tell routers apart, so each
            needs a registry of its own.

    ```python
    from prometheus_client import CollectorRegistry, generate_latest
    from stageroute_router.metrics.collector import expose

    registry = CollectorRegistry()
    expose(router.stageroute, registry=registry)
    assert b"stageroute_spend_usd_total" in generate_latest(registry)
    ```
    """
    shown = _exposed.get(registry)
    if shown is not None and shown.control not in (None, control):
        msg = (
            "this registry shows the metrics of another router already: close() that one, or give each router a "
            "registry of its own, expose(router.stageroute, registry=CollectorRegistry())"
        )
        raise SettingsError(msg)
    if shown is not None:
        with contextlib.suppress(KeyError):  # the application took it out
            registry.unregister(shown)
    collector = StageRouteCollector(weakref.ref(control))
    registry.register(collector)
    _exposed[registry] = collector
    return collector


_exposed: weakref.WeakKeyDictionary[CollectorRegistry, StageRouteCollector] = weakref.WeakKeyDictionary()
