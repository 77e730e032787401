"""CONTRIBUTING names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLES = [
    line
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
]
NAMED = sorted(
    {
        path
        for line in TABLES
        for path in re.findall(r"`([a-z_]+(?:/[\w.]+)+|[a-z_]+\.(?:py|md)|[a-z_]+)`", line)
    }
)


@pytest.mark.parametrize("path", NAMED)
def test_every_path_in_a_table_exists(path: str) -> None:
    inside = [folder / path for folder in map(ROOT.joinpath, FOLDERS)]
    assert any(each.exists() for each in inside)


def test_tables_name_paths() -> None:
    assert len(NAMED) > 40


FOLDERS = (
    ".",
    "stageroute_router",  # `page`, `terminal`
    "stageroute_router/core/estimators",  # "beside `paper.py`"
    "stageroute_router/core/budget",
)
"""Where a path of a table may start."""
