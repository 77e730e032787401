"""LiteLLM's proxy as a process of its own, started as an operator would: for tests, examples and benchmarks.

Starting one takes about ten seconds: share it among tests.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import yaml

_START_DEADLINE_S = 300.0
_STOP_DEADLINE_S = 60.0
_POLL_S = 0.05
_ADDRESS = re.compile(r"(?:running on|Listening at:) (http://[\d.:]+)")
_READY = "Application startup complete"


class ProxyEndedError(RuntimeError):
    """The proxy ended before it served; ``code`` is its exit code, ``output`` what it wrote."""

    def __init__(self, code: int, output: str) -> None:
        super().__init__(f"the proxy ended with code {code}:\n{output}")
        self.code = code
        self.output = output


class ProxyProcess:
    """One proxy on loopback, on a free port, with a master key of its own.

    Args:
        configuration: what ``config.yaml`` has to say. ``general_settings.master_key`` and the callback of
            StageRoute are added unless they are there.
        folder: where the configuration and the log are written; the proxy's working directory.
        arguments: further arguments of the command ``litellm``, such as ``("--num_workers", "2")``.
        environment: further environment variables.
        workers: how many workers to wait for; as many as ``arguments`` start.

    ```python
    from pathlib import Path

    from stageroute_router.testing.proxy_process import ProxyProcess

    configuration = {
        "model_list": provider.model_list("chat"),
        "stageroute_settings": {"groups": {"chat": {"budget_usd_per_call": 0.01}}},
    }
    proxy = ProxyProcess(configuration, folder=Path("proxy")).start()  # or as a context manager
    try:
        with proxy.client() as client:
            asked = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
            answer = client.post("/v1/chat/completions", json=asked)
            assert answer.headers["x-stageroute-arm"] in {"openai/small", "openai/large"}
        proxy.terminate()  # as a supervisor does: what it has learned is stored
    finally:
        proxy.stop()
    ```
    """

    def __init__(
        self,
        configuration: Mapping[str, Any],
        *,
        folder: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        workers: int = 1,
    ) -> None:
        self.master_key = f"sk-{secrets.token_hex(16)}"
        folder = folder.resolve()  # the proxy runs inside it
        self._folder = folder
        self._log = folder / "proxy.log"
        self._arguments = arguments
        self._workers = workers
        self._environment = {
            **os.environ,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": self.master_key,
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""
        folder.mkdir(parents=True, exist_ok=True)
        with_ours: dict[str, dict[str, Any]] = {
            "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
            "litellm_settings": {"callbacks": [_callback(folder)]},
        }
        merged = {
            **configuration,
            **{name: {**block, **(configuration.get(name) or {})} for name, block in with_ours.items()},
        }
        self.config_path = folder / "config.yaml"
        self.config_path.write_text(yaml.safe_dump(merged), encoding="utf-8")

    @property
    def url(self) -> str:
        """Where it serves, such as ``http://127.0.0.1:40123``."""
        return self._url

    @property
    def pid(self) -> int:
        """Of the process that was started: the one that serves, or with several workers the one that minds them."""
        return self._started().pid

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def client(self, *, key: str | None = None, timeout: float = 60.0) -> httpx.Client:
        """Return an HTTP client of it; the caller closes it.

        Args:
            key: the key it comes with; the master key by default.
            timeout: of each request, in seconds.
        """
        headers = {"Authorization": f"Bearer {self.master_key if key is None else key}"}
        return httpx.Client(base_url=self._url, headers=headers, timeout=timeout)

    def start(self) -> ProxyProcess:
        """Start it, and return it when all its workers serve.

        Raises:
            ProxyEndedError: it ended instead.
            TimeoutError: it did neither within five minutes.
        """
        command = [sys.executable, "-c", "from litellm import run_server; run_server()"]
        options = ["--config", str(self.config_path), "--host", "127.0.0.1", "--port", "0"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [*command, *options, *self._arguments],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its workers can be ended with it
            )
        try:
            self._wait_until_served()
        except BaseException:
            self.stop()
            raise
        return self

    def terminate(self) -> int:
        """End it by SIGTERM, as a server's supervisor does, and return its exit code."""
        process = self._started()
        process.send_signal(signal.SIGTERM)
        return process.wait(_STOP_DEADLINE_S)

    def stop(self) -> None:
        """End it and its workers in any case."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._process.poll() is None:
                self.terminate()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_STOP_DEADLINE_S)

    def __enter__(self) -> ProxyProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_served(self) -> None:
        give_up = time.monotonic() + _START_DEADLINE_S
        while time.monotonic() < give_up:
            code = self._started().poll()
            output = self.output
            if code is not None:
                raise ProxyEndedError(code, output)
            found = _ADDRESS.search(output)
            if found is not None and output.count(_READY) >= self._workers:
                self._url = found.group(1)
                return
            time.sleep(_POLL_S)
        message = f"the proxy does not serve after {_START_DEADLINE_S:g} s:\n{self.output}"
        raise TimeoutError(message)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            message = "the proxy is not started: use it as a context manager or call start()"
            raise RuntimeError(message)
        return self._process


def _callback(folder: Path) -> str:
    """Return what the configuration names: the plugin, or a file beside it where LiteLLM takes nothing else."""
    from litellm.proxy.types_utils.utils import get_instance_fn  # noqa: PLC0415 - takes seconds

    try:
        get_instance_fn("json.dumps", config_file_path=str(folder / "config.yaml"))
    except ImportError:
        file = folder / "stageroute_plugin.py"
        file.write_text("from stageroute_router.proxy import plugin\n", encoding="utf-8")
        return "stageroute_plugin.plugin"
    return "stageroute_router.proxy.plugin"
