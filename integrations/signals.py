"""Label-free signals: what an answer's form says of it, without knowing what would have been right.

    watch(router, ValidJson(), ToolCallsFit())

Each is a source of its own (see :mod:`.automatic`) and off unless it is named there. They are weak: prefer a reward
that knows what the user wanted, where there is one.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jsonschema

from stageroute_router.hook.calls.response import field_of

from .automatic import Answered

Rewards = Iterable[tuple[str, float]]

_REFUSALS = re.compile(
    r"\W*((i'm|i am|we're|we are)?( very| so)? ?sorry,?( but)? (i|we) (can't|cannot|can not|won't|am not|am unable)"
    r"|(i|we) (can't|cannot|can not|won't|(am|are) (not able|unable) to) (help|assist|comply|answer|provide|do that)"
    r"|as an ai( language)? model,? i (can't|cannot|am not|do not|don't))"
)
"""How English refusals begin. Other languages need a judge or a function of yours."""


def _calls(answered: Answered) -> list[Any]:
    return list(field_of(answered.message, "tool_calls") or [])


def _given(answered: Answered, good: bool | None) -> Rewards:  # noqa: FBT001 - one value, three meanings
    return [] if good is None else [(answered.decision_id, float(good))]


class ValidJson:
    """1 where JSON was asked for (``response_format``) and came, by its schema if there is one; 0 where it did not.

    >>> answer = {"choices": [{"message": {"content": '{"sum": 5}'}, "finish_reason": "stop"}]}
    >>> asked = {"response_format": {"type": "json_object"}}
    >>> list(ValidJson().rewards(Answered(decision_id="d", request=asked, response=answer)))
    [('d', 1.0)]
    """

    name = "valid_json"

    def rewards(self, answered: Answered) -> Rewards:
        """Return whether the JSON that was asked for is good; nothing where none was."""
        asked = answered.request.get("response_format")
        if not isinstance(asked, Mapping) or asked.get("type") not in {"json_object", "json_schema"}:
            return []
        schema = (
            (asked.get("json_schema") or {}).get("schema")
            if asked["type"] == "json_schema"
            else {"type": "object"}
        )
        return _given(answered, _fits(answered.text or "", schema))


class NotEmpty:
    """1 for an answer with a text or a tool call, 0 for one without.

    >>> answer = {"choices": [{"message": {"content": "  "}, "finish_reason": "stop"}]}
    >>> list(NotEmpty().rewards(Answered(decision_id="d", request={}, response=answer)))
    [('d', 0.0)]
    """

    name = "not_empty"

    def rewards(self, answered: Answered) -> Rewards:
        """Return whether anything was answered; nothing where the call has no message, as an embedding."""
        if answered.message is None:
            return []
        return _given(answered, bool((answered.text or "").strip() or _calls(answered)))


class NotRefused:
    """0 for a refusal (the provider says so, or the text begins as English refusals do), 1 for any other answer.

    >>> answer = {"choices": [{"message": {"content": "I cannot help with that."}, "finish_reason": "stop"}]}
    >>> list(NotRefused().rewards(Answered(decision_id="d", request={}, response=answer)))
    [('d', 0.0)]
    """

    name = "not_refused"

    def rewards(self, answered: Answered) -> Rewards:
        """Return whether the call was answered rather than refused."""
        if answered.message is None:
            return []
        choice = (
            answered.response["choices"][0]
            if isinstance(answered.response, Mapping)
            else answered.response.choices[0]
        )
        refused = (
            bool(field_of(answered.message, "refusal"))
            or field_of(choice, "finish_reason") == "content_filter"
            or bool(_REFUSALS.match((answered.text or "").lower().replace("\u2019", "'")))
        )
        return _given(answered, not refused)


class ToolCallsFit:
    """1 where every tool that was called was offered and its arguments fit its schema, else 0.

    >>> call = {"function": {"name": "add", "arguments": "{}"}}
    >>> answer = {"choices": [{"message": {"content": None, "tool_calls": [call]}}]}
    >>> list(ToolCallsFit().rewards(Answered(decision_id="d", request={"tools": []}, response=answer)))
    [('d', 0.0)]
    """

    name = "tool_calls_fit"

    def rewards(self, answered: Answered) -> Rewards:
        """Return whether the tool calls are good; nothing where none was made."""
        calls = _calls(answered)
        if not calls:
            return []
        offered = {
            tool["function"]["name"]: tool["function"].get("parameters") or {}
            for tool in answered.request.get("tools") or []
            if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping)
        }
        fits = all(
            (name := field_of(function := field_of(call, "function"), "name")) in offered
            and _fits(field_of(function, "arguments") or "", offered[name])
            for call in calls
        )
        return _given(answered, fits)


class NotAskedAgain:
    """0 for an answer after which the same user soon asks the same again, 1 where it is something else.

    Users are told apart by the call's ``user``; calls without one give no reward. Nothing readable of a prompt is kept:
    a digest under a key that only this process has.

    Args:
        within_s: seconds in which asking again counts. 300 by default: later, it is a new question.
        clock: returns seconds from any origin.

    >>> answer = {"choices": [{"message": {"content": "5"}, "finish_reason": "stop"}]}
    >>> asked = {"user": "u", "messages": [{"role": "user", "content": "2 + 3?"}]}
    >>> signal = NotAskedAgain()
    >>> list(signal.rewards(Answered(decision_id="first", request=asked, response=answer)))
    []
    >>> list(signal.rewards(Answered(decision_id="second", request=asked, response=answer)))
    [('first', 0.0)]
    """

    name = "not_asked_again"

    def __init__(self, *, within_s: float = 300.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._within_s = within_s
        self._clock = clock
        self._key = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self._last: OrderedDict[bytes, tuple[str, bytes, float]] = OrderedDict()

    def rewards(self, answered: Answered) -> Rewards:
        """Return what this question says of the user's previous answer."""
        user, asked = answered.request.get("user"), _last_question(answered.request.get("messages"))
        if not isinstance(user, str) or not user or asked is None:
            return []
        now = self._clock()
        who, what = self._digest(user), self._digest(" ".join(asked.lower().split()))
        with self._lock:
            before = self._last.pop(who, None)
            self._last[who] = (answered.decision_id, what, now)
            if len(self._last) > 10_000:
                self._last.popitem(last=False)
        if before is None or now - before[2] > self._within_s:
            return []
        return [(before[0], float(before[1] != what))]

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode(errors="surrogatepass"), key=self._key, digest_size=16).digest()


def _last_question(messages: object) -> str | None:
    """Return what the user said last; None where the last word is a tool's or the assistant's."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(last, Mapping) or last.get("role") != "user":
        return None
    content = last.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else None


def _fits(text: str, schema: object) -> bool | None:
    """Return whether a text is JSON that fits a schema; None where the schema itself is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    try:
        jsonschema.validate(value, schema if isinstance(schema, Mapping) else {})
    except jsonschema.ValidationError:
        return False
    except jsonschema.SchemaError:
        return None
    return True
