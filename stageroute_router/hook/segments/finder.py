"""Finds the segment of a call, and the price that its caller gives it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from stageroute_router.hook.calls.counters import StrategyCounters
from stageroute_router.hook.calls.request import text_of
from stageroute_router.hook.compat import LiteLLMCompat, Request
from stageroute_router.hook.interfaces import Routing
from stageroute_router.hook.segments.embedding import Embedder, Embedding
from stageroute_router.hook.segments.sources import (
    Call,
    SegmentSource,
    WrongPriceError,
    WrongSegmentError,
    price_of,
)
from stageroute_router.process.logs import RateLimitedLogger

logger = logging.getLogger("stageroute_router")


class SegmentFinder:
    """Finds segments and prices. Whatever goes wrong with either, the call goes on.

    Args:
        compat: the router.
        routing: the runtime.
        counters: count the calls whose segment's name cannot be used.
        sources: where the segments of each group's calls come from; a group that is not named has none.
        embeddings: how the texts of calls are embedded, for groups whose segments are found so.
    """

    def __init__(
        self,
        compat: LiteLLMCompat,
        routing: Routing,
        *,
        counters: StrategyCounters,
        sources: Mapping[str, SegmentSource],
        embeddings: Mapping[str, Embedding],
    ) -> None:
        self._routing = routing
        self._counters = counters
        self._sources = sources
        self._embedders = {
            group: Embedder(compat.router, routing, group=group, embedding=one, has_model=compat.has_model)
            for group, one in embeddings.items()
        }
        self._log = RateLimitedLogger(logger)  # in a server, clients say what cannot be used

    async def embedded(self, group: str, request: Request, *, asked: Mapping[str, Any]) -> str | None:
        """Return the segment of a call by its text's embedding; None in groups whose segments are not found so."""
        embedder = self._embedders.get(group)
        if embedder is None:
            return None
        try:
            return await embedder.segment(text_of(request, asked))
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self._routing.internal_error(error)
            return ""

    def embedded_now(self, group: str, request: Request, *, asked: Mapping[str, Any]) -> str | None:
        """Do the same in a synchronous call."""
        embedder = self._embedders.get(group)
        if embedder is None:
            return None
        try:
            return embedder.segment_now(text_of(request, asked))
        except Exception as error:  # noqa: BLE001 - whatever it is, the user's call goes on
            self._routing.internal_error(error)
            return ""

    def segment(self, group: str, request: Request, *, asked: Mapping[str, Any]) -> str:
        """Return the segment of a call; ``""`` where it has none, and where what names it cannot be used."""
        source = self._sources.get(group)
        if source is None:
            return ""
        try:
            by_text = partial(self._routing.segment_of_text, group)
            return source(Call(request=request, asked=asked, by_text=by_text))
        except WrongSegmentError as error:
            self._counters.record_misnamed(group)
            self._log.warning(
                "calls of group %r count in no segment of their own, %d so far: %s",
                group,
                self._counters.read().misnamed[group],
                error,
            )
        except Exception as error:  # noqa: BLE001 - the application's function may raise anything
            self._routing.internal_error(error)
        return ""

    def price(self, group: str, request: Request) -> float | None:
        """Return what the caller would pay for reward; None where it does not say, or not clearly."""
        try:
            return price_of(request)
        except WrongPriceError as error:
            self._log.warning("calls of group %r are left to the budget: %s", group, error)
            return None
