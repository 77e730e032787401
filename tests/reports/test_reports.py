"""What an operator is shown: stages and who moved, the past, and why a call went where it went."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from stageroute_router.core.arm import Arm
from stageroute_router.core.snapshot import ArmEvidence
from stageroute_router.errors import NotYourCallError, SettingsError
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.reports import DecisionReceipt, Reports
from stageroute_router.reports.database import StoredReports
from stageroute_router.reports.receipts import receipt_of
from stageroute_router.reports.stages import stages_of
from stageroute_router.reports.status import GroupStatus
from stageroute_router.reports.values import Binding
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.sql.bodies import mix_of_text, text_of_mix
from stageroute_router.store.sql.store import SqlStore
from stageroute_router.store.writes import DecisionMade, MixRecorded, StagePlanned
from stageroute_router.terminal.receipt import show_receipt
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.writes import EPOCH, decided, failed, mixed, planned, rewarded, settled

ARMS = [
    Arm(name="small", prior_cost_usd=0.001),
    Arm(name="large", prior_cost_usd=0.01),
    Arm(name="tiny", prior_cost_usd=0.0001),
]


# -- receipts, from what is stored -----------------------------------------------------------------------------------


def receipt(
    mix: MixRecorded | None, *, arm: str = "small", plan: StagePlanned | None = None
) -> DecisionReceipt:
    """Return the receipt of a decision for ``arm`` that was sampled from ``mix``."""
    store = MemoryStore(clock=FakeClock())
    made = replace(decided("d1", arm=arm), mix_id=None if mix is None else mix.mix_id)
    if mix is not None:
        probability = {one.arm: one.probability for one in mix.arms}.get(arm, made.probability)
        store.commit([mix])
        made = replace(made, probability=probability, shadow_price=50.0 if mix.priced else made.shadow_price)
    store.commit([made, *([] if plan is None else [plan])])
    found = receipt_of(store, "d1")
    assert found is not None
    return found


MIX = mixed("m1")
SMALL, LARGE, TINY = MIX.arms
SLACK = replace(MIX, shadow_price=0.0, explored=None, explore_share=0.0)

SQL = replace(
    MIX,
    arms=(
        replace(SMALL, segment_reward=0.4, segment_cost_usd=0.001),
        replace(LARGE, segment_reward=0.8, segment_cost_usd=0.006),
        replace(TINY, segment_reward=0.5, segment_cost_usd=0.0),
    ),
    segment="sql",
    explored=None,
    explore_share=0.0,
)


@pytest.mark.parametrize(
    ("mix", "arm", "binding", "words"),
    [
        (
            MIX,
            "small",
            "budget",
            "the budget binds: at a shadow price of 12.5 reward per dollar, small is worth 0.89 after paying and large "
            "0.30; small gets 25% of the calls",
        ),
        (replace(MIX, explore_share=0.5), "large", "revisit", "a revisit: large had looked worse"),
        (MIX, "large", "budget", "large is worth 0.30 after paying and small 0.89"),
        (replace(MIX, shadow_price=None, feasible=False), "small", "budget", "no mixture of the arms"),
        (SLACK, "small", "none", "nothing binds: small has the highest reward bound"),
        (SLACK, "large", "none", "although the bound of small is higher"),
        (
            replace(SLACK, arms=(replace(SMALL, share_limit=0.25, share_limited_by="tpm"), LARGE, TINY)),
            "large",
            "share",
            "small may be better and gets all that its tpm allows (25% of the calls)",
        ),
        (
            replace(SLACK, arms=(replace(SMALL, kept_out="unproven", probability=0.0), LARGE, TINY)),
            "large",
            "unproven",
            "small may be better and has its fill of calls under way",
        ),
        (replace(SLACK, cheapest_only=True), "large", "unproven", "this call went to the cheapest: large"),
        (
            replace(MIX, outside_live_set=True),
            "small",
            "outside_live_set",
            "no live arm could serve this call",
        ),
        (
            SQL,
            "small",
            "budget",
            "the budget binds: at a shadow price of 12.5 reward per dollar, small is worth 0.39 after paying and large "
            "0.73 in segment sql; small gets 25% of the calls",
        ),
        (replace(SQL, shadow_price=0.0), "large", "none", "large is expected to earn most in segment sql"),
        (replace(SQL, shadow_price=0.0), "small", "none", "large is expected to earn more in segment sql"),
        (
            replace(SQL, shadow_price=0.0, segment=""),
            "large",
            "none",
            "earn most for calls without a segment, and gets 75%",
        ),
        (
            replace(MIX, priced=True, explored=None),
            "small",
            "price",
            "this call's price was its caller's: 50 reward per dollar; at it, small is worth 0.88 after paying and "
            "large 0.18; small gets 25% of such calls",
        ),
        (
            replace(MIX, priced=True, explored=None, arms=(), shadow_price=None),
            "small",
            "price",
            "this call's price was its caller's: 50 reward per dollar; small was chosen with 25% of such calls (the "
            "other arms were not recorded)",
        ),
    ],
)
def test_a_receipt_says_what_constrained_the_choice(
    mix: MixRecorded, arm: str, binding: Binding, words: str
) -> None:
    found = receipt(mix, arm=arm)
    assert (found.binding, found.arm) == (binding, arm)
    assert words in found.explanation


def test_a_receipt_says_why_not_the_others() -> None:
    plan = replace(
        planned(1),
        evidence=(
            *planned(1).evidence,
            ArmEvidence(arm="old", pulls=12, reward_ucb=0.25, cost_lcb_usd=0.01),
            ArmEvidence(arm="new", pulls=0, reward_ucb=1.0, cost_lcb_usd=0.01),
        ),
    )
    found = receipt(MIX, plan=plan)
    shown = [(one.arm, one.live, one.probability, one.why) for one in found.alternatives]
    assert shown == [
        ("small", True, 0.25, "chosen: 25% of the calls"),
        ("new", False, 0.0, "not live in stage 1: it had not been tried yet, and there was no place for it"),
        ("tiny", True, 0.0, "could not serve this call (cooling down, or filtered)"),
        ("large", True, 0.75, "could have been chosen: 75% of the calls"),
        ("old", False, 0.0, "not live in stage 1: others promised more reward for the budget at its window"),
    ]
    assert [one.value for one in found.alternatives] == sorted(
        (one.reward_ucb - 12.5 * one.cost_lcb_usd for one in found.alternatives), reverse=True
    )


def test_an_infinite_shadow_price_leaves_no_values() -> None:
    found = receipt(replace(MIX, shadow_price=None, feasible=False))
    assert {one.value for one in found.alternatives} == {None}
    assert [one.arm for one in found.alternatives] == ["small", "tiny", "large"]  # by their bounds


def test_in_a_segment_arms_are_compared_by_what_is_expected_there() -> None:
    found = receipt(SQL, plan=planned(1))
    assert found.estimates_of == "sql"
    shown = {one.arm: (one.segment_reward, one.segment_cost_usd, one.value) for one in found.alternatives}
    assert shown["large"] == (0.8, 0.006, pytest.approx(0.8 - 12.5 * 0.006))
    assert shown["tiny"] == (0.5, 0.0, 0.5)
    plan = replace(planned(1), evidence=(ArmEvidence(arm="old", pulls=12, reward_ucb=0.9, cost_lcb_usd=0.0),))
    # A bound over all calls is not compared with what is expected of some.
    told = receipt(SQL, plan=plan)
    assert told.alternatives[-1].arm == "old"
    assert told.alternatives[-1].value is None
    console = Console(file=StringIO(), width=160)
    show_receipt(told, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"old +not live +<= 0\.900 +>= \$0 +-", shown)
    assert re.search(r"large +75\.0% +0\.800 +\$0\.00600 +\+0\.725", shown)


def test_calls_that_share_a_record_have_a_receipt_of_their_own() -> None:
    found = receipt(replace(MIX, priced=True, arms=(), shadow_price=None, explored=None), plan=planned(1))
    assert found.priced
    assert found.shadow_price == 50.0
    assert [(one.arm, one.live, one.why) for one in found.alternatives] == [
        ("small", True, "chosen: 25% of the calls"),
        ("large", True, "live in stage 1; what it was worth at this call was not recorded"),
    ]


@pytest.mark.parametrize("mix", [MIX, SQL, replace(SLACK, priced=True, segment="")])
def test_a_record_is_read_as_it_was_written(mix: MixRecorded) -> None:
    text = text_of_mix(mix)
    assert mix_of_text(mix.mix_id, mix.group, mix.made_at, text) == mix
    # As a release before this one wrote it: every field, but no more.
    if mix is MIX:
        before = {name: value for name, value in asdict(mix).items() if name not in ("segment", "priced")}
        for name in ("mix_id", "group", "made_at"):
            del before[name]
        for arm in before["arms"]:
            del arm["segment_reward"], arm["segment_cost_usd"]
        assert mix_of_text(mix.mix_id, mix.group, mix.made_at, json.dumps(before)) == mix
        # And what is written now is what that release can read.
        assert set(json.loads(text)) <= set(before)
        assert all(set(arm) <= set(before["arms"][0]) for arm in json.loads(text)["arms"])


def test_outside_the_live_set_what_was_live_could_not_serve() -> None:
    arms = (replace(SMALL, kept_out="ineligible", probability=0.0), replace(LARGE, probability=1.0))
    found = receipt(replace(SLACK, arms=arms, outside_live_set=True), arm="large")
    assert {one.arm: one.live for one in found.alternatives} == {"small": True, "large": False}


def test_a_decision_of_an_older_release_has_a_receipt_too() -> None:
    found = receipt(None, plan=planned(1))
    assert found.binding == "budget"
    assert "the other arms were not recorded" in found.explanation
    assert [(one.arm, one.live, one.why) for one in found.alternatives] == [
        ("large", True, "live in stage 1; what it was worth at this call was not recorded"),
        ("small", True, "chosen: 25% of the calls"),
    ]
    bare = receipt(None)
    assert [one.arm for one in bare.alternatives] == ["small"]


def test_a_receipt_tells_the_whole_call() -> None:
    store = MemoryStore(clock=FakeClock())
    store.commit([decided("d1", call="c", arm="large"), failed("d1")])
    store.commit([decided("d2", call="c", group="backup"), settled("d2", response="r2"), rewarded("d2", 0.5)])
    for key in ("c", "r2", "d2"):
        found = receipt_of(store, key)
        assert found is not None
        assert (found.decision_id, found.response_id, found.state) == ("d2", "r2", "settled")
        assert (found.cost_usd, found.rewards) == (0.001, {"app": 0.5})
        assert [(one.decision_id, one.group, one.arm, one.state) for one in found.attempts] == [
            ("d1", "chat", "large", "failed"),
            ("d2", "backup", "small", "settled"),
        ]
    assert receipt_of(store, "unknown") is None


# -- stages, from what is stored -------------------------------------------------------------------------------------


def stage(
    number: int, live: Sequence[str], *, known: Sequence[ArmEvidence], explored: str | None = None
) -> StagePlanned:
    """Return a plan after 100 more calls."""
    return StagePlanned(
        group="chat",
        stage=number,
        live=tuple(live),
        explored=explored,
        explore_share=0.05 if explored else 0.0,
        reason="schedule" if number > 1 else "start",
        opened_at=EPOCH + number,
        opened_at_call=100 * (number - 1),
        evidence=tuple(known),
    )


def test_stages_tell_who_came_and_who_left_and_why() -> None:
    seen = [
        ArmEvidence(arm="a", pulls=60, reward_ucb=0.82, cost_lcb_usd=0.0004),
        ArmEvidence(arm="b", pulls=40, reward_ucb=0.41, cost_lcb_usd=0.002),
        ArmEvidence(arm="pin", pulls=0, reward_ucb=1.0, cost_lcb_usd=0.002, pinned=True),
    ]
    fresh = [replace(one, pulls=0) for one in seen]
    store = MemoryStore(clock=FakeClock())
    store.commit(
        [
            stage(1, ["a", "b"], known=fresh[:2]),
            stage(2, ["b", "pin"], known=seen),
            stage(3, ["pin", "a"], known=seen, explored="a"),
            stage(4, ["pin", "b"], known=seen[1:]),
        ]
    )
    store.commit([decided(f"d{i}") for i in range(330)])
    reports = stages_of(store, "chat", last=10)
    assert [(one.stage, one.calls) for one in reports] == [(1, 100), (2, 100), (3, 100), (4, 30)]
    moves = [[(move.arm, move.moved, move.why) for move in one.moves] for one in reports]
    assert moves == [
        [("a", "came", "new: it had never been live"), ("b", "came", "new: it had never been live")],
        [
            ("pin", "came", "pinned: it is live whatever is learned"),
            (
                "a",
                "left",
                "others promise more reward for the budget than its reward up to 0.82 at no less than $0.0004 a call",
            ),
        ],
        [
            ("a", "came", "for a revisit at an arm that had looked worse, with 0.05 of the calls"),
            (
                "b",
                "left",
                "others promise more reward for the budget than its reward up to 0.41 at no less than $0.002 a call",
            ),
        ],
        [
            ("b", "came", "worth a place by its bounds: reward up to 0.41 at no less than $0.002 a call"),
            ("a", "left", "its deployment was removed"),
        ],
    ]
    assert stages_of(store, "chat", last=2) == reports[-2:]
    assert stages_of(store, "chat", last=0) == ()


# -- from a process and from a database alike ----------------------------------------------------------------------


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Of a database that is not there yet."""
    return f"sqlite:///{tmp_path}/s.db"


