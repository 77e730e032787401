"""The dashboard loads, and every query in it, in the alerts and in the documentation is about metrics there are."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from stageroute_router.metrics.collector import StageRouteCollector, expose

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "examples" / "grafana"
DOCUMENTATION = ROOT / "docs" / "metrics.md"

ADDED_BY_PROMETHEUS = {"job", "instance"}
VARIABLES = {"$window": "15m", "$job": ".*", "$group": ".*"}
SUFFIXES = {
    "counter": {"_total"},
    "summary": {"_sum", "_count"},
    "histogram": {"_bucket", "_sum", "_count"},
    "gauge": {""},
}


def panels() -> list[dict[str, Any]]:
    return json.loads((GRAFANA / "stageroute.json").read_text())["panels"]


def queries() -> Iterator[tuple[str, str]]:
    for panel in panels():
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for group in yaml.safe_load((GRAFANA / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]
    for number, block in enumerate(re.findall(r"```promql\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)):
        yield f"documentation {number}", block


@pytest.fixture(scope="module")
def shown() -> dict[str, set[str]]:
    """Labels by name of each sample, as the collector declares them."""
    samples = {}
    for family in StageRouteCollector(lambda: None).describe():
        for suffix in SUFFIXES[family.type]:
            labels = {*family._labelnames} | ({"le"} if suffix == "_bucket" else set())  # type: ignore[attr-defined]
            samples[family.name + suffix] = labels
    return samples


def selectors(node: Any) -> Iterator[Any]:
    """Return the vector selectors in a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield from selectors(node.vector_selector)
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from selectors(node.lhs)
        yield from selectors(node.rhs)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from selectors(argument)
    elif isinstance(node, promql_parser.AggregateExpr | promql_parser.ParenExpr | promql_parser.SubqueryExpr):
        yield from selectors(node.expr)
    else:
        assert isinstance(node, promql_parser.NumberLiteral), node


@pytest.mark.parametrize(("place", "query"), list(queries()))
def test_every_query_is_one_and_asks_for_what_there_is(
    place: str, query: str, shown: dict[str, set[str]]
) -> None:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    assert "$" not in query, place
    asked = list(selectors(promql_parser.parse(query)))
    assert asked
    for selector in asked:
        assert selector.name in shown, place
        labels = shown[selector.name] | ADDED_BY_PROMETHEUS
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels, place
    grouped = {name.strip() for names in re.findall(r"\bby \(([^)]*)\)", query) for name in names.split(",")}
    assert grouped <= set().union(*shown.values()) | ADDED_BY_PROMETHEUS, place


def test_what_is_the_groups_is_not_added_up_over_workers(shown: dict[str, set[str]]) -> None:
    """Each worker shows the group's own number: a sum would be as many times too large as there are workers."""
    for place, query in queries():
        for number in re.findall(r"\bsum (?:by \([^)]*\) )?\((?:rate|increase)?\(?(stageroute_\w+)", query):
            assert "group" not in shown[number] or "reason" in shown[number], place


def test_every_panel_tells_what_it_shows_and_has_its_place() -> None:
    seen, taken = set(), set()
    for panel in panels():
        assert panel["id"] not in seen
        seen.add(panel["id"])
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert [target["refId"] for target in panel["targets"]] == list("ABCDEFG")[
                : len(panel["targets"])
            ]


def test_the_dashboard_is_what_grafanas_own_library_makes_and_reads() -> None:
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")  # needs Python 3.11
    spec = importlib.util.spec_from_file_location("dashboard", GRAFANA / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    written = (GRAFANA / "stageroute.json").read_text()
    assert made.text() == written, "make it anew: its first lines say how"
    read = models.Dashboard.from_json(json.loads(written))
    assert read.title == "StageRoute"
    assert [variable.name for variable in read.templating.list_val] == [
        "datasource",
        "job",
        "group",
        "window",
    ]


def test_the_documentation_lists_the_metrics_there_are() -> None:
    rows = re.findall(
        r"^\| `(stageroute_\w+)(?:\{([\w, ]*)\})?` \| (\w+) \|", DOCUMENTATION.read_text(), re.MULTILINE
    )
    told = {name: (labels.replace(" ", ""), kind) for name, labels, kind in rows}
    assert len(told) == len(rows)
    assert told == {
        family.name + ("_total" if family.type == "counter" else ""): (
            ",".join(label for label in family._labelnames if label != "worker"),  # type: ignore[attr-defined]
            family.type,
        )
        for family in StageRouteCollector(lambda: None).describe()
    }


@pytest.mark.calls_litellm
def test_declared_and_shown_metrics_are_the_same(start: Any, shown: dict[str, set[str]]) -> None:
    router = start(stageroute={"chat": {"budget_usd_per_call": 0.01, "segments": {"by": "label"}}})
    registry = CollectorRegistry()
    expose(router.stageroute, registry=registry)
    for segment in ("sql", "text"):
        answer = router.completion(
            model="chat",
            messages=[{"role": "user", "content": "hello"}],
            metadata={"stageroute": {"segment": segment}},
        )
        router.record_reward(answer, 1.0)
    router.stageroute.status()
    there = {sample.name: set(sample.labels) for family in registry.collect() for sample in family.samples}
    assert there == shown


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, of Debian's package prometheus")
def test_alerts_are_raised_when_they_should_be() -> None:
    checked = subprocess.run(
        ["promtool", "test", "rules", str(Path(__file__).with_name("alerts_test.yaml"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
