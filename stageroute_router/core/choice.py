"""Choosing: sample an arm for one call from the snapshot, among those that can serve it now. The hot path."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from stageroute_router.core.availability import Availability
from stageroute_router.core.budget.account import Charge
from stageroute_router.core.budget.pacing import surplus_cap_usd
from stageroute_router.core.live_mix import cheapest_mix, live_mix, restricted_mix, scenarios_of
from stageroute_router.core.mix import priced_mix, probing_mix
from stageroute_router.core.snapshot import Choice, GroupPolicy, Snapshot, UsedMix

PROVEN_BY_COSTS = 5
"""Number of observed costs from which an arm's expected cost counts as known.

After five the cost posterior is more the observations' than the price list's, whatever their spread.
"""

_MOST_PRICES = 256
"""Most mixes at callers' own prices that are cached until the next estimate: applications use few prices."""


def choose(
    policy: GroupPolicy,
    snapshot: Snapshot,
    *,
    uniform: float,
    eligible: Collection[str] | None = None,
    in_flight: Mapping[str, int] | None = None,
    segment: str = "",
    price: float | None = None,
    availability: Availability | None = None,
) -> Choice:
    """Sample an arm for one call. Reads the snapshot only; no I/O, no lock.

    Arms of unknown cost that have their fill of calls under way are left out. Where the others cannot keep the
    budget, the cheapest by its price stays in: the calls have to go somewhere, and a dear arm of known cost is no
    safer place. Where there are no others, the call goes to the cheapest by its price.

    Arms that do not answer of late are left out while others answer: live ones first, then any candidate. Of the rest,
    each is worth its reward times its chance of an answer.

    Args:
        policy: the group's.
        snapshot: the latest one.
        uniform: a uniform random number in [0, 1).
        eligible: the arms that could serve this call right now (healthy, large enough a context, ...);
            None for all.
        in_flight: calls under way by arm whose costs the snapshot does not know yet; None for none.
        segment: the call's; one that the snapshot does not know is like ``""``.
        price: what its caller would pay: reward that a dollar has to buy, at least 0, in place of the budget's shadow
            price. None for calls that the budget decides.
        availability: which arms may not answer; None where all do.

    Raises:
        ValueError: none of the candidates is eligible.

    >>> from stageroute_router.core.arm import Arm
    >>> from stageroute_router.core.engine import Engine
    >>> from stageroute_router.core.estimators.posterior import PosteriorEstimator
    >>> from stageroute_router.core.schedule import EveryCalls
    >>> arms = [Arm(name="a", prior_cost_usd=0.001), Arm(name="b", prior_cost_usd=0.002)]
    >>> policy = GroupPolicy(budget_usd=0.01, max_live=1, schedule=EveryCalls(500), estimator=PosteriorEstimator())
    >>> snapshot = Engine(policy, seed=0).start(arms, now=0.0)
    >>> choice = choose(policy, snapshot, uniform=0.5)
    >>> choice.arm in snapshot.live, choice.probability
    (True, 1.0)
    """
    if segment not in snapshot.mix.by_segment:
        segment = ""
    usable, outside = _usable(snapshot, eligible)
    if availability is not None:
        return _choose_available(
            policy,
            snapshot,
            usable,
            uniform=uniform,
            eligible=eligible,
            in_flight=in_flight,
            segment=segment,
            price=price,
            availability=availability,
            outside=outside,
        )
    open_to_more = usable
    if in_flight:
        open_to_more = _open_to_more(policy, snapshot, usable, in_flight=in_flight, outside=outside)
    if price is not None and open_to_more and not outside:
        used = _priced(snapshot, usable, open_to_more, segment=segment, price=price)
        return _choice(policy, snapshot, used, segment=segment, index=used.mix.pick(uniform), priced=True)
    if open_to_more == snapshot.live:
        index = snapshot.mix.of(segment).pick(uniform)
        choice = snapshot.choices.get((segment, index))
        if choice is None:
            used = _used(policy, snapshot, usable, open_to_more, segment=segment, outside=False)
            choice = _choice(policy, snapshot, used, segment=segment, index=index)
            snapshot.choices[segment, index] = choice
        return choice
    used = _used(policy, snapshot, usable, open_to_more, segment=segment, outside=outside)
    return _choice(policy, snapshot, used, segment=segment, index=used.mix.pick(uniform))


def _usable(snapshot: Snapshot, eligible: Collection[str] | None) -> tuple[tuple[str, ...], bool]:
    """Return the live arms that could serve a call, else other candidates that could, and whether it is these."""
    if eligible is None:
        return snapshot.live, False
    usable = tuple(name for name in snapshot.live if name in eligible)
    if usable:
        return usable, False
    usable = tuple(arm.name for arm in snapshot.arms if arm.name in eligible)
    if not usable:
        msg = f"none of the eligible arms {sorted(eligible)} is a candidate of the group"
        raise ValueError(msg)
    return usable, True


