"""Virtual environments for tests that need packages of their own: made once per lock, under ``.venvs/``.

    python tests/environments.py LOCK ...

makes those of some locks ahead, which is mostly waiting for downloads: what else there is to do goes on meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

AT_ONCE = min(2, os.cpu_count() or 1)
"""So many environments are made, or tested in, at a time."""

PROGRAMS = {"open_webui": ((3, 11), (3, 12))}
"""What is no library but a program of its own: by the lock's name, the oldest and the newest Python that it runs with.
Its environment has neither this project in it nor pytest: its tests run elsewhere, and start it."""


def runs_here(lock: Path) -> bool:
    """Return whether what a lock installs runs with this Python."""
    oldest, newest = PROGRAMS.get(lock.stem, ((3,), (4,)))
    return oldest <= sys.version_info[:2] <= newest


def environment(lock: Path) -> Path:
    """Return the Python of an environment with exactly the lock's packages and, unless it is a program's, this project.

    Nothing is resolved: LiteLLM 1.106.3 and newer ask for a certifi that not every index has; any recent one does.
    """
    home = ROOT / ".venvs" / f"{_name(lock)}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = home / "installed.sha256"
    wanted = hashlib.sha256(lock.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(home, with_pip=False, clear=True)
        _install(python, "--require-hashes", "-r", str(lock))
        if lock.stem not in PROGRAMS:
            _install(python, "--no-build-isolation", "-e", str(ROOT))
        stamp.write_text(wanted)
    return python


def _name(lock: Path) -> str:
    """Return the environment's name: a LiteLLM version alone would not say what it is one of."""
    return f"litellm-{lock.stem}" if lock.parent.name == "litellm" else lock.stem


def _install(python: Path, *what: str) -> None:
    """Install by uv, which links what it installed before instead of copying it; by pip where uv does not work."""
    uv = shutil.which(
        "uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    )
    if uv is not None:
        by_uv = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), *what]
        if subprocess.run(by_uv, check=False, capture_output=True).returncode == 0:
            return
    by_pip = [
        *(sys.executable, "-m", "pip", "--python", str(python)),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        *what,
    ]
    subprocess.run(by_pip, check=True)


if __name__ == "__main__":
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(environment, filter(runs_here, map(Path, sys.argv[1:]))):
            pass  # an error comes out here
