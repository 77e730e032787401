"""What is said of arms beforehand: read from a table, shown, outweighed, and given up when rewards speak against it."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from benchmarks.learning.priors import earned
from stageroute_router.core.arm import Arm, SegmentPrior
from stageroute_router.errors import SettingsError, TableError
from stageroute_router.reports.database import StoredReports
from stageroute_router.reports.status import ArmStatus, GroupStatus, Status
from stageroute_router.runtime.runtime import Runtime
from stageroute_router.settings import group as group_settings
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.store.memory import MemoryStore
from stageroute_router.store.opening import open_store
from stageroute_router.tables.benchmark import BenchmarkPrior, read_benchmark
from stageroute_router.terminal.status import show_group

ROWS = """segment,arm,score,cost,count
sql,large,0.9,0.004,30
text,large,0.6,,10
sql,small,0.25,0.001,
text,small,0.75,0.003,
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "evaluated.csv"
    path.write_text(ROWS)
    return path


# --- reading -----------------------------------------------------------------------------------------------


def test_scores_and_costs_are_averaged_over_prompts(table: Path) -> None:
    known = read_benchmark(table).arms
    assert known["large"].score == pytest.approx((30 * 0.9 + 10 * 0.6) / 40)
    assert (known["large"].count, known["large"].cost_usd) == (40, pytest.approx(0.004))
    assert (known["small"].score, known["small"].count) == (0.5, 2)
    assert known["small"].cost_usd == pytest.approx(0.002)


def test_each_segment_has_its_own_averages(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("segment,arm,score\nsql,large,1\nsql,large,0\ntext,large,1\n,large,0\n")
    known = read_benchmark(path).arms["large"]
    assert (known.score, known.count) == (0.5, 4)
    assert known.segments == {
        "sql": BenchmarkPrior(score=0.5, count=2),
        "text": BenchmarkPrior(score=1, count=1),
    }
    (arm,) = read_benchmark(path).priors([Arm(name="large")], weight=1.5)
    assert arm.segment_priors == (
        SegmentPrior(segment="sql", reward=0.5, weight=1.5),
        SegmentPrior(segment="text", reward=1.0, weight=1.0),
    )


def test_what_was_said_by_hand_is_all_that_is_said(table: Path) -> None:
    (arm,) = read_benchmark(table).priors([Arm(name="large", prior_reward=0.1, prior_weight=3.0)])
    assert (arm.prior_reward, arm.prior_source, arm.segment_priors) == (0.1, "settings", ())


def test_parquet_says_the_same(tmp_path: Path, table: Path) -> None:
    rows = {
        "segment": ["sql", "text", "sql", "text"],
        "arm": ["large", "large", "small", "small"],
        "score": [0.9, 0.6, 0.25, 0.75],
        "cost": [0.004, None, 0.001, 0.003],
        "count": [30, 10, None, None],
        "prompt": ["not", "looked", "at", "here"],
    }
    path = tmp_path / "evaluated.parquet"
    pq.write_table(pa.table(rows), path)
    assert read_benchmark(path).arms == read_benchmark(table).arms


def test_a_table_of_two_columns_is_enough(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("arm,score\nlarge,1\nlarge,0\nlarge,1\n")
    assert read_benchmark(tmp_path / "t.csv").arms == {
        "large": BenchmarkPrior(score=pytest.approx(2 / 3), count=3, cost_usd=None)
    }


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("arm,reward\nlarge,1\n", ["score", "missing", "arm, reward"]),
        ("arm,score,score\nlarge,1,1\n", ["score", "twice"]),
        ("arm,score\nlarge,1\nlarge,high\n", ["line 3", "column score", "'high'", "[0, 1]"]),
        ("arm,score\nlarge,1.2\n", ["line 2", "column score", "'1.2'", "[0, 1]"]),
        (
            "segment,arm,score\nauto:1:3,large,1\n",
            ["line 2", "column segment", "'auto:1:3'", "leave it empty"],
        ),
        ("arm,score\nlarge,\n", ["line 2", "column score", "''"]),
        ("arm,score,cost\nlarge,1,-0.1\n", ["line 2", "column cost", "'-0.1'", ">= 0"]),
        ("arm,score,cost\nlarge,1,nan\n", ["line 2", "column cost", "'nan'"]),
        ("arm,score,count\nlarge,1,inf\n", ["line 2", "column count", "'inf'"]),
        ("arm,score\n,1\n", ["line 2", "column arm", "empty"]),
        ("arm,score\nlarge\n", ["line 2", "1 fields"]),
        ("arm,score\n", ["no rows"]),
        ("", ["arm, score", "missing"]),
        ('arm,score\n"large,1\n', ["not a CSV file"]),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, content: str, named: list[str]) -> None:
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(TableError) as caught:
        read_benchmark(tmp_path / "bad.csv")
    for part in ["bad.csv", *named]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "named"),
    [("missing.csv", "cannot be read"), ("missing.parquet", "cannot be read"), ("table.xlsx", "convert it")],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, named: str) -> None:
    with pytest.raises(TableError, match=named) as caught:
        read_benchmark(tmp_path / name)
    assert name in str(caught.value)


