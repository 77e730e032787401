"""Calls told apart, from the choice to the database and back: what is learned, kept and shown."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from stageroute_router.core.arm import Arm
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.groups.group import Group
from stageroute_router.groups.mixes import MOST_PRICED_MIXES
from stageroute_router.reports.database import StoredReports
from stageroute_router.reports.status import GroupStatus
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.opening import open_store
from stageroute_router.store.writes import DecisionMade, MixRecorded
from stageroute_router.terminal.receipt import show_receipt
from stageroute_router.terminal.status import show_group

ARMS = [
    Arm(name="words", prior_cost_usd=0.001),
    Arm(name="code", prior_cost_usd=0.001),
]
GOOD = {("text", "words"), ("sql", "code")}


def groups(**more: object) -> dict[str, object]:
    return {"chat": {"budget_usd_per_call": 0.002, "max_live_models": 2, "stage": {"calls": 100}, **more}}


def serve(runtime: Runtime, *, calls: int) -> list[RoutingDecision]:
    """Answer calls of two segments in turns, and reward them by who is good at what."""
    made = []
    for number in range(calls):
        segment = ("text", "sql")[number % 2]
        routed = runtime.choose(
            "chat", eligible={arm.name for arm in ARMS}, call_id=f"call-{number}", segment=segment
        )
        assert routed is not None
        runtime.settled(
            routed.decision_id,
            arm=routed.arm,
            cost_usd=0.001,
            prompt_tokens=10,
            completion_tokens=10,
            response_id=None,
        )
        runtime.record_reward(routed.decision_id, 0.9 if (segment, routed.arm) in GOOD else 0.1).result(5)
        made.append(routed)
    return made


def group_status(runtime: Runtime) -> GroupStatus:
    status = runtime.reports.status("chat")
    assert isinstance(status, GroupStatus)
    return status


def test_each_segment_goes_to_the_arm_that_is_good_at_it() -> None:
    with Runtime(parse_groups(groups(segments={"by": "label"})), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        late = serve(runtime, calls=300)[-60:]
        status = group_status(runtime)
    assert sum(routed.arm == "words" for routed in late[::2]) >= 24
    assert sum(routed.arm == "code" for routed in late[1::2]) >= 24
    shown = {segment.name: segment for segment in status.segments}
    assert set(shown) == {"", "text", "sql"}
    assert next(iter(shown["sql"].probabilities)) == "code"
    assert shown["sql"].probabilities["code"] > 0.9
    assert shown["text"].pulls == 150
    assert shown["text"].share == 0.5
    assert status.segment_worth is not None
    assert status.segment_worth.lower > 0.1
    assert sum(segment.pulls for segment in status.segments) == sum(arm.pulls for arm in status.arms)


def test_a_benchmark_of_segments_is_shown_by_segment_and_kept(tmp_path: Path) -> None:
    table, url = tmp_path / "evaluated.csv", f"sqlite:///{tmp_path}/stageroute.db"
    table.write_text("segment,arm,score\ntext,words,0.8\nsql,words,0.2\nsql,code,1\nchat,code,0\n")
    settings = parse_groups(groups(segments={"by": "label"}, benchmark=str(table)))
    with Runtime(settings, store=open_store(url), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        serve(runtime, calls=60)
        shown = {segment.name: segment.prior_rewards for segment in group_status(runtime).segments}
    assert shown == {"": {}, "text": {"words": 0.8}, "sql": {"words": 0.2, "code": 1.0}}
    table.unlink()
    with StoredReports(url) as reports:
        stored = reports.group_status("chat").segments
    assert {segment.name: segment.prior_rewards for segment in stored} == shown


def test_without_the_setting_segments_are_kept_and_not_used() -> None:
    with Runtime(parse_groups(groups()), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        serve(runtime, calls=100)
        status = group_status(runtime)
    assert status.segments == ()
    assert status.segment_worth is None


def test_what_was_learned_by_segment_is_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/stageroute.db"
    settings = parse_groups(groups(segments={"by": "label"}))
    with Runtime(settings, store=open_store(url), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        serve(runtime, calls=200)
        before = group_status(runtime)
    with Runtime(settings, store=open_store(url), seed=2) as again:
        again.set_arms("chat", ARMS)
        after = group_status(again)
    with StoredReports(url) as reports:
        told = reports.group_status("chat")
    for status in (after, told):
        assert [(one.name, one.pulls, one.reward_mean) for one in status.segments] == [
            (one.name, one.pulls, one.reward_mean) for one in before.segments
        ]
    assert {one.name: next(iter(one.probabilities)) for one in told.segments if one.name} == {
        "text": "words",
        "sql": "code",
    }


def test_a_late_reward_goes_to_the_segment_of_its_decision() -> None:
    with Runtime(parse_groups(groups(segments={"by": "label"})), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        old = runtime.choose("chat", eligible={"words", "code"}, call_id="old", segment="rare")
        assert old is not None
        serve(runtime, calls=40)
        runtime.record_reward("old", 1.0).result(5)
        rare = next(one for one in group_status(runtime).segments if one.name == "rare")
    assert (rare.pulls, rare.reward_count, rare.reward_mean) == (1, 1, 1.0)


@pytest.mark.parametrize("width", [60, 120])
def test_status_shows_segments_in_a_terminal_and_in_json(width: int) -> None:
    with Runtime(parse_groups(groups(segments={"by": "label"})), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        serve(runtime, calls=60)
        everything = json.loads(json.dumps(runtime.reports.known_status().to_dict()))
        status = group_status(runtime)
    console = Console(width=width, record=True, file=StringIO())
    show_group(status, console)
    text = console.export_text()
    assert "sql" in text
    assert "routing by segment is worth" in " ".join(text.split())
    assert {one["name"] for one in everything["groups"][0]["segments"]} == {"", "text", "sql"}
    assert set(everything["groups"][0]["segment_worth"]) == {"gain", "lower", "upper"}


# --- automatic segments -----------------------------------------------------------------------------------------


def ask(runtime: Runtime, number: int) -> str:
    """Make a call by its text, as the hook does; return its segment."""
    text = ("What is 2 + 2?", "SELECT name, age FROM people WHERE age > 30 ORDER BY name LIMIT 10;\n" * 20)[
        number % 2
    ]
    segment = runtime.segment_of_text("chat", text)
    routed = runtime.choose(
        "chat", eligible={arm.name for arm in ARMS}, call_id=f"c{number}", segment=segment
    )
    assert routed is not None
    return segment


def test_automatic_segments_are_found_once_and_shared(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/stageroute.db"
    settings = parse_groups(groups(segments={"by": "auto"}))
    with (
        Runtime(settings, store=open_store(url), seed=1) as one,
        Runtime(settings, store=open_store(url), seed=2) as other,
    ):
        for runtime in (one, other):
            runtime.set_arms("chat", ARMS)
        assert {ask(one, number) for number in range(500)} == {""}
        assert {ask(other, number) for number in range(1_000, 1_400)} == {""}
        assert one.flush()
        assert one.flush()  # what the first ones led to
        found = {ask(one, number) for number in (500, 501)}
        assert len(found) == 2
        assert all(name.startswith("auto:1:") for name in found)
        other.operations.refresh()
        assert {ask(other, number) for number in (2_000, 2_001)} == found
    with Runtime(settings, store=open_store(url), seed=3) as again:
        again.set_arms("chat", ARMS)
        assert {ask(again, number) for number in (3_000, 3_001)} == found


def test_no_text_of_a_call_is_stored(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/stageroute.db"
    with Runtime(parse_groups(groups(segments={"by": "auto"})), store=open_store(url), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        for number in range(500):
            ask(runtime, number)
        assert runtime.flush()
        assert runtime.flush()  # what the first ones led to
        for number in range(500, 520):
            ask(runtime, number)
        assert runtime.flush()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"SELECT name, age" not in stored
    assert b"auto:1:" in stored


def embed(runtime: Runtime, number: int) -> str:
    """Find the segment of a call by an embedding, as the hook does; its topic is the number's parity."""
    text = f"a secret text {number}"
    known = runtime.known_segment("chat", text)
    if known is None:
        numbers = [0.1 * ((number * place) % 7) + (place % 2 == number % 2) for place in range(1_536)]
        known = runtime.segment_of_embedding("chat", text, numbers)
    return known


