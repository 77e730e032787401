"""Rewards that come by themselves: from what an answered call itself shows.

The one-line change, after the router was made::

    watch(router, RewardFunction("exact_match", grade), ValidJson())

Nothing is watched unless it is named here, and every source keeps its rewards under its own name, so that they are
never mixed silently with what the application reports. Sources run on threads of their own, after the answer has gone
out; what they see of a call is forgotten when they are done. One that raises is logged, and gives no reward.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import litellm
from litellm.integrations.custom_logger import CustomLogger

from stageroute_router.errors import SettingsError, StageRouteError
from stageroute_router.hook.calls.observer import read_report
from stageroute_router.hook.calls.response import field_of
from stageroute_router.router.control import Control

logger = logging.getLogger("stageroute_router")

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_REMEMBERED = 10_000

# Where LiteLLM keeps a callback that was added once, after the first call.
_LISTS = (
    "callbacks",
    "success_callback",
    "_async_success_callback",
    "failure_callback",
    "_async_failure_callback",
)

Request = Mapping[str, Any]
"""What was asked: ``messages`` (or ``input``), and the parameters of the call such as ``tools``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A routed call that was answered.

    Args:
        decision_id: of the decision that is to be rewarded.
        request: what was asked.
        response: LiteLLM's whole response; a stream's, put together.
    """

    decision_id: str
    request: Request
    response: Any

    @property
    def message(self) -> Any:  # noqa: ANN401 - a field of LiteLLM's
        """The first choice's message; None where the response has none, as an embedding."""
        choices = field_of(self.response, "choices") or []
        return field_of(choices[0], "message") if choices else None

    @property
    def text(self) -> str | None:
        """The text of the answer; None where it is none."""
        content = field_of(self.message, "content")
        return content if isinstance(content, str) else None


class Source(Protocol):
    """A source of rewards for answered calls: any object with a name and this method.

    >>> class Brief:
    ...     name = "brief"
    ...
    ...     def rewards(self, answered):
    ...         return [(answered.decision_id, float(len(answered.text) < 100))] if answered.text else []
    >>> answer = {"choices": [{"message": {"content": "5"}}]}
    >>> Brief().rewards(Answered(decision_id="d", request={}, response=answer))
    [('d', 1.0)]
    >>> watch(router, Brief()).close()
    """

    @property
    def name(self) -> str:
        """The name under which its rewards are kept."""

    def rewards(self, answered: Answered) -> Iterable[tuple[str, float]]:
        """Return decision ids with rewards in [0, 1]: of this call, or of earlier ones; none where it cannot tell."""


class RewardFunction:
    """A function of yours that grades answers.

    Args:
        name: what its rewards are kept under.
        grade: is given the request and LiteLLM's response; returns a reward in [0, 1], or None for none.

    >>> polite = RewardFunction("polite", lambda request, response: 1.0 if "thank" in response else None)
    >>> list(polite.rewards(Answered(decision_id="d", request={}, response="thank you")))
    [('d', 1.0)]
    >>> list(polite.rewards(Answered(decision_id="d", request={}, response="no")))
    []
    """

    def __init__(self, name: str, grade: Callable[[Request, Any], float | None]) -> None:
        self.name = name
        self._grade = grade

    def rewards(self, answered: Answered) -> Iterable[tuple[str, float]]:
        """Return the grade."""
        reward = self._grade(answered.request, answered.response)
        return [] if reward is None else [(answered.decision_id, reward)]