@pytest.fixture
def routing(url: str) -> Iterator[Runtime]:
    """A routing process with a group of three arms, two of them live."""
    groups = parse_groups(
        {"chat": {"budget_usd_per_call": 0.002, "max_live_models": 2, "stage": "manual"}}, known_groups=None
    )
    runtime = Runtime(groups, store=SqlStore(url), seed=7)
    runtime.set_arms("chat", ARMS)
    yield runtime
    runtime.close()


def call(
    routing: Runtime, name: str, *, eligible: Sequence[str] | None = None, caller: str | None = None
) -> RoutingDecision:
    """Make a call that is answered and rewarded."""
    all_arms = [arm.name for arm in ARMS]
    routed = routing.choose("chat", eligible=eligible or all_arms, call_id=name, caller=caller)
    assert routed is not None
    routing.settled(
        routed.decision_id,
        arm=routed.arm,
        cost_usd=0.002,
        prompt_tokens=10,
        completion_tokens=5,
        response_id=f"r-{name}",
    )
    return routed


def test_a_process_and_its_database_tell_the_same(routing: Runtime, url: str) -> None:
    routed = [call(routing, f"c{i}") for i in range(20)]
    routing.record_reward(routed[-1].decision_id, 0.5).result(10)
    routing.operations.redeploy("chat")
    call(routing, "last")
    ours = routing.reports.receipt("c19"), routing.reports.stages("chat"), routing.reports.history("chat")
    with StoredReports(url) as stored:
        reports: Reports = stored
        assert reports.receipt("c19") == ours[0]
        assert reports.receipt("r-c19") == ours[0]
        assert reports.receipt("unknown") is None
        assert list(reports.stages("chat")) == list(ours[1])
        assert list(reports.history("chat"))[:-1] == list(ours[2])[:-1]
        last, present = reports.history("chat")[-1], ours[2][-1]
        assert replace(last, at=0.0) == replace(present, at=0.0)
        assert reports.health().state == "ok"
        assert reports.group_status("chat").calls == 21
        for ask in (reports.group_status, reports.stages, reports.history):
            with pytest.raises(SettingsError, match="there is no group 'other'"):
                ask("other")
    found = ours[0]
    assert found is not None
    assert (found.decision_id, found.rewards) == (routed[-1].decision_id, {"app": 0.5})
    chances = {one.arm: one.probability for one in found.alternatives}
    assert chances.keys() == {arm.name for arm in ARMS}
    assert sum(chances.values()) == pytest.approx(1.0)
    assert chances[found.arm] == found.probability == routed[-1].probability
    assert [one.stage for one in ours[1]] == [1, 2]
    assert ours[1][0].calls + ours[1][1].calls == 21
    assert {one.arm for one in ours[1][1].evidence} == {arm.name for arm in ARMS}
    assert (present.calls, present.reward_count, present.reward_total) == (21, 1, 0.5)
    assert asdict(found)["alternatives"]


