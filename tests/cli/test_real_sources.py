"""The commands against StageRoute's real endpoints with LiteLLM's key check, and against the database behind them."""

from __future__ import annotations

import csv
import io
import json
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # LiteLLM's own imports warn in some versions
    from litellm.proxy import proxy_server

from stageroute_router import StageRouteRouter
from stageroute_router.proxy.api import api_router
from stageroute_router.router.control import Control
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

pytestmark = pytest.mark.calls_litellm

KEY = "sk-master-of-these-tests"
CALLS = 40
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Real:
    """A router that has routed, its endpoints, its database, and the id of one of its answers."""

    router: StageRouteRouter
    url: str
    database: str
    answer: str

    @property
    def sources(self) -> tuple[tuple[str, str], ...]:
        return (("--proxy", self.url), ("--database", self.database))


@dataclass(frozen=True, slots=True)
class Routing:
    """Where the endpoints find the router."""

    router: StageRouteRouter

    def control(self) -> Control:
        return self.router.stageroute


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    database = f"sqlite:///{tmp_path_factory.mktemp('real')}/routing.db"
    models = [
        SimulatedModel(name="strong", reward_mean=0.9, input_usd_per_token=1e-5, output_usd_per_token=2e-5),
        SimulatedModel(name="weak", reward_mean=0.3, input_usd_per_token=1e-7, output_usd_per_token=2e-7),
    ]
    with SimulatedProvider(models, seed=5) as provider:
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={
                "chat": {"budget_usd_per_call": 0.0005, "max_live_models": 2, "stage": {"calls": 15}}
            },
            database_url=database,
            stageroute_options={"seed": 3},
        )
        for number in range(CALLS):
            response = router.completion(model="chat", messages=[{"role": "user", "content": f"{number}"}])
            router.record_reward(response, provider.outcome(response).reward)
        with router.stageroute, pytest.MonkeyPatch.context() as patch:
            patch.setattr(proxy_server, "master_key", KEY)
            app = FastAPI()
            app.include_router(api_router(Routing(router)))
            with served(app) as url:
                yield Real(router=router, url=url, database=database, answer=response.id)


class served:  # noqa: N801 - used as a function
    """Serve an application from a thread until the block ends."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        self._thread.start()
        started = threading.Event()
        for _ in range(int(DEADLINE_S / 0.02)):
            if self._server.started:
                break
            started.wait(0.02)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()


def told(run: Any, *arguments: str) -> Any:
    done = run(*arguments, "--json", STAGEROUTE_KEY=KEY)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def for_people(run: Any, *arguments: str) -> str:
    done = run(*arguments, STAGEROUTE_KEY=KEY)
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout)


def keyed(source: tuple[str, str]) -> tuple[str, ...]:
    return (*source, "--key-env", "STAGEROUTE_KEY") if source[0] == "--proxy" else source


def test_proxy_and_database_tell_the_same(run: Any, real: Real) -> None:
    known = ("name", "stage", "calls", "open_calls", "spend_usd", "budget_usd_per_call", "reward_coverage")
    of_proxy, of_database = (told(run, "status", *keyed(source))["groups"] for source in real.sources)
    assert [[group[name] for name in known] for group in of_proxy] == [
        [group[name] for name in known] for group in of_database
    ]
    assert of_proxy[0]["calls"] == CALLS
    for command in (("stages", "--group", "chat"), ("why", real.answer)):
        of_proxy, of_database = (told(run, *command, *keyed(source)) for source in real.sources)
        assert of_proxy == of_database


@pytest.mark.parametrize("source", ["--proxy", "--database"])
def test_every_view_is_readable(run: Any, real: Real, source: str) -> None:
    place = keyed((source, dict(real.sources)[source]))
    assert f"of {CALLS} calls" in for_people(run, "status", *place)
    stages = for_people(run, "stages", "--evidence", *place)
    assert "chat stage 1  opened" in stages
    assert "+ " in stages
    receipt = for_people(run, "why", real.answer, *place)
    assert real.answer in receipt
    assert "What there was to choose from" in receipt
    assert "answered; it cost $" in receipt
    line = for_people(run, "watch", "--count", "1", *place)
    assert f"chat: stage {real.router.stageroute.status('chat').stage}, {CALLS} calls" in line
    assert line.endswith("health ok\n")


def test_redeploy_through_the_proxy_is_seen_in_the_database(run: Any, real: Real) -> None:
    before = told(run, "status", "--database", real.database)["groups"][0]["stage"]
    assert f"Stage {before + 1} is open." in for_people(run, "redeploy", "chat", "--proxy", real.url)
    last = told(run, "stages", "--database", real.database, "--last", "1")
    assert (last[0]["stage"], last[0]["reason"]) == (before + 1, "manual")


def test_a_pin_through_the_proxy_is_seen_in_the_database(run: Any, real: Real) -> None:
    def arm() -> dict[str, Any]:
        arms = told(run, "status", "--database", real.database)["groups"][0]["arms"]
        return next(one for one in arms if one["name"] == name)

    name = told(run, "status", "--database", real.database)["groups"][0]["arms"][-1]["name"]
    assert f"{name} is pinned and live." in for_people(run, "pin", "chat", name, "--proxy", real.url)
    assert (arm()["pinned"], arm()["pinned_by"], arm()["live"]) == (True, "operator", True)
    for_people(run, "pin", "chat", name, "--forget", "--proxy", real.url)
    assert (arm()["pinned"], arm()["pinned_by"]) == (False, None)


def test_export_has_every_call_with_its_probability_cost_and_reward(run: Any, real: Real) -> None:
    rows = list(csv.DictReader(io.StringIO(for_people(run, "export", "--database", real.database))))
    assert len(rows) == CALLS
    for row in rows:
        assert row["state"] == "settled"
        assert 0 < float(row["probability"]) <= 1
        assert float(row["cost_usd"]) > 0
        assert json.loads(row["rewards"]) == {"app": float(row["reward"])}
    status = real.router.stageroute.status("chat")
    assert sum(float(row["cost_usd"]) for row in rows) == pytest.approx(status.spend_usd)


def test_what_the_real_endpoints_refuse_is_explained(run: Any, real: Real) -> None:
    for arguments, environment, said in (
        (("status",), {}, "asks for a key (401)"),
        (("status",), {"STAGEROUTE_KEY": "sk-wrong"}, "does not accept this key (401)"),
        (("why", "nope"), {"STAGEROUTE_KEY": KEY}, "knows no decision, response or call 'nope'"),
        (("redeploy", "nope"), {"STAGEROUTE_KEY": KEY}, "no managed group 'nope'"),
        (("pin", "chat", "nope"), {"STAGEROUTE_KEY": KEY}, "has no arm 'nope'; there are: "),
        (("stages", "--group", "nope"), {"STAGEROUTE_KEY": KEY}, "no managed group 'nope'"),
        (("stages", "--group", "chat", "--last", "5000"), {"STAGEROUTE_KEY": KEY}, "(422: last:"),
    ):
        done = run(*arguments, "--proxy", real.url, **environment)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert "sk-wrong" not in done.stderr


def test_watch_outlives_a_database_that_is_away(run: Any, real: Real, tmp_path: Path) -> None:
    path = tmp_path / "copy.db"
    assert run("db", "backup", str(path), "--database", real.database).returncode == 0
    process = run.start(
        *("watch", "--database", f"sqlite:///{path}", "--every", "0.2", "--json"), PYTHONUNBUFFERED="1"
    )
    try:
        assert "status" in json.loads(process.stdout.readline())
        path.rename(tmp_path / "away.db")
        while "error" not in (seen := json.loads(process.stdout.readline())):
            pass
        assert "there is no database" in seen["error"]
        (tmp_path / "away.db").rename(path)
        while "status" not in json.loads(process.stdout.readline()):
            pass
    finally:
        process.kill()
        process.communicate()
