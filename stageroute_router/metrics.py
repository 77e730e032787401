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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate, product
from typing import Any, Generic, TypeVar, get_args

try:
    from prometheus_client import REGISTRY, CollectorRegistry
except ImportError as error:  # pragma: no cover - the tests' environment has it
    msg = 'metrics need prometheus_client: pip install "stageroute-router[metrics]"'
    raise ImportError(msg) from error
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from stageroute_router.core.segment_worth import SegmentWorth
from stageroute_router.error_text import loggable
from stageroute_router.errors import SettingsError
from stageroute_router.health import Health, HealthState
from stageroute_router.hook.control import Control
from stageroute_router.hook.tally import CHOICE_BOUNDS_S, Counted, Leaving
from stageroute_router.status import ArmStatus, GroupStatus, SegmentStatus

logger = logging.getLogger("stageroute_router")

_LOG_INTERVAL_S = 60.0

Subject = TypeVar("Subject")
_Family = Any
"""One of prometheus_client's families: their ``add_metric`` methods differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Number(Generic[Subject]):
    """A number of something and the metric that shows it; None shows nothing."""

    name: str
    told: str
    value: Callable[[Subject], float | None]
    counts: bool = False


_OF_A_GROUP: tuple[_Number[GroupStatus], ...] = (
    _Number(
        name="stageroute_calls",
        told="Decisions whose call is over: answered, failed, or never heard of again.",
        value=lambda group: group.calls - group.open_calls,
        counts=True,
    ),
    _Number(
        name="stageroute_open_calls",
        told="Decisions whose cost is not known yet.",
        value=lambda group: group.open_calls,
    ),
    _Number(
        name="stageroute_spend_usd",
        told="Costs known so far, in US dollars.",
        value=lambda group: group.spend_usd,
        counts=True,
    ),
    _Number(
        name="stageroute_in_flight_usd",
        told="Expected costs of the open calls, in US dollars.",
        value=lambda group: group.in_flight_usd,
    ),
    _Number(
        name="stageroute_budget_per_call_usd",
        told="The budget: average US dollars a call may cost.",
        value=lambda group: group.budget_usd_per_call,
    ),
    _Number(
        name="stageroute_spend_ratio",
        told="Spend, in flight included, over budget times calls, since the beginning; above 1 is over budget.",
        value=lambda group: group.spend_ratio,
    ),
    _Number(
        name="stageroute_shadow_price_reward_per_usd",
        told="Reward that one more US dollar would buy; 0 while the budget is slack, +Inf where no mixture keeps it.",
        value=lambda group: group.shadow_price,
    ),
    _Number(
        name="stageroute_feasible",
        told="1, or 0 where even the cheapest live mixture is over budget or the shares cannot sum to 1.",
        value=lambda group: group.feasible,
    ),
    _Number(
        name="stageroute_reward_coverage_ratio",
        told="Rewards per decision, since the beginning; several sources of rewards can exceed 1.",
        value=lambda group: group.reward_coverage,
    ),
    _Number(
        name="stageroute_live_arms",
        told="Arms in the live set.",
        value=lambda group: sum(arm.live for arm in group.arms),
    ),
    _Number(
        name="stageroute_stage",
        told="Number of the current stage; rises at each maintenance window.",
        value=lambda group: group.stage,
    ),
    _Number(
        name="stageroute_stage_opened_timestamp_seconds",
        told="When the current stage was opened, in seconds since the epoch.",
        value=lambda group: group.stage_opened_at,
    ),
    _Number(
        name="stageroute_stage_calls",
        told="Decisions in the current stage.",
        value=lambda group: group.stage_calls,
    ),
    _Number(
        name="stageroute_warnings",
        told="Warnings in the group's status, which has their text.",
        value=lambda group: len(group.warnings),
    ),
)

_OF_AN_ARM: tuple[_Number[ArmStatus], ...] = (
    _Number(
        name="stageroute_arm_live",
        told="1 while the arm is in the live set, else 0.",
        value=lambda arm: arm.live,
    ),
    _Number(
        name="stageroute_arm_probability_ratio",
        told="Share of calls the arm gets now; 0 while it is not live.",
        value=lambda arm: arm.probability,
    ),
    _Number(
        name="stageroute_arm_share_limit_ratio",
        told="Largest share the arm may get now, by max_share and rate limits.",
        value=lambda arm: arm.share_limit,
    ),
    _Number(
        name="stageroute_arm_calls",
        told="Calls that ended at the arm: answered at a known cost, or failed.",
        value=lambda arm: arm.cost_count + arm.failures,
        counts=True,
    ),
    _Number(
        name="stageroute_arm_failures",
        told="Calls that failed at the arm's provider.",
        value=lambda arm: arm.failures,
        counts=True,
    ),
    _Number(
        name="stageroute_arm_availability_ratio",
        told="Chance that the arm answers its next call, by this worker's latest calls; 1 while all are answered.",
        value=lambda arm: arm.availability,
    ),
    _Number(
        name="stageroute_arm_reward_upper_bound_ratio",
        told="Upper confidence bound of the arm's reward, in [0, 1].",
        value=lambda arm: arm.reward_ucb,
    ),
    _Number(
        name="stageroute_arm_cost_lower_bound_usd",
        told="Lower confidence bound of the arm's cost per call, in US dollars.",
        value=lambda arm: arm.cost_lcb_usd,
    ),
    _Number(
        name="stageroute_arm_expected_cost_usd",
        told="What the arm's next call is expected to cost, in US dollars.",
        value=lambda arm: arm.expected_cost_usd,
    ),
)

_OF_A_SEGMENT: tuple[_Number[SegmentStatus], ...] = (
    _Number(
        name="stageroute_segment_share_ratio",
        told="Share of the group's calls that are of the segment; the empty segment is that of calls without one.",
        value=lambda segment: segment.share,
    ),
    _Number(
        name="stageroute_segment_calls",
        told="Decisions for calls of the segment that it still remembers.",
        value=lambda segment: segment.pulls,
    ),
    _Number(
        name="stageroute_segment_reward_mean_ratio",
        told="Mean reward of the segment's calls, in [0, 1]; absent before any reward.",
        value=lambda segment: segment.reward_mean,
    ),
    _Number(
        name="stageroute_segment_cost_mean_usd",
        told="Mean cost of the segment's calls, in US dollars; absent before any cost is known.",
        value=lambda segment: segment.cost_mean_usd,
    ),
)
"""None of them counts: a segment that was not seen for long is forgotten, and its calls with it."""

_OF_WORTH: tuple[_Number[SegmentWorth], ...] = (
    _Number(
        name="stageroute_segment_worth_ratio",
        told="Reward per call gained by routing each segment for itself, at the same budget; absent without segments.",
        value=lambda worth: worth.gain,
    ),
    _Number(
        name="stageroute_segment_worth_lower_bound_ratio",
        told="Lower end of the interval that holds that gain with 90 %.",
        value=lambda worth: worth.lower,
    ),
    _Number(
        name="stageroute_segment_worth_upper_bound_ratio",
        told="Upper end of the interval that holds that gain with 90 %.",
        value=lambda worth: worth.upper,
    ),
)

_OF_A_STORE: tuple[_Number[Health], ...] = (
    _Number(
        name="stageroute_store_queued_writes",
        told="Writes of this worker that wait to be stored.",
        value=lambda health: health.queued,
    ),
    _Number(
        name="stageroute_store_dropped_writes",
        told="Writes of this worker that were refused because its queue was full.",
        value=lambda health: health.dropped,
        counts=True,
    ),
    _Number(
        name="stageroute_store_rejected_writes",
        told="Writes of this worker that the database will never take, because of a value.",
        value=lambda health: health.rejected,
        counts=True,
    ),
    _Number(
        name="stageroute_store_last_commit_timestamp_seconds",
        told="When this worker stored something last, in seconds since the epoch; absent before that.",
        value=lambda health: health.last_commit_at,
    ),
)


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
        return _Shown(worker="", highest={}).families.values()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now. Never raises: other metrics are on the same page."""
        with self._lock:
            worker = str(os.getpid())
            try:
                shown = self._read(worker)
            except Exception as error:  # noqa: BLE001 - LiteLLM's own metrics are scraped with ours
                self._log(error)
                shown = _Shown(worker=worker, highest={})
                shown.add("stageroute_up", 0.0)
            shown.add("stageroute_build_info", 1.0, self._version)
            return shown.families.values()

    def _read(self, worker: str) -> _Shown:
        control = self.control
        if control is None:
            shown = _Shown(worker=worker, highest={})
            shown.add("stageroute_up", 0.0)
            return shown
        if self._seen() is not control:  # another routing counts anew, perhaps in another database
            self._highest.clear()
            self._seen = weakref.ref(control)
        shown = _Shown(worker=worker, highest=self._highest)
        shown.add("stageroute_up", 1.0)
        groups = control.known_status().groups
        for group in groups:
            shown.add_numbers(_OF_A_GROUP, group, group.name)
            for arm in group.arms:
                shown.add_numbers(_OF_AN_ARM, arm, group.name, arm.name)
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
                shown.add_numbers(_OF_A_SEGMENT, segment, group.name, segment.name)
                for name, probability in segment.probabilities.items():
                    shown.add(
                        "stageroute_segment_probability_ratio", probability, group.name, segment.name, name
                    )
            if group.segment_worth is not None:
                shown.add_numbers(_OF_WORTH, group.segment_worth, group.name)
        counted = control.strategy.tally.read()
        shown.add_counted(counted, groups=[group.name for group in groups])
        shown.add_without_segment(
            {"misnamed": counted.misnamed, "unread": control.routing.segment_failures()},
            groups=[group.name for group in groups],
        )
        health = control.health()
        shown.add_numbers(_OF_A_STORE, health)
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
    from stageroute_router.metrics import expose

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
        with contextlib.suppress(KeyError):  # somebody took it out
            registry.unregister(shown)
    collector = StageRouteCollector(weakref.ref(control))
    registry.register(collector)
    _exposed[registry] = collector
    return collector


