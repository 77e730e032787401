"""What the documentation shows in Python runs, in the order of the page, with what the page says was there before.

Commands of the quickstart run between its blocks of Python; docs/cli.md and docs/http.md have tests of their own.

Blocks that cannot run are marked on the page, with a reason: ``<!--- skip: next "reason" -->`` (Sybil's). Pages of
frameworks are not here: they run with the real frameworks, by tests/integrations/run_frameworks.py.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import SkipTest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import prometheus_client
import pytest
from fastapi import FastAPI
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from sybil import Document, Example
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

pytestmark = pytest.mark.calls_litellm

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = ROOT / "docs" / "frameworks"
PAGES = [
    ROOT / "README.md",
    *sorted(
        page for page in (ROOT / "docs").rglob("*.md") if page.parent != FRAMEWORKS or page.name == "index.md"
    ),
]
SHOWING = sorted(
    source for source in (ROOT / "stageroute_router").rglob("*.py") if "```python" in source.read_text()
)
FENCE = re.compile(r"^ *```+ *python", re.MULTILINE)
QUESTION = [{"role": "user", "content": "hello"}]


def evaluate(example: Example) -> None:
    """Run a block in its page's names; ``await`` may stand at the top."""
    source = "\n" * (example.line + example.parsed.line_offset) + str(example.parsed)
    code = compile(source, example.path, "exec", flags=PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    made = eval(code, example.namespace)  # noqa: S307 - our own documentation
    if inspect.iscoroutine(made):
        asyncio.run(made)


def run_command(example: Example) -> None:
    """Run a block of commands as a reader would, in the folder where the page's Python runs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", str(example.parsed)],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{example.path}:{example.line}\n{done.stdout}{done.stderr}"


def blocks(page: Path) -> Document:
    parsers: list[Any] = [CodeBlockParser("python", evaluate), SkipParser()]
    if page.name == "quickstart.md":
        parsers.append(CodeBlockParser("sh", run_command))
    return Document.parse(str(page), *parsers)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What a reader of the page has: a model list, a router, an answer, an application around them."""
    monkeypatch.chdir(tmp_path)
    models = [
        SimulatedModel(name="small", reward_mean=0.6, input_usd_per_token=1e-7, output_usd_per_token=4e-7),
        SimulatedModel(name="large", reward_mean=0.9, input_usd_per_token=1e-6, output_usd_per_token=4e-6),
    ]
    with SimulatedProvider(models, seed=0) as provider:
        router = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={"chat": {"budget_usd_per_call": 0.01}},
            database_url=f"sqlite:///{tmp_path}/router.db",
            num_retries=0,
        )
        given = {
            "model_list": provider.model_list("chat"),
            "router": router,
            "response": router.completion(model="chat", messages=QUESTION),
            "provider": provider,
            "user_id": "user-1",
            "task": "a task",
            "agent": _Agent(router),
            "app": FastAPI(),
            "require_operator": lambda: None,
            **_telemetry(),
        }
        with _metrics_port_of_its_own():
            yield given
        router.stageroute.close()


@contextmanager
def _metrics_port_of_its_own() -> Iterator[None]:
    """Let a page's ``start_http_server`` take a free port, and end what it started; leave no metrics behind."""
    started = []

    def start(_: int) -> None:
        started.append(serve(0, addr="127.0.0.1"))

    serve, registry = prometheus_client.start_http_server, prometheus_client.REGISTRY
    before = set(registry._collector_to_names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prometheus_client, "start_http_server", start)
        yield
    for collector in set(registry._collector_to_names) - before:
        registry.unregister(collector)
    for server, thread in started:
        server.shutdown()
        server.server_close()
        thread.join()


class _Agent:
    """An agent that makes two calls and hides their responses."""

    def __init__(self, router: StageRouteRouter) -> None:
        self._router = router

    def run(self, task: str) -> str:
        for _ in range(2):
            self._router.completion(model="chat", messages=[{"role": "user", "content": task}])
        return "done"


def _telemetry() -> dict[str, Any]:
    return {
        "tracer_provider": TracerProvider(shutdown_on_exit=False),
        "logger_provider": LoggerProvider(shutdown_on_exit=False),
        "run_evaluators": lambda _: None,
    }


@pytest.mark.parametrize("source", SHOWING, ids=lambda source: source.stem)
def test_python_of_docstrings_runs(source: Path, names: dict[str, Any]) -> None:
    document = PythonDocStringDocument.parse(str(source), CodeBlockParser("python", evaluate))
    examples = list(document.examples())
    assert len(examples) == len(FENCE.findall(source.read_text()))
    document.namespace.update(names)
    for example in examples:
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_the_page_runs(page: Path, request: pytest.FixtureRequest) -> None:
    document = blocks(page)
    examples = list(document.examples())
    shown = [example for example in examples if example.region.evaluator is evaluate]
    # Sybil leaves out what it cannot read as a block; then it would never run.
    assert len(shown) == len(FENCE.findall(page.read_text()))
    if not shown:
        return
    document.namespace.update(request.getfixturevalue("names"))
    left_out = []
    for example in examples:
        try:
            example.evaluate()
        except SkipTest as reason:
            left_out.append(f"{page.name}:{example.line}: {reason}")
    for each in left_out:
        print("not run:", each)  # noqa: T201 - pytest shows it with -rP


def test_few_blocks_cannot_run() -> None:
    """Raising this number needs a reason that is better than being easier."""
    skips = {page.name: page.read_text().count("skip: next") for page in PAGES}
    assert sum(skips.values()) <= 1, skips
    for page in PAGES:
        assert page.read_text().count("skip: next") == len(
            re.findall(r'skip: next "[^"]{10,}"', page.read_text())
        )


def test_pages_of_frameworks_are_run_by_their_own_tests() -> None:
    tests = ROOT / "tests" / "integrations" / "frameworks"
    for page in FRAMEWORKS.glob("*.md"):
        assert page.name == "index.md" or (tests / f"test_{page.stem}.py").is_file(), page.name
