"""A nursery of programs to kill, and the databases they are killed on."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from stageroute_router.store.sql.store import SqlStore

FEWEST_STATEMENTS = 8
CLIENT = Path(__file__).with_name("client.py")


class Child:
    """A program that runs in a process of its own, and what it tells."""

    def __init__(self, pipe: Path) -> None:
        self._lines = os.fdopen(os.open(pipe, os.O_RDONLY), encoding="ascii")
        self.pid = int(self._next()[1])
        self.told: list[list[str]] = []

    def read(self) -> list[str]:
        """Wait for a line and return its words."""
        words = self._next()
        if words[0] == "error":
            raise AssertionError(" ".join(words))
        self.told.append(words)
        return words

    def kill(self) -> list[list[str]]:
        """Kill it, and return all it has told, what was still in the pipe included."""
        os.kill(self.pid, signal.SIGKILL)
        return self.rest()

    def rest(self) -> list[list[str]]:
        """Wait for its end, and return all it has told."""
        for line in self._lines:
            if line.endswith("\n"):  # a pipe takes short lines whole
                words = line.split()
                assert words[0] != "error", line
                self.told.append(words)
        self._lines.close()
        return self.told

    def _next(self) -> list[str]:
        line = self._lines.readline()
        assert line.endswith("\n"), "it died before it was killed"
        return line.split()


class Nursery:
    """Begins programs of ``client.py`` in processes of their own, within milliseconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, str(CLIENT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # a process that forks should have one thread
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def begin(self, program: str, *, mutant: str | None = None, **arguments: Any) -> Child:
        """Begin a program, in a process broken in the way that a mutant is, if one is named."""
        pipe = self._folder / f"pipe{next(self._numbers)}"
        os.mkfifo(pipe)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(pipe), program, arguments, mutant]) + "\n")
        self._process.stdin.flush()
        return Child(pipe)

    def killed_everywhere(self, program: str, **arguments: Any) -> Iterator[list[list[str]]]:
        """Begin a program again and again, killed one statement later each time, until it comes to its end.

        Gives what it told each time.
        """
        for number in itertools.count(1):
            told = self.begin(program, number=number, **arguments).rest()
            yield told
            if told[-1:] == [["end"]]:
                assert number > FEWEST_STATEMENTS, "it was hardly killed at all"
                return

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


@dataclass(frozen=True, kw_only=True)
class Database:
    """An empty database, looked at past the store."""

    url: str

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        engine = create_engine(self._driver_url)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(text(query))]
        finally:
            engine.dispose()

    @property
    def _driver_url(self) -> str:
        return self.url.replace("postgresql://", "postgresql+psycopg://")

    def check_integrity(self) -> None:
        """Have the database look for damage itself."""
        if self.url.startswith("sqlite"):
            assert self.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    one = Nursery(tmp_path_factory.mktemp("pipes"))
    yield one
    one.close()


@pytest.fixture
def empty_postgresql(postgres_url: str) -> Database:
    """A place in PostgreSQL without any tables."""
    return Database(url=postgres_url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database of each kind, with tables and nothing in them."""
    in_file = f"sqlite:///{tmp_path}/s.db"
    url = in_file if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    SqlStore(url, migrate="auto").close()
    return Database(url=url)
