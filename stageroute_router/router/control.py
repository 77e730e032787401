"""What an application does with a routed router besides calling models: report rewards, look, redeploy."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import AbstractContextManager
from types import TracebackType

from stageroute_router.groups.live_changes import LiveHook
from stageroute_router.hook.calls.episode import Episode, episode
from stageroute_router.hook.strategy import StageRouteStrategy
from stageroute_router.reports.reports import Reports
from stageroute_router.reports.status import GroupStatus
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.rewards.tokens import RewardTokens
from stageroute_router.router.rewarding import Rewarding
from stageroute_router.runtime.runtime import REPORT_FLUSH_S, Runtime


class Control(Reports):
    """The handle on one router's StageRoute routing: its reports, rewards, operations and end.

    Args:
        strategy: the strategy attached to the router.
        routing: its runtime.
        tokens: makes and checks reward tokens.
        clients_may_replace: whether a client that rewards a call again replaces its earlier value.
    """

    def __init__(
        self,
        strategy: StageRouteStrategy,
        routing: Runtime,
        *,
        tokens: RewardTokens,
        clients_may_replace: bool = False,
    ) -> None:
        self._strategy = strategy
        self._routing = routing
        self._rewards = Rewarding(strategy, routing, tokens=tokens, clients_may_replace=clients_may_replace)
        super().__init__(routing.source, flush=self._settle, id_of=self._rewards.id_of)

    @property
    def strategy(self) -> StageRouteStrategy:
        """The strategy attached to the router."""
        return self._strategy

    @property
    def routing(self) -> Runtime:
        """The runtime: what adapters make episodes of their own with."""
        return self._routing

    def redeploy(self, group: str) -> GroupStatus:
        """Open a maintenance window of a group now, and return the group's status after it.

        Args:
            group: the model group.

        Raises:
            SettingsError: the group is not managed.

        ```python
        before = router.stageroute.status("chat").stage
        assert router.stageroute.redeploy("chat").stage == before + 1
        ```
        """
        self._strategy.ensure_attached()
        return self._routing.operations.redeploy(group)

    def pin(self, group: str, arm: str, *, pinned: bool | None = True) -> GroupStatus:
        """Decide whether an arm is live in every stage, over what the configuration says; return the group's status.

        The decision is stored: it holds for all processes, and after a restart, until an operator decides otherwise. An
        arm that is pinned and not live gets a maintenance window at once; one that is unpinned goes on being live until
        the next window. An arm that is removed takes its pin with it, and brings it back.

        Args:
            group: the model group.
            arm: the arm, as :meth:`status` names it.
            pinned: True to pin it, False to unpin it even if the configuration pins it, None to forget what was decided
                and go by the configuration (``model_info: {stageroute: {pinned: true}}``) again.

        Raises:
            UnknownGroupError: the group is not managed.
            UnknownArmError: the group has no such arm.
            PinError: more arms would be pinned than ``max_live_models``, or those live could not serve all calls.
            StoreError: the database did not take it; doing it again is harmless.

        ```python
        arm = router.stageroute.status("chat").arms[0].name
        pinned = router.stageroute.pin("chat", arm)
        assert next(each for each in pinned.arms if each.name == arm).pinned
        router.stageroute.pin("chat", arm, pinned=None)  # as configured again
        ```
        """
        self._strategy.ensure_attached()
        return self._routing.operations.pin(group, arm, pinned=pinned)

    def on_live_change(self, hook: LiveHook) -> None:
        """Call a hook for the live set of each group now, and whenever it changes: to load and unload models.

        The hook is called on a thread of its own, in every process that asks for it, once the store has
        accepted the stage's plan. Until it returns, arms that came get no calls of this process, unless nothing else
        can serve.

        Args:
            hook: is given a :class:`~stageroute_router.groups.live_changes.LiveChange`: group, stage, live arms, who
                came and who left. Where it raises, that is logged, and the arms are routed to all the same.

        ```python
        router.stageroute.on_live_change(lambda change: print(change.group, change.live))
        ```
        """
        self._routing.on_live_change(hook)

    def episode(self) -> AbstractContextManager[Episode]:
        """Collect the decisions of every call made inside the ``with`` block, to reward them together.

        ```python
        with router.stageroute.episode() as episode:
            router.completion(model="chat", messages=[{"role": "user", "content": "hello"}])
        assert len(episode.decisions) == 1
        ```
        """
        return episode(self._routing)

    def record_reward(
        self, response: object, reward: object, *, source: str = "app", caller: str | None = None
    ) -> RewardReceipt:
        """Report how good an answer was, and wait until that is durable.

        Args:
            response: what the call returned (a response, a stream or its last chunk), or a response id, call id
                or decision id, or a reward token (whose caller is not checked here: this door is for your own code,
                :meth:`reward_by_token` is the one for clients).
            reward: a finite number in [0, 1].
            source: who says so; the same source again replaces its earlier value.
            caller: on whose behalf, by your own authentication: a call is rewarded only if it was made with the same
                caller. None (the default) for your own code: not checked.

        Returns:
            What the reward did.

        Raises:
            InvalidRewardError: the reward is not a finite number in [0, 1], or the source is no name.
            InvalidTokenError: it is a reward token, and not a good one.
            NotYourCallError: another caller made the call.
            NotAResponseError: ``response`` is neither a response nor an id.
            UnmanagedCallError: LiteLLM's own strategy chose for this call, so there is nothing to credit.
            UnknownDecisionError: no routed call has this id.
            StoreError: the reward could not be committed.

        ```python
        receipt = router.stageroute.record_reward(response, 0.9, source="unit-tests")
        assert receipt.status == "recorded"
        ```
        """
        return self._rewards.report(response, reward, source=source, caller=caller).result()

    async def arecord_reward(
        self, response: object, reward: object, *, source: str = "app", caller: str | None = None
    ) -> RewardReceipt:
        """Do the same as :meth:`record_reward` without blocking the event loop.

        ```python
        receipt = await router.stageroute.arecord_reward(response, 0.8, source="unit-tests")
        ```
        """
        # Shielded: cancelling the caller must not cancel a future that the writer is going to complete.
        reported = self._rewards.report(response, reward, source=source, caller=caller)
        return await asyncio.shield(asyncio.wrap_future(reported))

    def submit_reward(
        self, response: object, reward: object, *, source: str = "app", caller: str | None = None
    ) -> Future[RewardReceipt]:
        """Report how good an answer was, and return at once: for those who must not wait, and need not know.

        Args:
            response: as for :meth:`record_reward`.
            reward: likewise.
            source: likewise.
            caller: likewise.

        Returns:
            A future with the receipt, or with a ``StoreError``, ``UnknownDecisionError`` or ``NotYourCallError``; it is
            done when the reward is durable. What is wrong with the arguments is raised at once, as by
            :meth:`record_reward`.

        ```python
        future = router.stageroute.submit_reward(response, 0.7)
        assert future.result(timeout=60).decision_id
        ```
        """
        return self._rewards.report(response, reward, source=source, caller=caller)

    def revoke_reward(
        self, response: object, *, source: str = "app", caller: str | None = None
    ) -> RewardReceipt:
        """Take a reward back, and wait until that is durable; doing so again changes nothing.

        It has a name of its own, rather than being a reward of None: a judge that returns None by mistake must not
        undo what was learned.

        Args:
            response: as for :meth:`record_reward`.
            source: whose reward; other sources' stay.
            caller: as for :meth:`record_reward`.

        Returns:
            ``revoked``, or ``unchanged`` where there was none.

        Raises:
            InvalidRewardError: the source is no name.
            StageRouteError: otherwise as :meth:`record_reward`.

        ```python
        receipt = router.stageroute.revoke_reward(response, source="unit-tests")
        ```
        """
        return self._rewards.revoke(response, source=source, caller=caller).result()

    async def arevoke_reward(
        self, response: object, *, source: str = "app", caller: str | None = None
    ) -> RewardReceipt:
        """Do the same as :meth:`revoke_reward` without blocking the event loop.

        ```python
        receipt = await router.stageroute.arevoke_reward(response, source="unit-tests")
        ```
        """
        revoked = self._rewards.revoke(response, source=source, caller=caller)
        return await asyncio.shield(asyncio.wrap_future(revoked))

    def reward_token(self, response: object, *, caller: str | None = None) -> str:
        """Return a token that lets a client reward a call, once: see :meth:`reward_by_token`.

        Make it where the call was made, while the answer is at hand: it is found among this process's recent calls,
        without asking the database. Its holder can read which arm and stage answered.

        Args:
            response: what the call returned, or its response id or call id.
            caller: who alone may use it (a user id, a session, a tenant); None for any holder. Not readable in
                the token.

        Raises:
            NotAResponseError: ``response`` is neither a response nor an id.
            SettingsError: there is no secret to sign with; the message says how to set one.
            UnmanagedCallError: LiteLLM's own strategy chose for this call.
            UnknownDecisionError: it is none of this process's recent calls.

        ```python
        token = router.stageroute.reward_token(response, caller="user-1")
        ```
        """
        return self._rewards.token(response, caller=caller)

    def reward_by_token(
        self, token: object, reward: object, *, caller: str | None = None, source: str = "client"
    ) -> RewardReceipt:
        """Take a reward from a client, and wait until it is durable. The door for everything that comes over a wire.

        Nothing but a token opens it. The first reward of a call counts; what follows is ``unchanged`` (unless the
        setting ``clients_may_replace`` is on).

        Args:
            token: what the client sent.
            reward: what the client sent; a finite number in [0, 1].
            caller: who sent it, by your own authentication, as at :meth:`reward_token`.
            source: under which name clients' rewards are kept; one name for all clients, never the client's text.

        Returns:
            What the reward did.

        Raises:
            InvalidTokenError: the token cannot be accepted; the subclass says why.
            InvalidRewardError: the reward is not a finite number in [0, 1], or the source is no name.
            UnknownDecisionError: the call does not count (LiteLLM answered it from its cache), or is forgotten.
            SettingsError: there is no secret to check tokens with.
            StoreError: the reward could not be committed.

        ```python
        token = router.stageroute.reward_token(response, caller="user-1")
        receipt = router.stageroute.reward_by_token(token, 1.0, caller="user-1")
        assert receipt.status == "recorded"
        ```
        """
        return self._rewards.report_by_token(token, reward, caller=caller, source=source).result()

    async def areward_by_token(
        self, token: object, reward: object, *, caller: str | None = None, source: str = "client"
    ) -> RewardReceipt:
        """Do the same as :meth:`reward_by_token` without blocking the event loop.

        ```python
        token = router.stageroute.reward_token(response, caller="user-1")
        receipt = await router.stageroute.areward_by_token(token, 1.0, caller="user-1")
        ```
        """
        reported = self._rewards.report_by_token(token, reward, caller=caller, source=source)
        return await asyncio.shield(asyncio.wrap_future(reported))

    def close(self, timeout: float = 10.0) -> int:
        """Commit what is pending and close the database. Calls go on, chosen by LiteLLM's own strategy.

        Args:
            timeout: wait for at most so many seconds.

        Returns:
            How many writes could not be stored in that time, and are lost; never a reward that was acknowledged.

        ```python
        assert router.stageroute.close(timeout=30) == 0  # nothing was lost
        ```
        """
        self._strategy.close()
        return self._routing.close(timeout)

    async def aclose(self, timeout: float = 10.0) -> int:
        """Do the same as :meth:`close` without blocking the event loop.

        ```python
        assert await router.stageroute.aclose(timeout=30) == 0
        ```
        """
        return await asyncio.to_thread(self.close, timeout)

    def __enter__(self) -> Control:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Control:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _settle(self) -> None:
        """See that LiteLLM still asks the strategy, and wait a moment until what happened before is stored."""
        self._strategy.ensure_attached()
        self._routing.flush(REPORT_FLUSH_S)
