"""Tell the application which arms became live and which no longer are: to load and unload models it hosts itself."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stageroute_router.groups.availability import Eligible
from stageroute_router.process.fork import ForkAware, survive_fork

logger = logging.getLogger("stageroute_router")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChange:
    """A group's live set is another one now.

    Args:
        group: the model group.
        stage: number of the stage that it is live in.
        live: the live arms.
        came: those that were not live before; all of them when a process starts.
        left: arms that were live before. Calls to them may still be under way.
    """

    group: str
    stage: int
    live: tuple[str, ...]
    came: tuple[str, ...]
    left: tuple[str, ...]


LiveHook = Callable[[LiveChange], None]


class LiveHooks(ForkAware):
    """Calls hooks on a thread of its own, one change after the other, in order.

    An arm gets no calls of this process before the hooks were through with it, unless nothing else can serve.
    """

    def __init__(self) -> None:
        self._hooks: tuple[LiveHook, ...] = ()
        self._known: dict[str, tuple[str, ...]] = {}
        self._loaded: dict[str, frozenset[str]] = {}
        self._begin()
        survive_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._changes: queue.SimpleQueue[LiveChange] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def after_fork_in_child(self) -> None:
        """Leave what is under way to the parent: it is the same host."""
        self._begin()

    def add(self, hook: LiveHook) -> None:
        """Call a hook for the live set there is, and at every change.

        Args:
            hook: what to call. What it raises is logged, and its arms are then routed to as any others.
        """
        with self._lock:
            self._hooks = (*self._hooks, hook)
            self._known = {}  # so that all of them are told again, the new one for the first time

    def moved(self, group: str, *, stage: int, live: tuple[str, ...]) -> None:
        """Take the live set that a group has now, and the number of its stage. Waits for nothing."""
        if not self._hooks or self._known.get(group) == live:
            return
        with self._lock:
            before = self._known.get(group, ())
            if before == live:
                return
            self._known[group] = live
            came = tuple(arm for arm in live if arm not in before)
            self._loaded[group] = self._loaded.get(group, frozenset()) & frozenset(live)
            self._changes.put(
                LiveChange(
                    group=group,
                    stage=stage,
                    live=live,
                    came=came,
                    left=tuple(arm for arm in before if arm not in live),
                )
            )
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stageroute-live", daemon=True)
                self._thread.start()

    def ready(self, group: str, eligible: Eligible) -> Eligible:
        """Return the eligible arms that hooks are through with; all of them where that is none."""
        if not self._hooks:
            return eligible
        loaded = self._loaded.get(group, frozenset())
        if isinstance(eligible, Mapping):
            return {arm: ids for arm, ids in eligible.items() if arm in loaded} or eligible
        return [arm for arm in eligible if arm in loaded] or eligible

    def _run(self) -> None:
        while True:
            change = self._changes.get()
            for hook in self._hooks:
                try:
                    hook(change)
                except Exception:
                    logger.exception(
                        "the hook for the live set of group %r, stage %d, failed; its arms are routed to all the same",
                        change.group,
                        change.stage,
                    )
            with self._lock:
                now = self._known.get(change.group, ())
                self._loaded[change.group] |= frozenset(arm for arm in change.live if arm in now)
