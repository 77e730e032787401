"""Refuse the words that CONTRIBUTING.md bans in identifiers, docstrings and comments: part of ``make lint``.

    python -m tests.language            # report, and fail
    python -m tests.language --prune    # take the files that are clean out of the list of exempt ones

``tests/language_exempt.txt`` lists the files that still have such words. It must be minimal: a clean file in it is an
error, so it can only shrink.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXEMPT = Path(__file__).with_name("language_exempt.txt")
FOLDERS = ("stageroute_router", "integrations", "tests", "benchmarks", "examples")
WORDS = ("somebody", "nobody", "anybody", "everybody", "whoever", "whomever")
"""Say which component instead: the caller, the client, the operator, the store, another process."""

_BANNED = re.compile(rf"(?<![a-z])(?:{'|'.join(WORDS)})(?![a-z])")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def banned(source: str) -> Iterator[tuple[int, str]]:
    """Return line and word of each banned word in a module's names, docstrings and comments."""
    texts = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in {tokenize.NAME, tokenize.COMMENT}
    ]
    for node in ast.walk(ast.parse(source)):
        # What stands alone is a docstring, be it of a module, a class, a function or a constant.
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            lines = node.value.value.split("\n")
            texts += [(node.lineno + number, line) for number, line in enumerate(lines)]
    for line, text in sorted(texts):
        for found in _BANNED.finditer(_CAPITAL.sub("_", text).lower()):
            yield line, found[0]


def main(arguments: list[str]) -> int:
    """Check all files; return the exit status."""
    exempt = set(EXEMPT.read_text(encoding="utf-8").split()) if EXEMPT.exists() else set()
    unclean = {}
    for path in sorted(each for folder in FOLDERS for each in (ROOT / folder).rglob("*.py")):
        if found := list(banned(path.read_text(encoding="utf-8"))):
            unclean[path.relative_to(ROOT).as_posix()] = found
    if arguments == ["--prune"]:
        EXEMPT.write_text("".join(f"{name}\n" for name in sorted(exempt & unclean.keys())), encoding="utf-8")
        return 0
    errors = [
        f"{name}:{line}: {word!r}: name the component that acts, see CONTRIBUTING.md"
        for name, found in unclean.items()
        if name not in exempt
        for line, word in found
    ]
    errors += [
        f"{EXEMPT.relative_to(ROOT)}: {name} has no such word any more: python -m tests.language --prune"
        for name in sorted(exempt - unclean.keys())
    ]
    sys.stderr.writelines(f"{error}\n" for error in errors)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