class Watch(CustomLogger):
    """Passes answered calls of one router to sources. Made by :func:`watch`.

    Args:
        control: the router's handle.
        sources: who rewards.
        max_waiting: how many calls may wait for the sources; beyond that they are skipped and counted.
    """

    def __init__(self, control: Control, sources: Iterable[Source], *, max_waiting: int) -> None:
        super().__init__()
        self._control = control
        self._sources = tuple(sources)
        self._room = threading.BoundedSemaphore(max_waiting)
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="stageroute-rewards")
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, None] = OrderedDict()
        # LiteLLM takes callbacks of one class for the same one unless a public field tells them apart.
        self.watch_id = secrets.token_hex(8)
        self.skipped = 0
        """Calls that were answered while too many others waited."""

    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Take an answered synchronous call."""
        self._take(kwargs, response_obj)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: object, start_time: object, end_time: object
    ) -> None:
        """Take an answered asynchronous call."""
        self._take(kwargs, response_obj)

    def close(self) -> None:
        """Watch no longer, and wait for the rewards under way.

        >>> watching = watch(router, RewardFunction("polite", lambda request, response: 1.0))
        >>> watching.close()  # done, and stored
        """
        for where in _LISTS:
            setattr(litellm, where, [known for known in getattr(litellm, where) if known is not self])
        self._threads.shutdown(wait=True)

    def _take(self, kwargs: Mapping[str, Any], response: object) -> None:
        report = read_report(kwargs, response, failed=False)
        made = self._control.strategy.decision_made(report.call_id)
        if made is None or report.from_cache or not self._is_new(made.decision_id):
            return
        if not self._room.acquire(blocking=False):
            self.skipped += 1
            return
        asked = {**(kwargs.get("optional_params") or {})}
        asked.update({name: kwargs[name] for name in ("messages", "input", "user") if kwargs.get(name)})
        answered = Answered(decision_id=made.decision_id, request=asked, response=response)
        try:
            self._threads.submit(self._reward, answered)
        except RuntimeError:  # closed meanwhile
            self._room.release()

    def _is_new(self, decision_id: str) -> bool:
        """Return whether a call is heard of for the first time: LiteLLM may tell of it twice."""
        with self._lock:
            if decision_id in self._seen:
                return False
            self._seen[decision_id] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            return True

    def _reward(self, answered: Answered) -> None:
        try:
            for source in self._sources:
                self._ask(source, answered)
        finally:
            self._room.release()

    def _ask(self, source: Source, answered: Answered) -> None:
        try:
            for decision_id, reward in source.rewards(answered):
                self._control.record_reward(decision_id, reward, source=source.name)
        except StageRouteError as error:
            logger.warning("the reward of source %r was not recorded: %s", source.name, error)
        except Exception as error:  # noqa: BLE001 - it is the user's; the type only, its text may quote an answer
            logger.warning(
                "source %r of rewards raised %s; this call gets none of it", source.name, type(error).__name__
            )


def watch(router: Any, *sources: Source, max_waiting: int = 1000) -> Watch:  # noqa: ANN401 - any generation's
    """Reward a router's answered calls by what they show.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that
            :func:`~stageroute_router.attach` was used on.
        *sources: who rewards: :class:`RewardFunction`, the signals of :mod:`.signals`, a :class:`.judge.Judge`.
        max_waiting: how many calls may wait for them. 1,000 by default: they hold prompts and answers in memory.

    Returns:
        The watch; close it to stop.

    Raises:
        SettingsError: the router is not routed by StageRoute, or the sources' names cannot be used.

    >>> watching = watch(router, RewardFunction("polite", lambda request, response: 1.0))
    >>> watching.skipped
    0
    >>> watching.close()
    """
    control = getattr(router, "stageroute", None)
    if not isinstance(control, Control):
        msg = f"router = {type(router).__name__}: StageRoute does not route it; use StageRouteRouter, or attach() first"
        raise SettingsError(msg)
    names = [source.name for source in sources]
    bad = next((name for name in names if not _NAME.fullmatch(name) or name in {"app", "failure"}), None)
    if not sources or bad is not None or len(set(names)) < len(names):
        msg = (
            f"sources = {names}: each needs a name of its own, of 1 to 64 letters, digits and '_.:-', "
            "and other than 'app' and 'failure'"
        )
        raise SettingsError(msg)
    made = Watch(control, sources, max_waiting=max_waiting)
    litellm.logging_callback_manager.add_litellm_callback(made)
    return made
