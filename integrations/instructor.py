"""Instructor's validation as a reward: 1 for an answer that came out as what was asked for, 0 for one that did not.

The one-line change::

    client = rewarding(instructor.from_litellm(router.completion), router)

and the same with ``router.acompletion``, or with a client of the OpenAI SDK (see :mod:`.openai_transport`). Every
attempt of a retry is a call with its own reward, kept under the name ``instructor`` and reported in the background.
A stream is judged when its last part has been read. One that is left early, or that ended in another error, is not.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import pydantic
from instructor.core.exceptions import AsyncValidationError, IncompleteOutputException, ResponseParsingError

from stageroute_router.hook.calls.episode import Episode
from stageroute_router.router.control import Control

from .common.rewards import control_of, report_without_waiting

SOURCE = "instructor"
"""Under which name the rewards are kept, unless told otherwise."""

_PARSING: Any = (ResponseParsingError, IncompleteOutputException)  # the latter: cut off at the token limit
_INVALID: Any = (pydantic.ValidationError, json.JSONDecodeError, AsyncValidationError, *_PARSING)


def rewarding(client: Any, router: object, *, source: str = SOURCE) -> Any:  # noqa: ANN401 - of either class
    """Make an Instructor client report whether its answers validate.

    Args:
        client: an ``Instructor`` or ``AsyncInstructor`` whose calls end in the router.
        router: a ``StageRouteRouter``, or one that :func:`~stageroute_router.attach` was used on.
        source: under which name the rewards are kept.

    Returns:
        The same client.

    Raises:
        SettingsError: the router is not routed by StageRoute.

    >>> import instructor
    >>> client = rewarding(instructor.from_litellm(router.completion), router)
    >>> class User(pydantic.BaseModel):
    ...     name: str
    ...     age: int
    >>> asked = [{"role": "user", "content": "Who is Ann?"}]
    >>> client.create(model="chat", response_model=User, messages=asked)  # its reward is 1
    User(name='Ann', age=31)
    """
    control = control_of(router)
    client.on("completion:response", _in_call(_Call.answered))
    client.on("parse:error", _in_call(lambda call: call.judged(0.0)))
    wrapped = _async if inspect.iscoroutinefunction(client.create_fn) else _sync
    client.create_fn = wrapped(client.create_fn, control, source)
    return client


@dataclass(slots=True, kw_only=True)
class _Call:
    """The attempts of one call of a client: the decision of the answer that is being parsed now."""

    control: Control
    episode: Episode
    source: str
    seen: set[str] = field(default_factory=set)
    parsed: str | None = None

    def answered(self) -> None:
        """Take note that an answer came; what a validator asks for comes later."""
        new = [made for made in self.episode.decisions if made not in self.seen]
        self.seen.update(new)
        self.parsed = new[-1] if new else None

    def judged(self, reward: float) -> None:
        """Reward the answer that is being parsed, once."""
        decision, self.parsed = self.parsed, None
        if decision is not None:
            report_without_waiting(self.control, decision, reward, source=self.source)


# Each call has its own, also where a validator calls the client again.
_call: ContextVar[_Call | None] = ContextVar("stageroute_instructor_call", default=None)


def _in_call(act: Callable[[_Call], None]) -> Callable[[object], None]:
    return lambda _: act(call) if (call := _call.get()) else None


@contextmanager
def _opened(control: Control, source: str) -> Iterator[_Call]:
    """Follow one call of a client, and take its error if it ends in one."""
    with control.episode() as episode:
        call = _Call(control=control, episode=episode, source=source)
        token = _call.set(call)
        try:
            with _refusing(call):
                yield call
        finally:
            _call.reset(token)


@contextmanager
def _refusing(call: _Call) -> Iterator[None]:
    try:
        yield
    except _INVALID:
        call.judged(0.0)
        raise


def _sync(create: Callable[..., Any], control: Control, source: str) -> Callable[..., Any]:
    @functools.wraps(create)
    def rewarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Instructor's
        with _opened(control, source) as call:
            made = create(*args, **kwargs)
        if isinstance(made, Generator):
            return read(made, call)
        if not isinstance(
            made, AsyncGenerator
        ):  # which it is of a streamed LiteLLM call, with nothing read yet
            call.judged(1.0)
        return made

    def read(parts: Iterator[Any], call: _Call) -> Iterator[Any]:
        with _refusing(call):
            yield from parts
        call.judged(1.0)

    return rewarded


def _async(create: Callable[..., Any], control: Control, source: str) -> Callable[..., Any]:
    @functools.wraps(create)
    async def rewarded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Instructor's
        with _opened(control, source) as call:
            made = await create(*args, **kwargs)
        if isinstance(made, AsyncGenerator):
            return read(made, call)
        call.judged(1.0)
        return made

    async def read(parts: AsyncGenerator[Any, None], call: _Call) -> AsyncIterator[Any]:
        with _refusing(call):
            async with aclosing(parts):
                async for part in parts:
                    yield part
        call.judged(1.0)

    return rewarded
