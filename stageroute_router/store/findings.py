"""What a store finds wrong with what it keeps: typed, so that a status can count it and a command print it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProblem:
    """A row that cannot be used. It is left out, and left as it is.

    Args:
        table: where it is.
        row: its key.
        problem: what is wrong with it.
    """

    table: str
    row: tuple[str | int, ...]
    problem: str

    def __str__(self) -> str:
        return f"{self.table} {'/'.join(map(str, self.row))}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A sum that is not what the decisions and rewards amount to.

    Args:
        group: the model group.
        cell: (segment, arm), or None for the group's account.
        name: which sum.
        stored: its value in the database, of whatever type is found there.
        folded: what it should be.
    """

    group: str
    cell: tuple[str, str] | None
    name: str
    stored: object
    folded: float

    def __str__(self) -> str:
        place = "account" if self.cell is None else f"arm {self.cell[1]!r}"
        if self.cell is not None and self.cell[0]:
            place += f" in segment {self.cell[0]!r}"
        return f"group {self.group!r}, {place}: {self.name} is {self.stored!r}, should be {self.folded!r}"