def test_parquet_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_text(ROWS)
    with pytest.raises(TableError, match=r"bad\.parquet: not a Parquet file"):
        read_benchmark(tmp_path / "bad.parquet")


# --- settings and status -----------------------------------------------------------------------------------


def settings(**more: object) -> dict[str, object]:
    return {"chat": {"budget_usd_per_call": 0.01, "max_live_models": 3, **more}}


def shown(status: GroupStatus | Status) -> dict[str, ArmStatus]:
    assert isinstance(status, GroupStatus)
    return {arm.name: arm for arm in status.arms}


def test_a_group_starts_from_its_benchmark_and_says_so(table: Path) -> None:
    arms = [Arm(name="large"), Arm(name="small"), Arm(name="other")]
    with Runtime(parse_groups(settings(benchmark=table)), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", arms)
        status = runtime.reports.status("chat")
        told = json.loads(json.dumps(runtime.reports.status().to_dict()))["groups"][0]["arms"]
    large, small, other = (shown(status)[name] for name in ("large", "small", "other"))
    assert (large.prior_reward, large.prior_weight, large.prior_source) == (0.825, 20, "benchmark")
    assert (small.prior_reward, small.prior_weight, small.prior_source) == (0.5, 2, "benchmark")
    assert (other.prior_reward, other.prior_weight, other.prior_source) == (None, 0, None)
    assert large.expected_cost_usd == pytest.approx(0.004)
    assert {(arm["name"], arm["prior_source"]) for arm in told} == {
        ("large", "benchmark"),
        ("small", "benchmark"),
        ("other", None),
    }


def test_what_a_deployment_says_outweighs_the_benchmark(table: Path) -> None:
    arms = [Arm(name="large", prior_reward=0.3, prior_weight=5, prior_cost_usd=0.002), Arm(name="small")]
    given = settings(benchmark=str(table), benchmark_weight=1.5)
    with Runtime(parse_groups(given), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", arms)
        known = shown(runtime.reports.status("chat"))
    large, small = known["large"], known["small"]
    assert (large.prior_reward, large.prior_weight, large.prior_source) == (0.3, 5, "settings")
    assert large.expected_cost_usd == pytest.approx(0.002)
    assert (small.prior_reward, small.prior_weight, small.prior_source) == (0.5, 1.5, "benchmark")


def test_arms_that_the_group_does_not_have_are_a_warning(table: Path) -> None:
    with Runtime(parse_groups(settings(benchmark=str(table))), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", [Arm(name="small")])
        status = runtime.reports.status("chat")
        assert isinstance(status, GroupStatus)
        (warning,) = status.warnings
        assert "evaluated.csv has scores of large" in warning
        assert "arms are small" in warning
        runtime.set_arms("chat", [Arm(name="small"), Arm(name="large")])
        status = runtime.reports.status("chat")
    assert isinstance(status, GroupStatus)
    assert status.warnings == ()


def test_a_database_alone_knows_the_priors_when_the_table_is_gone(table: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/stageroute.db"
    with Runtime(parse_groups(settings(benchmark=str(table))), store=open_store(url), seed=1) as runtime:
        runtime.set_arms("chat", [Arm(name="large"), Arm(name="small")])
    table.unlink()
    with StoredReports(url) as reports:
        known = shown(reports.group_status("chat"))
    assert (known["large"].prior_weight, known["large"].prior_source) == (20, "benchmark")


def test_the_terminal_shows_what_was_said_beforehand(table: Path) -> None:
    out = StringIO()
    with Runtime(parse_groups(settings(benchmark=str(table))), store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", [Arm(name="large"), Arm(name="small", prior_reward=0.2, prior_weight=3)])
        status = runtime.reports.status("chat")
    assert isinstance(status, GroupStatus)
    show_group(status, Console(file=out, width=120))
    assert "large 0.825 like 20 rewards (benchmark)" in out.getvalue()
    assert "small 0.200 like 3 rewards (settings)" in out.getvalue()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"benchmark": 3}, ["benchmark = 3", ".csv"]),
        ({"benchmark": "table.xlsx"}, ["table.xlsx", ".parquet"]),
        ({"benchmark_weight": 5}, ["benchmark_weight", 'needs "benchmark"']),
        ({"benchmark": "t.csv", "benchmark_weight": 0}, ["benchmark_weight = 0"]),
    ],
)
def test_settings_that_cannot_be_used_are_named(given: dict[str, object], named: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_groups(settings(**given))
    for part in ["chat", *named]:
        assert part in str(caught.value)


def test_a_table_that_cannot_be_used_is_said_at_the_start(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(TableError, match=r"missing\.csv cannot be read"):
        Runtime(parse_groups(settings(benchmark=str(tmp_path / "missing.csv"))), store=store, seed=1)
    store.close()


def test_a_table_is_read_once_for_the_check_and_the_routing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "evaluated.csv"
    path.write_text("arm,score\nlarge,1\n")
    read: list[str] = []
    monkeypatch.setattr(
        group_settings, "read_benchmark", lambda path: read.append(path) or read_benchmark(path)
    )
    checked = parse_groups(settings(benchmark=str(path)))
    assert read == []
    assert checked["chat"].benchmark_table == read_benchmark(path)
    with Runtime(checked, store=MemoryStore(), seed=1) as runtime:
        runtime.set_arms("chat", [Arm(name="large")])
    assert read == [str(path)]
    assert checked == parse_groups(settings(benchmark=str(path))), (
        "what was read is no part of what was written"
    )


# --- fading ------------------------------------------------------------------------------------------------

STREAMS = {"arms": 3, "live": 2, "calls": 800, "seeds": range(6)}


@pytest.fixture(scope="module")
def without() -> np.ndarray:
    return earned(None, weight=0, **STREAMS)


@pytest.mark.parametrize("weight", [5.0, 100.0])
@pytest.mark.parametrize("opinion", ["exchanged", "opposite"])
def test_a_wrong_prior_fades(opinion: str, weight: float, without: np.ndarray) -> None:
    misled = earned(opinion, weight=weight, **STREAMS)
    # It does mislead at first, so that there is something to recover from.
    assert misled[:, :100].mean() < without[:, :100].mean() - 0.02
    assert misled[:, 500:].mean() > without[:, 500:].mean() - 0.01


def test_a_right_prior_is_worth_something_at_the_start() -> None:
    streams = {"arms": 8, "live": 3, "calls": 150, "seeds": range(16)}
    assert earned("right", weight=20, **streams).mean() > earned(None, weight=0, **streams).mean() + 0.04
