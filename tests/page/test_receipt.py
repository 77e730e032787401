"""What the page says of a decision in a segment, and of one with a price of its own."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from stageroute_router.page.numbers import reward, usd
from stageroute_router.page.rendering import Rendering
from stageroute_router.reports.values import DecisionReceipt
from tests.support import sample


@pytest.fixture(scope="module")
def receipt() -> DecisionReceipt:
    found = sample.ran(calls=400).receipt("call-1")
    assert found is not None
    return found


def text_of(receipt: DecisionReceipt) -> str:
    """Return the text that a reader sees."""
    html = Rendering().receipt(receipt).replace("&#39;", "'")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_a_decision_over_all_calls_does_not_speak_of_segments(receipt: DecisionReceipt) -> None:
    text = text_of(receipt)
    assert "segment" not in text.lower()
    assert "Shadow price" in text
    assert "Reward, at most" in text


def test_a_segment_has_its_own_estimates(receipt: DecisionReceipt) -> None:
    told = sample.in_a_segment(receipt)
    chosen = next(one for one in told.alternatives if one.arm == told.arm)
    text = text_of(told)
    expected = f"reward {reward(chosen.segment_reward)} and cost {usd(chosen.segment_cost_usd)} expected"
    assert f"sql: {expected} in it" in text
    assert f"{reward(told.reward_ucb)} over all segments" in text
    assert "Reward expected Cost expected" in text
    idle = next(one for one in told.alternatives if one.segment_reward is None)
    assert f"at most {reward(idle.reward_ucb)} at least {usd(idle.cost_lcb_usd)}" in text
    unknown = text_of(replace(told, estimates_of=""))
    assert f"sql, of which nothing was known yet: {expected} for calls without a segment" in unknown
    assert "sql; the estimates are those of all calls" in text_of(replace(receipt, segment="sql"))


def test_a_price_of_its_own_is_not_called_the_budgets(receipt: DecisionReceipt) -> None:
    text = text_of(sample.in_a_segment(receipt))
    assert "This call's price was its caller's: 50 reward per dollar." in text
    assert "the price that its caller gave it" in text
    assert "shadow price" not in text.lower()
