"""A group's account: calls made, dollars spent and promised, and the surplus the pacer may still spend."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a decision books on the group's account before its cost is known.

    Args:
        expected_cost_usd: what the call is expected to cost; held as in flight until the cost arrives.
        budget_usd: the budget per call at the decision.
        surplus_cap_usd: the largest surplus that may be saved up (old credit must not fund a spree).
        paced: whether the surplus moves. False while the budget is certainly unreachable: a debt that nobody
            could have avoided is not to be repaid.
    """

    expected_cost_usd: float
    budget_usd: float
    surplus_cap_usd: float
    paced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A group's running totals. All amounts in US dollars.

    Args:
        calls: decisions made.
        open_calls: decisions whose cost is not known yet.
        spend_usd: costs known so far.
        in_flight_usd: expected costs of the open decisions.
        surplus_usd: budget not yet spent (negative: overspent), capped from above; what the pacer steers by.
        token_calls: calls whose token counts are known.
        prompt_tokens: their prompt tokens in all.
        completion_tokens: their completion tokens in all.

    >>> charge = Charge(expected_cost_usd=0.003, budget_usd=0.002, surplus_cap_usd=0.1, paced=True)
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
    token_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def dispatched(self, charge: Charge) -> Account:
        """Return the account after a decision: its expected cost is in flight and charged to the surplus."""
        surplus = self.surplus_usd
        if charge.paced:
            surplus = min(surplus + charge.budget_usd - charge.expected_cost_usd, charge.surplus_cap_usd)
        return replace(
            self,
            calls=self.calls + 1,
            open_calls=self.open_calls + 1,
            in_flight_usd=self.in_flight_usd + charge.expected_cost_usd,
            surplus_usd=surplus,
        )

    def settled(
        self, charge: Charge, *, cost_usd: float, prompt_tokens: int = 0, completion_tokens: int = 0
    ) -> Account:
        """Return the account after a decision's cost became known (0 for a call that failed)."""
        surplus = self.surplus_usd
        if charge.paced:
            surplus = min(surplus + charge.expected_cost_usd - cost_usd, charge.surplus_cap_usd)
        open_calls = self.open_calls - 1
        has_tokens = prompt_tokens + completion_tokens > 0
        return replace(
            self,
            open_calls=open_calls,
            spend_usd=self.spend_usd + cost_usd,
            # An exact zero when nothing is open: rounding errors must not pile up over years.
            in_flight_usd=self.in_flight_usd - charge.expected_cost_usd if open_calls else 0.0,
            surplus_usd=surplus,
            token_calls=self.token_calls + has_tokens,
            prompt_tokens=self.prompt_tokens + prompt_tokens,
            completion_tokens=self.completion_tokens + completion_tokens,
        )

    def withdrawn(self, charge: Charge) -> Account:
        """Return the account after a decision turned out not to count (the answer came from a cache)."""
        surplus = self.surplus_usd
        if charge.paced:
            surplus = min(surplus + charge.expected_cost_usd - charge.budget_usd, charge.surplus_cap_usd)
        open_calls = self.open_calls - 1
        return replace(
            self,
            calls=self.calls - 1,
            open_calls=open_calls,
            in_flight_usd=self.in_flight_usd - charge.expected_cost_usd if open_calls else 0.0,
            surplus_usd=surplus,
        )
