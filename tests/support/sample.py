"""Reports as an operator would see them, for the tests of the page: a group that routed simulated calls.

The numbers come from the engine that routes live calls, over RouterBench's published models with newcomers on the way.
What a store adds (stages, history, receipts) is written down while it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stageroute_router.core.arm import Arm
from stageroute_router.core.engine import Engine
from stageroute_router.core.schedule import EveryCalls
from stageroute_router.core.segment_worth import SegmentWorth
from stageroute_router.core.snapshot import ArmEvidence, GroupPolicy, Snapshot
from stageroute_router.core.statistics import ArmStatistics
from stageroute_router.errors import SettingsError, StoreOutageError
from stageroute_router.reports import DecisionReceipt, HistoryPoint, StageReport
from stageroute_router.reports.describe import describe
from stageroute_router.reports.status import ArmStatus, GroupStatus, SegmentStatus, Status, StatusWarning
from stageroute_router.reports.values import Alternative, Attempt, Move
from stageroute_router.settings.group import GroupSettings
from stageroute_router.store.health import Health
from stageroute_router.tables.routerbench import ROUTERBENCH, synthetic_table

HEALTHY = Health(
    state="ok", since=None, reason=None, queued=0, dropped=0, rejected=0, last_commit_at=1_767_225_600.0
)

START = 1_767_225_600.0
"""2026-01-01 00:00 UTC."""

NASTY = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
"""A name that would do harm if it were taken for HTML."""


def warning(text: str) -> StatusWarning:
    """Return some warning."""
    return StatusWarning(code="internal_errors", severity="error", short=text, text=text)


def warned(group: GroupStatus, *warnings: StatusWarning) -> GroupStatus:
    """Return the group with these warnings."""
    return replace(group, warnings=tuple(one.text for one in warnings), warning_details=warnings)


class SampleReports:
    """Reports that tests can change: groups, stages, history, health and an outage.

    Args:
        groups: their statuses.
        stages: by group.
        history: by group.
        receipts: by any of their ids.
    """

    def __init__(
        self,
        groups: Sequence[GroupStatus],
        *,
        stages: dict[str, Sequence[StageReport]] | None = None,
        history: dict[str, Sequence[HistoryPoint]] | None = None,
        receipts: Sequence[DecisionReceipt] = (),
    ) -> None:
        self.groups = {group.name: group for group in groups}
        self.stages_of = stages or {}
        self.history_of = history or {}
        self.receipts = {key: r for r in receipts for key in (r.decision_id, r.call_id, r.response_id)}
        self.state = HEALTHY
        self.outage = False
        self.history_outage = False
        self.looks = 0
        self.threads: set[int] = set()

    def status(self) -> Status:
        self._look()
        return Status(groups=tuple(self.groups.values()))

    def group_status(self, group: str) -> GroupStatus:
        self._look()
        if group not in self.groups:
            msg = f"group {group!r} is not managed; there are: {', '.join(sorted(self.groups))}"
            raise SettingsError(msg)
        return self.groups[group]

    def stages(self, group: str, *, last: int = 50) -> Sequence[StageReport]:
        self._read()
        return self.stages_of.get(group, ())[-last:]

    def history(self, group: str, *, points: int = 300) -> Sequence[HistoryPoint]:
        self._read()
        kept = self.history_of.get(group, ())
        step = max(-(-len(kept) // points), 1)
        return [*kept[:-1:step], *kept[-1:]]

    def receipt(self, key: str) -> DecisionReceipt | None:
        self._read()
        return self.receipts.get(key)

    def health(self) -> Health:
        return self.state

    def change(self, group: str, **values: object) -> None:
        """Give a group other values."""
        self.groups[group] = replace(self.groups[group], **values)  # type: ignore[arg-type]

    def _look(self) -> None:
        self.looks += 1
        self.threads.add(threading.get_ident())
        if self.outage:
            raise StoreOutageError("the database does not answer: connection refused")

    def _read(self) -> None:
        if self.outage or self.history_outage:
            raise StoreOutageError("the database does not answer: connection refused")


def ran(
    *,
    name: str = "chat",
    calls: int = 4_000,
    per_stage: int = 400,
    budget_usd: float = 0.001,
    max_live: int = 4,
    minutes: float = 600.0,
    seed: int = 7,
) -> SampleReports:
    """Return the reports of a group after simulated calls; five of its eleven arms arrived on the way."""
    table = synthetic_table(seed=seed, queries=calls)
    random = np.random.default_rng(seed)
    settings = GroupSettings(budget_usd_per_call=budget_usd, max_live_models=max_live)
    policy = GroupPolicy(
        budget_usd=budget_usd,
        max_live=max_live,
        schedule=EveryCalls(per_stage),
        estimator=settings.policy().estimator,
    )
    engine = Engine(policy, seed=seed)
    arms = [
        Arm(
            name=model.name,
            input_usd_per_token=model.input_usd_per_million / 1e6,
            output_usd_per_token=model.output_usd_per_million / 1e6,
            max_share=0.6 if model.name == "zero-one-ai/Yi-34B-Chat" else 1.0,
        )
        for model in ROUTERBENCH
    ]
    arrivals = {
        int(calls * part): index for part, index in ((0.15, 10), (0.3, 1), (0.45, 9), (0.6, 3), (0.75, 6))
    }
    present = [index for index in range(len(arms)) if index not in arrivals.values()]
    snapshot = engine.start([arms[index] for index in present], now=START)
    stages = [_stage(name, snapshot, before=None)]
    history = [
        HistoryPoint(
            at=START,
            calls=0,
            open_calls=0,
            spend_usd=0.0,
            in_flight_usd=0.0,
            reward_count=0,
            reward_total=0.0,
        )
    ]
    rewards, total = 0, 0.0
    last = None
    pulls: dict[str, int] = {}
    for call in range(calls):
        # More traffic by day than by night.
        now = START + minutes * 60 * (call / calls + 0.06 * np.sin(2 * np.pi * call / calls))
        if call in arrivals:
            present.append(arrivals[call])
            snapshot = engine.with_arms(snapshot, [arms[index] for index in present], now=now)
        choice = engine.choose(snapshot, uniform=float(random.random()))
        model = table.models.index(choice.arm)
        cost, reward = float(table.cost_usd[call, model]), float(table.reward[call, model])
        seen = ArmStatistics(pulls=1, cost_count=1, cost_sum=cost, cost_sumsq=cost * cost)
        if random.random() < 0.92:
            seen = seen + ArmStatistics.of_reward(reward)
            rewards, total = rewards + 1, total + reward
        pulls[choice.arm] = pulls.get(choice.arm, 0) + 1
        last = (choice, cost, reward, now)
        account = snapshot.account.dispatched(choice.charge).settled(choice.charge, cost_usd=cost)
        before = snapshot
        snapshot = engine.advance(snapshot, increments={choice.arm: seen}, account=account, now=now)
        if snapshot.stage.number != before.stage.number:
            stages[-1] = replace(stages[-1], calls=account.calls - stages[-1].opened_at_call)
            stages.append(_stage(name, snapshot, before=stages[-1]))
        if (call + 1) % max(calls // 240, 1) == 0 or call + 1 == calls:
            history.append(
                HistoryPoint(
                    at=now,
                    calls=account.calls,
                    open_calls=account.open_calls,
                    spend_usd=account.spend_usd,
                    in_flight_usd=account.in_flight_usd,
                    reward_count=rewards,
                    reward_total=total,
                )
            )
    assert last is not None
    stages[-1] = replace(stages[-1], calls=calls - stages[-1].opened_at_call)
    status = describe(name, policy=policy, snapshot=snapshot)
    status = replace(status, calls_per_minute=calls / minutes)
    return SampleReports(
        [status],
        stages={name: stages},
        history={name: history},
        receipts=[_receipt(name, status, last)],
    )


def by_segment(
    sample: SampleReports, *, names: Sequence[str] = ("sql", "prose", ""), seed: int = 5
) -> SampleReports:
    """Return the same group with its calls told apart: each segment has arms of its own."""
    group = sample.groups["chat"]
    random = np.random.default_rng(seed)
    live = [arm for arm in group.arms if arm.live]
    shares = np.array([0.8**place for place in range(len(names))])
    shares = shares / shares.sum()
    segments = []
    for name, share in zip(names, shares, strict=True):
        parts = random.dirichlet(np.full(len(live), 0.25))
        pulls = int(share * group.calls)
        earned = float(random.uniform(0.4, 0.9))
        segments.append(
            SegmentStatus(
                name=name,
                share=float(share),
                pulls=pulls,
                reward_count=pulls,
                reward_mean=earned if pulls else None,
                cost_mean_usd=group.budget_usd_per_call * float(random.uniform(0.4, 2.0)) if pulls else None,
                probabilities={
                    live[index].name: float(parts[index]) for index in np.argsort(-parts, kind="stable")
                },
            )
        )
    told_apart = replace(
        group, segments=tuple(segments), segment_worth=SegmentWorth(gain=0.0312, lower=0.018, upper=0.0444)
    )
    return SampleReports(
        [told_apart],
        stages=sample.stages_of,
        history=sample.history_of,
        receipts=list(sample.receipts.values()),
    )


def in_a_segment(receipt: DecisionReceipt, segment: str = "sql") -> DecisionReceipt:
    """Return the same receipt of a call in a segment, whose caller gave it a price."""
    others = tuple(
        replace(other, segment_reward=0.9 * other.reward_ucb, segment_cost_usd=1.5 * other.cost_lcb_usd)
        if other.live or other.arm == receipt.arm
        else replace(other, value=None)
        for other in receipt.alternatives
    )
    return replace(
        receipt,
        segment=segment,
        estimates_of=segment,
        alternatives=others,
        priced=True,
        shadow_price=50.0,
        binding="price",
        explanation="this call's price was its caller's: 50 reward per dollar; at it, others are worth less",
    )


def many_segments(count: int = 64, *, arms: int = 200) -> SampleReports:
    """Return a group of many segments and live arms, some with long or hostile names."""
    sample = many_arms(arms)
    group = sample.groups["chat"]
    share = 1 / len(group.arms)
    live = tuple(replace(arm, live=True, probability=share) for arm in group.arms)
    sample.change("chat", arms=live)
    names = ["", NASTY[:64], "s" * 64, *(f"auto:1:{number}" for number in range(count - 3))]
    return by_segment(sample, names=names)


def no_calls_yet() -> SampleReports:
    """Return the reports of a group without calls."""
    sample = ran(calls=400, per_stage=400)
    group = sample.groups["chat"]
    fresh = replace(
        group,
        stage=1,
        stage_reason="start",
        stage_opened_at=START,
        stage_calls=0,
        calls=0,
        calls_per_minute=None,
        spend_usd=0.0,
        spend_ratio=None,
        reward_coverage=None,
        arms=tuple(_unseen(arm) for arm in group.arms),
    )
    return SampleReports([fresh], stages={"chat": [replace(sample.stages_of["chat"][0], calls=0)]})


def many_arms(count: int = 200) -> SampleReports:
    """Return a group of many arms, some with long or hostile names."""
    sample = ran()
    group = sample.groups["chat"]
    random = np.random.default_rng(3)
    arms = list(group.arms)
    for number in range(len(arms), count):
        like = group.arms[int(random.integers(len(group.arms)))]
        mean = float(random.uniform(0.1, 0.75))
        pulls = int(random.integers(0, 60))
        arms.append(
            replace(
                like,
                name=_name(number),
                live=False,
                explored=False,
                probability=0.0,
                pulls=pulls,
                reward_count=pulls,
                reward_mean=mean if pulls else None,
                reward_lcb=max(mean - 0.9 / (pulls + 1) ** 0.5, 0.0) if pulls else 0.0,
                reward_ucb=min(mean + 0.9 / (pulls + 1) ** 0.5, 1.0) if pulls else 1.0,
            )
        )
    return SampleReports(
        [replace(group, arms=tuple(arms))], stages=sample.stages_of, history=sample.history_of
    )


def many_groups(count: int = 50) -> SampleReports:
    """Return many groups, one of them in trouble."""
    sample = ran(calls=800, per_stage=200)
    group = sample.groups["chat"]
    groups = [replace(group, name=f"team-{number:02}/chat") for number in range(count)]
    groups[17] = replace(groups[17], feasible=False, shadow_price=float("inf"), spend_ratio=1.31)
    groups[31] = replace(groups[31], calls=0, spend_ratio=None, reward_coverage=None)
    return SampleReports(
        groups,
        stages={one.name: sample.stages_of["chat"] for one in groups},
        history={one.name: sample.history_of["chat"] for one in groups},
    )


def _name(number: int) -> str:
    if number == 50:
        return NASTY
    if number % 40 == 0:
        return "a-very-long-provider-name/" + f"a-model-name-that-is-much-too-long-to-type-{number}-" * 4
    return f"provider-{number % 7}/model-{number}-instruct"


def _unseen(arm: ArmStatus) -> ArmStatus:
    return replace(
        arm,
        pulls=0,
        failures=0,
        reward_count=0,
        reward_mean=None,
        reward_lcb=0.0,
        reward_ucb=1.0,
        cost_count=0,
        cost_mean_usd=None,
    )


def _stage(name: str, snapshot: Snapshot, *, before: StageReport | None) -> StageReport:
    stage = snapshot.stage
    previous = () if before is None else before.live
    came = [
        Move(
            arm=arm,
            moved="came",
            why="a revisit: it may have been left too early"
            if arm == stage.explored
            else "first stage"
            if before is None
            else "at the present shadow price it may be worth more than what was live",
        )
        for arm in stage.live
        if arm not in previous
    ]
    left = [
        Move(arm=arm, moved="left", why="others are worth more at the present shadow price")
        for arm in previous
        if arm not in stage.live
    ]
    bounds = snapshot.estimate.bounds
    return StageReport(
        group=name,
        stage=stage.number,
        reason=stage.reason,
        opened_at=stage.opened_at,
        opened_at_call=stage.opened_at_call,
        calls=0,
        live=stage.live,
        explored=stage.explored,
        explore_share=stage.explore_share,
        moves=(*came, *left),
        evidence=tuple(
            ArmEvidence(
                arm=arm.name,
                pulls=snapshot.statistics.get(arm.name, ArmStatistics()).pulls,
                reward_ucb=float(bounds.reward_ucb[index]),
                cost_lcb_usd=float(bounds.cost_lcb[index]),
            )
            for index, arm in enumerate(snapshot.arms)
        ),
    )


def _receipt(name: str, status: GroupStatus, last: tuple) -> DecisionReceipt:  # type: ignore[type-arg]
    choice, cost, reward, now = last
    price = choice.shadow_price
    alternatives = sorted(
        (
            Alternative(
                arm=arm.name,
                live=arm.live,
                probability=arm.probability,
                reward_ucb=arm.reward_ucb,
                cost_lcb_usd=arm.cost_lcb_usd,
                value=arm.reward_ucb - price * arm.cost_lcb_usd,
                why="chosen"
                if arm.name == choice.arm
                else "live, drawn less often"
                if arm.live
                else "not live",
            )
            for arm in status.arms
        ),
        key=lambda alternative: -(alternative.value or 0.0),
    )
    return DecisionReceipt(
        decision_id="srd_0b1c2d3e4f",
        call_id="call-1",
        response_id="chatcmpl-1",
        group=name,
        segment="",
        stage=choice.stage,
        made_at=now,
        arm=choice.arm,
        served_arm=choice.arm,
        probability=choice.probability,
        reward_ucb=choice.reward_ucb,
        cost_lcb_usd=choice.cost_lcb_usd,
        expected_cost_usd=choice.charge.expected_cost_usd,
        budget_usd_per_call=choice.charge.budget_usd,
        shadow_price=price,
        binding="budget",
        explanation=f"{choice.arm} was drawn with probability {choice.probability:.3f}: the budget kept the arm "
        "with the highest reward bound from taking more",
        state="settled",
        cost_usd=cost,
        rewards={"app": reward},
        alternatives=tuple(alternatives),
        attempts=(
            Attempt(
                decision_id="srd_0a0a0a0a0a",
                group=name,
                arm="gpt-4-1106-preview",
                served_arm="gpt-4-1106-preview",
                probability=0.12,
                made_at=now - 1.5,
                state="failed",
                cost_usd=0.0,
            ),
            Attempt(
                decision_id="srd_0b1c2d3e4f",
                group=name,
                arm=choice.arm,
                served_arm=choice.arm,
                probability=choice.probability,
                made_at=now,
                state="settled",
                cost_usd=cost,
            ),
        ),
    )
