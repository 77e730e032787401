"""A group's account: calls made, dollars spent and promised, and the surplus the pacer may still spend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Booking = Literal["surplus", "debt", "none"]
"""Where a call's difference from the budget is booked. ``"surplus"``: the pacer reacts to it at once. ``"debt"``: the
pacer repays it slowly, because no live arm could have kept the budget although a waiting candidate could. ``"none"``:
nowhere, because no candidate could have kept the budget."""

REPAYMENT = 0.1
"""Debt repaid with each call, as a fraction of the budget. Slow enough that a newcomer which makes the budget reachable
is mixed with better arms at once, instead of answering everything for thousands of calls; 0.2 measures the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a decision books on the group's account before its cost is known.

    Args:
        expected_cost_usd: what the call is expected to cost; held as in flight until the cost arrives.
        budget_usd: the budget per call at the decision.
        surplus_cap_usd: the largest surplus that may be saved up (old credit must not fund a spree).
        booking: where the difference between the call's cost and the budget goes.
    """

    expected_cost_usd: float
    budget_usd: float
    surplus_cap_usd: float
    booking: Booking


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A group's running totals. All amounts in US dollars.

    Args:
        calls: decisions made.
        open_calls: decisions whose cost is not known yet.
        spend_usd: costs known so far.
        in_flight_usd: expected costs of the open decisions.
        surplus_usd: budget not yet spent (negative: overspent), capped from above; what the pacer steers by.
        debt_usd: overspending that moves into the surplus little by little.
        token_calls: calls whose token counts are known.
        prompt_tokens: their prompt tokens in all.
        completion_tokens: their completion tokens in all.

    >>> charge = Charge(expected_cost_usd=0.003, budget_usd=0.002, surplus_cap_usd=0.1, booking="surplus")
    >>> account = Account().dispatched(charge)
    >>> round(account.surplus_usd, 6)
    -0.001
    >>> account = account.settled(charge, cost_usd=0.001)
    >>> round(account.surplus_usd, 6), account.spend_usd, account.in_flight_usd
    (0.001, 0.001, 0.0)
    """

    calls: int = 0
    open_calls: int = 0
    spend_usd: float = 0.0
    in_flight_usd: float = 0.0
    surplus_usd: float = 0.0
    debt_usd: float = 0.0
    token_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def dispatched(self, charge: Charge) -> Account:
        """Return the account after a decision: its expected cost is in flight and charged to the surplus."""
        surplus, debt = self._booked(charge, charge.budget_usd - charge.expected_cost_usd)
        if charge.booking == "surplus":
            repaid = min(debt, REPAYMENT * charge.budget_usd)
            surplus, debt = surplus - repaid, debt - repaid
        return Account(
            calls=self.calls + 1,
            open_calls=self.open_calls + 1,
            spend_usd=self.spend_usd,
            in_flight_usd=self.in_flight_usd + charge.expected_cost_usd,
            surplus_usd=surplus,
            debt_usd=debt,
            token_calls=self.token_calls,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
        )

    def settled(
        self, charge: Charge, *, cost_usd: float, prompt_tokens: int = 0, completion_tokens: int = 0
    ) -> Account:
        """Return the account after a decision's cost became known (0 for a call that failed)."""
        surplus, debt = self._booked(charge, charge.expected_cost_usd - cost_usd)
        return Account(
            calls=self.calls,
            open_calls=self.open_calls - 1,
            spend_usd=self.spend_usd + cost_usd,
            in_flight_usd=self._in_flight_without(charge),
            surplus_usd=surplus,
            debt_usd=debt,
            token_calls=self.token_calls + (prompt_tokens + completion_tokens > 0),
            prompt_tokens=self.prompt_tokens + prompt_tokens,
            completion_tokens=self.completion_tokens + completion_tokens,
        )

    def withdrawn(self, charge: Charge) -> Account:
        """Return the account after a decision turned out not to count (the answer came from a cache).

        >>> charge = Charge(expected_cost_usd=0.003, budget_usd=0.002, surplus_cap_usd=0.1, booking="surplus")
        >>> Account().dispatched(charge).withdrawn(charge) == Account()
        True
        """
        surplus, debt = self._booked(charge, charge.expected_cost_usd - charge.budget_usd)
        return replace(
            self,
            calls=self.calls - 1,
            open_calls=self.open_calls - 1,
            in_flight_usd=self._in_flight_without(charge),
            surplus_usd=surplus,
            debt_usd=debt,
        )

    def reopened(self, charge: Charge) -> Account:
        """Return the account before a decision was given up as lost, which was settled for its expected cost.

        >>> charge = Charge(expected_cost_usd=0.003, budget_usd=0.002, surplus_cap_usd=0.1, booking="surplus")
        >>> lost = Account().dispatched(charge).settled(charge, cost_usd=0.003)
        >>> lost.reopened(charge).settled(charge, cost_usd=0.001).spend_usd  # it was answered after all
        0.001
        """
        return replace(
            self,
            open_calls=self.open_calls + 1,
            # A rounding error must not make it negative.
            spend_usd=max(0.0, self.spend_usd - charge.expected_cost_usd),
            in_flight_usd=self.in_flight_usd + charge.expected_cost_usd,
        )

    def _in_flight_without(self, charge: Charge) -> float:
        # An exact zero when nothing is open: rounding errors must not pile up over years.
        return self.in_flight_usd - charge.expected_cost_usd if self.open_calls > 1 else 0.0

    def _booked(self, charge: Charge, saved_usd: float) -> tuple[float, float]:
        """Return surplus and debt with dollars saved (negative: overspent) booked where the charge says."""
        if charge.booking == "surplus":
            return min(self.surplus_usd + saved_usd, charge.surplus_cap_usd), self.debt_usd
        if charge.booking == "debt":
            return self.surplus_usd, max(self.debt_usd - saved_usd, 0.0)
        return self.surplus_usd, self.debt_usd
