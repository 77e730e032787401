"""Run the LiteLLM seam's tests against the other LiteLLM versions we support.

    python tests/hook/run_versions.py [VERSION ...] [-- PYTEST ARGUMENTS]

For each ``requirements/litellm/VERSION.lock`` this makes a virtual environment under ``.venvs/`` (again only when
the lock has changed), installs exactly what the lock says, and runs ``tests/hook``, and the proxy's tests where the
lock has a proxy. The exit status is 0 only if all runs passed. Needs nothing but Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "requirements" / "litellm"
sys.path.insert(0, str(ROOT / "tests"))

from environments import AT_ONCE, environment


def run(lock: Path, passed_on: list[str]) -> tuple[int, str]:
    """Run the tests with one version; return the exit status, and what was printed."""
    try:
        python = environment(lock)
    except (OSError, subprocess.CalledProcessError) as error:
        return 1, f"its environment could not be made: {error}\n"
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0", "tests/hook"]
    # LiteLLM 1.110 moved its proxy into a package that not every index has.
    if "\nfastapi==" in lock.read_text(encoding="utf-8"):
        command += ["tests/proxy/test_calls.py", "tests/proxy/test_attaching.py"]
    done = subprocess.run(
        [*command, *passed_on],
        cwd=ROOT,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout


def main(arguments: list[str]) -> int:
    """Test the versions that are named, or all that have a lock."""
    named, passed_on = arguments, []
    if "--" in arguments:
        at = arguments.index("--")
        named, passed_on = arguments[:at], arguments[at + 1 :]
    locks = [LOCKS / f"{version}.lock" for version in named] or sorted(LOCKS.glob("*.lock"))
    missing = [lock.name for lock in locks if not lock.exists()]
    if missing or not locks:
        sys.stderr.write(f"no such lock in requirements/litellm/: {', '.join(missing) or '*.lock'}\n")
        return 2
    failed = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for lock, (status, printed) in zip(
            locks, pool.map(lambda one: run(one, passed_on), locks), strict=True
        ):
            sys.stdout.write(f"== LiteLLM {lock.stem}\n{printed}")
            sys.stdout.flush()
            if status:
                failed.append(f"LiteLLM {lock.stem} (exit code {status})")
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
