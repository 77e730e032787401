"""Every example runs as a newcomer would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
PROXY = Path(__file__).parents[1] / "examples" / "proxy"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(example)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "chat" in done.stdout or "calls" in done.stdout
    assert len(example.read_text().splitlines()) < 80


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
    """Whoever keeps running says whether it is well, and is waited for; whoever ends is waited for, too."""
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
