"""The command line as people meet it: output, files, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stageroute_router.cli import main
from stageroute_router.cli import run as running

COLUMNS = "query,model,reward,cost_usd\n"


def stageroute(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from stageroute_router.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=180,
        check=False,
        env={
            **os.environ,
            "COLUMNS": "200",
            "NO_COLOR": "1",
            "PYTHONWARNINGS": "error::DeprecationWarning:stageroute",
        },
    )


@pytest.fixture
def here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[object, str, str]]:
    """Run a command in this process, which takes seconds less; return its exit code, and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(running, "_quiet_litellm", lambda: None)  # which would be for the other tests, too

    def run(*arguments: str | Path) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["stageroute", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three models on 40 queries as CSV."""
    rng = np.random.default_rng(0)
    lines = [
        f"{query},{model},{float(rng.random() < quality)},{cost * rng.uniform(0.5, 1.5):.6f}"
        for query in range(40)
        for model, quality, cost in (("small", 0.5, 0.0002), ("medium", 0.7, 0.001), ("large", 0.9, 0.005))
    ]
    path = tmp_path / "outcomes.csv"
    path.write_text(COLUMNS + "\n".join(lines) + "\n")
    return path


def test_replay_prints_and_writes_everything_it_promises(table: Path, tmp_path: Path) -> None:
    done = stageroute(
        *("replay", table, "--calls", "400", "--budget-usd", "0.001", "--max-live", "2", "--stages", "4"),
        *("--json", "out.json", "--choices", "choices.npz", "--picture", "out.svg", "--seed", "3"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    for text in (
        "StageRoute",
        "optimum",
        "always-best",
        "always-cheapest",
        "uniform",
        "decisions/s",
        "Stages",
    ):
        assert text in done.stdout
    figures = json.loads((tmp_path / "out.json").read_text())
    assert {
        "reward",
        "oracle_reward",
        "reward_ratio",
        "spend_ratio",
        "spend_ratio_quarters",
        "decisions_per_second",
        "stages",
    } <= set(figures)
    assert len(figures["stages"]) == 4
    assert all(1 <= len(stage["live"]) <= 2 for stage in figures["stages"])
    with np.load(tmp_path / "choices.npz") as choices:
        assert len(choices["model"]) == 400
    assert (tmp_path / "out.svg").read_text().startswith("<svg")


def test_demo_routes_real_calls_and_draws(tmp_path: Path) -> None:
    done = stageroute("demo", "--calls", "120", "--database", "sqlite:///demo.db", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RouterBench" in done.stdout
    assert "demo.png" in done.stdout
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")

    shown = stageroute("status", "--database", "sqlite:///demo.db", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "120 calls" in shown.stdout

    told = stageroute("status", "--database", "sqlite:///demo.db", "--json", cwd=tmp_path)
    (group,) = json.loads(told.stdout)["groups"]
    assert (group["name"], group["calls"], group["budget_usd_per_call"]) == ("chat", 120, 0.001)
    assert len(group["arms"]) == 11
    assert sum(arm["probability"] for arm in group["arms"]) == pytest.approx(1.0)
    assert group["reward_coverage"] == 1.0


def test_status_of_nothing_is_a_clear_error_and_creates_nothing(tmp_path: Path) -> None:
    done = stageroute("status", cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no database 'stageroute.db'" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        ("query,model,reward\n1,a,0.5\n", ["cost_usd"]),
        (COLUMNS, ["no rows"]),
        (COLUMNS + "1,a,1.5,0.1\n", ["reward", "1.5", "[0, 1]"]),
        (COLUMNS + "1,a,0.5,-0.1\n", ["cost_usd", "-0.1"]),
        (COLUMNS + "1,a,0.5,\n", ["cost_usd"]),
        (COLUMNS + "1,a,0.5,0.1\n1,b,0.5,0.1\n2,a,0.5,0.1\n", ["2", "b"]),
    ],
)
def test_table_that_cannot_be_replayed_is_explained(
    here: Callable[..., tuple[object, str, str]], tmp_path: Path, content: str, fragments: list[str]
) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    code, _, told = here("replay", path)
    assert code == 1
    for fragment in ("bad.csv", *fragments):
        assert fragment in told


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("--budget-usd", "-1"), "budget_usd"),
        (("--max-share", "0"), "max_share"),
        (("--gamma", "0.1"), "gamma"),
        (("--stages", "100000"), "stages"),
        (("--estimator", "bayes"), "estimator = 'bayes': must be one of '"),
    ],
)
def test_option_out_of_its_domain_is_named(
    here: Callable[..., tuple[object, str, str]], table: Path, arguments: tuple[str, str], fragment: str
) -> None:
    code, _, told = here("replay", table, "--calls", "200", *arguments)
    assert code == 1
    assert fragment in told


def test_former_name_of_the_estimator_option_is_accepted_with_a_warning(
    here: Callable[..., tuple[object, str, str]], table: Path, tmp_path: Path
) -> None:
    told = {}
    for option in ("--estimator", "--confidence"):
        arguments = (option, "paper", "--gamma", "1", "--json", tmp_path / f"{option}.json")
        code, _, told[option] = here("replay", table, "--calls", "200", *arguments)
        assert code == 0
    figures = [json.loads((tmp_path / f"{option}.json").read_text()) for option in told]
    assert figures[0]["reward"] == figures[1]["reward"]
    assert told["--estimator"] == ""
    assert told["--confidence"] == "--confidence is now called --estimator; rename it\n"
    code, _, both = here("replay", table, "--estimator", "paper", "--confidence", "paper")
    assert code == 2
    assert "former name of --estimator" in both


def test_help_says_what_each_command_is_for(here: Callable[..., tuple[object, str, str]]) -> None:
    code, told, _ = here("--help")
    assert code == 0
    for command in ("demo", "replay", "status"):
        assert command in told
