"""What the reference is made of agrees with the signatures it describes."""

from __future__ import annotations

import ast
import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Not asked for: DOC2 (a summary that begins with "Return" says it), and DOC502 and DOC503 (what is raised further down is
# documented, too, which pydoclint cannot see).
ENFORCED = re.compile(r"DOC(1\d\d|4\d\d|501|6\d\d)")


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


def _only_repeats(each: ast.AST) -> bool:
    """Return whether a definition is an overload, or a method whose contract its protocol describes."""
    decorators = getattr(each, "decorator_list", [])
    return any("overload" in ast.unparse(one) for one in decorators)
