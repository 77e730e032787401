"""A router's deployments as they are now: the arms they form, their ``order`` levels, their time limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from stageroute_router.errors import SettingsError
from stageroute_router.hook.compat import LiteLLMCompat
from stageroute_router.hook.deployments import GroupArms, read_arms
from stageroute_router.hook.interfaces import Routing
from stageroute_router.process.fork import ForkAware, survive_fork


class KnownDeployments(ForkAware):
    """Reads a router's deployments, and tells the runtime which arms there are.

    Args:
        compat: the router.
        routing: the runtime.
        strict: whether a deployment that cannot be used is an error at first, or is left out and logged.

    Attributes:
        groups: the arms of each managed group.
        orders: level by deployment id, of the groups that have several.
        time_limit_s: the router's own limit for an answer, in seconds; None without one.

    Raises:
        SettingsError: the deployments cannot be used.
    """

    def __init__(self, compat: LiteLLMCompat, routing: Routing, *, strict: bool) -> None:
        self._compat = compat
        self._routing = routing
        self._lock = threading.Lock()
        self.groups: dict[str, GroupArms] = {}
        self.orders: dict[str, Mapping[str, int]] = {}
        self.time_limit_s: float | None = None
        survive_fork(self)
        compat.changed()
        self._read(rejected=None if strict else routing.internal_error)

    def after_fork_in_child(self) -> None:
        """Hold no lock of the parent's threads."""
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Read the deployments again if any has changed; those that cannot be used are left out and logged."""
        if self._compat.changed():
            self._read(rejected=self._routing.internal_error)

    def _read(self, *, rejected: Callable[[SettingsError], None] | None) -> None:
        """Tell the runtime about the arms there are now. Without ``rejected``, what is wrong is raised."""
        with self._lock:
            deployments = self._compat.deployments()
            self.time_limit_s = self._compat.time_limit_s()
            names = {str(deployment.get("model_name")) for deployment in deployments} | self.groups.keys()
            for name in sorted(filter(self._routing.manages, names)):
                read = read_arms(deployments, name, rejected=rejected)
                known = self.groups.get(name)
                self.groups[name] = read
                orders = self._compat.orders([one for one in deployments if one.get("model_name") == name])
                self.orders[name] = orders if len(set(orders.values())) > 1 else {}
                self._routing.set_deployments(name, read.deployments())
                if known is None or known.arms != read.arms:
                    try:
                        self._routing.set_arms(name, read.arms)
                    except SettingsError as error:
                        if rejected is None:
                            raise
                        rejected(error)
