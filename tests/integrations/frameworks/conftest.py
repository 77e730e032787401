"""Tests of one framework each, in that framework's environment: see ``run_frameworks.py``."""

from __future__ import annotations

import os

# Elsewhere the frameworks are not installed; `make frameworks` runs each where it is.
_NAME = os.environ.get("STAGEROUTE_TEST_FRAMEWORK")
collect_ignore_glob = [] if _NAME else ["test_*.py"]
