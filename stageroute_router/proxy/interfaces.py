"""What the parts that are mounted on LiteLLM's proxy (endpoints, page, metrics) are given to work with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stageroute_router.errors import StageRouteError
from stageroute_router.reports.status import GroupStatus, Status
from stageroute_router.reports.values import DecisionReceipt, StageReport
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.router.control import Control
from stageroute_router.store.health import Health
from stageroute_router.store.history import HistoryPoint


class ProxyNotReadyError(StageRouteError):
    """LiteLLM's proxy has no router yet, so nothing is routed: answer 503, and ask again in a moment."""


class ProxyRouting(Protocol):
    """StageRoute's routing of the proxy that this process runs. Every method may be called from any thread.

    There is one object for the life of the process, made before the proxy has a router.
    """

    def control(self) -> Control:
        """Return the handle on the routing of the proxy's present router, attaching to it first if needed.

        A configuration reload may give the proxy another router, and then there is another handle: ask for it for
        each request, and keep it no longer than that.

        Raises:
            ProxyNotReadyError: the proxy has no router yet.
        """
        ...


# What the endpoints need of StageRoute's routing.


class Steering(Protocol):
    """The part of :class:`~stageroute_router.router.control.Control` that is offered over HTTP."""

    def status(self, group: None = None) -> Status:
        """Return the status of all groups."""

    def group_status(self, group: str) -> GroupStatus:
        """Return the status of one group."""

    def stages(self, group: str, *, last: int = 50) -> Sequence[StageReport]:
        """Return the last stages of a group, the oldest first."""

    def history(self, group: str, *, points: int = 300) -> Sequence[HistoryPoint]:
        """Return moments of a group, the oldest first."""

    def receipt(self, key: str, *, caller: str | None = None) -> DecisionReceipt | None:
        """Return the receipt of a decision; with a caller, only of one that is this caller's."""

    def health(self) -> Health:
        """Return whether what is learned is stored."""

    def redeploy(self, group: str) -> GroupStatus:
        """Open a maintenance window now."""

    def pin(self, group: str, arm: str, *, pinned: bool | None = True) -> GroupStatus:
        """Pin an arm, unpin it, or leave it to the configuration again (None); return the group's status then."""

    async def arecord_reward(
        self, response: object, reward: object, *, source: str = "app", caller: str | None = None
    ) -> RewardReceipt:
        """Report how good an answer was."""

    async def areward_by_token(
        self, token: object, reward: object, *, caller: str | None = None, source: str = "client"
    ) -> RewardReceipt:
        """Take a reward from a client, by its token."""

    async def arevoke_reward(
        self, response: object, *, source: str = "app", caller: str | None = None
    ) -> RewardReceipt:
        """Take a reward back."""


class Steered(Protocol):
    """Where the endpoints find the routing of the proxy's present router, for each request anew."""

    def control(self) -> Steering:
        """Return the handle on it.

        Raises:
            ProxyNotReadyError: the proxy has no router yet.
        """
