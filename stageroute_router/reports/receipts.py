"""The receipt of a decision, told from what is stored: why a call went where it went, in plain words."""

from __future__ import annotations

import math

from stageroute_router.core.snapshot import ArmEvidence
from stageroute_router.reports.values import Alternative, Attempt, Binding, DecisionReceipt
from stageroute_router.reports.wording import callers_price_sentence
from stageroute_router.store.contract import Store
from stageroute_router.store.records import StoredDecision
from stageroute_router.store.writes import MixedArm, MixRecorded, StagePlanned

_HIGHER = 1e-9
"""By how much a bound has to be higher to count as higher."""


def receipt_of(store: Store, key: str, *, caller: str | None = None) -> DecisionReceipt | None:
    """Return the receipt of the decision that a key names, or None: it is unknown, withdrawn or folded away.

    Args:
        store: where decisions are.
        key: a decision, response or call id.
        caller: who asks: to it, another caller's decision is unknown. None: not checked.

    Raises:
        StoreError: the database cannot be read.
    """
    stored = store.decision(key)
    if stored is None or caller not in (None, stored.decision.caller):
        return None
    made = stored.decision
    mix = None if made.mix_id is None else store.mix(made.mix_id)
    plan = store.stage(made.group, made.stage)
    view = _View(stored, mix=mix, plan=plan)
    return DecisionReceipt(
        decision_id=made.decision_id,
        call_id=made.call_id,
        response_id=stored.response_id,
        group=made.group,
        segment=made.segment,
        stage=made.stage,
        made_at=made.made_at,
        arm=made.arm,
        served_arm=stored.served_arm,
        probability=made.probability,
        reward_ucb=made.reward_ucb,
        cost_lcb_usd=made.cost_lcb_usd,
        expected_cost_usd=made.charge.expected_cost_usd,
        budget_usd_per_call=made.charge.budget_usd,
        shadow_price=made.shadow_price,
        binding=view.binding,
        explanation=view.explanation(),
        state=stored.state,
        cost_usd=stored.cost_usd,
        rewards=dict(stored.rewards),
        alternatives=view.alternatives(),
        attempts=tuple(_attempt(one) for one in store.decisions_of_call(made.call_id)),
        priced=mix is not None and mix.priced,
        estimates_of=None if mix is None else mix.segment,
    )


def _attempt(stored: StoredDecision) -> Attempt:
    made = stored.decision
    return Attempt(
        decision_id=made.decision_id,
        group=made.group,
        arm=made.arm,
        served_arm=stored.served_arm,
        probability=made.probability,
        made_at=made.made_at,
        state=stored.state,
        cost_usd=stored.cost_usd,
    )