_exposed: weakref.WeakKeyDictionary[CollectorRegistry, StageRouteCollector] = weakref.WeakKeyDictionary()


class _Shown:
    """The families of one scrape, being filled."""

    def __init__(self, *, worker: str, highest: dict[tuple[str, ...], float]) -> None:
        self._worker = worker
        self._highest = highest
        self.families: dict[str, _Family] = {
            family.name: family
            for family in (
                GaugeMetricFamily(
                    "stageroute_build_info",
                    "Always 1; the label has the version.",
                    labels=["version", "worker"],
                ),
                GaugeMetricFamily(
                    "stageroute_up",
                    "1, or 0 while nothing is routed by StageRoute here or its status cannot be read.",
                    labels=["worker"],
                ),
                *_families(_OF_A_GROUP, "group"),
                *_families(_OF_AN_ARM, "group", "arm"),
                *_families(_OF_A_SEGMENT, "group", "segment"),
                *_families(_OF_WORTH, "group"),
                GaugeMetricFamily(
                    "stageroute_segment_probability_ratio",
                    "Share of the segment's calls that a live arm gets now.",
                    labels=["group", "segment", "arm", "worker"],
                ),
                SummaryMetricFamily(
                    "stageroute_arm_reward",
                    "Rewards of the arm, each in [0, 1]: how many, and their sum.",
                    labels=["group", "arm", "worker"],
                ),
                SummaryMetricFamily(
                    "stageroute_arm_cost_usd",
                    "Costs of the arm's calls in US dollars: how many are known, and their sum.",
                    labels=["group", "arm", "worker"],
                ),
                CounterMetricFamily(
                    "stageroute_left_to_litellm",
                    "Attempts of calls that this worker left to LiteLLM's own choice.",
                    labels=["group", "reason", "worker"],
                ),
                CounterMetricFamily(
                    "stageroute_calls_without_segment",
                    "Calls that this worker could not tell apart: misnamed by who named their segment, or unread "
                    "because their text or its embedding gave no numbers.",
                    labels=["group", "reason", "worker"],
                ),
                HistogramMetricFamily(
                    "stageroute_choice_seconds",
                    "How long this worker's choices of a deployment took, without LiteLLM's listing of them.",
                    labels=["worker"],
                ),
                *_families(_OF_A_STORE),
                GaugeMetricFamily(
                    "stageroute_store_state",
                    "1 for the state that this worker's store is in, 0 for the others.",
                    labels=["state", "worker"],
                ),
            )
        }

    def add(self, name: str, value: float, *labels: str) -> None:
        """Show a value."""
        self.families[name].add_metric((*labels, self._worker), value)

    def add_numbers(self, numbers: Iterable[_Number[Subject]], subject: Subject, *labels: str) -> None:
        """Show the numbers of a group, an arm or a store."""
        for number in numbers:
            value = number.value(subject)
            if value is not None:
                shown = self._rising(value, number.name, *labels) if number.counts else value
                self.add(number.name, float(shown), *labels)

    def add_sum(self, name: str, *labels: str, count: int, mean: float | None) -> None:
        """Show how many observations there are, and their sum."""
        self.families[name].add_metric(
            (*labels, self._worker),
            count_value=int(self._rising(count, name, "count", *labels)),
            sum_value=self._rising(0.0 if mean is None else count * mean, name, "sum", *labels),
        )

    def add_counted(self, counted: Counted, *, groups: Sequence[str]) -> None:
        """Show what the strategy counted, zeros included, so that the first of a kind is a rise."""
        kinds = {(group, reason): 0 for group in ("", *groups) for reason in Leaving}
        for (group, reason), count in {**kinds, **counted.left}.items():
            self.add("stageroute_left_to_litellm", float(count), group, reason.value)
        bounds = [*map(str, CHOICE_BOUNDS_S), "+Inf"]
        self.families["stageroute_choice_seconds"].add_metric(
            (self._worker,),
            buckets=list(zip(bounds, accumulate(counted.choices), strict=True)),
            sum_value=counted.choice_seconds,
        )

    def add_without_segment(self, counted: Mapping[str, Mapping[str, int]], *, groups: Iterable[str]) -> None:
        """Show how many calls of each group could not be told apart, by reason, zeros included."""
        for group, (reason, counts) in product(groups, counted.items()):
            self.add("stageroute_calls_without_segment", float(counts.get(group, 0)), group, reason)

    def _rising(self, value: float, *series: str) -> float:
        highest = self._highest[series] = max(value, self._highest.get(series, 0.0))
        return highest


def _families(numbers: Iterable[_Number[Subject]], *labels: str) -> Iterable[_Family]:
    for number in numbers:
        family = CounterMetricFamily if number.counts else GaugeMetricFamily
        yield family(number.name, number.told, labels=[*labels, "worker"])
