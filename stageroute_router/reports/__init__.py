"""What operators are shown: one set of shapes for Python, the command line, the page and HTTP."""

from __future__ import annotations

from stageroute_router.reports.reports import Reports
from stageroute_router.reports.status import ArmStatus, GroupStatus, SegmentStatus, Status
from stageroute_router.reports.values import DecisionReceipt, StageReport
from stageroute_router.store.health import Health
from stageroute_router.store.history import HistoryPoint

__all__ = [
    "ArmStatus",
    "DecisionReceipt",
    "GroupStatus",
    "Health",
    "HistoryPoint",
    "Reports",
    "SegmentStatus",
    "StageReport",
    "Status",
]
