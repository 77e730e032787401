"""What users write, checked once, before anything runs."""

from __future__ import annotations

from stageroute_router.settings.group import GroupSettings
from stageroute_router.settings.options import Options
from stageroute_router.settings.parsing import parse_groups, parse_options
from stageroute_router.settings.segments import SegmentSettings
from stageroute_router.settings.stage import StageSettings

__all__ = ["GroupSettings", "Options", "SegmentSettings", "StageSettings", "parse_groups", "parse_options"]
