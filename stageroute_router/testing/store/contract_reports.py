"""The part of a store's contract that is about what is looked back on: mixes, decisions, exports, history."""

# ruff: noqa: S101 - these are tests, for others to run

from __future__ import annotations

import math
from dataclasses import replace

from stageroute_router.store.contract import DEFAULT_RETENTION_S, MIX_LIFETIME_S, Store
from stageroute_router.store.history import SAMPLE_INTERVAL_S, HistoryPoint
from stageroute_router.store.writes import Write
from stageroute_router.testing.clock import FakeClock
from stageroute_router.testing.store.contract_base import ContractBase
from stageroute_router.testing.store.writes import (
    CHARGE,
    EPOCH,
    decided,
    failed,
    mixed,
    planned,
    rewarded,
    settled,
    withdrawn,
)


class ReportsContract(ContractBase):
    """The part of a store's contract that is about what is looked back on: mixes, decisions, exports, history."""

    # -- what decisions were sampled from ------------------------------------------------------------------

    def test_a_mix_is_found_as_it_was_recorded(self, store: Store) -> None:
        """The first one with its id, also when its batch is committed once more."""
        mix = mixed("m1")
        batch: list[Write] = [mix, decided("d1", mix="m1")]
        store.commit(batch)
        assert store.mix("m1") == mix
        assert store.mix("m2") is None
        assert not store.commit([*batch, replace(mix, arms=())]).changes
        assert store.mix("m1") == mix
        found = store.decision("d1")
        assert found is not None
        assert found.decision.mix_id == "m1"

    def test_a_mix_alone_is_no_change_of_a_group(self, store: Store) -> None:
        """Other workers need not read anything because of it."""
        assert not store.commit([mixed("m1"), replace(mixed("m2"), shadow_price=None)]).changes
        assert dict(store.versions()) == {}
        found = store.mix("m2")
        assert found is not None
        assert found.shadow_price is None

    def test_mixes_are_folded_away_with_the_decisions_that_may_name_them(
        self, store: Store, clock: FakeClock
    ) -> None:
        """Decisions name a mix for an hour after it was made."""
        start = clock()
        store.commit(
            [mixed("m1", at=start), mixed("m2", at=start + 2.0), mixed("m3", at=start + MIX_LIFETIME_S)]
        )
        last = start + MIX_LIFETIME_S + 1.0
        for number, at in enumerate((start, start + 3.0, last)):
            store.commit([decided(f"d{number}", at=at), settled(f"d{number}")])
        clock.advance(DEFAULT_RETENTION_S + 10.0)
        store.commit([])
        assert [store.mix(one) is not None for one in ("m1", "m2", "m3")] == [True, True, True]
        clock.advance(MIX_LIFETIME_S)
        store.commit([])
        assert [store.mix(one) is not None for one in ("m1", "m2", "m3")] == [False, True, True]
        assert list(store.verify()) == []

    # -- looking back ------------------------------------------------------------------------------------

    def test_all_decisions_of_a_call_come_in_order(self, store: Store) -> None:
        """Its retries and fallbacks, in whichever group; withdrawn ones are not seen."""
        store.commit(
            [decided("d1", call="c"), failed("d1"), decided("d2", call="c", group="backup"), decided("dx")]
        )
        store.commit(
            [decided("d3", call="c"), withdrawn("d3"), settled("d2", response="r2"), rewarded("d2", 0.5)]
        )
        found = store.decisions_of_call("c")
        assert [(one.decision.decision_id, one.decision.group, one.state) for one in found] == [
            ("d1", "chat", "failed"),
            ("d2", "backup", "settled"),
        ]
        assert found[1] == store.decision("d2")
        assert list(store.decisions_of_call("unknown")) == []

    def test_the_latest_decisions_come_first(self, store: Store) -> None:
        """So many of them, of one group, and on from the last one seen."""
        store.commit([decided(f"d{i}", group=("chat", "other")[i % 2], at=EPOCH + i) for i in range(10)])
        store.commit([rewarded("d8", 0.5), withdrawn("d6")])

        def ids(*, limit: int, before: float | None = None) -> list[str]:
            found = store.recent_decisions("chat", limit=limit, before=before)
            return [one.decision.decision_id for one in found]

        assert ids(limit=2) == ["d8", "d4"]
        assert ids(limit=9, before=EPOCH + 4.0) == ["d2", "d0"]
        assert store.recent_decisions("chat", limit=1)[0].rewards == {"app": 0.5}

    def test_an_export_has_every_decision_with_its_rewards_once(self, store: Store) -> None:
        """More than fit into any page, in the order of their arrival; of one group, where asked."""
        count = 2_500
        store.commit(
            [decided(f"d{i}", group=("chat", "other")[i % 50 == 0], at=EPOCH - i) for i in range(count)]
        )
        store.commit([rewarded(f"d{i}", 0.5) for i in range(0, count, 10)] + [settled("d1"), withdrawn("d2")])
        found = list(store.export_decisions())
        assert [one.decision.decision_id for one in found] == [f"d{i}" for i in range(count) if i != 2]
        assert found[:2] == [store.decision("d0"), store.decision("d1")]
        assert (found[1].prompt_tokens, found[1].completion_tokens) == (20, 10)
        assert found[1].closed_at == EPOCH + 1.0
        assert sum(len(one.rewards) for one in found) == count // 10
        of_other = [one.decision.decision_id for one in store.export_decisions("other")]
        assert of_other == [f"d{i}" for i in range(0, count, 50)]
        assert list(store.export_decisions("unknown")) == []

    def test_the_history_has_the_totals_as_they_were(self, store: Store, clock: FakeClock) -> None:
        """A sample at most every 15 seconds, one at each new stage, and the present ones last."""
        assert list(store.history("chat")) == []
        start = clock()
        store.commit([decided("d1", at=start)])
        clock.advance(SAMPLE_INTERVAL_S - 1.0)
        store.commit([settled("d1", cost_usd=0.25), rewarded("d1", 0.5)])  # too early for a sample
        clock.advance(1.0)
        store.commit([decided("d2", at=start), rewarded("d2", 0.25), decided("other", group="other")])
        clock.advance(1.0)
        store.commit([planned(1)])
        store.commit([planned(1)])  # which is no news
        clock.advance(1.0)
        points = store.history("chat")
        assert [(point.at - start, point.calls, point.reward_count) for point in points] == [
            (0.0, 1, 0),
            (SAMPLE_INTERVAL_S, 2, 2),
            (SAMPLE_INTERVAL_S + 1.0, 2, 2),
            (SAMPLE_INTERVAL_S + 2.0, 2, 2),
        ]
        assert points[0] == HistoryPoint(
            at=start,
            calls=1,
            open_calls=1,
            spend_usd=0.0,
            in_flight_usd=CHARGE.expected_cost_usd,
            reward_count=0,
            reward_total=0.0,
        )
        assert (points[-1].spend_usd, points[-1].open_calls, points[-1].reward_total) == (0.25, 1, 0.75)
        assert [point.at for point in store.history("chat", points=3)] == [
            points[0].at,
            points[2].at,
            points[3].at,
        ]
        assert list(store.history("chat", points=1)) == [points[-1]]

    def test_a_group_that_nothing_happens_to_gets_no_samples(self, store: Store, clock: FakeClock) -> None:
        """However often others commit."""
        store.commit([decided("d1", at=clock())])
        for _ in range(5):
            clock.advance(SAMPLE_INTERVAL_S)
            store.commit([decided("d1", at=clock()), rewarded("unknown", 0.5), mixed("m", at=clock())])
        assert len(store.history("chat")) == 2

    def test_samples_are_thinned_as_they_age(self, store: Store, clock: FakeClock) -> None:
        """One in five minutes after an hour or two, one in an hour after two days, none after the retention."""
        start = clock()
        for i in range(12):  # a sample every half minute for six minutes
            store.commit([decided(f"d{i}", at=clock()), settled(f"d{i}")])
            clock.advance(30.0)
        assert len(store.history("chat")) == 13
        clock.advance(2 * 3600.0)
        store.commit([])
        five_minutes = {math.floor((start + 30.0 * i) / 300) for i in range(12)}
        assert len(store.history("chat")) == len(five_minutes) + 1
        assert store.history("chat")[-2].calls == 12
        clock.advance(2 * 86_400.0)
        store.commit([])
        hours = {math.floor((start + 30.0 * i) / 3600) for i in range(12)}
        assert len(store.history("chat")) == len(hours) + 1
        clock.advance(DEFAULT_RETENTION_S)
        store.commit([])
        assert len(store.history("chat")) == 1
        assert list(store.verify()) == []
