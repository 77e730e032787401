"""Tell watchers, such as a tracer, of each decision in this process as it is made."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Protocol

from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.process.fork import ForkAware, survive_fork
from stageroute_router.process.logs import loggable

logger = logging.getLogger("stageroute_router")


class Watcher(Protocol):
    """Is told of the decisions of all routers. Called where calls are routed, so it must be quick."""

    def made(self, call_id: str, decision: RoutingDecision) -> None:
        """Take a decision, and LiteLLM's id of the call: of this attempt, unless the application chose it."""

    def answered(self, response_id: str, decision: RoutingDecision) -> None:
        """Take the id of the answer that a decision led to."""


class Watching(ForkAware):
    """The process's watchers. They are held weakly."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: tuple[weakref.ref[Watcher], ...] = ()
        survive_fork(self)

    def after_fork_in_child(self) -> None:
        """Hold no lock of the parent's threads."""
        self._lock = threading.Lock()

    @property
    def active(self) -> bool:
        """Whether there is a watcher."""
        return bool(self._watchers)

    def begin(self, watcher: Watcher) -> None:
        """Tell a watcher from now on."""
        with self._lock:
            self._watchers = (*self._others(watcher), weakref.ref(watcher))

    def end(self, watcher: Watcher) -> None:
        """Tell a watcher no more."""
        with self._lock:
            self._watchers = self._others(watcher)

    def made(self, call_id: str, decision: RoutingDecision) -> None:
        """Tell of a decision; whatever goes wrong, the call goes on."""
        for known in self._watchers:
            watcher = known()
            if watcher is not None:
                try:
                    watcher.made(call_id, decision)
                except Exception as error:  # noqa: BLE001 - the decision stands whether or not it is watched
                    logger.error("a watcher of decisions failed:\n%s", loggable(error))

    def answered(self, response_id: str, decision: RoutingDecision) -> None:
        """Tell of an answer; whatever goes wrong, the call goes on."""
        for known in self._watchers:
            watcher = known()
            if watcher is not None:
                try:
                    watcher.answered(response_id, decision)
                except Exception as error:  # noqa: BLE001 - likewise
                    logger.error("a watcher of decisions failed:\n%s", loggable(error))

    def _others(self, watcher: Watcher) -> tuple[weakref.ref[Watcher], ...]:
        return tuple(known for known in self._watchers if known() not in (None, watcher))


watching = Watching()
"""The process's only one."""
