"""Read a table of recorded outcomes from files with one line per call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from stageroute_router.errors import TableError
from stageroute_router.tables.columns import TableColumns, TableFile, read_csv_columns, read_parquet_columns
from stageroute_router.tables.outcomes import Floats, OutcomeTable

_COLUMNS = TableColumns(
    kind="table",
    required=("query", "model", "reward", "cost_usd"),
    optional=(
        *("prompt_tokens", "completion_tokens"),
        *("input_usd_per_token", "output_usd_per_token", "release"),
        *("task", "prompt"),
    ),
)


def read_csv(path: Path) -> OutcomeTable:
    """Read a ``.csv`` table (:mod:`stageroute_router.tables.load` has its columns).

    Raises:
        TableError: it is not such a file, or a column or value is missing, doubled or out of its domain.
    """
    return _LongTable(path, read_csv_columns(path, _COLUMNS)).build()


def read_parquet(path: Path) -> OutcomeTable:
    """Read a ``.parquet`` table; needs pyarrow, which the ``parquet`` extra installs.

    Raises:
        TableError: as :func:`read_csv`, or pyarrow is not installed.
    """
    return _LongTable(path, read_parquet_columns(path, _COLUMNS)).build()


class _LongTable:
    """Collects lines of calls into arrays of queries by models."""

    def __init__(self, path: Path, table: TableFile) -> None:
        self._path = path
        self._columns = table.columns
        self._place = table.place

    def build(self) -> OutcomeTable:
        queries, models = self._names("query"), self._names("model")
        if not queries:
            raise TableError(f"{self._path}: no rows; a table needs at least one call")
        row_of = {name: index for index, name in enumerate(dict.fromkeys(queries))}
        column_of = {name: index for index, name in enumerate(dict.fromkeys(models))}
        rows = np.array([row_of[name] for name in queries])
        columns = np.array([column_of[name] for name in models])
        self._check_rectangle(rows, columns, queries=list(row_of), models=list(column_of))
        shape = (len(row_of), len(column_of))

        def of_calls(column: str) -> Floats | None:
            if column not in self._columns:
                return None
            grid = np.full(shape, np.nan)
            grid[rows, columns] = self._numbers(column)
            return grid

        # Checked here, where the line is still known, and not only in the rectangle.
        reward = np.full(shape, np.nan)
        reward[rows, columns] = self._numbers(
            "reward",
            ok=lambda value: 0.0 <= value <= 1.0,
            fix="rewards must lie in [0, 1]; rescale the scores",
        )
        cost = np.full(shape, np.nan)
        cost[rows, columns] = self._numbers(
            "cost_usd",
            ok=lambda value: 0.0 <= value < float("inf"),
            fix="every call needs its cost in US dollars, 0 or more",
        )
        prompts = self._shared("prompt", rows, owners=list(row_of), kind="query")
        tasks = self._shared("task", rows, owners=list(row_of), kind="query")
        return OutcomeTable(
            name=str(self._path),
            models=tuple(column_of),
            reward=reward,
            cost_usd=cost,
            task=None if tasks is None else tuple(task or "" for task in tasks),
            release=self._releases(columns, list(column_of)),
            input_usd_per_token=self._prices("input_usd_per_token", columns, list(column_of)),
            output_usd_per_token=self._prices("output_usd_per_token", columns, list(column_of)),
            prompt_tokens=of_calls("prompt_tokens"),
            completion_tokens=of_calls("completion_tokens"),
            prompts=prompts,
        )

    def _names(self, column: str) -> list[str]:
        names = []
        for index, value in enumerate(self._columns[column]):
            if value is None or value == "":
                raise TableError(
                    f"{self._path}: {self._place(index)}: {column} is missing; every call needs one"
                )
            names.append(str(value))
        return names

    def _numbers(
        self, column: str, *, ok: Callable[[float], bool] | None = None, fix: str = "give a number or nothing"
    ) -> list[float]:
        numbers = []
        for index, value in enumerate(self._columns[column]):
            try:
                number = float("nan") if value is None or value == "" else float(str(value))
            except ValueError:
                number, good = float("nan"), False
            else:
                good = ok is None or ok(number)
            if not good:
                shown = "missing" if value is None or value == "" else repr(value)
                query, model = self._columns["query"][index], self._columns["model"][index]
                message = (
                    f"{self._path}: {self._place(index)}: {column} of query {query!s:.60}, model {model!r} is {shown}; "
                    f"{fix}"
                )
                raise TableError(message)
            numbers.append(number)
        return numbers

    def _check_rectangle(
        self, rows: np.ndarray, columns: np.ndarray, *, queries: list[str], models: list[str]
    ) -> None:
        first = np.full((len(queries), len(models)), -1)
        for index, cell in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            if first[cell] >= 0:
                message = (
                    f"{self._path}: {self._place(index)}: query {queries[cell[0]]:.60}, model {models[cell[1]]!r} was "
                    f"already on {self._place(int(first[cell]))}; keep one line per query and model"
                )
                raise TableError(message)
            first[cell] = index
        if (first < 0).any():
            row, column = np.argwhere(first < 0)[0]
            message = (
                f"{self._path}: query {queries[row]:.60} has no line for model {models[column]!r} "
                f"({int((first < 0).sum())} missing in all); every query needs every model"
            )
            raise TableError(message)

    def _shared(
        self, column: str, index_of: np.ndarray, *, owners: list[str], kind: str
    ) -> list[str | None] | None:
        """Return a column's one value per query or model, having checked that it is one."""
        if column not in self._columns:
            return None
        values: list[str | None] = [None] * len(owners)
        seen = [False] * len(owners)
        for index, (owner, value) in enumerate(zip(index_of.tolist(), self._columns[column], strict=True)):
            text = None if value is None or value == "" else str(value)
            if seen[owner] and values[owner] != text:
                message = (
                    f"{self._path}: {self._place(index)}: {column} differs from an earlier line of the same {kind} "
                    f"({owners[owner]:.60}); it must be the same on all of them"
                )
                raise TableError(message)
            values[owner], seen[owner] = text, True
        return values

    def _releases(self, columns: np.ndarray, models: list[str]) -> tuple[str, ...] | None:
        dates = self._shared("release", columns, owners=models, kind="model")
        return None if dates is None else tuple(date or "" for date in dates)

    def _prices(self, column: str, columns: np.ndarray, models: list[str]) -> Floats | None:
        if self._shared(column, columns, owners=models, kind="model") is None:
            return None
        prices = np.full(len(models), np.nan)
        prices[columns] = self._numbers(
            column,
            ok=lambda value: not (value < 0.0 or value == float("inf")),
            fix="a price must be 0 or more US dollars per token, or missing",
        )
        return prices
