"""Stores and writers with one mistake each: a suite that cannot tell them from ours proves nothing about ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stageroute_router.testing.store.mutants import MUTANTS

HERE = Path(__file__).parent
IN_MEMORY, IN_SQL = ("test_contract.py", "TestMemoryStore"), ("test_contract.py", "TestSQLiteInMemory")
CAUGHT_BY = {
    "counts_repeats": IN_MEMORY,
    "replaces_without_moving_the_sums": IN_MEMORY,
    "lets_the_last_plan_win": IN_MEMORY,
    "lets_an_old_pin_win": IN_MEMORY,
    "forgets_what_was_folded": IN_MEMORY,
    "lets_any_caller_reward": IN_MEMORY,
    "counts_what_was_forgotten_where_it_was": IN_SQL,
    "counts_late_rewards_in_the_first_stage": IN_SQL,
    "keeps_what_was_folded_in_its_stage": IN_SQL,
    "leaves_the_stages_of_a_forgotten_segment": IN_SQL,
    "folds_rewards_away": IN_SQL,
    "forgets_mixes_too_soon": IN_SQL,
    "drops_what_failed": ("writer/test_writer.py", "test"),
}
"""A file of tests by mutant, and which of them are run."""

CAUGHT_BY_KILLING = {"commits_twice", "acknowledges_before_the_commit"}
"""Only a crash shows these: see ``tests/crash``."""


@pytest.mark.parametrize("mutant", CAUGHT_BY)
def test_the_suite_catches(mutant: str) -> None:
    file, tests = CAUGHT_BY[mutant]
    plugins = ("-p", "no:cacheprovider", "-p", "stageroute_router.testing.store.mutants")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", *plugins, "-k", tests, str(HERE / file)],
        env=os.environ | {"STAGEROUTE_MUTANT": mutant},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == pytest.ExitCode.TESTS_FAILED, finished.stdout


def test_every_mutant_is_hunted() -> None:
    assert set(MUTANTS) == set(CAUGHT_BY) | CAUGHT_BY_KILLING