class _View:
    """What a decision was made from.

    Args:
        stored: the decision.
        mix: what it was sampled from; None where that was not recorded, by a release before this one.
        plan: of its stage; None where the process had not read any yet.
    """

    def __init__(self, stored: StoredDecision, *, mix: MixRecorded | None, plan: StagePlanned | None) -> None:
        self._made = stored.decision
        self._mix = mix
        self._evidence = () if plan is None else plan.evidence
        self._live = () if plan is None else plan.live
        price = self._made.shadow_price if mix is None or mix.priced else mix.shadow_price
        self._price = None if price is None or not math.isfinite(price) else price
        arms = () if mix is None else mix.arms
        self._mixed = {one.arm: one for one in arms}
        self._chosen = self._mixed.get(self._made.arm) or MixedArm(
            arm=self._made.arm,
            probability=self._made.probability,
            reward_ucb=self._made.reward_ucb,
            cost_lcb_usd=self._made.cost_lcb_usd,
        )
        self._others = [one for one in arms if one.arm != self._made.arm]
        self.binding: Binding = self._binding()

    def _binding(self) -> Binding:
        mix = self._mix
        if mix is None:
            return "budget" if self._made.shadow_price > 0 else "none"
        if self._made.arm in mix.probes and 2 * mix.probe_share >= len(mix.probes) * self._chosen.probability:
            return "probe"
        if any(one.kept_out == "unavailable" for one in self._better()):
            return "unavailable"
        if mix.outside_live_set:
            return "outside_live_set"
        # Half of what it gets, or more, it gets for the look.
        if mix.explored == self._made.arm and 2 * mix.explore_share >= self._chosen.probability:
            return "revisit"
        is_unproven = mix.cheapest_only or any(one.kept_out == "unproven" for one in self._better())
        is_over = self._price is None or self._price > 0 or not mix.feasible
        found: tuple[tuple[bool, Binding], ...] = (
            (is_unproven, "unproven"),
            (is_over, "price" if mix.priced else "budget"),
            (bool(self._at_their_limit()), "share"),
        )
        return next((binding for binds, binding in found if binds), "none")

    def _better(self) -> list[MixedArm]:
        """Return the other arms whose reward may be higher."""
        least = _reward(self._chosen) + _HIGHER
        return [one for one in self._others if _reward(one) > least]

    def _at_their_limit(self) -> list[MixedArm]:
        return [
            one
            for one in self._better()
            if one.kept_out is None and one.share_limit < 1 and one.probability >= one.share_limit - 1e-6
        ]

    # --- in plain words ------------------------------------------------------------------------------------

    def explanation(self) -> str:
        """Return what constrained the choice, in a sentence."""
        arm, share = self._made.arm, _share(self._made.probability)
        if self._mix is None:
            constraint = (
                f"the budget binds at a shadow price of {self._made.shadow_price:.3g} reward per dollar"
            )
            found = constraint if self.binding == "budget" else "nothing kept it from the best by reward"
            return f"{found}; {arm} was chosen with {share} of the calls (the other arms were not recorded)"
        if self._mix.priced:
            said = callers_price_sentence(self._made.shadow_price)
            if not self._mix.arms:
                return (
                    f"{said}; {arm} was chosen with {share} of such calls (the other arms were not recorded)"
                )
            return f"{said}; {self._explained()}"
        return self._explained()

    def _explained(self) -> str:
        arm, share = self._made.arm, _share(self._made.probability)
        explained = {
            "outside_live_set": lambda: (
                f"no live arm could serve this call (cooling down, or filtered), so it went outside the live set: to "
                f"{arm}, with {share} of such calls"
            ),
            "revisit": lambda: (
                f"a revisit: {arm} had looked worse and may still be worth a place, so {share} of the calls find "
                "out"
            ),
            "unproven": self._unproven,
            "unavailable": self._unavailable,
            "probe": lambda: (
                f"a probe: {arm} has not answered of late, and {share} of such calls find out whether it does again"
            ),
            "budget": self._budget,
            "price": lambda: f"at it, {self._compared()}; {arm} gets {share} of such calls",
            "share": self._shares,
            "none": self._nothing,
        }
        return explained[self.binding]()

    def _unavailable(self) -> str:
        missing = ", ".join(one.arm for one in self._better() if one.kept_out == "unavailable")
        where = " outside the live set" if self._mix is not None and self._mix.outside_live_set else ""
        return (
            f"{missing} may be better and has not answered of late; {self._made.arm} was next{where}, with "
            f"{_share(self._made.probability)} of the calls"
        )

    def _unproven(self) -> str:
        arm = self._made.arm
        if self._mix is not None and self._mix.cheapest_only:
            return (
                "every arm that could serve has its fill of calls under way until more of its costs are known, so "
                f"this call went to the cheapest: {arm}"
            )
        full = ", ".join(one.arm for one in self._better() if one.kept_out == "unproven")
        return (
            f"{full} may be better and has its fill of calls under way until more of its costs are known; "
            f"{arm} was next, with {_share(self._made.probability)} of the calls"
        )

    def _budget(self) -> str:
        arm, share = self._made.arm, _share(self._made.probability)
        price = self._price
        if price is None or (self._mix is not None and not self._mix.feasible):
            return (
                "no mixture of the arms that could serve keeps the budget and the shares, so calls go to the nearly "
                f"cheapest; {arm} gets {share} of them"
            )
        return (
            f"the budget binds: at a shadow price of {price:.3g} reward per dollar, {self._compared()}; {arm} gets "
            f"{share} of the calls"
        )

    def _compared(self) -> str:
        rivals = [one for one in self._others if one.kept_out is None]
        best = max(rivals, key=self._value, default=None)
        compared = f"{self._made.arm} is worth {self._value(self._chosen):.2f} after paying"
        if best is not None:
            compared += f" and {best.arm} {self._value(best):.2f}"
        return f"{compared}{self._where()}"

    def _where(self) -> str:
        """Return of which calls the estimates are, where they are not of all."""
        segment = None if self._mix is None else self._mix.segment
        if segment is None:
            return ""
        return f" in segment {segment}" if segment else " for calls without a segment"

    def _shares(self) -> str:
        limits = ", ".join(
            f"{one.arm} may be better and gets all that its {one.share_limited_by or 'max_share'} allows "
            f"({_share(one.share_limit)} of the calls)"
            for one in self._at_their_limit()
        )
        return f"shares bind: {limits}; {self._made.arm} gets {_share(self._made.probability)}"

    def _nothing(self) -> str:
        arm, share = self._made.arm, _share(self._made.probability)
        better = self._better()
        where = self._where()
        if where and not better:
            return f"nothing binds: {arm} is expected to earn most{where}, and gets {share} of the calls"
        if where:
            return (
                f"nothing binds: {arm} may be the best by what is known so far, with {share} of the calls, although "
                f"{better[0].arm} is expected to earn more{where}"
            )
        if not better:
            return f"nothing binds: {arm} has the highest reward bound, and {share} of the calls"
        return (
            f"nothing binds: {arm} may be the best by what is known so far, with {share} of the calls, although the "
            f"bound of {better[0].arm} is higher"
        )

    # --- the others ----------------------------------------------------------------------------------------

    def alternatives(self) -> tuple[Alternative, ...]:
        """Return all candidates that are known of, the most valuable first; those of unknown value last."""
        known = {self._made.arm, *self._mixed}
        found = [self._alternative(one) for one in (self._chosen, *self._others)]
        found += [self._at_the_window(one) for one in self._evidence if one.arm not in known]
        return tuple(
            sorted(found, key=lambda one: (-math.inf if one.value is None else one.value, one.reward_ucb))[
                ::-1
            ]
        )

    def _alternative(self, one: MixedArm) -> Alternative:
        is_chosen = one.arm == self._made.arm
        if self._mix is None:
            live = one.arm in self._live
        else:
            live = not self._mix.outside_live_set or one.kept_out in ("ineligible", "unavailable")
        if is_chosen:
            why = f"chosen: {_share(one.probability)} of the calls"
        elif one.kept_out == "ineligible":
            why = "could not serve this call (cooling down, or filtered)"
        elif one.kept_out == "unavailable":
            why = "has not answered of late; a few calls find out when it does again"
        elif one.kept_out == "unproven":
            why = "had its fill of calls under way until more of its costs are known"
        elif one.probability > 0:
            why = f"could have been chosen: {_share(one.probability)} of the calls"
        else:
            why = "got no calls: others are worth more"
        return Alternative(
            arm=one.arm,
            live=live,
            probability=one.probability,
            reward_ucb=one.reward_ucb,
            cost_lcb_usd=one.cost_lcb_usd,
            value=None if self._price is None else self._value(one),
            why=why,
            segment_reward=one.segment_reward,
            segment_cost_usd=one.segment_cost_usd,
        )

    def _at_the_window(self, one: ArmEvidence) -> Alternative:
        """Return a candidate of which nothing was recorded but what was known at the stage's window."""
        value = None if self._price is None else one.reward_ucb - self._price * one.cost_lcb_usd
        if self._mix is not None and self._mix.segment is not None:
            value = None  # a bound over all calls, beside what is expected of those in a segment
        stage = self._made.stage
        if one.arm in self._live:
            why = f"live in stage {stage}; " + (
                "what it was worth at this call was not recorded"
                if self._mix is None or not self._mix.arms
                else "its deployment had been removed"
            )
        elif not one.pulls:
            why = f"not live in stage {stage}: it had not been tried yet, and there was no place for it"
        else:
            why = f"not live in stage {stage}: others promised more reward for the budget at its window"
        return Alternative(
            arm=one.arm,
            live=one.arm in self._live and (self._mix is None or not self._mix.arms),
            probability=0.0,
            reward_ucb=one.reward_ucb,
            cost_lcb_usd=one.cost_lcb_usd,
            value=value,
            why=why,
        )

    def _value(self, one: MixedArm) -> float:
        """Return what an arm was worth after paying."""
        return _reward(one) - (self._price or 0.0) * _cost(one)


def _reward(one: MixedArm) -> float:
    """Return what an arm was judged by: what is expected in the segment, or else its bound."""
    return one.reward_ucb if one.segment_reward is None else one.segment_reward


def _cost(one: MixedArm) -> float:
    return one.cost_lcb_usd if one.segment_cost_usd is None else one.segment_cost_usd


def _share(probability: float) -> str:
    """Return a probability for people to read."""
    return f"{probability:.1%}" if probability < 0.1 else f"{probability:.0%}"
