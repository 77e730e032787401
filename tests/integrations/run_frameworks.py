"""Test the adapters with the real frameworks, each in an environment of its own, because they conflict.

    python tests/integrations/run_frameworks.py [NAME ...] [-- PYTEST ARGUMENTS]

For each ``requirements/frameworks/NAME.lock`` this makes a virtual environment under ``.venvs/`` (again only when the
lock has changed), installs exactly what it says, and runs ``tests/integrations/frameworks/test_NAME.py``. Without a
name, all of them that run with this Python. The exit status is 0 only if all runs passed. Needs nothing but Python; the
tests of programs of their own run with the Python of this, which must have what the proxy needs, and start them.

``--table`` prints the table of docs/frameworks.md from the locks instead.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "requirements" / "frameworks"
TESTS = ROOT / "tests" / "integrations" / "frameworks"
sys.path.insert(0, str(ROOT / "tests"))

from environments import AT_ONCE, PROGRAMS, environment, runs_here

# What frameworks warn of while they are imported, and leave open until Python ends: before the first test and after the
# last, so outside of the tests' own settings.
FOREIGN = [
    f"-Wignore::{category}"
    for category in (
        "ImportWarning",
        "DeprecationWarning",
        "SyntaxWarning",
        "ResourceWarning",
        "pytest.PytestUnraisableExceptionWarning",
    )
]


def names() -> list[str]:
    """Return the names of all frameworks there are tests for."""
    return sorted(path.stem for path in LOCKS.glob("*.lock"))


def run(name: str, passed_on: list[str]) -> tuple[str, int, str]:
    """Run one framework's tests; return its name, the exit status, and what was printed."""
    try:
        python = environment(LOCKS / f"{name}.lock")
    except (OSError, subprocess.CalledProcessError) as error:
        return name, 1, f"its environment could not be made: {error}\n"
    command = [
        sys.executable if name in PROGRAMS else str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(TESTS / f"test_{name}.py"),
        *FOREIGN,
    ]
    settings = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "STAGEROUTE_TEST_FRAMEWORK": name,
        "STAGEROUTE_TEST_FRAMEWORK_PYTHON": str(python),
    }
    done = subprocess.run(
        [*command, *passed_on],
        cwd=ROOT,
        env=settings,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return name, done.returncode, done.stdout


def version_of(name: str) -> str:
    """Return the framework's own line of its lock: what the first line of its ``.in`` file asks for."""
    package = re.split(r"[\[<>=!~ ]", (LOCKS / f"{name}.in").read_text().splitlines()[0])[0].lower()
    pins = [line.split(" ")[0] for line in (LOCKS / f"{name}.lock").read_text().splitlines()]
    return next(pin for pin in pins if re.split(r"[\[=]", pin)[0] == package)


def litellm_of(name: str) -> str:
    """Return the LiteLLM version that a framework is tested with."""
    lock = ROOT / "requirements" / "dev.lock" if name in PROGRAMS else LOCKS / f"{name}.lock"
    found = re.search(r"^litellm(?:\[[^]]*\])?==(\S+)", lock.read_text(), re.MULTILINE)
    return found[1] if found else "?"


def main(arguments: list[str]) -> int:
    """Test the frameworks that are named, or all of them."""
    if arguments == ["--table"]:
        rows = [f"| {name} | `{version_of(name)}` | {litellm_of(name)} |" for name in names()]
        sys.stdout.write("\n".join(["| framework | tested with | LiteLLM |", "|---|---|---|", *rows]) + "\n")
        return 0
    named, passed_on = arguments, []
    if "--" in arguments:
        at = arguments.index("--")
        named, passed_on = arguments[:at], arguments[at + 1 :]
    unknown = sorted(set(named) - set(names()))
    if unknown:
        sys.stderr.write(f"no such framework: {', '.join(unknown)}; there are: {', '.join(names())}\n")
        return 2
    chosen = named or [name for name in names() if runs_here(LOCKS / f"{name}.lock")]
    for name in sorted(set(names()) - set(chosen)) if not named else ():
        oldest, newest = (".".join(map(str, version)) for version in PROGRAMS[name])
        sys.stdout.write(f"== {name}: left out, it needs Python {oldest} to {newest}\n")
    failed = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for name, status, printed in pool.map(lambda one: run(one, passed_on), chosen):
            sys.stdout.write(f"== {name}: {version_of(name)}, LiteLLM {litellm_of(name)}\n{printed}")
            sys.stdout.flush()
            if status:
                failed.append(f"{name} (exit code {status})")
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
