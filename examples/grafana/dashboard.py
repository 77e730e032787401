"""Make ``stageroute.json``, the Grafana dashboard of StageRoute's metrics, anew.

    pip install grafana-foundation-sdk
    python examples/grafana/dashboard.py > examples/grafana/stageroute.json

To use the dashboard, import the JSON file into Grafana; it asks which Prometheus to read.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping
from typing import Any

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

import stageroute_router.reports.figures as table  # of this repository's version: no public name

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
GROUP = '{job=~"$job",group=~"$group"}'
WORKER = '{job=~"$job"}'

UNITS = {"usd": "currencyUSD", "share": "percentunit", "reward": "percentunit", "moment": "dateTimeAsIso"}
"""Grafana's name of a figure's unit; others have none."""

OF_GROUP: Mapping[str, table.Figure[Any]] = {figure.name: figure for figure in table.GROUP_FIGURES}

# Every worker of a group shows the group's own numbers, which are the same but for the moment when they were read. So
# the largest is taken instead of their sum; what is a worker's own is added up.
CALLS = f"max by (group) (rate(stageroute_calls_total{GROUP}[$window]))"
SPEND = f"max by (group) (rate(stageroute_spend_usd_total{GROUP}[$window]))"


def mean_by_arm(metric: str) -> str:
    """Return the mean of what an arm's summary observed within the window."""
    sums, counts = (
        f"max by (group, arm) (rate({metric}_{part}{GROUP}[$window]))" for part in ("sum", "count")
    )
    return f"{sums} / {counts}"


REWARDS = (
    f"sum by (group) (max by (group, arm) (rate(stageroute_arm_reward_sum{GROUP}[$window])))"
    f" / sum by (group) (max by (group, arm) (rate(stageroute_arm_reward_count{GROUP}[$window])))"
)


# Of many segments, those with most of the calls: more lines cannot be read.
SEGMENT_SHARE = f"max by (group, segment) (stageroute_segment_share_ratio{GROUP})"
BUSIEST = f"topk by (group) (12, {SEGMENT_SHARE})"


def of_the_busiest(expression: str) -> str:
    """Return what is asked of segments, of those with most calls only."""
    return f"{expression} and on (group, segment) {BUSIEST}"


def query(expression: str, legend: str) -> prometheus.Dataquery:
    """Return a query of a panel; panels name them themselves."""
    return prometheus.Dataquery().datasource(SOURCE).expr(expression).legend_format(legend)


def numbered(panel: Any, queries: list[prometheus.Dataquery]) -> Any:  # noqa: ANN401 - any panel's builder
    """Add queries to a panel, named by letters from A on."""
    for letter, one in zip("ABCDEFG", queries, strict=False):
        panel.with_target(one.ref_id(letter))
    return panel.datasource(SOURCE)


def number(title: str, told: str, unit: str, *queries: prometheus.Dataquery) -> stat.Panel:
    """Return a panel with one number per series."""
    panel = stat.Panel().title(title).description(told).unit(unit).height(4).span(4)
    panel.color_mode(BigValueColorMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
    return numbered(panel, list(queries))


def curve(
    title: str, told: str, unit: str, *queries: prometheus.Dataquery, from_zero: bool = True
) -> timeseries.Panel:
    """Return a panel with a line per series."""
    panel = timeseries.Panel().title(title).description(told).unit(unit).height(8).span(8)
    if from_zero:
        panel.min(0)
    panel.fill_opacity(5).show_points(VisibilityMode.NEVER)
    panel.legend(
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    return numbered(panel, list(queries))


def now(figure: table.Figure[Any], *labels: str, how: str = "max") -> prometheus.Dataquery:
    """Return the query of a figure's present value, a series per group and each other of its labels."""
    shown = ("group", *labels)
    metric = f"{figure.metric}_total" if figure.counts else figure.metric
    return query(
        f"{how} by ({', '.join(shown)}) ({metric}{GROUP})", " · ".join(f"{{{{{label}}}}}" for label in shown)
    )


def number_of(name: str, *, how: str = "max") -> stat.Panel:
    """Return a panel with a figure of the group, one number per group."""
    figure = OF_GROUP[name]
    return number(figure.title, figure.help, UNITS.get(figure.unit, "none"), now(figure, how=how))


def curve_of(figure: table.Figure[Any], *labels: str) -> timeseries.Panel:
    """Return a panel with a figure's line per series."""
    return curve(figure.title, figure.help, UNITS.get(figure.unit, "none"), now(figure, *labels))


def charted() -> list[Any]:
    """Return the panels of all figures that say themselves that they want one."""
    tables: tuple[tuple[tuple[table.Figure[Any], ...], tuple[str, ...]], ...] = (
        (table.GROUP_FIGURES, ()),
        (table.ARM_FIGURES, ("arm",)),
        (table.SEGMENT_FIGURES, ("segment",)),
    )
    return [
        curve_of(figure, *labels).span(6) for figures, labels in tables for figure in figures if figure.chart
    ]


def colours(*steps: tuple[float | None, str]) -> board.ThresholdsConfig:
    """Return at which values which colours begin."""
    return (
        board.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=colour) for value, colour in steps])
    )


