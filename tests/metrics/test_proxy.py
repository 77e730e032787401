"""The metrics and traces of a real LiteLLM proxy, by one line of its configuration."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

pytestmark = pytest.mark.calls_litellm

START_DEADLINE_S = 120.0


@dataclass
class Proxy:
    """A proxy process, and who may ask it."""

    url: str
    key: str
    log: Path

    def get(self, path: str, *, key: str | None = None, **headers: str) -> httpx.Response:
        if key:
            headers["authorization"] = f"Bearer {key}"
        return httpx.get(self.url + path, headers=headers, timeout=20, follow_redirects=True)

    def call(self) -> None:
        answer = httpx.post(
            self.url + "/v1/chat/completions",
            headers={"authorization": f"Bearer {self.key}"},
            json={"model": "chat", "messages": [{"role": "user", "content": "hello"}]},
            timeout=20,
        )
        assert answer.status_code == 200, answer.text


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module", params=["one registry", "files of several workers"])
def proxy(
    request: pytest.FixtureRequest, provider: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """A proxy with LiteLLM's metrics and traces on, in both ways in which it keeps metrics."""
    pytest.importorskip("litellm.proxy.proxy_cli")
    home = tmp_path_factory.mktemp("proxy")
    key, port = f"sk-{secrets.token_hex(16)}", _free_port()
    configuration = {
        "model_list": provider.model_list("chat"),
        "general_settings": {"master_key": key},
        "litellm_settings": {"callbacks": ["prometheus", "otel", "stageroute_router.proxy.plugin"]},
        "stageroute_settings": {
            "database_url": f"sqlite:///{home / 'stageroute.db'}",
            "groups": {"chat": {"budget_usd_per_call": 0.01}},
        },
    }
    (home / "config.yaml").write_text(yaml.safe_dump(configuration))
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OTEL_EXPORTER": "console"}
    if request.param == "files of several workers":
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(home / "files")
        (home / "files").mkdir()
    log = home / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("litellm")),
                *("--config", str(home / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=home,
        )
    started = Proxy(url=f"http://127.0.0.1:{port}", key=key, log=log)
    try:
        _wait_until_ready(started, process)
        yield started
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(proxy: Proxy, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        try:
            if proxy.get("/health/readiness").status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, proxy.log.read_text()[-3000:]
        assert time.monotonic() < deadline, proxy.log.read_text()[-3000:]
        time.sleep(0.1)


def test_a_proxy_shows_its_routing_beside_litellms_metrics_and_in_its_traces(
    proxy: Proxy, page: Callable[[str], Any], until: Callable[[Callable[[], object]], None]
) -> None:
    def shown(path: str) -> Any:
        answer = proxy.get(path, key=proxy.key)
        assert answer.status_code == 200, answer.text
        return page(answer.text)

    assert shown("/stageroute/metrics").value("stageroute_up") == 1
    for _ in range(3):
        proxy.call()
    until(lambda: shown("/stageroute/metrics").value("stageroute_calls_total", group="chat") == 3)
    ours, litellms = shown("/stageroute/metrics"), shown("/metrics")
    assert not any(name.startswith("litellm") for name in ours.families)
    assert any(name.startswith("litellm") for name in litellms.families)
    for there in (ours, litellms):
        assert there.value("stageroute_calls_total", group="chat") == 3
        assert there.value("stageroute_choice_seconds_count") == 3
        assert there.value("stageroute_store_state", state="ok") == 1
    only = shown("/stageroute/metrics?name[]=stageroute_up")
    assert list(only.families) == ["stageroute_up"]
    until(lambda: proxy.log.read_text().count('"stageroute.decision_id": "sr-') >= 3)


def test_who_may_not_read_litellms_metrics_may_not_read_ours(proxy: Proxy) -> None:
    for key in (None, "sk-anonymous"):
        answers = [proxy.get(path, key=key) for path in ("/metrics", "/stageroute/metrics")]
        assert [answer.status_code for answer in answers] == [401, 401]
        assert "stageroute_" not in answers[1].text.replace("stageroute_router", "")


def test_a_prometheus_is_answered_in_the_format_it_asks_for(proxy: Proxy) -> None:
    answer = proxy.get(
        "/stageroute/metrics", key=proxy.key, accept="application/openmetrics-text;version=1.0.0"
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.headers["content-encoding"] == "gzip"  # which httpx accepts, and has undone
    assert answer.text.endswith("# EOF\n")
