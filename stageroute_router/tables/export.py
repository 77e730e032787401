"""Decisions and their outcomes as a table: CSV, JSON lines or Parquet, streamed in batches."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from stageroute_router.errors import SettingsError
from stageroute_router.store.records import StoredDecision

Kind = Literal["text", "number", "count"]
Cell = str | float | int | None

BATCH = 10_000
"""Decisions held in memory at a time; also the size of a Parquet row group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the table.

    Args:
        name: its heading.
        kind: what its cells are.
        meaning: in plain words.
    """

    name: str
    kind: Kind
    meaning: str


COLUMNS = (
    Column(name="decision_id", kind="text", meaning="the decision"),
    Column(
        name="call_id", kind="text", meaning="LiteLLM's id of the call; its retries and fallbacks share it"
    ),
    Column(name="response_id", kind="text", meaning="the provider's id of the answer"),
    Column(name="group", kind="text", meaning="the model group"),
    Column(name="segment", kind="text", meaning="the segment; empty without context"),
    Column(name="stage", kind="count", meaning="the stage it was made in"),
    Column(name="made_at", kind="number", meaning="when, seconds since the epoch"),
    Column(name="arm", kind="text", meaning="the arm chosen"),
    Column(name="probability", kind="number", meaning="the probability it was chosen with"),
    Column(name="reward_ucb", kind="number", meaning="upper bound of its reward then"),
    Column(name="cost_lcb_usd", kind="number", meaning="lower bound of its cost then, US dollars"),
    Column(name="expected_cost_usd", kind="number", meaning="what the call was expected to cost, US dollars"),
    Column(name="budget_usd_per_call", kind="number", meaning="the group's budget then, US dollars per call"),
    Column(
        name="shadow_price",
        kind="number",
        meaning="reward that one more dollar would have bought; `inf` where no mixture kept the budget",
    ),
    Column(name="state", kind="text", meaning="`open`, `settled`, `failed` or `lost`"),
    Column(name="served_arm", kind="text", meaning="the arm that served, after a fallback another one"),
    Column(name="cost_usd", kind="number", meaning="what it cost, US dollars; empty while that is not known"),
    Column(name="prompt_tokens", kind="count", meaning="of the call; empty while that is not known"),
    Column(name="completion_tokens", kind="count", meaning="of the answer; empty while that is not known"),
    Column(name="closed_at", kind="number", meaning="when the call ended; empty while it is open"),
    Column(name="reward", kind="number", meaning="the mean of its rewards over their sources; empty without"),
    Column(name="rewards", kind="text", meaning='reward by source, a JSON object such as `{"app": 0.9}`'),
)
"""The columns, in their order. New ones are added at the end."""


def cells_of(stored: StoredDecision) -> tuple[Cell, ...]:
    """Return a decision's cells in the order of :data:`COLUMNS`."""
    made, rewards = stored.decision, stored.rewards
    return (
        made.decision_id,
        made.call_id,
        stored.response_id,
        made.group,
        made.segment,
        made.stage,
        made.made_at,
        made.arm,
        made.probability,
        made.reward_ucb,
        made.cost_lcb_usd,
        made.charge.expected_cost_usd,
        made.charge.budget_usd,
        made.shadow_price,
        stored.state,
        stored.served_arm,
        stored.cost_usd,
        stored.prompt_tokens,
        stored.completion_tokens,
        stored.closed_at,
        math.fsum(rewards.values()) / len(rewards) if rewards else None,
        json.dumps(dict(sorted(rewards.items()))) if rewards else None,
    )


def between(
    decisions: Iterable[StoredDecision], *, since: float | None, until: float | None
) -> Iterator[StoredDecision]:
    """Return the decisions made at ``since`` or later and before ``until``, seconds since the epoch."""
    earliest = -math.inf if since is None else since
    end = math.inf if until is None else until
    return (stored for stored in decisions if earliest <= stored.decision.made_at < end)


class TableWriter(Protocol):
    """Writes rows in one file format."""

    def write(self, rows: Sequence[tuple[Cell, ...]]) -> None:
        """Write rows in the order of :data:`COLUMNS`."""
        ...

    def close(self) -> None:
        """Write the remaining rows. Without this call the file is incomplete."""
        ...


def write_table(decisions: Iterable[StoredDecision], writer: TableWriter) -> Iterator[int]:
    """Write decisions in batches, and yield the count so far after each."""
    remaining = iter(decisions)
    written = 0
    while batch := [cells_of(stored) for stored in islice(remaining, BATCH)]:
        writer.write(batch)
        written += len(batch)
        yield written


class CsvWriter:
    """Writes comma-separated values: UTF-8, a heading, an empty cell for what is not known.

    Args:
        stream: where; opened with ``newline=""``.
        raw_text: whether to leave text as it is. Otherwise text that a spreadsheet would take for a formula (it
            begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return) gets an apostrophe in front: ids come
            from clients and providers, and a table must not run their code.
    """

    def __init__(self, stream: TextIO, *, raw_text: bool = False) -> None:
        self._stream = stream
        self._writer = csv.writer(stream, lineterminator="\n")
        self._texts = () if raw_text else tuple(i for i, c in enumerate(COLUMNS) if c.kind == "text")
        self._writer.writerow([column.name for column in COLUMNS])

    def write(self, rows: Sequence[tuple[Cell, ...]]) -> None:
        """See :class:`TableWriter`."""
        self._writer.writerows(rows if not self._texts else map(self._guarded, rows))

    def close(self) -> None:
        """See :class:`TableWriter`."""
        self._stream.flush()

    def _guarded(self, row: tuple[Cell, ...]) -> Sequence[Cell]:
        if not any(_looks_like_a_formula(row[i]) for i in self._texts):
            return row
        return [
            f"'{cell}" if i in self._texts and _looks_like_a_formula(cell) else cell
            for i, cell in enumerate(row)
        ]


class JsonLinesWriter:
    """Writes a JSON object a line, ``rewards`` an object in it, infinities as null."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._names = [column.name for column in COLUMNS]

    def write(self, rows: Sequence[tuple[Cell, ...]]) -> None:
        """See :class:`TableWriter`."""
        for row in rows:
            line: dict[str, object] = dict(zip(self._names, map(_finite, row), strict=True))
            line["rewards"] = json.loads(str(line["rewards"])) if line["rewards"] else {}
            self._stream.write(json.dumps(line, allow_nan=False) + "\n")

    def close(self) -> None:
        """See :class:`TableWriter`."""
        self._stream.flush()


class ParquetWriter:
    """Writes a Parquet file, a row group per batch.

    Args:
        path: the file.

    Raises:
        SettingsError: PyArrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow  # noqa: PLC0415 - an extra
            import pyarrow.parquet  # noqa: PLC0415
        except ImportError as error:
            msg = "Parquet needs PyArrow: pip install 'stageroute-router[parquet]'"
            raise SettingsError(msg) from error
        self._pyarrow: Any = pyarrow
        types = {"text": pyarrow.string(), "number": pyarrow.float64(), "count": pyarrow.int64()}
        self._schema = pyarrow.schema([(column.name, types[column.kind]) for column in COLUMNS])
        self._file = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")

    def write(self, rows: Sequence[tuple[Cell, ...]]) -> None:
        """See :class:`TableWriter`."""
        columns = [
            self._pyarrow.array(cells, type=field.type)
            for cells, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._file.write_table(self._pyarrow.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        """See :class:`TableWriter`."""
        self._file.close()


def _looks_like_a_formula(cell: Cell) -> bool:
    return isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def _finite(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell
