"""Databases that can be made to fail, and a runtime to watch while they do."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from stageroute_router.core.arm import Arm
from stageroute_router.errors import StoreUnavailableError
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.opening import open_store
from stageroute_router.store.sql.store import SqlStore
from tests.support.postgres import start_again, start_server

collect_ignore = ["web_app.py"]  # opens its database when it is imported, as an application does

DEADLINE_S = 20.0
"""How long a test waits for what should come at once."""

ARMS = [Arm(name="small", prior_cost_usd=0.001), Arm(name="large", prior_cost_usd=0.01)]


class HurriedClock:
    """The monotonic clock, which a test can advance instead of waiting for a timeout."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def put_forward(self, seconds: float) -> None:
        self._ahead += seconds


class Watched:
    """A runtime under test, and everything that it was told: what should be stored in the end."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.clock = HurriedClock()
        settings = {"chat": {"budget_usd_per_call": 0.002, "max_live_models": 2, "stage": {"calls": 50}}}
        self.runtime = Runtime(
            parse_groups(settings),
            store=open_store(url, lazily=True),
            monotonic=self.clock,
            **{"seed": 1, **options},
        )
        self.runtime.set_arms("chat", ARMS)
        self.calls: list[str] = []
        self.rewards: dict[str, float] = {}

    def call(self, calls: int = 1) -> str:
        """Make calls that are chosen, answered and paid; return the last one's decision."""
        for _ in range(calls):
            number = len(self.calls)
            routed = self.runtime.choose("chat", eligible={"small", "large"}, call_id=f"call-{number}")
            assert routed is not None, "routing goes on whatever the database does"
            self.runtime.settled(
                routed.decision_id,
                arm=routed.arm,
                cost_usd=0.001,
                prompt_tokens=10,
                completion_tokens=20,
                response_id=f"response-{number}",
            )
            self.calls.append(routed.decision_id)
        return self.calls[-1]

    def reward(self, decision_id: str, value: float = 0.5) -> Future[RewardReceipt]:
        self.rewards[decision_id] = value
        return self.runtime.record_reward(decision_id, value)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that another thread is about to bring about."""
        give_up_at = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < give_up_at, self.runtime.reports.health()
            self.runtime.flush(0.02)

    def reward_that_fails(self, *, noticed: bool = True) -> str:
        """Make a call whose reward cannot be stored before its deadline; return what its caller is told.

        Args:
            noticed: whether the database refuses, so that the writer knows: otherwise it is left waiting.
        """
        future = self.reward(self.call())
        if noticed:
            self.until(lambda: self.runtime.reports.health().state != "ok")
        else:
            self.until(lambda: self.runtime._writer.state.unanswered_s > 0.5)
        self.pass_the_deadline()
        with pytest.raises(StoreUnavailableError) as caught:
            future.result(DEADLINE_S)
        return str(caught.value)

    def pass_the_deadline(self) -> None:
        self.clock.put_forward(10.0)
        self.runtime._writer.wake()

    def check_everything_is_stored_once(self, *, rewards_before: int = 0, calls_before: int = 0) -> None:
        """Wait for recovery, and compare what is stored with what was told."""
        assert self.runtime.flush(DEADLINE_S)
        self.runtime.operations.refresh()
        assert self.runtime.flush(DEADLINE_S), "the last commit may have opened a stage"
        assert self.runtime.reports.health().state == "ok", self.runtime.reports.health()
        store = open_store(self.url)
        try:
            group = store.load("chat")
            assert group.account.calls == calls_before + len(self.calls)
            assert group.account.open_calls == 0
            assert abs(group.account.spend_usd - 0.001 * group.account.calls) < 1e-9
            counts = [cell.reward_count for cell in group.statistics.values()]
            assert sum(counts) == rewards_before + len(self.rewards)
            for decision_id, value in self.rewards.items():
                stored = store.decision(decision_id)
                assert stored is not None
                assert stored.rewards == {"app": value}
            status: Any = self.runtime.reports.status("chat")
            assert group.stage is not None
            assert status.stage == group.stage.stage
            assert status.calls == group.account.calls
            assert {arm.name for arm in status.arms if arm.live} == set(group.stage.live)
            # Reporting everything again changes nothing.
            assert {
                self.reward(one, value).result(DEADLINE_S).status for one, value in self.rewards.items()
            } <= {"unchanged"}
            assert store.load("chat").statistics == group.statistics
        finally:
            store.close()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watched]]:
    """Start runtimes, and close them whatever happens."""
    started: list[Watched] = []

    def start(url: str, **options: Any) -> Watched:
        started.append(Watched(url, **options))
        return started[-1]

    yield start
    for one in started:
        one.runtime.close(0.1)


class Postgres:
    """A real PostgreSQL server that can be killed, frozen, and brought back."""

    def __init__(self) -> None:
        self._server = start_server()
        self._databases = 0

    @property
    def socket_path(self) -> Path:
        return Path(self._server.get_postmaster_info().socket_dir) / ".s.PGSQL.5432"

    def new_database(self) -> str:
        """Create a database with our tables, as an operator does; return its name."""
        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        SqlStore(self.url(name), migrate="auto").close()
        return name

    def url(self, database: str) -> str:
        return str(self._server.get_uri(database))

    def kill(self) -> None:
        """Kill every process of the server at once, without a word to its clients."""
        self._signal(signal.SIGKILL)
        for process in self._processes:
            with suppress(Exception):
                process.wait(DEADLINE_S)

    def freeze(self) -> None:
        """Stop the server: its kernel accepts connections and bytes, and the server does not answer."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._processes:
            with suppress(Exception):
                process.send_signal(signal.SIGCONT)

    def start(self) -> None:
        """Start it again; harmless while it runs."""
        start_again(self._server)

    def close(self) -> None:
        self.kill()
        self._server.cleanup()

    def _signal(self, number: int) -> None:
        postmaster = self._server.get_postmaster_info().process
        self._processes = [postmaster, *postmaster.children(recursive=True)]
        for process in self._processes:
            with suppress(Exception):
                process.send_signal(number)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """The server, running before and after the test."""
    postgres_server.start()
    yield postgres_server
    postgres_server.start()


class Proxy:
    """Passes bytes between a TCP port and the server's socket, until it is told not to.

    ``silence`` is the network's worst: connections are accepted, bytes are taken, and nothing comes back.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self.port = 0
        self._silent = False
        self._sockets: list[socket.socket] = []
        self.open()

    def open(self) -> None:
        """Listen: at any free port at first, at the same one again later."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def silence(self) -> None:
        """Pass nothing on any more, neither for the connections there are nor for new ones."""
        self._silent = True

    def speak(self) -> None:
        """Serve new connections again; the silent ones stay silent for ever."""
        self._silent = False

    def close(self) -> None:
        """Refuse connections, and end those there are."""
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            if self._silent:
                continue
            server = socket.socket(socket.AF_UNIX)
            self._sockets.append(server)
            server.connect(str(self._target))
            gone = threading.Event()  # both directions of one connection fall silent together
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(source, sink, gone), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, gone: threading.Event) -> None:
        while True:
            try:
                some = source.recv(65536)
                if self._silent:
                    gone.set()
                if gone.is_set():
                    if not some:
                        return
                    continue
                if not some:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(some)
            except OSError:
                return


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    one = Proxy(postgres.socket_path)
    yield one
    one.close()
