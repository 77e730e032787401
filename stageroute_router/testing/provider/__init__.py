"""A provider that speaks OpenAI's API and answers from tables, on this machine."""

from __future__ import annotations

try:
    import aiohttp as _aiohttp  # noqa: F401 - everything here needs it
except ModuleNotFoundError as error:
    msg = 'the simulated provider needs aiohttp: pip install "stageroute-router[testing]"'
    raise ImportError(msg) from error

from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import Outcome, SimulatedModel

__all__ = ["Outcome", "SimulatedModel", "SimulatedProvider"]