def test_a_process_refuses_groups_it_does_not_manage(routing: Runtime) -> None:
    for ask in (routing.reports.stages, routing.reports.history):
        with pytest.raises(SettingsError, match="'other' is not managed"):
            ask("other")


def test_a_call_that_a_live_arm_could_not_serve_says_so(routing: Runtime) -> None:
    live = routing.reports.stages("chat")[0].live
    only = call(routing, "one", eligible=[live[0]])
    found = routing.reports.receipt("one")
    assert found is not None
    assert (found.arm, found.probability, only.probability) == (live[0], 1.0, 1.0)
    whys = {one.arm: one.why for one in found.alternatives}
    assert whys[live[1]] == "could not serve this call (cooling down, or filtered)"
    (idle,) = {arm.name for arm in ARMS} - set(live)
    assert whys[idle].startswith("not live in stage 1")
    call(routing, "two", eligible=[idle])
    outside = routing.reports.receipt("two")
    assert outside is not None
    assert (outside.arm, outside.binding) == (idle, "outside_live_set")
    assert {one.arm: one.live for one in outside.alternatives} == {live[0]: True, live[1]: True, idle: False}


def test_what_calls_are_sampled_from_is_recorded_once_per_estimate(routing: Runtime, url: str) -> None:
    live = routing.reports.stages("chat")[0].live
    ids = []
    for name in range(6):  # without ending, so that nothing is learned in between
        routed = routing.choose("chat", eligible=[live[0]], call_id=f"c{name}")
        assert routed is not None
        ids.append(routed.decision_id)
    routing.flush()
    with StoredReports(url) as stored:
        mixes = {one.decision.mix_id for one in stored.store.export_decisions()}
        assert len(mixes) < len(ids)
        assert None not in mixes
        assert all(stored.store.mix(one) for one in mixes if one)


