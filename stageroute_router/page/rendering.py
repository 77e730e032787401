"""Fragments of the page as HTML, from what was looked at."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined

from stageroute_router.charts.figures import Figure
from stageroute_router.page import numbers
from stageroute_router.page.cache import GroupLook, GroupsLook
from stageroute_router.page.segment_table import FEW_SEGMENTS, segment_table
from stageroute_router.page.series import (
    MOST_ROWS,
    arms_figure,
    by_interest,
    live_set_figure,
    printable,
    spend_figure,
    state_of,
)
from stageroute_router.page.verdict import verdict
from stageroute_router.reports import figures
from stageroute_router.reports.values import DecisionReceipt
from stageroute_router.reports.wording import (
    callers_price_sentence,
    segment_worth_sentence,
    shadow_price_sentence,
)

ChartKind = Literal["spend", "live-set", "arms"]

FEW_ARMS = 30
"""Rows of the table of arms until the reader asks for all."""

FEW_STAGES = 5
"""Stages listed until the reader asks for all that are told of."""

_BINDING = {
    "none": "nothing: the arm with the highest reward bound was free to be taken",
    "budget": "the budget",
    "price": "the price that its caller gave it",
    "share": "an arm's largest share of the calls",
    "revisit": "a revisit, at an arm that may have been left too early",
    "outside_live_set": "no live arm could serve, so another candidate did",
    "unproven": "too few costs of the arm are known for more calls at a time",
    "unavailable": "a better arm has not answered of late",
    "probe": "a probe: does an arm that has not answered of late answer again?",
}

_REASONS = {
    "start": "the group began",
    "schedule": "by schedule",
    "manual": "an operator asked for it",
    "departure": "live arms were gone",
    "outage": "no live arm answered",
    "recovery": "an arm answered again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of a group.

    Args:
        kind: which.
        figure: what it shows.
        label: the same in a sentence.
        version: names its content.
    """

    kind: ChartKind
    figure: Figure
    label: str
    version: str


class Rendering:
    """Makes HTML. Everything that comes from outside is escaped."""

    def __init__(self) -> None:
        self._templates = Environment(
            loader=PackageLoader("stageroute_router.page"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            usd=numbers.usd,
            percent=numbers.percent,
            reward=numbers.reward,
            count=numbers.count,
            rate=numbers.rate,
            iso=numbers.iso,
            clock=numbers.clock,
            why_opened=lambda reason: _REASONS.get(reason, reason),
            why_bound=lambda binding: _BINDING.get(binding, binding),
            state=state_of,
            figure=_figure,
        )
        self._templates.globals.update(
            plural=numbers.plural,
            arm_columns=figures.columns(figures.ARM_FIGURES, "page"),
            group_columns=figures.columns(figures.GROUP_FIGURES, "page"),
            group_tiles=figures.columns(figures.GROUP_FIGURES, "tile"),
            group_figures={figure.name: figure for figure in figures.GROUP_FIGURES},
            segment_columns=figures.columns(figures.SEGMENT_FIGURES, "page"),
        )

    def groups(self, look: GroupsLook) -> str:
        """Return the list of groups, those that need attention first."""
        judged = [(group, verdict(group, look.health)) for group in look.groups]
        judged.sort(key=lambda pair: (pair[1].answers, pair[1].state != "attention", pair[0].name))
        return self._templates.get_template("groups.html").render(
            judged=judged,
            health=look.health,
            troubled=sum(found.state == "attention" for _, found in judged),
        )

    def group(
        self,
        look: GroupLook,
        *,
        all_arms: bool = False,
        all_stages: bool = False,
        all_segments: bool = False,
    ) -> str:
        """Return everything there is to say of a group.

        Args:
            look: what was seen of it.
            all_arms: whether to list every arm, instead of the most interesting ones.
            all_stages: whether to list every stage, instead of the latest ones.
            all_segments: whether to list as many segments as there is room for, instead of the busiest few.
        """
        group = look.status
        arms = by_interest(group)
        return self._templates.get_template("group.html").render(
            group=group,
            health=look.health,
            verdict=verdict(group, look.health),
            missing=look.missing,
            price=_capital(
                shadow_price_sentence(group.shadow_price, budget_usd_per_call=group.budget_usd_per_call)
            ),
            charts={**dict.fromkeys(get_args(ChartKind)), **{one.kind: one for one in charts_of(look)}},
            arms=arms if all_arms else arms[:FEW_ARMS],
            arms_in_all=len(arms),
            few_arms=FEW_ARMS,
            all_arms=all_arms,
            drawn_arms=min(len(arms), MOST_ROWS),
            segments=segment_table(group, every=all_segments),
            worth=None
            if group.segment_worth is None
            else _capital(segment_worth_sentence(group.segment_worth)).replace(" %", "\u202f%"),
            few_segments=FEW_SEGMENTS,
            all_segments=all_segments,
            stages=list(reversed(look.stages))[: None if all_stages else FEW_STAGES],
            stages_in_all=len(look.stages),
            few_stages=FEW_STAGES,
            all_stages=all_stages,
        )

    def receipt(self, receipt: DecisionReceipt) -> str:
        """Return why a call went where it went."""
        return self._templates.get_template("receipt.html").render(
            receipt=receipt,
            chosen=next((one for one in receipt.alternatives if one.arm == receipt.arm), None),
            in_segment=any(one.segment_reward is not None for one in receipt.alternatives),
            price=_capital(
                callers_price_sentence(receipt.shadow_price)
                if receipt.priced
                else shadow_price_sentence(
                    receipt.shadow_price, budget_usd_per_call=receipt.budget_usd_per_call
                )
            ),
        )

    def no_receipt(self, key: str) -> str:
        """Return that no decision has this id."""
        return self._templates.get_template("no_receipt.html").render(key=key)


def charts_of(look: GroupLook) -> list[Chart]:
    """Return a group's charts; those that have nothing to show yet are left out."""
    group, history, stages = look.status, look.history, look.stages
    charts = []
    if any(point.calls for point in history):
        spent = group.spend_usd + group.in_flight_usd
        average = spent / group.calls if group.calls else None
        charts.append(
            _chart(
                "spend",
                spend_figure(group, history),
                f"Spend per call over time: {numbers.usd(average)} on average, against a budget of "
                f"{numbers.usd(group.budget_usd_per_call)}.",
            )
        )
    now = max(history[-1].at if history else 0.0, group.stage_opened_at)
    if stages and now > stages[0].opened_at:
        live = ", ".join(stages[-1].live[:12])
        charts.append(
            _chart(
                "live-set",
                live_set_figure(stages, now=now),
                f"Which arms were live in stages {stages[0].stage} to {stages[-1].stage}. Live now: {live}.",
            )
        )
    if group.arms:
        charts.append(
            _chart(
                "arms",
                arms_figure(group),
                "Bounds and mean of each arm's reward, its cost and its share of the calls; the table below has the "
                "same numbers.",
            )
        )
    return charts


def _figure(subject: figures.Subject, figure: figures.Figure[figures.Subject]) -> str:
    return numbers.number(figure.value(subject), figure.unit)


def _chart(kind: ChartKind, figure: Figure, label: str) -> Chart:
    label = printable(label)
    version = hashlib.sha256(repr((kind, figure, label)).encode()).hexdigest()[:20]
    return Chart(kind=kind, figure=figure, label=label, version=version)


def _capital(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}."
