"""What ``stageroute watch`` draws: a screen that fits the terminal, and keeps the last good look without a new one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from stageroute_router.reports.figures import GROUP_FIGURES, Figure, columns
from stageroute_router.reports.status import ArmStatus, GroupStatus, Status
from stageroute_router.reports.values import StageReport
from stageroute_router.reports.wording import shadow_price_sentence
from stageroute_router.store.health import Health
from stageroute_router.store.history import HistoryPoint
from stageroute_router.terminal.bars import bar, interval, sparkline
from stageroute_router.terminal.formats import clean, counted, moment, number, reward, share, span, usd
from stageroute_router.terminal.status import health_line, live_mark

_LABEL = 9
_NAME = 24
_INTERVAL = 24
_WIDE = 110
_MOST_STAGES = 5
_LEAST_STAGES = 2
_ROOM_FOR_STAGES = 8  # lines; with fewer, live arms come first


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Everything that was seen at one moment.

    Args:
        at: when, seconds since the epoch.
        status: of the groups that are watched.
        health: of the source.
        stages: the last stages of a single group, the oldest first; empty with several groups.
        history: moments of each group, the oldest first.
    """

    at: float
    status: Status
    health: Health
    stages: Sequence[StageReport]
    history: Mapping[str, Sequence[HistoryPoint]]


