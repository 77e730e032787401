"""Four real processes share one group, over an SQLite file and over PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stageroute_router.store.opening import open_store

PROGRAM = Path(__file__).with_name("sharing_worker.py")
WORKERS = 4
CALLS = 300


class Process:
    """A worker that does as it is told."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, name: str, argument: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, argument]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def end(self) -> int:
        """Let it end; return its exit code."""
        self.process.communicate(timeout=60)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/s.db"
    postgres = request.getfixturevalue("postgres")
    return str(postgres.url(postgres.new_database()))


@pytest.fixture
def workers(url: str) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        processes = [Process(url) for _ in range(WORKERS)]
        for process in processes:
            stack.callback(process.close)
        for process in processes:
            assert process.answer() == {"ready": True}
        yield processes


def ask_all(workers: list[Process], name: str, argument: object) -> list[dict[str, Any]]:
    for worker in workers:
        worker.ask(name, argument)
    return [worker.answer() for worker in workers]


def test_processes_agree_on_everything_and_lose_nothing(url: str, workers: list[Process]) -> None:
    answers = ask_all(workers, "work", CALLS)
    total = WORKERS * CALLS
    known = ask_all(workers, "wait", total)
    # Each worker's rewards reach one that never saw the decision, and count no second time.
    for worker, answer in zip(workers[1:] + workers[:1], answers, strict=True):
        worker.ask("reward", answer["rewarded"])
    assert [worker.answer() for worker in workers] == [{"statuses": ["unchanged"]}] * WORKERS
    assert [worker.end() for worker in workers] == [0] * WORKERS

    store = open_store(url)
    group = store.load("chat")
    plans = store.stages("chat")
    differences = store.verify()
    store.close()
    rewarded = {key: value for answer in answers for key, value in answer["rewarded"].items()}
    assert len(rewarded) == total
    assert (group.account.calls, group.account.open_calls) == (total, 0)
    pulls = {arm: cell.pulls for (_, arm), cell in group.statistics.items()}
    rewards = {arm: cell.reward_count for (_, arm), cell in group.statistics.items()}
    assert sum(rewards.values()) == total
    assert not differences
    assert [plan.stage for plan in plans] == list(range(1, len(plans) + 1))
    assert len(plans) in {7, 8, 9}, "1,200 calls of all workers are eight stages of 150, each a moment late"
    for one in known:
        assert one["calls"] == total
        assert (one["stage"], set(one["live"])) == (plans[-1].stage, set(plans[-1].live))
        assert {arm: count for arm, count in one["pulls"].items() if count} == pulls
        assert {arm: count for arm, count in one["rewards"].items() if count} == rewards
        assert one["spend_ratio"] < 1.1
