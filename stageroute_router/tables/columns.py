"""The columns of a CSV or Parquet file, and the position of each value in the file, for messages."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stageroute_router.errors import TableError

Columns = Mapping[str, Sequence[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """What was read.

    Args:
        columns: the known ones by name, all of one length: text of a CSV file, values of a Parquet file.
        lines: of a CSV file, the line that each row ends on, from 1; None of a Parquet file, whose rows count from 0.
    """

    columns: Columns
    lines: Sequence[int] | None = None

    def place(self, index: int) -> str:
        """Return the position of a row, for a message."""
        return f"row {index}" if self.lines is None else f"line {self.lines[index]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """The columns that a kind of table has; others are not read.

    Args:
        kind: the kind of table, for messages: "table", "benchmark".
        required: columns that must be there.
        optional: columns that may be.
    """

    kind: str
    required: tuple[str, ...]
    optional: tuple[str, ...]

    def known(self, header: Collection[str]) -> list[str]:
        """Return which columns of a file's header are known, in its order."""
        return [name for name in header if name in self.required or name in self.optional]

    def check(self, path: Path, header: Sequence[str]) -> None:
        """Raise :class:`~stageroute_router.errors.TableError` where columns are missing or doubled."""
        missing = [name for name in self.required if name not in header]
        if missing:
            found = ", ".join(header) or "none"
            message = (
                f"{path}: the column(s) {', '.join(missing)} are missing; a {self.kind} needs "
                f"{', '.join(self.required)} and has {found}"
            )
            raise TableError(message)
        twice = sorted({name for name in self.known(header) if header.count(name) > 1})
        if twice:
            raise TableError(f"{path}: the column(s) {', '.join(twice)} appear twice; keep one of each")


def read_csv_columns(path: Path, columns: TableColumns) -> TableFile:
    """Read a CSV file in UTF-8, whose first line names the columns.

    Raises:
        TableError: it is no such file, a column is missing or doubled, or a line is too short or too long.
        OSError: it cannot be opened.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            columns.check(path, header)
            read: dict[str, list[object]] = {name: [] for name in columns.known(header)}
            lines: list[int] = []
            for values in reader:
                if not values:
                    continue
                if len(values) != len(header):
                    message = (
                        f"{path}: line {reader.line_num} has {len(values)} fields, but the header has {len(header)}; "
                        "correct it"
                    )
                    raise TableError(message)
                lines.append(reader.line_num)
                for name, value in zip(header, values, strict=True):
                    if name in read:
                        read[name].append(value.strip())
    except (csv.Error, UnicodeDecodeError) as error:
        raise TableError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    return TableFile(columns=read, lines=lines)


def read_parquet_columns(path: Path, columns: TableColumns) -> TableFile:
    """Read a Parquet file; needs pyarrow, which the ``parquet`` extra installs.

    Raises:
        TableError: it is no such file, a column is missing or doubled, or pyarrow is not installed.
        OSError: it cannot be opened.
    """
    try:
        import pyarrow  # noqa: PLC0415 - of an extra
        import pyarrow.parquet  # noqa: PLC0415 - of an extra
    except ImportError as error:
        message = (
            f"{path}: Parquet needs pyarrow; install stageroute-router[parquet] or convert the table to CSV"
        )
        raise TableError(message) from error
    with path.open("rb") as opened:
        try:
            with pyarrow.parquet.ParquetFile(opened) as file:
                header = [str(name) for name in file.schema_arrow.names]
                columns.check(path, header)
                content = file.read(columns=columns.known(header))
        except (pyarrow.ArrowException, OSError) as error:
            raise TableError(f"{path}: not a Parquet file ({error})") from error
    return TableFile(columns={str(name): content.column(name).to_pylist() for name in content.column_names})
