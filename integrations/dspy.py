"""DSPy's metrics as rewards: what a metric says of a prediction is credited to the calls that made it.

The one-line changes, after :func:`.litellm_provider.register` ``(router)``::

    rewards = MetricRewards(router)
    dspy.configure(lm=dspy.LM("stageroute/chat", cache=False), callbacks=[rewards])
    evaluate = dspy.Evaluate(devset=devset, metric=rewards.of(exact_match), num_threads=8)

Every prediction then knows the calls inside the module that returned it, in whatever thread or task that ran, and
``rewards.of(metric)`` is the same metric, for ``Evaluate``, for optimizers and for your own code, whose values are also
kept as rewards, under the name ``dspy:exact_match``. A metric gives True (1), False (0) or a number from 0 to 1, or a
prediction with such a ``score``. Without ``cache=False``, DSPy answers repeated questions from its cache, and no
arm is credited.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import dspy
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from stageroute_router.errors import InvalidRewardError, NotAResponseError
from stageroute_router.rewards.receipt import RewardReceipt

from .common.rewards import control_of
from .common.runs import REMEMBERED, Runs

logger = logging.getLogger("stageroute_router")

_RUN = "_stageroute_run"


class MetricRewards(BaseCallback):  # type: ignore[misc]
    """A DSPy callback that remembers which decisions each prediction was made of.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that :func:`~stageroute_router.attach` was
            used on.
        remembered: how many pairs of a module's call and a decision are kept, in memory; the oldest are forgotten.

    Raises:
        SettingsError: the router is not routed by StageRoute.

    >>> rewards = MetricRewards(router)
    >>> with dspy.context(lm=dspy.LM("stageroute/chat", cache=False), callbacks=[rewards]):
    ...     prediction = dspy.Predict("question -> answer")(question="2 + 3?")
    >>> len(rewards.decisions(prediction))
    1
    """

    def __init__(self, router: object, *, remembered: int = REMEMBERED) -> None:
        self.runs = Runs(control_of(router), remembered=remembered)
        """What is remembered, by DSPy's call ids."""

    def of(self, metric: Callable[..., Any], *, name: str | None = None) -> Callable[..., Any]:
        """Return a metric whose values are kept as rewards, too.

        A prediction that nothing was routed for (a cached one) is only judged. One that is judged again by the same
        metric has its earlier reward replaced.

        Args:
            metric: takes an example and a prediction, and what else DSPy hands to metrics.
            name: under which the rewards are kept, after ``dspy:``. By default, the metric's own.

        Raises:
            InvalidRewardError: (by the metric returned) the value is no bool and no number from 0 to 1, or the name
                cannot be a source's.
            StoreError: (by the metric returned) the reward could not be committed.

        >>> def answered(example, prediction):
        ...     return bool(prediction.answer)
        >>> MetricRewards(router).of(answered)(dspy.Example(), dspy.Prediction(answer="5"))
        True
        """
        named = name or str(getattr(metric, "__name__", type(metric).__name__))
        source = f"dspy:{named}"

        @functools.wraps(metric)
        def rewarded(example: object, prediction: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            value = metric(example, prediction, *args, **kwargs)
            reward = _reward(value, metric=named)
            run_id = getattr(prediction, _RUN, None)
            if run_id is not None and self.runs.decisions(run_id):
                self.runs.record_reward(run_id, reward, source=source)
            else:
                logger.debug("metric %r judged a prediction that no remembered call was routed for", named)
            return value

        rewarded.__name__ = named  # Evaluate shows it
        return rewarded

    def decisions(self, prediction: object) -> tuple[str, ...]:
        """Return the ids of the decisions that a prediction was made of, in order."""
        return self.runs.decisions(_run_of(prediction))

    def record_reward(
        self, prediction: object, reward: object, *, source: str = "app"
    ) -> tuple[RewardReceipt, ...]:
        """Give every decision that a prediction was made of the same reward, and wait until that is durable.

        Args:
            prediction: what a module returned; not a copy of it.
            reward: a finite number in [0, 1].
            source: who says so; the same source again replaces its earlier value.

        Raises:
            NotAResponseError: it is no prediction of a module that was called with this callback.
            UnknownDecisionError: nothing was routed for it, or it is forgotten.
            InvalidRewardError: the reward is not a finite number in [0, 1], or the source is no name.
            StoreError: it could not be committed.

        >>> rewards = MetricRewards(router)
        >>> with dspy.context(lm=dspy.LM("stageroute/chat", cache=False), callbacks=[rewards]):
        ...     prediction = dspy.Predict("question -> answer")(question="2 + 3?")
        >>> [receipt.status for receipt in rewards.record_reward(prediction, 0.9)]
        ['recorded']
        """
        return self.runs.record_reward(_run_of(prediction), reward, source=source)

    async def arecord_reward(
        self, prediction: object, reward: object, *, source: str = "app"
    ) -> tuple[RewardReceipt, ...]:
        """Do the same as :meth:`record_reward` without blocking the event loop.

        >>> rewards = MetricRewards(router)
        >>> with dspy.context(lm=dspy.LM("stageroute/chat", cache=False), callbacks=[rewards]):
        ...     prediction = dspy.Predict("question -> answer")(question="2 + 3?")
        >>> [receipt.status for receipt in asyncio.run(rewards.arecord_reward(prediction, 0.9))]
        ['recorded']
        """
        return await self.runs.arecord_reward(_run_of(prediction), reward, source=source)

    def _began(self, call_id: str, instance: object, inputs: object) -> None:
        self.runs.began(call_id, inside=ACTIVE_CALL_ID.get())

    def _ended(self, call_id: str, outputs: object, exception: BaseException | None = None) -> None:
        self.runs.ended(call_id)
        if isinstance(outputs, dspy.Prediction):
            setattr(outputs, _RUN, call_id)  # the outermost module that returns it comes last

    # Whatever may have a module's call inside: a prediction is made of all that was routed below it.
    on_module_start = on_lm_start = on_tool_start = on_evaluate_start = on_compile_start = _began
    on_module_end = on_lm_end = on_tool_end = on_evaluate_end = on_compile_end = _ended
    on_adapter_format_start = on_adapter_parse_start = _began
    on_adapter_format_end = on_adapter_parse_end = _ended
    on_interpreter_execute_start = on_interpreter_tool_call_start = _began
    on_interpreter_execute_end = on_interpreter_tool_call_end = _ended


def _run_of(prediction: object) -> str:
    run_id = getattr(prediction, _RUN, None)
    if isinstance(run_id, str):
        return run_id
    msg = (
        f"a reward needs a prediction as a module returned it, with dspy.configure(callbacks=[…]) done before; this "
        f"{type(prediction).__name__} is none"
    )
    raise NotAResponseError(msg)


def _reward(value: object, *, metric: str) -> float:
    """Return a metric's value as a reward."""
    number = value.get("score") if isinstance(value, dspy.Prediction) else value
    if isinstance(number, int | float) and 0 <= number <= 1:  # a bool is one of them
        return float(number)
    msg = (
        f"metric {metric!r} returned {number!r}: as a reward it must be a bool or a number from 0 to 1; divide a "
        "larger scale by its maximum"
    )
    raise InvalidRewardError(msg)