def dashboard() -> board.Dashboard:
    """Return the whole dashboard."""
    made = (
        board.Dashboard("StageRoute")
        .uid("stageroute")
        .description(
            "Where LiteLLM calls are routed, what they cost against the budget, and how that is stored."
        )
        .tags(["litellm", "stageroute"])
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("1m")
        .editable()
        .with_variable(board.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_choice("job", "Job", "label_values(stageroute_up, job)"))
        .with_variable(_choice("group", "Group", 'label_values(stageroute_calls_total{job=~"$job"}, group)'))
        .with_variable(
            board.IntervalVariable("window")
            .label("Window")
            .values("5m,15m,1h,6h,1d")
            .current(VariableOption(text="15m", value="15m", selected=True))
        )
    )
    identity = itertools.count(1)
    for panel in (*_overview(), *_money(), *_arms()):
        made.with_panel(panel.id(next(identity)))
    made.with_row(board.Row("Segments: groups whose calls are told apart").id(next(identity)))
    for panel in _segments():
        made.with_panel(panel.id(next(identity)))
    made.with_row(board.Row("Workers and their store").id(next(identity)))
    for panel in _workers():
        made.with_panel(panel.id(next(identity)))
    return made


def _choice(name: str, label: str, values: str) -> board.QueryVariable:
    return (
        board.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(values)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all", selected=True))
    )


def _overview() -> list[Any]:
    return [
        number("Calls", "Calls that ended, per second.", "reqps", query(CALLS, "{{group}}")),
        number_of("spend_ratio").thresholds(colours((None, "green"), (1.0, "orange"), (1.05, "red"))),
        number_of("spend"),
        number(
            "Reward",
            "Mean of the rewards reported within the window.",
            "percentunit",
            query(REWARDS, "{{group}}"),
        ),
        number_of("reward_coverage"),
        number_of("feasible", how="min")
        .mappings([_words({"0": ("no", "red"), "1": ("yes", "green")})])
        .thresholds(colours((None, "red"), (1.0, "green"))),
    ]


def _money() -> list[Any]:
    return [
        curve(
            "Cost of a call, and the budget",
            "US dollars per call within the window; the dashed line is the budget.",
            "currencyUSD",
            query(f"{SPEND} / {CALLS}", "{{group}}"),
            query(f"max by (group) (stageroute_budget_per_call_usd{GROUP})", "{{group}}: budget"),
        ).override_by_regexp(
            ".*: budget",
            [DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]})],
        ),
        curve_of(OF_GROUP["shadow_price"]),
        curve(
            "Under way",
            "Calls whose cost is not known yet, and what they are expected to cost.",
            "none",
            query(f"max by (group) (stageroute_open_calls{GROUP})", "{{group}}: calls"),
            query(f"max by (group) (stageroute_in_flight_usd{GROUP})", "{{group}}: US dollars"),
        ).override_by_regexp(
            ".*: US dollars",
            [
                DynamicConfigValue(id_val="unit", value="currencyUSD"),
                DynamicConfigValue(id_val="custom.axisPlacement", value="right"),
            ],
        ),
    ]


