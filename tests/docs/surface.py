"""What is public, read from the one place that says so: the entries of docs/reference, and what shows each of them."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "stageroute_router"
INTEGRATIONS = f"{PACKAGE}.integrations"
FRAMEWORKS = ROOT / "docs" / "frameworks"

_ENTRY = re.compile(r"^::: (\S+)\n((?: {4}.*\n|\n(?= {4}))*)", re.MULTILINE)
_BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)

Callable = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Callable | ast.ClassDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """A name that is promised.

    Args:
        module: that defines it.
        path: of it inside the module: names of classes, and its own.
        node: its definition.
        docstrings: its own, and those of the classes around it.
    """

    module: str
    path: tuple[str, ...]
    node: Definition
    docstrings: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its full name."""
        return ".".join([self.module, *self.path])

    @property
    def is_called(self) -> bool:
        """Whether there is something to call. Values are shown by what takes and returns them."""
        if isinstance(self.node, ast.ClassDef):
            is_error = any(ast.unparse(base).endswith("Error") for base in self.node.bases)
            made = {each.name for each in self.node.body if isinstance(each, Callable)}
            return not is_error and not made.isdisjoint({"__init__", "__new__"})
        # Overloads are one function, described once.
        decorators = " ".join(ast.unparse(each) for each in self.node.decorator_list)
        return not re.search(r"\b(overload|property)\b", decorators)


def source_of(module: str) -> Path:
    """Return the file of a module."""
    within = module.replace(INTEGRATIONS, "integrations", 1).split(".")
    path = ROOT.joinpath(*within)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def surface() -> list[Public]:
    """Return every name on the pages of the reference."""
    found = {
        each.name: each
        for page in sorted((ROOT / "docs" / "reference").glob("*.md"))
        for name, options in _ENTRY.findall(page.read_text(encoding="utf-8"))
        for each in _of_entry(name, _members(options))
    }
    assert found
    return list(found.values())


def _members(options: str) -> list[str] | None:
    """Return the members that an entry is for, as mkdocstrings reads it; None for all."""
    given = (yaml.safe_load(options) or {}).get("options", {}).get("members")
    return [] if given is False else given


def _of_entry(name: str, members: list[str] | None) -> Iterator[Public]:
    module, path = name, []
    while not source_of(module).is_file():
        module, _, last = module.rpartition(".")
        assert module, f"docs/reference names {name}, which is nowhere"
        path.insert(0, last)
    tree = ast.parse(source_of(module).read_text(encoding="utf-8"))
    body, docstrings, at = tree.body, (), ()
    for part in path:
        node = next((each for each in _definitions(body) if each.name == part), None)
        if node is None:  # an attribute, which is no function
            return
        docstrings, at = (*docstrings, ast.get_docstring(node) or ""), (*at, part)
        body = node.body if isinstance(node, ast.ClassDef) else []
    if path:
        yield Public(module=module, path=at, node=node, docstrings=docstrings)
    for each in _definitions(body):
        if members is None or each.name in members:
            yield from _whole(each, module=module, path=at, docstrings=docstrings)
    if members is not None:
        there = {each.name for each in _definitions(body)}
        assert set(members) <= there, f"{name} has no {set(members) - there}, which docs/reference names"


def _whole(
    node: Definition, *, module: str, path: tuple[str, ...], docstrings: tuple[str, ...]
) -> Iterator[Public]:
    path, docstrings = (*path, node.name), (*docstrings, ast.get_docstring(node) or "")
    yield Public(module=module, path=path, node=node, docstrings=docstrings)
    if isinstance(node, ast.ClassDef):
        for each in _definitions(node.body):
            yield from _whole(each, module=module, path=path, docstrings=docstrings)


def _definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    for each in body:
        if isinstance(each, Definition) and not each.name.startswith("_"):
            yield each


# --- what shows them ------------------------------------------------------------------------------------------------


def used(code: str) -> set[str]:
    """Return what a piece of Python calls (functions and methods, by their last part), and the names that it reads."""
    tree = ast.parse(code)
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    attributes = {func.attr for func in calls if isinstance(func, ast.Attribute)}
    return attributes | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def imported(code: str) -> set[tuple[str, str]]:
    """Return what a piece of Python imports of this package, by the module where it is written."""
    return {
        home_of(node.module or "", alias.name)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE
        for alias in node.names
    }


def home_of(module: str, name: str) -> tuple[str, str]:
    """Return the module that defines what a module hands on, and its name there."""
    for node in ast.walk(ast.parse(source_of(module).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or name not in {alias.name for alias in node.names}:
            continue
        around = module.rsplit(".", node.level)[0] if node.level else ""
        origin = ".".join(part for part in (around, node.module) if part)
        return home_of(origin, name) if origin.split(".")[0] == PACKAGE else (module, name)
    return module, name


def shown_in(docstring: str, *, in_package: bool) -> set[str]:
    """Return what the examples of a docstring use. Blocks run in the package only, sessions everywhere."""
    code = [example.source for example in doctest.DocTestParser().get_examples(docstring)]
    if in_package:
        code += [_plain(indent, block) for indent, block in _BLOCK.findall(docstring)]
    return set().union(*map(used, code))


def pages() -> dict[Path, str]:
    """Return the Python that readers are shown and that runs: of the pages, and the files in examples/.

    Of a framework's page that is the first block.
    """
    shown = {}
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        blocks = [_plain(indent, block) for indent, block in _BLOCK.findall(page.read_text(encoding="utf-8"))]
        if page.parent == FRAMEWORKS and page.name != "index.md":
            blocks = blocks[:1]
        shown[page] = "\n".join(blocks)
    return shown | {file: file.read_text(encoding="utf-8") for file in (ROOT / "examples").rglob("*.py")}


def _plain(indent: str, block: str) -> str:
    return re.sub(f"^{indent}", "", block, flags=re.MULTILINE)
