"""``stageroute replay``: from a file and options to a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stageroute_router.errors import SettingsError
from stageroute_router.replay.report import ReplayReport
from stageroute_router.replay.run import replay
from stageroute_router.replay.segments import By, segments_of
from stageroute_router.replay.stream import DEFAULT_CALLS, draw_stream
from stageroute_router.settings.group import GroupSettings
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.tables.load import load_table


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """The options; see ``stageroute replay --help``. None takes the protocol's value."""

    budget_usd: float | None = None
    budget_fraction: float = 0.3
    max_live: int | None = None
    stages: int | None = None
    calls: int | None = None
    seed: int = 0
    estimator: str | None = None
    gamma: float | None = None
    max_share: float = 1.0
    reward_delay: int = 0
    reward_rate: float = 1.0
    segments: By = "none"
    through_litellm: bool = False


def run_replay(
    path: Path, options: ReplayOptions, *, progress: Callable[[int, int], None] | None = None
) -> ReplayReport:
    """Replay a table of recorded outcomes by the stream protocol.

    Args:
        path: an ``.npz``, ``.csv`` or ``.parquet`` file; see ``replay.table``.
        options: see there.
        progress: called with calls done and calls in all.

    Raises:
        TableError: the table cannot be read.
        SettingsError: an option is out of its domain.
    """
    if not 0 < options.max_share <= 1:
        msg = f"max_share must be in (0, 1], not {options.max_share!r}"
        raise SettingsError(msg)
    if options.through_litellm and options.segments != "none":
        msg = "segments are replayed without LiteLLM only; leave out --through-litellm"
        raise SettingsError(msg)
    table = load_table(path)
    calls = options.calls or (table.queries if options.through_litellm else DEFAULT_CALLS)
    stream = draw_stream(
        table,
        seed=options.seed,
        calls=calls,
        budget_fraction=options.budget_fraction,
        budget_usd=options.budget_usd,
        stages=options.stages,
        max_live=options.max_live,
        reward_delay=options.reward_delay,
        reward_rate=options.reward_rate,
    )

    def report(done: int) -> None:
        if progress is not None:
            progress(done, calls)

    given = {"estimator": options.estimator, "gamma": options.gamma}
    settings: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    group = _checked({"budget_usd_per_call": stream.budget_usd, **settings})
    if options.through_litellm:
        from stageroute_router.replay.live import replay_live  # noqa: PLC0415 - imports LiteLLM

        result = replay_live(
            table,
            stream,
            name=table.name,
            settings=settings,
            seed=options.seed,
            max_share=options.max_share,
            progress=report,
        )
    else:
        result = replay(
            table,
            stream,
            name=table.name,
            estimator=group.policy().estimator,
            seed=options.seed,
            max_share=options.max_share,
            segment_of=segments_of(table, options.segments, seed=options.seed),
            progress=report,
        )
    return ReplayReport.of(result, table)


def _checked(settings: dict[str, object]) -> GroupSettings:
    return parse_groups({"replay": settings})["replay"]
