"""What the reference is made of agrees with the signatures it describes."""

from __future__ import annotations

import asyncio
import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import pytest

import stageroute_router
from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

sys.path.insert(0, str(Path(__file__).parent))
from surface import INTEGRATIONS, Public, home_of, imported, pages, shown_in, source_of, surface, used

ROOT = Path(__file__).resolve().parents[2]

# Not asked for: DOC2 (a summary that begins with "Return" says it), and DOC502 and DOC503 (what is raised further down
# is documented, too, which pydoclint cannot see).
ENFORCED = re.compile(r"DOC(1\d\d|4\d\d|501|6\d\d)")


# Adapters of frameworks are tried where the frameworks are.
WAYS_IN = ["automatic", "judge", "litellm_provider", "openai_transport", "common.rewards", "signals"]


@pytest.fixture
def router() -> Iterator[StageRouteRouter]:
    with SimulatedProvider([SimulatedModel(name="small")], seed=0) as provider:
        made = StageRouteRouter(
            model_list=provider.model_list("chat"),
            stageroute={"chat": {"budget_usd_per_call": 0.01}},
            database_url="memory://",
        )
        yield made
        made.stageroute.close()


def sources() -> list[Path]:
    """Return the files that the reference names, and those that the mathematics and the integrations are made of."""
    inside = [ROOT / "stageroute_router" / "core", ROOT / "integrations"]
    return sorted(
        {source_of(each.module) for each in surface()}.union(*(folder.rglob("*.py") for folder in inside))
    )


def test_docstrings_agree_with_signatures() -> None:
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "pydoclint.main",
            "--quiet",
            "--config",
            str(ROOT / "pyproject.toml"),
            *map(str, sources()),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    printed = (checked.stdout + checked.stderr).splitlines()
    assert any("DOC" in line for line in printed), printed  # else it did not run
    found = [line for line in printed if line.endswith(".py") or ENFORCED.search(line)]
    wrong = [line.strip() for line in found if not line.endswith(".py")]
    assert not wrong, "\n".join(found)


def test_everything_public_is_described() -> None:
    bare = [each.name for each in surface() if each.is_called and not each.docstrings[-1]]
    assert not bare, bare


@pytest.mark.calls_litellm
@pytest.mark.parametrize("module", WAYS_IN)
def test_examples_of_the_integrations_run(module: str, router: StageRouteRouter) -> None:
    """Their examples need a router, which pytest's own collection of doctests does not give them."""
    loaded = import_module(f"stageroute_router.integrations.{module}")
    before = list(litellm.custom_provider_map)
    ran = doctest.testmod(loaded, extraglobs={"router": router, "asyncio": asyncio}, raise_on_error=False)
    litellm.custom_provider_map = before
    assert ran.attempted
    assert not ran.failed


def test_every_public_function_shows_an_example_that_runs() -> None:
    """In its docstring or its class's, or on a page (or in a file of examples/) that imports it, or its class.

    A class shows one by itself or by what is called of it: not all of them are made by applications.
    """
    everything = surface()
    pages_show = [(used(code), imported(code)) for code in pages().values()]
    shown = {
        each.name
        for each in everything
        if each.path
        and (
            each.path[-1] in in_docstrings(each)
            or any(
                each.path[-1] in uses and (each.module, each.path[0]) in imports
                for uses, imports in pages_show
            )
        )
    }
    shown |= {name.rpartition(".")[0] for name in shown}
    bare = [each.name for each in everything if each.is_called and each.name not in shown]
    assert not bare, bare


def in_docstrings(each: Public) -> set[str]:
    in_package = not each.module.startswith(INTEGRATIONS)
    return set().union(*(shown_in(text, in_package=in_package) for text in each.docstrings))


def test_examples_of_every_integration_run_somewhere() -> None:
    modules = {each.module.rpartition(".")[2] for each in surface() if each.module.startswith(INTEGRATIONS)}
    tests = "".join(
        test.read_text()
        for test in (
            *(ROOT / "tests" / "integrations" / "frameworks").glob("test_*.py"),
            ROOT / "tests" / "proxy" / "test_open_webui.py",  # needs the proxy, and no framework
        )
    )
    adapters = set(re.findall(r"^    shows\(\"(\w+)\"", tests, re.MULTILINE))
    assert modules <= {*WAYS_IN, *adapters}, modules


def test_what_the_package_exports_is_public() -> None:
    promised = {(each.module, each.path[0]) for each in surface() if each.path}
    exported = {home_of("stageroute_router", name) for name in stageroute_router.__all__}
    assert exported <= promised, exported - promised


def test_what_readers_are_shown_is_public() -> None:
    """A reader who copies an import from a page or an example gets a promised name."""
    promised = {(each.module, each.path[0]) for each in surface() if each.path}
    private = {
        f"{page.relative_to(ROOT)}: from {module} import {name}"
        for page, code in pages().items()
        for module, name in imported(code)
        if (module, name) not in promised
    }
    assert not private, private
