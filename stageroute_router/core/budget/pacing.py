"""Pacing: turn what was over- or underspent so far into the budget of the next call.

The paper keeps the budget only in expectation, through lower confidence bounds of the costs; on recorded tables
that overspends by 1.1 to 5 times and never comes back. Tracking realised (and in-flight) spend keeps it.
"""

from __future__ import annotations


def horizon_calls(calls_per_stage: int) -> float:
    """Return over how many calls a surplus is spent, or a debt repaid: half a stage.

    Measured plateau: a quarter to four stages give the same reward; shorter keeps the worst quarter's spend
    closer to the budget.

    >>> horizon_calls(500)
    250.0
    """
    return max(1.0, calls_per_stage / 2)


def surplus_cap_usd(*, budget_usd: float, calls_per_stage: int) -> float:
    """Return the largest surplus worth saving, US dollars: what raises the next budget by a tenth.

    Without a cap, hours of cheap traffic save up credit that one newcomer then spends at once. Measured plateau:
    raising by 5 to 20 % gives the same reward as raising by 100 %, and a quarter of a stream then spends at most
    1.01 of its budget instead of 1.06.

    >>> surplus_cap_usd(budget_usd=0.002, calls_per_stage=500)
    0.05
    """
    return 0.1 * budget_usd * horizon_calls(calls_per_stage)


def paced_budget_usd(*, budget_usd: float, surplus_usd: float, calls_per_stage: int) -> float:
    """Return the budget of the next call, US dollars: at least 0, at most twice the budget per call.

    Args:
        budget_usd: average allowed per call, > 0.
        surplus_usd: budget not spent so far (negative: overspent), in-flight calls counted at expected cost.
        calls_per_stage: calls between two maintenance windows.

    >>> paced_budget_usd(budget_usd=0.002, surplus_usd=-0.1, calls_per_stage=500)
    0.0016
    """
    paced = budget_usd + surplus_usd / horizon_calls(calls_per_stage)
    return min(max(paced, 0.0), 2 * budget_usd)