def _arms() -> list[Any]:
    probability = f"avg by (group, arm) (stageroute_arm_probability_ratio{GROUP})"
    return [
        curve(
            "Probability of each arm",
            "Share of calls that each arm gets.",
            "percentunit",
            query(f"{probability} > 0", "{{group}} · {{arm}}"),
        )
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        .fill_opacity(40),
        curve(
            "Calls of each arm",
            "Calls that ended at each arm, per second.",
            "reqps",
            query(
                f"max by (group, arm) (rate(stageroute_arm_calls_total{GROUP}[$window]))",
                "{{group}} · {{arm}}",
            ),
        )
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        .fill_opacity(40),
        statetimeline.Panel()
        .title("Live arms")
        .description("Which arms are in the live set. It changes at maintenance windows.")
        .datasource(SOURCE)
        .height(8)
        .span(8)
        .mappings([_words({"0": ("out", "transparent"), "1": ("live", "green")})])
        .thresholds(colours((None, "transparent"), (1.0, "green")))
        .with_target(
            query(f"max by (group, arm) (stageroute_arm_live{GROUP})", "{{group}} · {{arm}}").ref_id("A")
        ),
        curve(
            "Reward of each arm",
            "Mean of the rewards reported within the window.",
            "percentunit",
            query(mean_by_arm("stageroute_arm_reward"), "{{group}} · {{arm}}"),
        ),
        curve(
            "Cost of each arm",
            "US dollars per call within the window.",
            "currencyUSD",
            query(mean_by_arm("stageroute_arm_cost_usd"), "{{group}} · {{arm}}"),
        ),
        curve(
            "Failures of each arm",
            "Calls that failed at the provider, per call that ended.",
            "percentunit",
            query(
                f"max by (group, arm) (rate(stageroute_arm_failures_total{GROUP}[$window]))"
                f" / max by (group, arm) (rate(stageroute_arm_calls_total{GROUP}[$window]))",
                "{{group}} · {{arm}}",
            ),
        ),
        curve(
            "Availability of each arm",
            "Chance that an arm answers its next call, by the worker that sees it worst; 1 while all are answered.",
            "percentunit",
            query(
                f"min by (group, arm) (min_over_time(stageroute_arm_availability_ratio{GROUP}[$window]))",
                "{{group}} · {{arm}}",
            ),
        )
        .max(1)
        .span(6),
        curve_of(OF_GROUP["stage"]).span(6),
        curve(
            "Live arms, and warnings",
            "How many arms are live, and how many warnings the status has; the status has their text.",
            "none",
            query(f"max by (group) (stageroute_live_arms{GROUP})", "{{group}}: live"),
            query(f"max by (group) (stageroute_warnings{GROUP})", "{{group}}: warnings"),
        ).span(6),
        *charted(),
    ]