def test_segments_by_embedding_are_shared_and_another_model_has_its_own(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/stageroute.db"

    def started(model: str) -> Runtime:
        segments = {"by": "auto", "embedding": model, "most": 2}
        runtime = Runtime(parse_groups(groups(segments=segments)), store=open_store(url), seed=1)
        runtime.set_arms("chat", ARMS)
        return runtime

    def learned(runtime: Runtime) -> None:
        assert {embed(runtime, number) for number in range(500)} == {""}
        runtime.choose("chat", eligible={"words"}, call_id="c", segment="")  # what is stored next
        assert runtime.flush()
        assert runtime.flush()

    with started("small") as one:
        learned(one)
        found = [embed(one, number) for number in range(500, 504)]
        assert found[:2] == found[2:]
        assert set(found) == {"auto:1:0", "auto:1:1"}
    with started("small") as again:
        assert [embed(again, number) for number in range(500, 504)] == found
    with started("large") as other:
        assert embed(other, 500) == ""
        learned(other)
        assert {embed(other, number) for number in range(500, 504)} == {"auto:2:0", "auto:2:1"}
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"embedding-1:small" in stored
    assert b"a secret text" not in stored


def test_a_stored_segmenter_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read again whenever anything of its group has changed, every few seconds."""
    url = f"sqlite:///{tmp_path}/stageroute.db"
    settings = parse_groups(groups(segments={"by": "auto"}))
    with (
        Runtime(settings, store=open_store(url), seed=1) as one,
        Runtime(settings, store=open_store(url), seed=2) as other,
    ):
        one.set_arms("chat", ARMS)
        assert {ask(one, number) for number in range(500)} == {""}
        assert one.flush()
        assert one.flush()
        other.operations.refresh()
        monkeypatch.setattr("stageroute_router.groups.segments.Segmenter", None)
        ask(one, 500)
        assert one.flush()
        other.operations.refresh()
        assert group_status(one).warnings == ()


def test_a_call_with_a_price_is_recorded_with_it() -> None:
    with Runtime(parse_groups(groups()), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        serve(runtime, calls=60)
        routed = runtime.choose("chat", eligible={"words", "code"}, call_id="dear", price=250.0)
        assert routed is not None
        assert routed.shadow_price == 250.0
        receipt = runtime.reports.receipt(routed.decision_id)
    assert receipt is not None
    assert receipt.shadow_price == 250.0


def test_a_receipt_shows_what_its_segment_was_expected_to_bring(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/stageroute.db"
    with Runtime(parse_groups(groups(segments={"by": "label"})), store=open_store(url), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        first, *_, text, sql = serve(runtime, calls=300)
        runtime.choose("chat", eligible={"words", "code"}, call_id="new", segment="never met")
        runtime.flush()
    with StoredReports(url) as stored:
        early, of_text, of_sql, new = (
            stored.receipt(key) for key in (first.decision_id, text.decision_id, sql.decision_id, "new")
        )
    assert early is not None
    assert early.estimates_of is None  # there was one segment only
    expected = {}
    for receipt in (of_text, of_sql):
        assert receipt is not None
        assert receipt.estimates_of == receipt.segment
        expected[receipt.segment] = {one.arm: one.segment_reward for one in receipt.alternatives}
        costs = {one.arm: one.segment_cost_usd for one in receipt.alternatives}
        assert costs[receipt.arm] == pytest.approx(receipt.expected_cost_usd, rel=1e-5)
        assert f"in segment {receipt.segment}" in receipt.explanation
    # What few calls of a segment say leans on all others.
    assert expected["text"]["words"] > expected["sql"]["words"] + 0.2
    assert expected["sql"]["code"] > expected["sql"]["words"] + 0.2
    assert new is not None
    assert (new.segment, new.estimates_of) == ("never met", "")
    console = Console(file=StringIO(), width=160)
    show_receipt(new, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "never met, of which nothing was known yet: reward 0." in shown


def test_distinct_prices_do_not_fill_the_database() -> None:
    group = Group(
        "chat", parse_groups(groups())["chat"], seed=1
    )  # without a store: one estimate for all calls
    group.set_arms(ARMS, now=0.0)
    stored: list[MixRecorded | DecisionMade] = []

    def call(price: float, *, now: float = 0.0) -> str:
        made = group.choose(
            decision_id=f"d{price}",
            call_id=f"c{price}",
            uniform=0.5,
            eligible={"words", "code"},
            segment="",
            price=price,
            now=now,
            record=stored.append,
        )
        assert made is not None
        group.ended([f"d{price}"])
        assert made[0].shadow_price == price
        decided = stored[-1]
        assert isinstance(decided, DecisionMade)
        assert decided.mix_id is not None
        return decided.mix_id

    def mixes() -> list[MixRecorded]:
        return [one for one in stored if isinstance(one, MixRecorded)]

    named = [call(float(price)) for price in range(600)]
    recorded = mixes()
    assert len(recorded) == MOST_PRICED_MIXES + 1
    assert named[:MOST_PRICED_MIXES] == [mix.mix_id for mix in recorded[:-1]]
    assert set(named[MOST_PRICED_MIXES:]) == {recorded[-1].mix_id}
    assert [len(mix.arms) for mix in recorded] == [2] * MOST_PRICED_MIXES + [0]
    assert all(mix.priced for mix in recorded)
    call(600.0, now=3600.0)
    call(601.0, now=3600.0)
    assert [mix.made_at for mix in mixes()[MOST_PRICED_MIXES:]] == [0.0, 3600.0]


def test_a_receipt_says_whose_price_it_was() -> None:
    with Runtime(parse_groups(groups()), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", ARMS)
        serve(runtime, calls=100)
        for price in range(20, 20 + 2 * MOST_PRICED_MIXES):
            runtime.choose("chat", eligible={"words", "code"}, call_id=f"at-{price}", price=float(price))
        runtime.flush()
        receipts = [runtime.reports.receipt(f"at-{price}") for price in range(20, 20 + 2 * MOST_PRICED_MIXES)]
    shared = 0
    for price, receipt in enumerate(receipts, start=20):
        assert receipt is not None
        assert (receipt.priced, receipt.binding, receipt.shadow_price) == (True, "price", price)
        assert f"this call's price was its caller's: {price} reward per dollar" in receipt.explanation
        assert "budget" not in receipt.explanation
        chances = sum(one.probability for one in receipt.alternatives)
        shared += "were not recorded" in receipt.explanation
        assert "were not recorded" in receipt.explanation or chances == pytest.approx(1.0)
        console = Console(file=StringIO(), width=160)
        show_receipt(receipt, console)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert "the price that its caller gave it" in shown
        assert "shadow price" not in shown
    assert shared < len(receipts)
