"""Tiers of tests: what a test needs beside Python decides its markers, and ``pytest --quick`` leaves all of these out.

A folder, a file or a single test has its tier from the table below; a test that asks for a server or a browser has it
from its fixtures. In a quick run, a test that starts a process or imports LiteLLM fails and names this table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent

TIERS = {
    "litellm": (
        "stageroute_router/hook",
        "stageroute_router/metrics",
        "stageroute_router/proxy",
        "stageroute_router/replay",
        "stageroute_router/router",
        "stageroute_router/telemetry",
        "tests/docs",
        "tests/hook",
        "tests/integrations",
        "tests/metrics",
        "tests/cli/test_real_sources.py",
        "tests/page/test_in_the_proxy.py",
        "tests/proxy",
        "tests/testing/test_provider_litellm.py",
        "tests/whole/test_canary.py",
    ),
    "process": (
        "tests/charts/test_renderer.py",
        "tests/cli/test_cli.py",
        "tests/cli/test_export.py::test_full_disk_is_an_error_in_a_line",
        "tests/cli/test_export.py::test_memory_does_not_grow_with_the_table",
        "tests/cli/test_export.py::test_reader_that_has_seen_enough_ends_it_quietly",
        "tests/cli/test_show.py::test_colour_is_for_terminals_and_can_be_switched_off",
        "tests/cli/test_show.py::test_errors_of_a_process_are_told_without_a_traceback",
        "tests/cli/test_watch.py",
        "tests/crash",
        "tests/faults",
        "tests/groups/test_segmenter.py::test_a_forked_child_goes_on",
        "tests/page/test_routes.py",
        "tests/process/test_ids.py::test_a_forked_child_does_not_repeat_its_parent",
        "tests/router/test_token_keys.py::test_processes_that_start_at_the_same_moment_agree_on_one_secret",
        "tests/store/sql/test_migrations.py::test_opening_a_database_that_is_up_to_date_does_not_import_alembic",
        "tests/store/sql/test_migrations.py::test_several_processes_may_migrate_at_once",
        "tests/store/writer/test_writer.py::test_a_program_that_ends_without_closing_loses_nothing",
        "tests/testing/test_provider.py",
        "tests/whole/test_examples.py",
        "tests/whole/test_packaging.py",
    ),
    "framework": ("tests/integrations/frameworks",),
    "browser": ("tests/page/test_browser.py",),
    "slow": (
        "tests/benchmarks",
        "tests/core/routing/test_oracle.py",
        "tests/core/test_probabilities.py",
        "tests/page/test_real_data.py",
        "tests/replay",
        "tests/store/test_mutants.py",
        "tests/store/test_state_machine.py",
    ),
}
"""By marker: folders, files, and tests (``file::name``) that need it."""

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
        pytest.fail(f"{broken[0]}: not in a quick test; name its tier in conftest.py")


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
