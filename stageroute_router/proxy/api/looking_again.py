"""Patience with ids that nobody knows yet: LiteLLM reports on a call after its answer, and maybe to another worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

AGAIN_AFTER_S = (0.05, 0.1, 0.2)
"""When an unknown id is looked for again, in seconds: another worker stores a call within 0.25 s of its end."""

Found = TypeVar("Found")


async def looked_for(look: Callable[[], Awaitable[Found | None]]) -> Found | None:
    """Return what ``look`` finds, now or a few moments later; None if it still finds nothing then."""
    for wait in AGAIN_AFTER_S:
        found = await look()
        if found is not None:
            return found
        await asyncio.sleep(wait)
    return await look()
