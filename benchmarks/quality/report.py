"""The report: Markdown with tables and pictures, JSON with every number, a summary for the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.quality import peer
from benchmarks.quality.catalogue import BY_NAME, KNOWING, OURS
from benchmarks.quality.measure import SUBSTANTIAL, WINDOW
from benchmarks.quality.pictures import save_pictures
from benchmarks.quality.study import KEEPS, Cell, Search
from benchmarks.quality.summary import BEATS, NEARLY, Beaten, Slope, Summary, beaten, slopes, summaries
from benchmarks.quality.variants import Variant

_PACKAGES = ("stageroute-router", "numpy", "litellm", "paretobandit", "mabwiser")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was measured.

    Args:
        command: how to measure it again.
        tables: names, with queries and models.
        variants: what was varied, horizons of the slope included.
        horizons: names of the variants that are horizons of the slope.
        seeds: streams per cell.
        calls: per stream unless a variant says otherwise.
        search: on what settings were tried.
        cells: the runs.
        missing: policies skipped, with the reason.
    """

    command: str
    tables: tuple[tuple[str, int, int], ...]
    variants: tuple[Variant, ...]
    horizons: tuple[str, ...]
    seeds: int
    calls: int
    search: Search
    cells: tuple[Cell, ...]
    missing: dict[str, str]

    @property
    def summaries(self) -> list[Summary]:
        """One line per variant and policy."""
        return summaries(self.cells)

    @property
    def beaten(self) -> list[Beaten]:
        """Where the default is beaten."""
        return beaten(self.cells)

    @property
    def slopes(self) -> list[Slope]:
        """How regret grows."""
        return slopes(self.cells, self.horizons)

    def save(self, folder: Path) -> list[Path]:
        """Write ``report.md``, ``report.json`` and the pictures; return what was written."""
        folder.mkdir(parents=True, exist_ok=True)
        pictures = save_pictures(self.cells, self.slopes, folder)
        text = folder / "report.md"
        text.write_text(self.markdown(pictures), encoding="utf-8")
        return [text, self.save_numbers(folder), *pictures]

    def save_numbers(self, folder: Path) -> Path:
        """Write ``report.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "report.json"
        path.write_text(json.dumps(_plain(self.to_dict()), indent=1) + "\n", encoding="utf-8")
        return path

    def to_dict(self) -> dict[str, object]:
        """Return every number."""
        return {
            "command": self.command,
            "versions": _versions(),
            "tables": [
                {"name": name, "queries": queries, "models": models} for name, queries, models in self.tables
            ],
            "variants": [asdict(variant) for variant in self.variants],
            "seeds": self.seeds,
            "calls": self.calls,
            "search": asdict(self.search),
            "skipped": self.missing,
            "summaries": [asdict(summary) for summary in self.summaries],
            "beaten": [asdict(found) for found in self.beaten],
            "slopes": [asdict(found) for found in self.slopes],
            "cells": [
                {
                    "variant": cell.variant,
                    "table": cell.table,
                    "fraction": cell.fraction,
                    "policy": cell.policy,
                    "setting": dict(cell.setting),
                    "settings_searched": cell.searched,
                    "figures": asdict(cell.figures),
                    "runs": [asdict(run) for run in cell.runs],
                }
                for cell in self.cells
            ],
        }

    def markdown(self, pictures: Sequence[Path] = ()) -> str:
        """Return the report's text."""
        tables = ", ".join(f"{name} ({queries:,} x {models})" for name, queries, models in self.tables)
        versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
        parts = [
            "# Quality under a budget, beside the peers",
            f"`{self.command}`",
            f"Tables (queries x models): {tables}. {self.seeds} seeds, {self.calls:,} calls unless said. {versions}.",
            *(f"**Skipped {name}**: {reason}" for name, reason in self.missing.items()),
            *self._variants(),
            *self._beaten(),
            *self._cells(),
            *self._slopes(),
            *(f"![{path.stem}]({path.name})" for path in pictures),
            *self._settings(),
            *self._notes(),
        ]
        return "\n\n".join(parts) + "\n"

    def _variants(self) -> list[str]:
        parts = []
        about = {variant.name: variant.about for variant in self.variants}
        for name in dict.fromkeys(summary.variant for summary in self.summaries):
            rows = [row for row in self.summaries if row.variant == name]
            rows.sort(key=lambda row: (row.policy != OURS, -row.reward_ratio))
            parts += [f"## {name}: {about[name]}", _table(_COLUMNS, rows)]
        return parts

    def _beaten(self) -> list[str]:
        found = self.beaten
        head = (
            f"## Cells in which a peer earns more than the default by over {BEATS}\n\n"
            f"Peers that keep the budget (no run above {KEEPS}), and those that nearly do (none above {NEARLY}). "
            "Differences are means over equal streams, ± their standard error; without luck: of the true means of the "
            "models chosen instead of the single answers."
        )
        if not any(cell.policy == OURS for cell in self.cells):
            return [head, "The default was not run."]
        if not found:
            return [head, "None."]
        columns: list[tuple[str, Callable[[Beaten], str]]] = [
            ("variant", lambda row: row.variant),
            ("table", lambda row: row.table),
            ("f", lambda row: f"{row.fraction:g}"),
            ("peer", lambda row: row.peer),
            ("its reward", lambda row: _number(row.reward_ratio)),
            ("ours", lambda row: _number(row.ours)),
            ("difference", lambda row: f"{row.reward_ratio - row.ours:+.4f} ± {_number(row.error)}"),
            ("without luck", lambda row: f"{row.expected_difference:+.4f} ± {_number(row.expected_error)}"),
            ("its worst spend", lambda row: _number(row.judged_spend, 3)),
            ("keeps the budget", lambda row: "yes" if row.keeps else "nearly"),
        ]
        found.sort(key=lambda row: (not row.keeps, row.ours - row.reward_ratio))
        return [head, _table(columns, found)]

    def _cells(self) -> list[str]:
        parts = []
        for name in dict.fromkeys(cell.variant for cell in self.cells):
            cells = [cell for cell in self.cells if cell.variant == name]
            keys = list(dict.fromkeys((cell.table, cell.fraction) for cell in cells))
            by_policy: dict[str, dict[tuple[str, float], Cell]] = {}
            for cell in cells:
                by_policy.setdefault(cell.policy, {})[cell.table, cell.fraction] = cell
            head = ["policy", *(f"{table} {fraction:g}" for table, fraction in keys)]
            lines = [
                [policy, *(_cell_text(mine.get(key)) for key in keys)] for policy, mine in by_policy.items()
            ]
            parts += [
                f"### {name}: mean reward ratio, least run; largest judged spend, by table and f",
                _rows(head, lines),
            ]
        return parts

    def _slopes(self) -> list[str]:
        found = self.slopes
        if not found:
            return []
        columns: list[tuple[str, Callable[[Slope], str]]] = [
            ("table", lambda row: row.table),
            ("f", lambda row: _number(row.fraction, 1)),
            ("policy", lambda row: row.policy),
            ("calls", lambda row: ", ".join(f"{calls:,}" for calls in row.calls)),
            ("regret", lambda row: ", ".join(f"{regret:.0f}" for regret in row.regret)),
            ("slope", lambda row: _number(row.slope, 2)),
        ]
        found.sort(key=lambda row: (row.table != "all", row.table, row.fraction))
        text = (
            "## Regret by number of calls\n\nSlope of log mean regret in log calls (the paper's bound grows as 2/3). "
            '"all": mean over cells of the regret per mean reward of the optimum. No slope where a regret is not above '
            "0: that policy bought reward over budget."
        )
        return [text, _table(columns, found)]

    def _settings(self) -> list[str]:
        cells = [cell for cell in self.cells if cell.searched]
        if not cells:
            return []
        lines = [
            [
                cell.variant,
                cell.table,
                f"{cell.fraction:g}",
                cell.policy,
                ", ".join(f"{key}={value}" for key, value in cell.setting.items()),
                str(cell.searched),
            ]
            for cell in cells
        ]
        text = (
            f"## Settings found\n\nTried on the first {self.search.seeds} of the measured streams, cut to "
            f"{self.search.calls:,} calls; the largest mean reward of those that keep the budget (but for 2 %) "
            "on all of them, else the least spend."
        )
        return [text, _rows(["variant", "table", "f", "policy", "setting", "tried"], lines)]

    def _notes(self) -> list[str]:
        names = dict.fromkeys([*(cell.policy for cell in self.cells), *self.missing])
        notes = "\n".join(f"- **{name}**: {BY_NAME[name].note}" for name in names)
        about = (
            "## What the numbers mean\n\n"
            "Reward ratio: total reward over that of the optimum, which knows every true mean and mixes the best live "
            "set of the models that have arrived; without luck: the same of the true means of the models chosen. "
            "Spend: total cost over the budget; on streams in which no model of the start is within the budget, over "
            "what the optimum spends, if that is more (judged spend). Reward and spend of the tables per variant are "
            "those of feasible streams; the others have columns of their own. "
            f"Wait: calls from the arrival of a model to which the optimum gives at least {SUBSTANTIAL:.0%} until it "
            f"has half of that share of the last {WINDOW} calls; cut where the optimum loses interest. Decisions/s "
            "include learning and maintenance windows, in one process."
        )
        estimator = f"## What peers are given\n\n{(peer.__doc__ or '').split(chr(10) * 2, 1)[1].strip()}"
        knowing = ", ".join(sorted(KNOWING))
        return [
            about,
            estimator,
            f"## Policies\n\n{notes}\n\n{knowing} knows the truth and counts as no peer.",
        ]

    def show(self, console: Console) -> None:
        """Print the summary."""
        for name in dict.fromkeys(summary.variant for summary in self.summaries):
            if name in self.horizons:
                continue
            rows = [row for row in self.summaries if row.variant == name]
            rows.sort(key=lambda row: (row.policy != OURS, -row.reward_ratio))
            table = Table(title=name)
            columns = [column for column in _COLUMNS if column[0] in _SHOWN]
            for number, (heading, _) in enumerate(columns):
                table.add_column(heading, justify="right" if number else "left", no_wrap=not number)
            for row in rows:
                table.add_row(
                    *(value(row) for _, value in columns), style="bold" if row.policy == OURS else None
                )
            console.print(table)
        for found in self.beaten:
            keeps = "keeps" if found.keeps else "nearly keeps"
            console.print(
                f"{found.peer} {keeps} the budget and earns {found.reward_ratio - found.ours:+.4f} "
                f"(± {_number(found.error)}; without luck {found.expected_difference:+.4f}) more: "
                f"{found.variant}, {found.table}, f = {found.fraction:g}",
                highlight=False,
            )
        for line in self.slopes:
            if line.table == "all":
                console.print(f"{line.policy}: regret grows as T^{_number(line.slope, 2)}", highlight=False)
        for name, reason in self.missing.items():
            console.print(f"[yellow]Skipped {name}[/yellow]: {reason}", highlight=False)


