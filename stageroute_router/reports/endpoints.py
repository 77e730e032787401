"""What can be asked of a proxy over HTTP.

One table: the proxy's routes and the client, :mod:`~stageroute_router.reports.remote`, both read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from stageroute_router.reports.status import GroupStatus, Status
from stageroute_router.reports.values import DecisionReceipt, StageReport
from stageroute_router.store.health import Health
from stageroute_router.store.history import HistoryPoint

PREFIX = "/stageroute"
"""What the paths of all endpoints begin with."""

Shape = TypeVar("Shape")


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A query parameter that says how many of something are wanted.

    Args:
        default: how many where it is not given; the same as of the method in Python.
        most: the largest number that is accepted; the smallest is 1.
        description: what is counted, for the endpoints' own description.
    """

    default: int
    most: int
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Generic[Shape]):
    """A question that HTTP can ask, or a thing to do.

    Args:
        path: after :data:`PREFIX`, with names in braces for what may be any text.
        shape: the value that the JSON of an answer has.
        method: of HTTP; GET where nothing is changed.
        query: the numbers in the query, by name; a ``group`` may be beside them.
    """

    path: str
    shape: type[Shape]
    method: Literal["GET", "POST"] = "GET"
    query: Mapping[str, Count] = field(default_factory=dict)


STATUS = Endpoint(path="/status", shape=Status)

STAGES = Endpoint(
    path="/stages",
    shape=tuple[StageReport, ...],
    query={"last": Count(default=50, most=1000, description="At most so many stages.")},
)

HISTORY = Endpoint(
    path="/history",
    shape=tuple[HistoryPoint, ...],
    query={"points": Count(default=300, most=5000, description="At most so many moments.")},
)

DECISION = Endpoint(path="/decisions/{id}", shape=DecisionReceipt)

HEALTH = Endpoint(path="/health", shape=Health)

REDEPLOY = Endpoint(path="/groups/{group}/redeploy", shape=GroupStatus, method="POST")

PIN = Endpoint(path="/groups/{group}/pin", shape=GroupStatus, method="POST")
