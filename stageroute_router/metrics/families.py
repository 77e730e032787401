"""One scrape: the values as Prometheus' metric families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, product
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)

from stageroute_router.hook.calls.counters import CHOICE_BOUNDS_S, FallbackReason, StrategyCounts
from stageroute_router.reports.figures import (
    ARM_FIGURES,
    GROUP_FIGURES,
    SEGMENT_FIGURES,
    STORE_FIGURES,
    WORTH_FIGURES,
    Figure,
    Subject,
)

_Family = Any
"""One of prometheus_client's families: their ``add_metric`` methods differ."""


class Shown:
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
                *_families(GROUP_FIGURES, "group"),
                *_families(ARM_FIGURES, "group", "arm"),
                *_families(SEGMENT_FIGURES, "group", "segment"),
                *_families(WORTH_FIGURES, "group"),
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
                *_families(STORE_FIGURES),
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

    def add_figures(self, figures: Iterable[Figure[Subject]], subject: Subject, *labels: str) -> None:
        """Show those figures of a group, an arm or a store that have a metric."""
        for figure in figures:
            if figure.metric is None:
                continue
            value = figure.value(subject)
            if value is not None:
                shown = self._rising(value, figure.metric, *labels) if figure.counts else value
                self.add(figure.metric, float(shown), *labels)

    def add_sum(self, name: str, *labels: str, count: int, mean: float | None) -> None:
        """Show how many observations there are, and their sum."""
        self.families[name].add_metric(
            (*labels, self._worker),
            count_value=int(self._rising(count, name, "count", *labels)),
            sum_value=self._rising(0.0 if mean is None else count * mean, name, "sum", *labels),
        )

    def add_counted(self, counted: StrategyCounts, *, groups: Sequence[str]) -> None:
        """Show what the strategy counted, zeros included, so that the first of a kind is a rise."""
        kinds = {(group, reason): 0 for group in ("", *groups) for reason in FallbackReason}
        for (group, reason), count in {**kinds, **counted.fallbacks}.items():
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


def _families(figures: Iterable[Figure[Subject]], *labels: str) -> Iterable[_Family]:
    for figure in figures:
        if figure.metric is not None:
            family = CounterMetricFamily if figure.counts else GaugeMetricFamily
            yield family(figure.metric, figure.help, labels=[*labels, "worker"])
