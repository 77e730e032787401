"""Finds the browser that the tests of the page drive, and installs one where there is none.

``python -m tests.page.browser`` does the latter: Debian's package where it can, else the build that Playwright fetches.
Without a browser those tests are skipped, except in continuous integration (``CI`` is set), where they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

MISSING = (
    "there is no Chromium here: install it (`apt-get install chromium`, or `python -m playwright install chromium`), "
    "or name one in STAGEROUTE_TEST_CHROMIUM"
)


def find() -> str | None:
    """Return the path of a Chromium, None if there is none."""
    given = os.environ.get("STAGEROUTE_TEST_CHROMIUM")
    if given:
        return given
    installed = next((path for path in map(shutil.which, NAMES) if path is not None), None)
    return installed or _fetched()


def install() -> None:
    """Install a Chromium by whatever works here; nothing that fails raises."""
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"],
        ):
            subprocess.run(command, env=quiet, check=False, stdout=subprocess.DEVNULL, timeout=600)
    if find() is None:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False, timeout=600)


def _fetched() -> str | None:
    """Return the path of the Chromium that Playwright has fetched, if it has."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - starts a process

    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return str(path) if path.exists() else None


if __name__ == "__main__":
    if find() is None:
        install()
    if find() is None:
        sys.stderr.write(f"{MISSING}; the tests of the page in a browser will not run\n")
        sys.exit(1 if os.environ.get("CI") else 0)
