"""Every example runs as a newcomer would run it.

The first is a process from its beginning on. Importing LiteLLM takes seconds, so the others are forks of one that has.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PREPARED = """
import os, runpy, sys
import stageroute_router.router.attach, stageroute_router.testing.provider
for line in sys.stdin:
    example, folder = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), number)
        sys.argv = [example]
        runpy.run_path(example, run_name="__main__")
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs examples, each in a process and a folder of its own, that it is told of line by line."""

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
FIRST = Path(__file__).parents[2] / "examples" / "plain_router.py"
PROXY = Path(__file__).parents[2] / "examples" / "proxy"


@pytest.fixture(scope="module")
def prepared() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PREPARED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "160"},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def check(example: Path, *, code: int, out: str, err: str) -> None:
    assert code == 0, err
    assert "Traceback" not in err
    assert "chat" in out or "calls" in out
    assert len(example.read_text().splitlines()) < 80


def test_the_first_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(FIRST)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )
    check(FIRST, code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.mark.parametrize("example", [path for path in EXAMPLES if path != FIRST], ids=lambda path: path.stem)
def test_example_runs(example: Path, prepared: subprocess.Popen[str], tmp_path: Path) -> None:
    assert prepared.stdin is not None
    assert prepared.stdout is not None
    prepared.stdin.write(f"{example}\t{tmp_path}\n")
    prepared.stdin.flush()
    code = int(prepared.stdout.readline())
    check(example, code=code, out=(tmp_path / "stdout").read_text(), err=(tmp_path / "stderr").read_text())


def test_there_are_examples() -> None:
    assert EXAMPLES


def test_two_proxies_lose_nothing_when_one_is_killed(tmp_path: Path) -> None:
    """With fewer calls than by default, which take minutes here; what is checked is the same."""
    done = subprocess.run(
        [sys.executable, str(PROXY / "run.py"), "--calls", "1000"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    promises = [line for line in done.stdout.splitlines() if line.startswith("yes  ")]
    assert len(promises) == 6, done.stdout


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as Docker reads it, anchors resolved."""
    read: dict[str, Any] = yaml.safe_load((PROXY / "compose.yaml").read_text())
    return read


def test_the_compose_file_has_no_secrets(compose: dict[str, Any]) -> None:
    """They come from the environment, and nothing starts where they are not set."""
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("KEY|PASSWORD", name) or "@" in value:
                assert re.search(r"\$\{[A-Z_]+:\?[^}]+\}", value), name
    assert "POSTGRES_PASSWORD:?" in str(compose)


def test_the_compose_file_gives_the_proxies_what_their_configuration_asks_for(
    compose: dict[str, Any],
) -> None:
    asked = set(re.findall(r"os\.environ/(\w+)", (PROXY / "config.yaml").read_text()))
    assert asked
    for name in ("proxy-1", "proxy-2"):
        assert asked <= set(compose["services"][name]["environment"])


def test_the_compose_file_waits_for_what_is_healthy(compose: dict[str, Any]) -> None:
    """Each service that keeps running has a health check; dependants wait for it, or for a service to end."""
    services = compose["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            healthy = "healthcheck" in services[other]
            assert how["condition"] == ("service_healthy" if healthy else "service_completed_successfully")
        if "restart" in service:
            assert "healthcheck" in service, name


def test_the_compose_file_names_files_that_are_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        mounted = [volume.split(":")[0] for volume in service.get("volumes", ()) if volume.startswith(".")]
        assert all((PROXY / name).is_file() for name in mounted)
        if "build" in service:
            context = PROXY / service["build"]["context"]
            assert (context / "pyproject.toml").is_file()
            assert (context / service["build"]["dockerfile"]).is_file()