def _choose_available(
    policy: GroupPolicy,
    snapshot: Snapshot,
    eligible_arms: tuple[str, ...],
    *,
    uniform: float,
    eligible: Collection[str] | None,
    in_flight: Mapping[str, int] | None,
    segment: str,
    price: float | None,
    availability: Availability,
    outside: bool,
) -> Choice:
    """Sample an arm while some may not answer."""
    usable, outside = _answering(snapshot, eligible_arms, availability, eligible=eligible, outside=outside)
    open_to_more = usable
    if in_flight:
        open_to_more = _open_to_more(policy, snapshot, usable, in_flight=in_flight, outside=outside)
    used = _impaired(
        policy,
        snapshot,
        usable,
        open_to_more,
        segment=segment,
        price=price,
        outside=outside,
        availability=availability,
        eligible=eligible_arms,
    )
    return _choice(
        policy,
        snapshot,
        used,
        segment=segment,
        index=used.mix.pick(uniform),
        priced=price is not None,
    )


def _answering(
    snapshot: Snapshot,
    usable: tuple[str, ...],
    availability: Availability,
    *,
    eligible: Collection[str] | None,
    outside: bool,
) -> tuple[tuple[str, ...], bool]:
    """Return the usable arms that answer, else other candidates that do, else all usable ones; whether not live."""
    answering = tuple(name for name in usable if availability.answers(name))
    if answering or outside:
        return answering or usable, outside
    candidates = (arm.name for arm in snapshot.arms if eligible is None or arm.name in eligible)
    others = tuple(name for name in candidates if availability.answers(name))
    return (others, True) if others else (usable, False)


def _impaired(
    policy: GroupPolicy,
    snapshot: Snapshot,
    usable: tuple[str, ...],
    open_to_more: tuple[str, ...],
    *,
    segment: str,
    price: float | None,
    outside: bool,
    availability: Availability,
    eligible: tuple[str, ...],
) -> UsedMix:
    """Return what calls are sampled from while some arms may not answer."""
    # Where no arm answers, none is worth less than another for it.
    answers = any(availability.answers(name) for name in open_to_more)
    chances = tuple(availability.chance.get(name, 1.0) if answers else 1.0 for name in open_to_more)
    probes = availability.probes if availability.probe_share > 0 else ()
    key = (segment, price, usable, open_to_more, chances, eligible, probes, availability.probe_share)
    used = snapshot.impaired.get(key)
    if used is not None:
        return used
    priced = price is not None and bool(open_to_more) and not outside
    if not open_to_more:
        mix = cheapest_mix(policy, snapshot, usable)
    elif all(chance == 1 for chance in chances) and not priced:
        mix = restricted_mix(policy, snapshot, open_to_more, outside=outside).of(segment)
    else:
        scenarios, indices = scenarios_of(snapshot, open_to_more, outside=outside)
        scenarios = scenarios.times(np.array(chances))
        if priced and price is not None:
            mix = priced_mix(
                scenarios, segment=segment, price=price, max_share=snapshot.estimate.max_share[indices]
            )
        else:
            mix = live_mix(
                policy,
                snapshot.estimate,
                scenarios,
                names=open_to_more,
                indices=indices,
                stage=snapshot.stage,
            ).of(segment)
    among = open_to_more or usable
    if probes:
        among = tuple(dict.fromkeys((*among, *probes)))
        mix = probing_mix(
            mix,
            arms=len(among),
            probes=[among.index(name) for name in probes],
            share=availability.probe_share,
        )
    used = UsedMix(
        mix=mix,
        among=among,
        usable=tuple(dict.fromkeys((*usable, *probes))),
        outside_live_set=outside,
        cheapest_only=not open_to_more,
        segment=segment if snapshot.mix.by_segment and open_to_more and not outside else None,
        priced=priced,
        unavailable=tuple(name for name in eligible if name not in among),
        probes=probes,
        probe_share=availability.probe_share if probes else 0.0,
    )
    if len(snapshot.impaired) >= _MOST_PRICES:
        snapshot.impaired.clear()
    snapshot.impaired[key] = used
    return used


