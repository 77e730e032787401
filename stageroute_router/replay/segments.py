"""The segment of each call of a replay: from the table's labels, from prompts, or none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np

from stageroute_router.errors import SettingsError
from stageroute_router.groups.segmenter import Segmenting
from stageroute_router.tables.outcomes import OutcomeTable

By = Literal["none", "label", "auto"]

SegmentOf = Callable[[int], str]
"""Returns the segment of the query in a row of the table; asked once a call, in the order of the calls."""


def segments_of(table: OutcomeTable, by: By, *, seed: int) -> SegmentOf | None:
    """Return the function that gives each query its segment; None without segments.

    Args:
        table: recorded outcomes.
        by: ``"label"`` is the table's task of each query; ``"auto"`` finds clusters of prompts that look alike, as live
            calls would have it: the first 500 calls are of no segment, and the clusters are fitted on them. A query
            whose prompt is not recorded has that of another one, so that its lack tells nothing.
        seed: of that.

    Raises:
        SettingsError: the table has no labels, or no prompts.
    """
    match by:
        case "none":
            return None
        case "label":
            if table.task is None:
                msg = (
                    f"table {table.name!r} has no tasks to tell queries apart by; use --segments auto or none"
                )
                raise SettingsError(msg)
            return table.task.__getitem__
        case "auto":
            return _automatic(table, seed=seed)


def prompts_of(table: OutcomeTable, *, seed: int) -> list[str]:
    """Return the prompt of each query; for one that is not recorded another one, so that its lack tells nothing.

    Args:
        table: recorded outcomes.
        seed: of the draw of these others.

    Raises:
        SettingsError: the table has no prompts.
    """
    texts = table.prompts
    recorded = [] if texts is None else [row for row, text in enumerate(texts) if text is not None]
    if texts is None or not recorded:
        msg = f"table {table.name!r} has no prompts to tell queries apart by; use --segments label or none"
        raise SettingsError(msg)
    instead = np.random.default_rng([seed, 2]).choice(recorded, size=table.queries).tolist()
    chosen = (text if text is not None else texts[instead[row]] for row, text in enumerate(texts))
    return [text or "" for text in chosen]


def _automatic(table: OutcomeTable, *, seed: int) -> SegmentOf:
    prompts = prompts_of(table, seed=seed)
    segmenting = Segmenting(seed=seed)

    @cache
    def later(row: int) -> str:
        return segmenting.segment(prompts[row])

    def segment_of(row: int) -> str:
        if segmenting.segmenter is not None:
            return later(row)
        segment = segmenting.segment(prompts[row])
        fitted = segmenting.fit()
        if fitted is not None:
            segmenting.adopt(fitted)
        return segment

    return segment_of