def _segments() -> list[Any]:
    worth = "stageroute_segment_worth"
    probability = f"avg by (group, segment, arm) (stageroute_segment_probability_ratio{GROUP})"
    return [
        curve(
            "What segments are worth",
            "Reward per call gained by routing each segment for itself, at the same spend, and the interval that holds "
            "it with 90 %. Around 0, telling calls apart is worth nothing.",
            "none",
            query(f"max by (group) ({worth}_ratio{GROUP})", "{{group}}"),
            query(f"max by (group) ({worth}_lower_bound_ratio{GROUP})", "{{group}}: at least"),
            query(f"max by (group) ({worth}_upper_bound_ratio{GROUP})", "{{group}}: at most"),
            from_zero=False,
        )
        .decimals(3)
        .override_by_regexp(
            ".*: at (least|most)",
            [DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [4, 6]})],
        ),
        curve(
            "Calls of each segment",
            "Share of the group's calls, of the twelve segments with most of them. Without a name: calls of none.",
            "percentunit",
            query(BUSIEST, "{{group}} · {{segment}}"),
        )
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
        .fill_opacity(40),
        curve(
            "Where the calls of each segment go",
            "Share of a segment's calls that an arm gets, from a twentieth on; of the twelve segments with most calls.",
            "percentunit",
            query(of_the_busiest(f"{probability} >= 0.05"), "{{group}} · {{segment}} → {{arm}}"),
        ).max(1),
        curve(
            "Reward of each segment",
            "Mean of the rewards of its calls, since it was first seen; of the twelve segments with most calls.",
            "percentunit",
            query(
                of_the_busiest(f"max by (group, segment) (stageroute_segment_reward_mean_ratio{GROUP})"),
                "{{group}} · {{segment}}",
            ),
        ),
        curve(
            "Cost of each segment",
            "Mean cost of its calls in US dollars, since it was first seen; of the twelve segments with most calls.",
            "currencyUSD",
            query(
                of_the_busiest(f"max by (group, segment) (stageroute_segment_cost_mean_usd{GROUP})"),
                "{{group}} · {{segment}}",
            ),
        ),
        curve(
            "Calls that could not be told apart",
            "Calls per second that count in no segment: misnamed by who named theirs, or unread because their text or "
            "its embedding gave no numbers. The log says why.",
            "reqps",
            query(
                f"sum by (group, reason) (rate(stageroute_calls_without_segment_total{GROUP}[$window])) > 0",
                "{{group}} · {{reason}}",
            ),
        ),
    ]


def _workers() -> list[Any]:
    def slower_than(share: float) -> str:
        return f"histogram_quantile({share}, sum by (le) (rate(stageroute_choice_seconds_bucket{WORKER}[$window])))"

    return [
        curve(
            "Duration of a choice",
            "How long StageRoute takes to choose, without LiteLLM's listing of deployments.",
            "s",
            query(slower_than(0.5), "half are faster"),
            query(slower_than(0.99), "99 % are faster"),
        ),
        curve(
            "Left to LiteLLM's own choice",
            "Attempts per second, by reason: error, no_choice and no_arm are to be looked at.",
            "reqps",
            query(
                f"sum by (group, reason) (rate(stageroute_left_to_litellm_total{WORKER}[$window])) > 0",
                "{{group}} · {{reason}}",
            ),
        ),
        statetimeline.Panel()
        .title("Store")
        .description(
            "The worst that any worker's store was in the window: degraded recovers by itself, unhealthy does not."
        )
        .datasource(SOURCE)
        .height(8)
        .span(8)
        .mappings([_words({"0": ("no", "transparent"), "1": ("yes", "orange")})])
        .thresholds(colours((None, "transparent"), (1.0, "orange")))
        .with_target(
            query(
                'max by (state) (max_over_time(stageroute_store_state{job=~"$job",state!="ok"}[$window]))',
                "{{state}}",
            ).ref_id("A")
        ),
        curve(
            "Writes that wait",
            "Decisions, costs and rewards waiting to be stored, in all workers.",
            "none",
            query(f"sum(max_over_time(stageroute_store_queued_writes{WORKER}[$window]))", "queued"),
        ),
        curve(
            "Writes lost",
            "Dropped: the queue was full. Rejected: the database refuses the value. Either is to be looked at.",
            "none",
            query(f"sum(increase(stageroute_store_dropped_writes_total{WORKER}[$window]))", "dropped"),
            query(f"sum(increase(stageroute_store_rejected_writes_total{WORKER}[$window]))", "rejected"),
        ),
        curve(
            "Age of the last commit",
            "Since any worker has stored something. It rises while there are no calls, too.",
            "s",
            query(f"time() - max(stageroute_store_last_commit_timestamp_seconds{WORKER})", "age"),
        ),
        curve(
            "Workers",
            "Workers that route, as scraped within the window.",
            "none",
            query(
                f"count(max by (job, instance, worker) (max_over_time(stageroute_up{WORKER}[$window])) == 1)",
                "workers",
            ),
        ),
    ]


def _words(words: dict[str, tuple[str, str]]) -> Any:  # noqa: ANN401 - a mapping of the SDK's
    return ValueMap(
        options={
            value: ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(words.items())
        }
    )


def text() -> str:
    """Return the dashboard as JSON."""
    return json.dumps(dashboard().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
