"""What a group's engine hands on: the operator's policy, the stage, and the snapshot that the hot path reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stageroute_router.core.arm import Arm
from stageroute_router.core.arrays import BoolArray, FloatArray
from stageroute_router.core.budget.account import Account, Booking, Charge
from stageroute_router.core.estimators.base import Bounds, Estimator, Scenarios
from stageroute_router.core.evidence.cell_sums import CellSums
from stageroute_router.core.evidence.evidence import ExpectedTokens
from stageroute_router.core.mix import Mix
from stageroute_router.core.routing.shares import ShareLimit, Traffic
from stageroute_router.core.schedule import Schedule
from stageroute_router.core.statistics import ArmStatistics, Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPolicy:
    """What the operator asked for.

    Args:
        budget_usd: average US dollars per call, > 0.
        max_live: most arms live at once, >= 1.
        schedule: when maintenance windows open.
        estimator: how evidence becomes the programmes' rewards and costs.
        expected_tokens: token counts of a typical call, to turn list prices into expected costs.
        max_unproven_in_flight: most calls under way to an arm of which fewer than ``PROVEN_BY_COSTS`` costs are
            known, >= 1. A burst cannot spend more than this many calls on a wrong price. 8 by default: enough to
            know the arm one round trip later.
        pace_priced_calls: whether calls that came with a price of their own are paid out of the budget like all others:
            what they spend more, others spend less. False to leave pacing to the others.
    """

    budget_usd: float
    max_live: int
    schedule: Schedule
    estimator: Estimator
    expected_tokens: ExpectedTokens = field(default_factory=ExpectedTokens)
    max_unproven_in_flight: int = 8
    pace_priced_calls: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmEvidence:
    """The evidence of one candidate when a stage was planned.

    Args:
        arm: the candidate.
        pulls: decisions that had chosen it.
        reward_ucb: upper confidence bound of its reward.
        cost_lcb_usd: lower confidence bound of its cost.
        pinned: whether it was to be live in any case.
    """

    arm: str
    pulls: int
    reward_ucb: float
    cost_lcb_usd: float
    pinned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The calls between two maintenance windows.

    Args:
        number: counts from 1.
        live: names of the live arms; some may have been removed since.
        explored: the live arm that is there for a revisit, or None.
        explore_share: the share of calls it gets, whatever the programme says.
        reason: why the window opened: "start", "schedule", "manual", "departure", "outage" or "recovery".
        opened_at: seconds since the epoch.
        opened_at_call: the group's decisions before it.
        calls_per_stage: how many calls it has, or is expected to have.
        evidence: what was known of each candidate at its window; for reports only.
    """

    number: int
    live: tuple[str, ...]
    explored: str | None
    explore_share: float
    reason: str
    opened_at: float
    opened_at_call: int
    calls_per_stage: int
    evidence: tuple[ArmEvidence, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UsedMix:
    """A mix that a call was sampled from, and what it was made of. Equal to itself only.

    Args:
        mix: the distribution over ``among``.
        among: the arms it mixes.
        usable: the arms that could serve the call, in the order of the live set: those missing in ``among`` had their
            fill of calls under way.
        outside_live_set: whether they are not live, because no live arm could serve.
        cheapest_only: whether all of ``usable`` had their fill, so that the calls go to the cheapest.
        segment: the segment whose estimates it was made of; None where it was made of those over all calls.
        priced: whether its shadow price is what callers said that reward is worth to them.
        unavailable: eligible arms that were left out because they do not answer of late.
        probes: arms that get ``probe_share`` of the calls, in equal parts, to find out whether they answer again.
        probe_share: in [0, 1).
    """

    mix: Mix
    among: tuple[str, ...]
    usable: tuple[str, ...]
    outside_live_set: bool
    cheapest_only: bool
    segment: str | None = None
    priced: bool = False
    unavailable: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    probe_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One routing choice. ``probability`` is exactly what the arm was sampled with.

    ``outside_live_set`` is True when none of the live arms could serve and another candidate was taken. ``used`` is
    what it was sampled from: the same object for every call until the next estimate.
    """

    arm: str
    probability: float
    stage: int
    charge: Charge
    reward_ucb: float
    cost_lcb_usd: float
    shadow_price: float
    outside_live_set: bool
    used: UsedMix


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the estimator computed from the evidence, until the next refresh. Arrays have shape (arms,).

    Args:
        bounds: of every candidate.
        position: index of each arm by name, in ``bounds`` and the arrays below.
        scenarios: rewards and costs of the live arms.
        budget_usd: the paced budget of the next call, US dollars.
        booking: where a call's difference from the budget is booked now.
        limits: what limits each arm's share.
        max_share: these limits as numbers in (0, 1].
        observations: rewards known of each arm.
        costs: costs known of each arm.
        priced: whether anything is known of an arm's cost: a price, or a call.
        sums: the statistics of segments as the estimate read them; None where there are fewer than two.
    """

    bounds: Bounds
    position: Mapping[str, int]
    scenarios: Scenarios
    budget_usd: float
    booking: Booking
    limits: tuple[ShareLimit, ...]
    max_share: FloatArray
    observations: FloatArray
    costs: FloatArray
    priced: BoolArray
    sums: CellSums | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything the hot path reads: immutable, swapped as a whole.

    Args:
        arms: the current candidates.
        statistics: per arm name, those of departed arms included.
        cells: the same by segment and arm; None in a group without segments.
        account: the group's totals.
        traffic: how many calls the group makes.
        stage: the current stage.
        mix: the distribution over ``live``.
        live: names of the live arms that still exist, in the order of ``mix``.
    """

    arms: tuple[Arm, ...]
    statistics: Mapping[str, ArmStatistics]
    account: Account
    traffic: Traffic
    stage: Stage
    live: tuple[str, ...]
    mix: Mix
    estimate: Estimate
    cells: Mapping[Cell, ArmStatistics] | None = None
    stale: int = 0
    # Five caches inside an immutable value: threads that race compute the same, and each entry is the same for every
    # call until the next estimate. Mixes over fewer arms than are live (one is cooling down); the choices of ``mix`` by
    # segment and position; and what calls are sampled from: by segment, usable and mixed arms, at a price of their own,
    # and while some arms do not answer.
    restricted: dict[tuple[str, ...], Mix] = field(default_factory=dict, compare=False, repr=False)
    choices: dict[tuple[str, int], Choice] = field(default_factory=dict, compare=False, repr=False)
    used: dict[tuple[str, tuple[str, ...], tuple[str, ...]], UsedMix] = field(
        default_factory=dict, compare=False, repr=False
    )
    priced: dict[tuple[str, float, tuple[str, ...], tuple[str, ...]], UsedMix] = field(
        default_factory=dict, compare=False, repr=False
    )
    impaired: dict[tuple[object, ...], UsedMix] = field(default_factory=dict, compare=False, repr=False)
