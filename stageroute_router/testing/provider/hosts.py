"""Where the simulated provider's server runs: in a thread of this process, or in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, cast
from urllib.parse import urlencode

from aiohttp import web

from stageroute_router.errors import SettingsError
from stageroute_router.testing.provider.app import ProviderApp, new_server
from stageroute_router.testing.simulated_model import Outcome, SimulatedModel

Json = dict[str, Any]
LOOPBACK = "127.0.0.1"
_COMMAND = "stageroute_router.testing.provider"
_START_DEADLINE_S = 60.0
_STOP_DEADLINE_S = 10.0


class Host(Protocol):
    """Where the server runs."""

    def start(self) -> int:
        """Start serving and return the port; OSError when that is taken."""

    def stop(self) -> None:
        """Stop serving and wait until it has."""

    def outcome(self, response_id: str) -> Outcome | None:
        """Return what an answer came to, or None where it is not known."""

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """Make a request to the server; SettingsError when it refuses."""


class ThreadHost:
    """Serves from a thread with a loop of its own."""

    def __init__(
        self, models: Sequence[SimulatedModel], *, seed: int, prompts: Sequence[str | None], port: int
    ) -> None:
        self._app = ProviderApp(models, seed=seed, prompts=prompts)
        self._wanted_port = port
        self._port = 0

    def start(self) -> int:
        """As :meth:`Host.start`."""
        started: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="simulated-provider", daemon=True
        )
        self._thread.start()
        self._port = started.result(timeout=_START_DEADLINE_S)
        return self._port

    def _run(self, started: Future[int]) -> None:
        try:
            self._loop.run_until_complete(
                serve(self._app, port=self._wanted_port, on_start=started.set_result, until=self._stopped)
            )
        except Exception as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            self._loop.close()

    def stop(self) -> None:
        """As :meth:`Host.stop`."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def outcome(self, response_id: str) -> Outcome | None:
        """As :meth:`Host.outcome`."""
        return self._app.outcomes.get(response_id)

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """As :meth:`Host.request`."""
        return _request(self._port, method, path, body)


class ProcessHost:
    """Serves from a child process, which ends with this one: it watches its standard input."""

    def __init__(
        self, models: Sequence[SimulatedModel], *, seed: int, prompts: Sequence[str | None], port: int
    ) -> None:
        self._order = {
            "models": [model.to_json() for model in models],
            "seed": seed,
            "prompts": list(prompts),
        }
        self._wanted_port = port
        self._port = 0

    def start(self) -> int:
        """As :meth:`Host.start`."""
        command = [sys.executable, "-m", _COMMAND, "--models", "-", "--port", str(self._wanted_port)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own module
        stdin, stdout = self._pipes()
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(self._order) + "\n")
            stdin.flush()
        url = stdout.readline().strip()
        if not url:
            self.stop()
            status = self._child.returncode
            message = f"the simulated provider's process ended with status {status} (is the port taken?)"
            raise OSError(message)
        self._port = int(url.rpartition(":")[2])
        return self._port

    def stop(self) -> None:
        """As :meth:`Host.stop`."""
        stdin, stdout = self._pipes()
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        try:
            self._child.wait(timeout=_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        stdout.close()

    def _pipes(self) -> tuple[Any, Any]:
        return self._child.stdin, self._child.stdout

    def outcome(self, response_id: str) -> Outcome | None:
        """As :meth:`Host.outcome`."""
        try:
            return Outcome(**self.request("GET", f"/simulated/outcome?{urlencode({'id': response_id})}"))
        except SettingsError:
            return None

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """As :meth:`Host.request`."""
        return _request(self._port, method, path, body)


async def serve(
    app: ProviderApp,
    *,
    port: int,
    on_start: Callable[[int], None],
    until: asyncio.Event,
    host: str = LOOPBACK,
) -> None:
    """Serve an app in the running loop, report its port, and stop on request."""
    # Stopping the provider waits for no open request. (aiohttp takes 0 as no limit.)
    runner = web.ServerRunner(new_server(app), shutdown_timeout=0.01)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=2048)
        await site.start()
        on_start(cast("tuple[str, int]", runner.addresses[0])[1])
        await until.wait()
    finally:
        await runner.cleanup()


def _request(port: int, method: str, path: str, body: Json | None) -> Json:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_START_DEADLINE_S)
    with contextlib.closing(connection):
        connection.request(method, path, body=None if body is None else json.dumps(body))
        answer = connection.getresponse()
        content: Json = json.loads(answer.read())
    if answer.status != http.HTTPStatus.OK:
        raise SettingsError(content["error"]["message"])
    return content