_COLUMNS: list[tuple[str, Callable[[Summary], str]]] = [
    ("policy", lambda row: row.policy),
    ("reward", lambda row: _number(row.reward_ratio)),
    ("without luck", lambda row: _number(row.expected_ratio)),
    ("worst cell", lambda row: _number(row.worst_cell)),
    ("5 % of runs", lambda row: _number(row.low_run)),
    ("worst spend", lambda row: _number(row.worst_spend, 3)),
    ("worst quarter", lambda row: _number(row.worst_quarter, 3)),
    ("keeps budget", lambda row: f"{row.kept}/{row.all_cells}"),
    ("infeasible: reward", lambda row: _number(row.infeasible_reward_ratio)),
    ("spend", lambda row: _number(row.infeasible_spend, 3)),
    ("wait", lambda row: f"{_number(row.wait, 0)} ({row.waits_reached}/{row.waits})"),
    ("decisions/s", lambda row: f"{row.decisions_per_second:,.0f}"),
]

_SHOWN = frozenset(
    {
        "policy",
        "reward",
        "worst cell",
        "5 % of runs",
        "worst spend",
        "worst quarter",
        "keeps budget",
        "decisions/s",
    }
)
"""What fits into a terminal."""


def _cell_text(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    found = cell.figures
    mark = "" if found.judged_spend <= KEEPS else " over"
    return (
        f"{_number(found.reward_ratio)}, {_number(found.worst_reward_ratio, 3)}; "
        f"{_number(found.judged_spend, 3)}{mark}"
    )


def _table(columns: Sequence[tuple[str, Callable[..., str]]], rows: Sequence[object]) -> str:
    lines = [[value(row) for _, value in columns] for row in rows]
    return _rows([heading for heading, _ in columns], lines)


def _rows(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    text = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    text += ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(text)


def _number(value: float, digits: int = 4) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _plain(value: object) -> object:
    """Return the value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
