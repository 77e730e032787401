"""What the reference is made of agrees with the signatures it describes."""

from __future__ import annotations

import ast
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

from stageroute_router import StageRouteRouter
from stageroute_router.testing.provider import SimulatedModel, SimulatedProvider

ROOT = Path(__file__).resolve().parents[2]

# Not asked for: DOC2 (a summary that begins with "Return" says it), and DOC502 and DOC503 (what is raised further down
# is documented, too, which pydoclint cannot see).
ENFORCED = re.compile(r"DOC(1\d\d|4\d\d|501|6\d\d)")


# Adapters of frameworks are tried where the frameworks are.
WAYS_IN = ["automatic", "judge", "litellm_provider", "openai_transport", "routed", "signals"]

WITHOUT_EXAMPLE = {
    # Parts of the engine, whose arguments only the engine makes.
    "stageroute_router/core/choosing.py: live_mix",
    "stageroute_router/core/evidence.py: gather",
    "stageroute_router/core/mix.py: solve_mix",
    # What adapters are made of.
    "integrations/routed.py: report_without_waiting",
}


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
    """Return the files that the pages of the reference name."""
    found: list[Path] = []
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        for name in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE):
            within = name.replace("stageroute_router.integrations", "integrations").split(".")
            while not (path := ROOT.joinpath(*within)).is_dir() and not path.with_suffix(".py").is_file():
                within.pop()  # a class or function of a module
            found += sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    assert found
    return found


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for each in body:
        if isinstance(
            each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) and not each.name.startswith("_"):
            yield each
            if isinstance(each, ast.ClassDef):
                yield from public(each.body)


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
    bare = [
        f"{source.relative_to(ROOT)}: {each.name}"
        for source in sources()
        for each in public(ast.parse(source.read_text()).body)
        if ast.get_docstring(each) is None and not _only_repeats(each)
    ]
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


def test_what_an_application_calls_shows_an_example() -> None:
    """Functions of the mathematics and the integrations; an adapter's may stand on its framework's page, which runs."""
    pages = "".join(
        block
        for page in (ROOT / "docs").rglob("*.md")
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
    bare = [
        f"{source.relative_to(ROOT)}: {each.name}"
        for source in sources()
        if source.parent.name in {"core", "integrations"}
        for each in ast.parse(source.read_text()).body
        if isinstance(each, ast.FunctionDef) and not each.name.startswith("_") and not _only_repeats(each)
        if ">>>" not in (ast.get_docstring(each) or "") and not re.search(rf"\b{each.name}\(", pages)
    ]
    assert not set(bare) - WITHOUT_EXAMPLE, bare


def test_what_an_operator_and_an_application_ask_shows_an_example() -> None:
    (control,) = (
        each
        for each in public(ast.parse((ROOT / "stageroute_router" / "hook" / "control.py").read_text()).body)
        if each.name == "Control"
    )
    bare = {
        each.name
        for each in public(control.body)
        if "```python" not in (ast.get_docstring(each) or "") and not _only_repeats(each)
    }
    assert bare == {"routing", "strategy", "aclose"}  # parts; and close, which shows it


def _only_repeats(each: ast.AST) -> bool:
    """Return whether a definition is an overload, or a method whose contract its protocol describes."""
    decorators = getattr(each, "decorator_list", [])
    return any("overload" in ast.unparse(one) for one in decorators)
