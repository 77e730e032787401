"""Under the servers people use: Gunicorn forks workers from a used router, Uvicorn starts them afresh."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from stageroute_router.store.sql.store import SqlStore

WORKERS = 2
SERVERS = {
    "gunicorn": (
        f"gunicorn --preload --bind=127.0.0.1:0 --workers={WORKERS} --worker-class=gthread --threads=4 web_app:wsgi",
        r"Listening at: (http://\S+)",
        "Booting worker",
    ),
    "uvicorn": (
        f"uvicorn --host=127.0.0.1 --port=0 --workers={WORKERS} web_app:asgi",
        r"running on (http://[\d.:]+)",
        "Application startup complete",
    ),
}


@contextmanager
def serving(server: str, url: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a server until the block ends; its address, and its process once all workers are there."""
    arguments, address, ready = SERVERS[server]
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments.split()],
        cwd=Path(__file__).parent,
        env={**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said: list[str] = []
    try:
        while sum(ready in line for line in said) < WORKERS:
            said.append(process.stdout.readline())
            assert said[-1], "".join(said)
        found = re.search(address, "".join(said))
        assert found is not None, "".join(said)
        yield found.group(1), process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


@pytest.mark.parametrize("server", SERVERS)
def test_workers_share_a_group_and_their_end_loses_no_acknowledged_reward(
    tmp_path: Path, server: str
) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    with serving(server, url) as (address, process):

        def ask(_number: int) -> list[str]:
            with urllib.request.urlopen(address, timeout=60) as response:  # noqa: S310 - our own
                return str(response.read(), "ascii").split()

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(300)))
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert len({pid for _, pid, _ in answers}) == WORKERS
    store = SqlStore(url)
    decisions = [store.decision(decision_id) for decision_id, _, _ in answers]
    group = store.load("chat")
    stages = store.stages("chat")
    differences = store.verify()
    store.close()
    assert all(one is not None and one.rewards == {"app": 0.5} for one in decisions)
    before = 1 if server == "gunicorn" else WORKERS  # the call that is made when the application is imported
    assert sum(cell.reward_count for cell in group.statistics.values()) == len(answers) + before
    assert group.account.calls == len(answers) + before
    assert group.account.open_calls == 0
    assert [stage.stage for stage in stages] == list(range(1, len(stages) + 1))
    opened = [stage.opened_at_call for stage in stages]
    assert len(stages) >= 5
    assert all(later - earlier >= 50 for earlier, later in itertools.pairwise(opened)), (
        "counted over all workers"
    )
    assert not differences