def _priced(
    snapshot: Snapshot, usable: tuple[str, ...], open_to_more: tuple[str, ...], *, segment: str, price: float
) -> UsedMix:
    """Return what calls of a segment and a price of their own are sampled from."""
    key = (segment, price, usable, open_to_more)
    used = snapshot.priced.get(key)
    if used is None:
        estimate = snapshot.estimate
        columns = [snapshot.live.index(name) for name in open_to_more]
        indices = [estimate.position[name] for name in open_to_more]
        used = UsedMix(
            mix=priced_mix(
                estimate.scenarios.take(columns),
                segment=segment,
                price=price,
                max_share=estimate.max_share[indices],
            ),
            among=open_to_more,
            usable=usable,
            outside_live_set=False,
            cheapest_only=False,
            segment=segment if estimate.scenarios.segments else None,
            priced=True,
        )
        if len(snapshot.priced) >= _MOST_PRICES:
            snapshot.priced.clear()
        snapshot.priced[key] = used
    return used


def _used(
    policy: GroupPolicy,
    snapshot: Snapshot,
    usable: tuple[str, ...],
    open_to_more: tuple[str, ...],
    *,
    segment: str,
    outside: bool,
) -> UsedMix:
    """Return what a segment's calls are sampled from while these arms can serve, and these of them take more."""
    used = snapshot.used.get((segment, usable, open_to_more))
    if used is None:
        estimated = segment if snapshot.mix.by_segment and open_to_more and not outside else None
        if not open_to_more:
            mix = cheapest_mix(policy, snapshot, usable)
        elif open_to_more == snapshot.live:
            mix = snapshot.mix.of(segment)
        else:
            mix = restricted_mix(policy, snapshot, open_to_more, outside=outside).of(segment)
        used = UsedMix(
            mix=mix,
            among=open_to_more or usable,
            usable=usable,
            outside_live_set=outside,
            cheapest_only=not open_to_more,
            segment=estimated,
        )
        snapshot.used[segment, usable, open_to_more] = used
    return used


def _open_to_more(
    policy: GroupPolicy,
    snapshot: Snapshot,
    usable: tuple[str, ...],
    *,
    in_flight: Mapping[str, int],
    outside: bool,
) -> tuple[str, ...]:
    open_to_more = tuple(
        name for name in usable if not _has_its_fill(policy, snapshot, name, in_flight=in_flight)
    )
    if not open_to_more or len(open_to_more) == len(usable):
        return open_to_more
    if restricted_mix(policy, snapshot, open_to_more, outside=outside).feasible:
        return open_to_more
    estimate = snapshot.estimate
    cost = {name: float(estimate.bounds.expected_cost[estimate.position[name]]) for name in usable}
    full = [name for name in usable if name not in open_to_more and _has_a_price(snapshot, name)]
    cheapest = min(full, key=cost.__getitem__, default=None)
    if cheapest is None or cost[cheapest] >= min(cost[name] for name in open_to_more):
        return open_to_more
    return tuple(name for name in usable if name in open_to_more or name == cheapest)


def _has_a_price(snapshot: Snapshot, name: str) -> bool:
    """Return whether an arm has a list price or an observed cost."""
    estimate = snapshot.estimate
    return bool(estimate.priced[estimate.position[name]])


def _has_its_fill(
    policy: GroupPolicy, snapshot: Snapshot, name: str, *, in_flight: Mapping[str, int]
) -> bool:
    if in_flight.get(name, 0) < policy.max_unproven_in_flight:
        return False
    # By the estimate, not by the statistics: a cost is known when the mix reckons with it.
    estimate = snapshot.estimate
    return bool(estimate.costs[estimate.position[name]] < PROVEN_BY_COSTS)


def _choice(
    policy: GroupPolicy,
    snapshot: Snapshot,
    used: UsedMix,
    *,
    segment: str,
    index: int,
    priced: bool = False,
) -> Choice:
    paced = policy.estimator.paced and (policy.pace_priced_calls or not priced)
    estimate = snapshot.estimate
    name = used.among[index]
    position = estimate.position[name]
    expected_cost = estimate.bounds.expected_cost
    if estimate.bounds.cells is not None:
        expected_cost = estimate.bounds.cells.cost_of(segment)
    budget = policy.budget_usd
    return Choice(
        arm=name,
        probability=used.mix.probabilities[index],
        stage=snapshot.stage.number,
        charge=Charge(
            expected_cost_usd=float(expected_cost[position]),
            budget_usd=budget,
            surplus_cap_usd=surplus_cap_usd(
                budget_usd=budget, calls_per_stage=snapshot.stage.calls_per_stage
            ),
            booking=estimate.booking if paced else "none",
        ),
        reward_ucb=float(estimate.bounds.reward_ucb[position]),
        cost_lcb_usd=float(estimate.bounds.cost_lcb[position]),
        shadow_price=used.mix.shadow_price,
        outside_live_set=used.outside_live_set,
        used=used,
    )
