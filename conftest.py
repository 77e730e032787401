"""Tiers of tests: what a test needs beside Python decides its markers, and ``pytest --quick`` leaves all of these out.

A folder, a file or a single test has its tier from the table in ``tests/tiers.py``; a test that asks for a server or a
browser has it from its fixtures. In a quick run, a test that starts a process or imports LiteLLM fails and names that
table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiers import TIERS

ROOT = Path(__file__).parent

FIXTURES = {"chromium": "browser", "postgres_server": "postgres", "given_url": "postgres"}
"""By fixture: the marker of the tests that use it."""

PARAMETERS = {"postgres": "postgres", "postgresql": "postgres"}
"""By a fixture's parameter that asks for another fixture: the same."""

_broken: list[str] | None = None
"""What a quick test did that quick tests do not; None while none runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--quick``."""
    parser.addoption("--quick", action="store_true", help="only tests of no tier, see conftest.py")


def pytest_configure(config: pytest.Config) -> None:
    """Watch what quick tests do."""
    if config.option.quick:
        sys.addaudithook(_watch)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out in a quick run what is in the table: importing it may take longer than all of the rest."""
    if config.option.quick and _tiers_of(collection_path.relative_to(ROOT).as_posix()):
        return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its tiers' markers."""
    for item in items:
        tiers = _tiers_of(item.nodeid.partition("[")[0])
        tiers |= {FIXTURES[name] for name in FIXTURES if name in getattr(item, "fixturenames", ())}
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        tiers |= {
            PARAMETERS[value]
            for value in parameters.values()
            if isinstance(value, str) and value in PARAMETERS
        }
        if item.get_closest_marker("calls_litellm") is not None:
            tiers.add("litellm")
        for tier in sorted(tiers):
            item.add_marker(tier)
    if config.option.quick:
        markers = {*TIERS, *FIXTURES.values()}
        left_out = [item for item in items if markers & {marker.name for marker in item.iter_markers()}]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(autouse=True)
def _is_quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a quick test that did what quick tests do not."""
    global _broken  # noqa: PLW0603 - an audit hook cannot be taken away
    if not request.config.option.quick:
        yield
        return
    _broken = []
    yield
    broken, _broken = _broken, None
    if broken:
        pytest.fail(f"{broken[0]}: not in a quick test; name its tier in tests/tiers.py")


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if _broken is None:
        return
    if event in {"subprocess.Popen", "os.fork", "os.posix_spawn"}:
        _broken.append(event)
    elif event == "import" and arguments[0] == "litellm":
        _broken.append("import litellm")


def _tiers_of(node: str) -> set[str]:
    """Return the tiers of a path or of a test's id, relative to this folder."""
    parts = node.split("::")
    place = {*(part.as_posix() for part in (Path(parts[0]), *Path(parts[0]).parents)), node}
    return {tier for tier, places in TIERS.items() if not place.isdisjoint(places)}
