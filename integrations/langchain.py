"""Rewards by LangChain's run ids: of a model's run, or of any chain, graph, agent or tool run around it.

The one-line change, once at start::

    rewards = follow(router)

From then on, ``rewards.record_reward(run_id, 0.9)`` rewards every decision that was made inside that run. LangSmith
knows a run by the same id, and feedback there is given to it. Works with every model that ends in the router:
``ChatLiteLLMRouter(router=router, model="chat")``, ``ChatOpenAI`` with an ``http_client`` of :mod:`.openai_transport`,
``ChatLiteLLM(model="stageroute/chat")``, and calls of the router itself in a node or tool.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.tracers.context import register_configure_hook

from stageroute_router.errors import NotAResponseError
from stageroute_router.rewards.receipt import RewardReceipt

from .common.rewards import control_of
from .common.runs import REMEMBERED, Runs

_MESSAGE_ID = re.compile(r"lc_run--(?P<run>[0-9a-f-]{36})(-\d+)?")


def follow(router: object, *, remembered: int = REMEMBERED) -> RunRewards:
    """Follow all runs of this process, from now until it ends: LangChain has no way of taking that back.

    To follow some runs only, make a :class:`RunRewards` and pass it as a callback.

    Args:
        router: as for :class:`RunRewards`.
        remembered: as for :class:`RunRewards`.

    Returns:
        What takes the rewards.

    Raises:
        SettingsError: the router is not routed by StageRoute.

    >>> rewards = follow(router)
    >>> rewards.decisions("no-such-run")
    ()
    """
    made = RunRewards(router, remembered=remembered)
    # A default is seen in every thread and task; LangChain adds it to the callbacks of each run.
    register_configure_hook(ContextVar("stageroute_runs", default=made), inheritable=True)
    return made


class RunRewards(BaseCallbackHandler):  # type: ignore[misc]
    """A callback handler that remembers which decisions were made inside which run.

    Passed to one invocation (``config={"callbacks": [rewards]}``) it follows the runs of that invocation; passed to a
    model (``callbacks=[rewards]``), the model's run and the one directly around it.

    Args:
        router: a :class:`~stageroute_router.StageRouteRouter`, or one that :func:`~stageroute_router.attach` was
            used on.
        remembered: how many pairs of a run and a decision are kept, in memory; the oldest are forgotten. A decision
            inside an agent is in about five runs.

    Raises:
        SettingsError: the router is not routed by StageRoute.

    >>> import uuid
    >>> from langchain_core.runnables import RunnableLambda
    >>> asked = [{"role": "user", "content": "hello"}]
    >>> chain = RunnableLambda(lambda _: router.completion(model="chat", messages=asked))
    >>> rewards, run_id = RunRewards(router), uuid.uuid4()
    >>> answer = chain.invoke(None, {"run_id": run_id, "callbacks": [rewards]})
    >>> len(rewards.decisions(run_id))
    1
    >>> [receipt.status for receipt in rewards.record_reward(run_id, 0.9)]
    ['recorded']
    >>> [receipt.status for receipt in asyncio.run(rewards.arecord_reward(run_id, 0.8))]
    ['replaced']
    """

    # So that asynchronous code, too, runs the handler where the model is about to be called.
    run_inline = True

    def __init__(self, router: object, *, remembered: int = REMEMBERED) -> None:
        self.runs = Runs(control_of(router), remembered=remembered)
        """What is remembered, by run id."""

    def decisions(self, run: object) -> tuple[str, ...]:
        """Return the ids of the decisions made inside a run, in order; none for a run that is not remembered."""
        return self.runs.decisions(_run_id(run))

    def record_reward(self, run: object, reward: object, *, source: str = "app") -> tuple[RewardReceipt, ...]:
        """Give every decision made inside a run the same reward, and wait until that is durable.

        Args:
            run: the run's id, or a message that a model's run returned.
            reward: a finite number in [0, 1].
            source: who says so; the same source again replaces its earlier value, by whichever run that came.

        Returns:
            One receipt per decision.

        Raises:
            NotAResponseError: ``run`` is neither an id nor a message.
            UnknownDecisionError: nothing was routed inside such a run in this process, or it is forgotten.
            InvalidRewardError: the reward is not a finite number in [0, 1], or the source is no name.
            StoreError: it could not be committed.
        """
        return self.runs.record_reward(_run_id(run), reward, source=source)

    async def arecord_reward(
        self, run: object, reward: object, *, source: str = "app"
    ) -> tuple[RewardReceipt, ...]:
        """Do the same as :meth:`record_reward` without blocking the event loop."""
        return await self.runs.arecord_reward(_run_id(run), reward, source=source)

    def _began(self, *_: object, run_id: UUID, parent_run_id: UUID | None = None, **__: Any) -> None:  # noqa: ANN401
        self.runs.began(str(run_id), inside=None if parent_run_id is None else str(parent_run_id))

    def _ended(self, *_: object, run_id: UUID, **__: Any) -> None:  # noqa: ANN401
        self.runs.ended(str(run_id))

    on_llm_start = on_chat_model_start = on_chain_start = on_tool_start = on_retriever_start = _began
    on_llm_end = on_chain_end = on_tool_end = on_retriever_end = _ended
    on_llm_error = on_chain_error = on_tool_error = on_retriever_error = _ended


def _run_id(run: object) -> str:
    """Return the id that is meant; a model's message has its run's in its own."""
    if isinstance(run, UUID):
        return str(run)
    text = run.id if isinstance(run, BaseMessage) else run
    if isinstance(text, str):
        found = _MESSAGE_ID.fullmatch(text)
        return found["run"] if found else text
    msg = f"a reward needs a run's id, or a message of a model's run; it got something of type {type(run).__name__}"
    raise NotAResponseError(msg)
