"""Where a proxy serves what operators ask it."""

from __future__ import annotations

PREFIX = "/stageroute"
"""The path that everything of ours stands under, behind the proxy's own root path."""
