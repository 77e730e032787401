"""A group has a bounded number of segments, in every process and over all of them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from stageroute_router.core.arm import Arm
from stageroute_router.groups.segments import KnownSegments
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.records import StoredSegment
from stageroute_router.testing.clock import FakeClock

DAY_S = 86_400.0
REFRESH_S = 0.02


def stored(*names: str, first: float = 0.0, last: float = 0.0) -> dict[str, StoredSegment]:
    """Return stored segments, each a second younger than the one before."""
    return {
        name: StoredSegment(segment=name, kind="label", first_seen=first + index, last_seen=last)
        for index, name in enumerate(names)
    }


def known(most: int = 2) -> KnownSegments:
    return KnownSegments(most=most, forget_after_s=DAY_S)


def test_what_comes_first_has_a_segment_and_the_rest_share_one() -> None:
    segments = known()
    named = [segments.admit(name, now=0.0) for name in ("sql", "", "prose", "sums", "sql", "more")]
    assert named == ["sql", "", "prose", "", "sql", ""]


def test_what_is_stored_has_its_place_before_newcomers() -> None:
    segments = known()
    segments.read(stored("sql", "prose"), now=0.0)
    assert [segments.admit(name, now=0.0) for name in ("sums", "prose", "sql")] == ["", "prose", "sql"]


def test_a_newcomer_keeps_its_place_until_its_first_decision_is_stored() -> None:
    segments = known()
    segments.admit("sql", now=0.0)
    segments.read({}, now=1.0)
    segments.read(stored("prose"), now=2.0)
    assert [segments.admit(name, now=3.0) for name in ("sums", "sql", "prose")] == ["", "sql", "prose"]


def test_workers_that_admitted_too_many_agree_on_who_stays() -> None:
    one, other = known(), known()
    for segments, names in ((one, ("a", "b")), (other, ("c", "d"))):
        for name in names:
            assert segments.admit(name, now=0.0) == name
    everything = stored("c", "a", "d", "b")
    for segments in (one, other):
        segments.read(everything, now=1.0)
        assert [segments.admit(name, now=1.0) for name in "abcd"] == ["a", "", "c", ""]


def test_a_smaller_limit_keeps_those_seen_first() -> None:
    segments = known(1)
    segments.read(stored("old", "young"), now=0.0)
    assert [segments.admit(name, now=0.0) for name in ("young", "old")] == ["", "old"]


def test_a_segment_unseen_for_too_long_is_forgotten_and_gives_its_place() -> None:
    segments = known()
    segments.read(stored("sql", "prose", last=1000.0), now=1000.0)
    segments.admit("sql", now=2000.0)
    assert segments.forget(now=1000.0 + DAY_S) is None
    assert segments.forget(now=1500.0 + DAY_S) == 1500.0
    assert segments.forget(now=1500.0 + DAY_S) is None, "once is enough"
    assert [segments.admit(name, now=1500.0 + DAY_S) for name in ("sums", "sql", "prose")] == [
        "sums",
        "sql",
        "",
    ]


def test_one_over_the_limit_is_forgotten_too() -> None:
    segments = known(1)
    segments.read(stored("old", "young"), now=0.0)
    segments.admit("old", now=DAY_S)
    assert segments.forget(now=DAY_S + 1.0) == 1.0


def test_a_place_that_becomes_free_goes_to_one_over_the_limit() -> None:
    segments = known(1)
    segments.read({**stored("old"), **stored("young", "younger", first=1.0, last=DAY_S)}, now=0.0)
    assert segments.forget(now=DAY_S + 1.0) == 1.0
    assert [segments.admit(name, now=DAY_S) for name in ("new", "younger", "young")] == ["", "", "young"]


def test_threads_together_admit_no_more_than_there_are_places() -> None:
    segments = known(8)
    with ThreadPoolExecutor(8) as pool:
        named = list(pool.map(lambda number: segments.admit(f"s{number}", now=0.0), range(400)))
    assert len({name for name in named if name}) == 8


steps = st.lists(
    st.tuples(st.sampled_from(("admit", "read", "forget")), st.integers(0, 1), st.sampled_from("abcdef")),
    max_size=60,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(steps=steps, hours=st.integers(0, 30))
def test_two_workers_never_admit_more_than_the_limit_once_both_have_read(
    steps: list[tuple[str, int, str]], hours: int
) -> None:
    """Whatever they did before: each of them admits stored ones only, and the same ones."""
    workers, table, now = (known(2), known(2)), {}, 0.0
    for kind, number, name in steps:
        now += hours * 3600.0
        worker = workers[number]
        if kind == "admit":
            segment = worker.admit(name, now=now)
            assert segment in (name, "")
            if segment:
                first = table[segment].first_seen if segment in table else now
                table[segment] = StoredSegment(segment=segment, kind="label", first_seen=first, last_seen=now)
        elif kind == "read":
            worker.read(table, now=now)
        elif (since := worker.forget(now=now)) is not None:
            table = {key: one for key, one in table.items() if one.last_seen >= since}
    for worker in workers:
        worker.read(table, now=now)
    admitted = [{name for name in "abcdef" if worker.admit(name, now=now)} for worker in workers]
    assert len(admitted[0]) <= 2
    assert admitted[0] == admitted[1] or len(table) < 2


# -- with the runtime ------------------------------------------------------------------------------------------------


def started(store: MemoryStore, clock: FakeClock, **segments: object) -> Runtime:
    settings = {"budget_usd_per_call": 0.01, "segments": {"by": "label", **segments}}
    made = Runtime(
        parse_groups({"chat": settings}), store=store, clock=clock, seed=1, refresh_interval=REFRESH_S
    )
    made.set_arms("chat", [Arm(name="small", prior_cost_usd=0.001)])
    return made


def segment_of(runtime: Runtime, segment: str) -> str:
    """Make a call that names a segment; return the one it counts in."""
    routed = runtime.choose("chat", eligible={"small"}, call_id="c", segment=segment)
    assert routed is not None
    receipt = runtime.reports.receipt(routed.decision_id)
    assert receipt is not None
    return receipt.segment


def test_a_process_knows_the_segments_that_others_have_stored() -> None:
    store, clock = MemoryStore(), FakeClock()
    with started(store, clock, most=2) as one:
        assert [segment_of(one, name) for name in ("sql", "prose", "sums", "")] == ["sql", "prose", "", ""]
        with started(store, clock, most=2) as other:
            assert [segment_of(other, name) for name in ("sums", "prose")] == ["", "prose"]
    assert set(store.load("chat").segments) == {"sql", "prose"}


def test_an_unused_segment_is_forgotten_in_the_database_and_frees_its_place() -> None:
    store, clock = MemoryStore(), FakeClock()
    with started(store, clock, most=2, forget_after="2d") as runtime:
        for name in ("sql", "prose"):
            segment_of(runtime, name)
        clock.advance(1.5 * DAY_S)
        segment_of(runtime, "prose")
        clock.advance(DAY_S)
        give_up = time.monotonic() + 30
        while "sql" in store.load("chat").segments:
            assert time.monotonic() < give_up, "it is still there"
            time.sleep(REFRESH_S)
        assert {cell[0] for cell in store.load("chat").statistics} == {"", "prose"}
        assert [segment_of(runtime, name) for name in ("sums", "sql", "prose")] == ["sums", "", "prose"]
    assert sum(cell.pulls for cell in store.load("chat").statistics.values()) == 6
    assert list(store.verify()) == []


def test_without_segments_in_the_settings_nothing_of_them_is_stored() -> None:
    store = MemoryStore()
    with Runtime(parse_groups({"chat": {"budget_usd_per_call": 0.01}}), store=store, seed=1) as runtime:
        runtime.set_arms("chat", [Arm(name="small", prior_cost_usd=0.001)])
        assert segment_of(runtime, "") == ""
    assert store.load("chat").segments == {}
