"""A provider that speaks OpenAI's API and answers from tables, on this machine."""

from __future__ import annotations

from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import Outcome, SimulatedModel

__all__ = ["Outcome", "SimulatedModel", "SimulatedProvider"]
