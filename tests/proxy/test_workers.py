"""Several workers of one proxy: they share budget, stages and statistics, and lose nothing when they end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stageroute_router.testing.provider.provider import SimulatedProvider
from tests.support.proxy import MESSAGES, PRICES, Setup, started

CALLS = 60
STAGE = 20


def make_calls(setup: Setup) -> list[str]:
    """Make calls over connections of their own, and return their decisions."""

    def call(_number: int) -> str:
        with setup.process.client() as client:
            response = client.post("/v1/chat/completions", json={"model": "chat", "messages": MESSAGES})
        assert response.status_code == 200, response.text
        return response.headers["x-stageroute-decision-id"]

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(call, range(CALLS)))


@pytest.mark.parametrize(("server", "database"), [("uvicorn", "postgresql"), ("gunicorn", "sqlite")])
def test_workers_share_one_database_and_store_everything_before_they_end(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    provider: SimulatedProvider,
    server: str,
    database: str,
) -> None:
    url = (
        f"sqlite:///{tmp_path}/s.db" if database == "sqlite" else str(request.getfixturevalue("postgres_url"))
    )
    group = {"budget_usd_per_call": 0.002, "max_live_models": 2, "stage": {"calls": STAGE}}
    configuration = {
        "model_list": provider.model_list("chat", PRICES),
        "stageroute_settings": {
            "database_url": "os.environ/STAGEROUTE_DATABASE_URL",
            "groups": {"chat": group},
            "migrate": "auto",
        },
    }
    # Uvicorn takes a worker that is busy for 5 s, such as starting on a busy machine, for a dead one.
    patience = ["--timeout_worker_healthcheck", "60"]
    arguments = ["--num_workers", "2", *(["--run_gunicorn"] if server == "gunicorn" else patience)]
    with started(configuration, folder=tmp_path, database_url=url, arguments=arguments, workers=2) as setup:
        decisions = make_calls(setup)
        setup.process.terminate()
        found = [setup.store.decision(decision_id) for decision_id in decisions]
        account = setup.store.load("chat").account
        stages = setup.store.stages("chat")
        output = setup.process.output
    assert [one.state for one in found if one is not None] == ["settled"] * CALLS
    assert (account.calls, account.open_calls) == (CALLS, 0)
    assert [stage.stage for stage in stages] == list(range(1, len(stages) + 1))
    assert len(stages) >= CALLS // STAGE
    assert output.count("Application startup complete") == 2
    assert "Traceback" not in output
    # PostgreSQL has no key file beside it.
    assert ("responses carry no reward token" in output) == (database == "postgresql")
