"""An arm as configured: prices, shares, priors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPrior:
    """The prior of an arm in one segment.

    Args:
        segment: the segment's name.
        reward: expected reward of the arm's calls in it, in [0, 1].
        weight: how many observations that is worth there, >= 0.
    """

    segment: str
    reward: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One candidate model of a group.

    Args:
        name: its identity; statistics are kept under this name.
        max_share: largest fraction of the group's calls it may get, in (0, 1].
        requests_per_minute: calls a minute that its deployments take together, or None for no limit.
        tokens_per_minute: prompt and completion tokens a minute, likewise.
        input_usd_per_token: list price of a prompt token in US dollars, or None when unknown.
        output_usd_per_token: list price of a completion token in US dollars, or None when unknown.
        prior_cost_usd: expected cost of one call in US dollars, where known better than from list prices
            (prices times the group's observed token counts); None otherwise.
        prior_reward: expected reward before any was seen, in [0, 1], or None for no opinion.
        prior_weight: how many observations ``prior_reward`` is worth, as long as they do not speak against it; 0 for
            none.
        prior_source: who said so: the settings of the deployment, or the group's benchmark.
        segment_priors: what the same source says of it by segment; matters where calls are told apart.
        pinned: always live, whatever the programme says.
    """

    name: str
    max_share: float = 1.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    input_usd_per_token: float | None = None
    output_usd_per_token: float | None = None
    prior_cost_usd: float | None = None
    prior_reward: float | None = None
    prior_weight: float = 0.0
    prior_source: Literal["settings", "benchmark"] = "settings"
    segment_priors: tuple[SegmentPrior, ...] = ()
    pinned: bool = False
