"""Run the LiteLLM seam's tests against the other LiteLLM versions we support.

    python tests/hook/run_versions.py [VERSION ...] [-- PYTEST ARGUMENTS]

For each ``requirements/litellm-VERSION.lock`` this makes a virtual environment under ``.venvs/`` (again only when
the lock has changed), installs exactly what the lock says, and runs ``tests/hook``, and the proxy's tests where the
lock has a proxy. The exit status is 0 only if all runs passed. Needs nothing but Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from environments import environment


def main(arguments: list[str]) -> int:
    """Test the versions that are named, or all that have a lock."""
    named, passed_on = arguments, []
    if "--" in arguments:
        at = arguments.index("--")
        named, passed_on = arguments[:at], arguments[at + 1 :]
    locks = [ROOT / "requirements" / f"litellm-{version}.lock" for version in named]
    locks = locks or sorted((ROOT / "requirements").glob("litellm-*.lock"))
    missing = [lock.name for lock in locks if not lock.exists()]
    if missing or not locks:
        sys.stderr.write(f"no such lock in requirements/: {', '.join(missing) or 'litellm-*.lock'}\n")
        return 2
    failed = []
    for lock in locks:
        sys.stdout.write(f"== {lock.stem}\n")
        sys.stdout.flush()
        command = [
            str(environment(lock)),
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-n0",
            "tests/hook",
        ]
        # LiteLLM 1.110 moved its proxy into a package that not every index has.
        if "\nfastapi==" in lock.read_text(encoding="utf-8"):
            command += ["tests/proxy/test_calls.py", "tests/proxy/test_attaching.py"]
        settings = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        if subprocess.run([*command, *passed_on], cwd=ROOT, env=settings, check=False).returncode:
            failed.append(lock.stem)
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
