"""The stages of a group, told from what is stored: who was live, who came and went, and why."""

from __future__ import annotations

from collections.abc import Sequence

from stageroute_router.core.snapshot import ArmEvidence
from stageroute_router.reports.values import Move, StageReport
from stageroute_router.store.contract import Store
from stageroute_router.store.writes import StagePlanned


def stages_of(store: Store, group: str, *, last: int) -> tuple[StageReport, ...]:
    """Return the last so many stages of a group, the oldest first.

    Raises:
        StoreError: the database cannot be read.
    """
    if last < 1:
        return ()
    # One more than asked for: who came and left is told by the stage before.
    plans = store.stages(group, last=last + 1)
    calls = store.load(group).account.calls
    ends = [plan.opened_at_call for plan in plans[1:]] + [calls]
    before: list[StagePlanned | None] = [None, *plans]
    reports = [
        _report(plan, previous=previous, ended_at_call=end)
        for plan, previous, end in zip(plans, before, ends, strict=False)
    ]
    return tuple(reports[-last:])


def _report(plan: StagePlanned, *, previous: StagePlanned | None, ended_at_call: int) -> StageReport:
    return StageReport(
        group=plan.group,
        stage=plan.stage,
        reason=plan.reason,
        opened_at=plan.opened_at,
        opened_at_call=plan.opened_at_call,
        # Workers may open a window a few calls apart, and the account may have been rebuilt.
        calls=max(ended_at_call - plan.opened_at_call, 0),
        live=plan.live,
        explored=plan.explored,
        explore_share=plan.explore_share,
        moves=_moves(plan, previous=previous),
        evidence=plan.evidence,
    )


def _moves(plan: StagePlanned, *, previous: StagePlanned | None) -> tuple[Move, ...]:
    live_before: Sequence[str] = () if previous is None else previous.live
    known = {one.arm: one for one in plan.evidence}
    came = [
        Move(arm=arm, moved="came", why=_why_it_came(arm, plan, known.get(arm)))
        for arm in plan.live
        if arm not in live_before
    ]
    left = [
        Move(arm=arm, moved="left", why=_why_it_left(arm, plan, known.get(arm), previous=previous))
        for arm in live_before
        if arm not in plan.live
    ]
    return (*came, *left)


def _why_it_came(arm: str, plan: StagePlanned, known: ArmEvidence | None) -> str:
    if known is not None and known.pinned:
        return "pinned: it is live whatever is learned"
    if arm == plan.explored:
        return f"for a revisit at an arm that had looked worse, with {plan.explore_share:.2g} of the calls"
    if known is None:
        return "chosen at the window; what was known then was not recorded"
    if not known.pulls:
        return "new: it had never been live"
    return f"worth a place by its bounds: {_bounds(known)}"


def _why_it_left(
    arm: str, plan: StagePlanned, known: ArmEvidence | None, *, previous: StagePlanned | None
) -> str:
    if known is None and plan.evidence:
        return "its deployment was removed"
    bounds = "" if known is None else f" than its {_bounds(known)}"
    if previous is not None and arm == previous.explored:
        return f"its revisit is over: others promise more reward for the budget{bounds}"
    return f"others promise more reward for the budget{bounds}"


def _bounds(known: ArmEvidence) -> str:
    return f"reward up to {known.reward_ucb:.2f} at no less than ${known.cost_lcb_usd:.3g} a call"