def test_a_mix_in_use_for_long_is_recorded_anew() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    groups = parse_groups({"chat": {"budget_usd_per_call": 0.002, "stage": "manual"}}, known_groups=None)
    with Runtime(groups, store=store, clock=clock, seed=1) as routing:
        routing.set_arms("chat", ARMS)
        group = routing._groups["chat"]  # the same estimate for hours is hard to come by
        stored: list[MixRecorded | DecisionMade] = []
        for wait in (0.0, 3599.0, 1.0, 1.0):
            clock.advance(wait)
            made = group.choose(
                segment="",
                price=None,
                decision_id=f"d{clock()}",
                call_id=f"c{clock()}",
                uniform=0.5,
                eligible=[arm.name for arm in ARMS],
                now=clock(),
                record=stored.append,
            )
            assert made is not None
            recorded = [one for one in stored if isinstance(one, MixRecorded)]
            decided = stored[-1]
            assert isinstance(decided, DecisionMade)
            assert decided.mix_id == recorded[-1].mix_id
        assert [one.made_at for one in recorded] == [clock() - 3601.0, clock() - 1.0]


def test_one_callers_call_is_not_rewarded_by_another(routing: Runtime) -> None:
    routed = call(routing, "c", caller="ann")
    for key in (routed.decision_id, "c", "r-c"):
        with pytest.raises(NotYourCallError, match="was made by another caller"):
            routing.record_reward(key, 1.0, caller="bob").result(10)
        with pytest.raises(NotYourCallError):
            routing.revoke_reward(key, caller="bob").result(10)
    assert routing.record_reward("c", 0.5, caller="ann").result(10).status == "recorded"
    assert routing.record_reward("c", 0.75).result(10).status == "replaced"
    found = routing.reports.receipt("c")
    assert found is not None
    assert found.rewards == {"app": 0.75}


def test_an_arms_reward_has_a_lower_bound_too(routing: Runtime) -> None:
    for number in range(30):
        routed = call(routing, f"c{number}")
        routing.record_reward(routed.decision_id, 0.75).result(10)
    status = routing.reports.status("chat")
    assert isinstance(status, GroupStatus)
    for arm in status.arms:
        mean = arm.reward_mean
        if mean is None:
            assert (arm.reward_lcb, arm.reward_ucb) == (0.0, 1.0)
        else:
            assert 0.0 < arm.reward_lcb < mean == 0.75 < arm.reward_ucb < 1.0
            # The interval is the estimator's, mirrored: about a mean of 3/4 it is wider below.
            assert arm.reward_ucb - mean < mean - arm.reward_lcb