class Board:
    """The screen. Drawn anew whenever it is asked for, so that it tells the age of what it shows.

    Args:
        source: what is watched, as its title.
        look: what is shown first.
        every_s: how often it is looked at, in seconds.
        clock: seconds since the epoch.
    """

    def __init__(
        self, source: str, look: Look, *, every_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._source = source
        self._every_s = every_s
        self._clock = clock
        self._look = look
        self._trouble: str | None = None

    def show(self, look: Look) -> None:
        """Show a new look; trouble is over."""
        self._look, self._trouble = look, None

    def say(self, trouble: str) -> None:
        """Say why there is no new look, and keep the last one."""
        self._trouble = trouble

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        height = options.height or console.height
        lines = self._lines(width, height, ascii_only=options.ascii_only)
        narrow = options.update(width=width, no_wrap=True, height=1)
        for line in lines:
            line.truncate(width, overflow="ellipsis")
            yield from console.render(line, narrow)

    def _lines(self, width: int, height: int, *, ascii_only: bool) -> list[Text]:
        foot = self._foot()
        room = max(height - len(foot), 1)
        look, groups = self._look, self._look.status.groups
        if len(groups) == 1:
            body = _group_lines(look, groups[0], width, room - 1, ascii_only=ascii_only)
        else:
            body = _overview_lines(look, width, ascii_only=ascii_only)
        lines = [self._title(), *body]
        lines = lines[:room]
        return lines + [Text()] * (room - len(lines)) + foot

    def _title(self) -> Text:
        return Text.assemble(
            ("stageroute watch ", "bold"), clean(self._source), f"  {moment(self._clock(), seconds=True)}"
        )

    def _foot(self) -> list[Text]:
        rhythm = f"every {self._every_s:g} s; Ctrl-C ends"
        age = self._clock() - self._look.at
        if self._trouble is not None:
            return [
                Text.assemble(("no news: ", "bold red"), clean(self._trouble)),
                Text(f"what is shown is {span(age)} old; trying again {rhythm}", style="red"),
            ]
        if age > 2 * self._every_s + 1:
            return [
                Text(f"waiting for an answer; what is shown is {span(age)} old; Ctrl-C ends", style="yellow")
            ]
        return [Text(rhythm, style="dim")]


def _group_lines(look: Look, group: GroupStatus, width: int, room: int, *, ascii_only: bool) -> list[Text]:
    """Return a group in so many lines: the facts always, then live arms, stages and warnings as there is room."""
    facts = _facts(look, group, width, ascii_only=ascii_only)
    warnings = [Text.assemble(("warning: ", "yellow"), clean(warning)) for warning in group.warnings]
    live = [arm for arm in group.arms if arm.live]
    left = room - len(facts) - len(warnings[:2])
    at_least = _LEAST_STAGES if left >= _ROOM_FOR_STAGES else 0
    shown_stages = min(len(look.stages), _MOST_STAGES, max(at_least, left - len(live) - 2))
    for_arms = max(left - 1 - (shown_stages + 1 if shown_stages else 0), 1)
    arms = [_arm_line(arm, width, ascii_only=ascii_only) for arm in live]
    if len(arms) > for_arms:
        rest = counted(len(arms) - for_arms + 1, "more live arm")
        arms = [*arms[: for_arms - 1], Text(f"{rest}; a taller terminal shows them", style="dim")]
    candidates = len(group.arms) - len(live)
    if candidates and len(arms) < for_arms:
        arms.append(Text(f"{counted(candidates, 'candidate')} not live", style="dim"))
    stages = [_stage_line(stage) for stage in reversed(look.stages)][:shown_stages]
    return [
        *facts,
        *warnings[:2],
        _arm_heading(),
        *arms,
        *([Text("last stages", style="bold")] if stages else []),
        *stages,
    ]


def _facts(look: Look, group: GroupStatus, width: int, *, ascii_only: bool) -> list[Text]:
    spend = group.spend_usd + group.in_flight_usd
    traffic = "" if group.calls_per_minute is None else f", {group.calls_per_minute:,.0f} a minute"
    ratio = group.spend_ratio
    style = "red" if ratio is not None and ratio > 1.02 else "green"
    spent = Text() if ratio is None else Text(bar(ratio, width=20, ascii_only=ascii_only) + " ", style=style)
    spent.append("nothing yet" if ratio is None else share(ratio), style="bold")
    spent.append(f" of {usd(group.budget_usd_per_call)} a call: {usd(spend)}")
    spent.append(f", {usd(group.in_flight_usd)} of it in flight" if group.in_flight_usd else "")
    points = look.history.get(group.name, ())
    return [
        Text.assemble(
            (clean(group.name), "bold"),
            f"  stage {group.stage} ({clean(group.stage_reason)}) for {span(look.at - group.stage_opened_at)}, "
            f"{group.stage_calls:,} of {counted(group.calls, 'call')}{traffic}",
        ),
        _labelled("spend", spent),
        _labelled("of late", _spend_line(points, group, width - _LABEL, ascii_only=ascii_only)),
        _labelled("budget", Text(shadow_price_sentence(group.shadow_price))),
        _labelled("rewards", Text(f"on {_coverage(group)} of calls")),
        health_line(look.health, now=look.at),
    ]


def _labelled(label: str, text: Text) -> Text:
    return Text.assemble((f"{label:<{_LABEL}}", "dim"), text)


def _spend_line(points: Sequence[HistoryPoint], group: GroupStatus, width: int, *, ascii_only: bool) -> Text:
    told = " half height: the budget"
    room = max(width - len(told) - 20, 8)
    costs = spend_per_call(points)[-room:]
    if not any(cost is not None for cost in costs):
        return Text("no calls to draw yet", style="dim")
    first = points[-len(costs) - 1].at
    drawn = sparkline(costs, top=2 * group.budget_usd_per_call, ascii_only=ascii_only)
    return Text.assemble(drawn, (f" {span(points[-1].at - first)},{told}", "dim"))


def spend_per_call(points: Sequence[HistoryPoint]) -> list[float | None]:
    """Return what a call cost between each two moments, calls in flight at what is expected; None without calls."""
    costs: list[float | None] = []
    for before, after in pairwise(points):
        calls = after.calls - before.calls
        spent = (after.spend_usd + after.in_flight_usd) - (before.spend_usd + before.in_flight_usd)
        costs.append(max(spent, 0.0) / calls if calls > 0 else None)
    return costs


def _arm_heading() -> Text:
    return Text(
        f"{'live arms':<{_NAME}} {'share':>6} {'':6} {'reward in [0, 1]: bounds, mean':<{_INTERVAL + 6}} {'cost':>10}",
        style="bold",
    )


def _arm_line(arm: ArmStatus, width: int, *, ascii_only: bool) -> Text:
    name = Text(clean(arm.name))
    name.truncate(_NAME, overflow="ellipsis", pad=True)
    mark = live_mark(arm)
    drawn = interval(arm.reward_lcb, arm.reward_mean, arm.reward_ucb, width=_INTERVAL, ascii_only=ascii_only)
    cost = usd(arm.expected_cost_usd if arm.cost_mean_usd is None else arm.cost_mean_usd)
    details = f"  {reward(arm.reward_lcb)} to {reward(arm.reward_ucb)}, {counted(arm.pulls, 'call')}"
    return Text.assemble(
        name,
        (f" {share(arm.probability):>6}", "bold"),
        (f" {'' if mark == 'yes' else mark:6}", "bold red" if arm.down else "cyan"),
        f" {drawn} {reward(arm.reward_mean):>5} {cost:>10}",
        details if width >= _WIDE else "",
    )


def _stage_line(stage: StageReport) -> Text:
    line = Text(f"{stage.stage:>4}  {moment(stage.opened_at)[5:]}  {clean(stage.reason):<9}", style="dim")
    came = [clean(move.arm) for move in stage.moves if move.moved == "came"]
    left = [clean(move.arm) for move in stage.moves if move.moved == "left"]
    told = Text()
    told.append(" ".join(f"+{arm}" for arm in came), style="green")
    told.append(" " if came and left else "")
    told.append(" ".join(f"-{arm}" for arm in left), style="red")
    return Text.assemble(line, " ", told if came or left else Text("no arm came or left", style="dim"))


def _overview_lines(look: Look, width: int, *, ascii_only: bool) -> list[Text]:
    if not look.status.groups:
        return [Text("No group has routed a call yet."), health_line(look.health, now=look.at)]
    shown = columns(GROUP_FIGURES, "terminal")
    widths = [max(len(column.heading), column.width) for column, _ in shown]
    heads = (f" {column.heading:>{wide}}" for (column, _), wide in zip(shown, widths, strict=True))
    lines = [Text(f"{'group':<{_NAME}}{''.join(heads)}  spend of late", style="bold")]
    room = max(width - _NAME - sum(widths) - len(widths) - 3, 6)
    for group in look.status.groups:
        name = Text(clean(group.name))
        name.truncate(_NAME, overflow="ellipsis", pad=True)
        cells = (
            f" {_group_cell(figure, group):>{wide}}" for (_, figure), wide in zip(shown, widths, strict=True)
        )
        costs = spend_per_call(look.history.get(group.name, ()))[-room:]
        drawn = sparkline(costs, top=2 * group.budget_usd_per_call, ascii_only=ascii_only)
        lines.append(
            Text.assemble(
                name,
                f"{''.join(cells)}  ",
                (drawn, "green"),
            )
        )
        if group.warnings:
            lines.append(Text.assemble(("  warning: ", "yellow"), clean(group.warnings[0])))
    return [
        *lines,
        Text(),
        health_line(look.health, now=look.at),
        Text("--group NAME shows one of them", "dim"),
    ]


def _group_cell(figure: Figure[GroupStatus], group: GroupStatus) -> str:
    return _coverage(group) if figure.name == "reward_coverage" else number(figure.value(group), figure.unit)


def _coverage(group: GroupStatus) -> str:
    return "-" if group.reward_coverage is None else f"{group.reward_coverage:.0%}"


def status_lines(look: Look) -> Iterable[str]:
    """Return a line per group for a log: what a terminal that cannot be drawn on gets."""
    at = moment(look.at, seconds=True)
    health = health_line(look.health, now=look.at).plain
    if not look.status.groups:
        yield f"{at} no group has routed a call yet; {health}"
    for group in look.status.groups:
        live = ", ".join(f"{clean(arm.name)} {share(arm.probability)}" for arm in group.arms if arm.live)
        down = ", ".join(clean(arm.name) for arm in group.arms if arm.down)
        ratio = (
            "nothing spent yet" if group.spend_ratio is None else f"{share(group.spend_ratio)} of the budget"
        )
        yield (
            f"{at} {clean(group.name)}: stage {group.stage}, {counted(group.calls, 'call')}, {ratio}, "
            f"{shadow_price_sentence(group.shadow_price)}, rewards on {_coverage(group)} of calls; live: {live}; "
            f"{f'down: {down}; ' if down else ''}{health}"
        )
