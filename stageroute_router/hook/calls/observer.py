"""Hear from LiteLLM what became of each call.

LiteLLM's callbacks are process-global lists with a limited length. So there is one observer per process, which
passes reports on to the strategies that listen; it holds them weakly, so that a router without users goes away.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import litellm
from litellm.integrations.custom_logger import CustomLogger

from stageroute_router.hook.calls.request import DECISION_KEY, METADATA_KEYS, ORIGIN_KEY
from stageroute_router.hook.calls.response import field_of, plain_response_id
from stageroute_router.process.fork import ForkAware, survive_fork


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What LiteLLM says of one attempt of a call.

    Args:
        call_id: of the attempt; what a server says of its origin comes first.
        model_id: id of the deployment that served; ``""`` if LiteLLM does not say.
        noted: the decision id in the request's metadata, if there is one.
        failed: whether the attempt failed.
        from_cache: whether LiteLLM's cache answered.
        cost_usd: US dollars; None where LiteLLM knows no price.
        prompt_tokens: 0 where unknown.
        completion_tokens: 0 where unknown.
        response_id: the provider's id of the response, if it has one.
        error: what the attempt failed with; None where it did not, and where LiteLLM does not say.
    """

    call_id: str
    model_id: str
    noted: str | None
    failed: bool
    from_cache: bool
    cost_usd: float | None
    prompt_tokens: int
    completion_tokens: int
    response_id: str | None
    error: object = None


class Listener(Protocol):
    """Takes reports: all of them, those of other routers too."""

    def on_report(self, report: Report) -> None:
        """Take a report. Must not raise."""


class Observer(CustomLogger, ForkAware):
    """Turns LiteLLM's four callbacks into reports. LiteLLM may call two of them for the same attempt."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._listeners: tuple[weakref.ref[Listener], ...] = ()
        survive_fork(self)

    def after_fork_in_child(self) -> None:
        """Hold no lock of the parent's threads."""
        self._lock = threading.Lock()

    def attach(self, listener: Listener) -> None:
        """Pass reports on to a listener as long as it exists."""
        with self._lock:
            alive = (known for known in self._listeners if known() is not None)
            self._listeners = (*alive, weakref.ref(listener))

    def detach(self, listener: Listener) -> None:
        """Stop passing reports on to a listener."""
        with self._lock:
            self._listeners = tuple(
                known for known in self._listeners if known() is not None and known() is not listener
            )

    def ensure_registered(self) -> None:
        """Put the observer on LiteLLM's list unless it is there. Some frameworks empty that list at every call."""
        if not any(callback is self for callback in litellm.callbacks):
            litellm.logging_callback_manager.add_litellm_callback(self)

    def log_success_event(
        self,
        kwargs: dict[str, Any],
        response_obj: object,
        start_time: object,
        end_time: object,
    ) -> None:
        """Pass on that a synchronous call succeeded."""
        self._pass_on(kwargs, response_obj, failed=False)

    async def async_log_success_event(
        self,
        kwargs: dict[str, Any],
        response_obj: object,
        start_time: object,
        end_time: object,
    ) -> None:
        """Pass on that an asynchronous call succeeded."""
        self._pass_on(kwargs, response_obj, failed=False)

    def log_failure_event(
        self,
        kwargs: dict[str, Any],
        response_obj: object,
        start_time: object,
        end_time: object,
    ) -> None:
        """Pass on that an attempt of a synchronous call failed."""
        self._pass_on(kwargs, response_obj, failed=True)

    async def async_log_failure_event(
        self,
        kwargs: dict[str, Any],
        response_obj: object,
        start_time: object,
        end_time: object,
    ) -> None:
        """Pass on that an attempt of an asynchronous call failed."""
        self._pass_on(kwargs, response_obj, failed=True)

    def _pass_on(self, kwargs: Mapping[str, Any], response_obj: object, *, failed: bool) -> None:
        listeners = [listener for known in self._listeners if (listener := known()) is not None]
        if listeners:
            report = read_report(kwargs, response_obj, failed=failed)
            for listener in listeners:
                listener.on_report(report)


def read_report(kwargs: Mapping[str, Any], response_obj: object, *, failed: bool) -> Report:
    """Read what LiteLLM passes to a callback. Prompts, answers and headers are not looked at."""
    logged: Mapping[str, Any] = kwargs.get("standard_logging_object") or {}
    params: Mapping[str, Any] = kwargs.get("litellm_params") or {}
    metadata = [held for key in METADATA_KEYS if isinstance(held := params.get(key), Mapping)]
    noted = next((held[DECISION_KEY] for held in metadata if held.get(DECISION_KEY)), None)
    origin = next((held[ORIGIN_KEY] for held in metadata if held.get(ORIGIN_KEY)), None)
    info = params.get("model_info")
    # What LiteLLM logs stands in the request's metadata, which an application may give to several calls.
    served = (info.get("id") if isinstance(info, Mapping) else None) or logged.get("model_id")
    cost = kwargs.get("response_cost")
    response_id = field_of(response_obj, "id")
    return Report(
        call_id=str(origin or kwargs.get("litellm_call_id") or params.get("litellm_call_id") or ""),
        model_id=str(served or ""),
        noted=noted if isinstance(noted, str) else None,
        failed=failed,
        from_cache=kwargs.get("cache_hit") is True or logged.get("cache_hit") is True,
        cost_usd=None if cost is None else float(cost),
        prompt_tokens=int(logged.get("prompt_tokens") or 0),
        completion_tokens=int(logged.get("completion_tokens") or 0),
        response_id=plain_response_id(response_id) if isinstance(response_id, str) and response_id else None,
        error=kwargs.get("exception") if failed else None,
    )


def read_response(response: object) -> Report | None:
    """Read a report from what a call returned; None if that does not tell what the call cost.

    LiteLLM reports asynchronous calls in the background of their event loop. An application that starts a loop
    per call (``asyncio.run``) ends it before that, and in some versions the report is then never made.
    A stream does not know what it is going to cost, whatever stands in its hidden parameters.
    """
    if hasattr(response, "__next__") or hasattr(response, "__anext__"):
        return None
    hidden = field_of(response, "_hidden_params")
    call_id, cost = field_of(hidden, "litellm_call_id"), field_of(hidden, "response_cost")
    if not isinstance(call_id, str) or isinstance(cost, bool) or not isinstance(cost, (int, float)):
        return None
    usage = field_of(response, "usage")
    # Chat and text completions count "prompt" tokens, the Responses API "input" tokens.
    prompt = field_of(usage, "prompt_tokens") or field_of(usage, "input_tokens") or 0
    completion = field_of(usage, "completion_tokens") or field_of(usage, "output_tokens") or 0
    response_id = field_of(response, "id")
    return Report(
        call_id=call_id,
        model_id=str(field_of(hidden, "model_id") or ""),
        noted=None,
        failed=False,
        from_cache=field_of(hidden, "cache_hit") is True,
        cost_usd=float(cost),
        prompt_tokens=int(prompt),
        completion_tokens=int(completion),
        response_id=plain_response_id(response_id) if isinstance(response_id, str) and response_id else None,
    )


observer = Observer()
"""The process's only observer."""
