"""How a reward reaches the call it is about: by what the call returned, by an id, or by a client's token."""

from __future__ import annotations

from concurrent.futures import Future

from stageroute_router.errors import UnknownDecisionError, UnmanagedCallError
from stageroute_router.hook.calls.response import key_of
from stageroute_router.hook.strategy import StageRouteStrategy
from stageroute_router.rewards.receipt import RewardReceipt
from stageroute_router.rewards.tokens import RewardTokens, is_token
from stageroute_router.runtime.runtime import Runtime


class Rewarding:
    """The rewards of one router's calls. What each method raises is said at ``Control``'s method of the same purpose.

    Args:
        strategy: knows this process's recent calls.
        routing: takes the rewards.
        tokens: makes and checks reward tokens.
        clients_may_replace: whether a client that rewards a call again replaces its earlier value.
    """

    def __init__(
        self,
        strategy: StageRouteStrategy,
        routing: Runtime,
        *,
        tokens: RewardTokens,
        clients_may_replace: bool,
    ) -> None:
        self._strategy = strategy
        self._routing = routing
        self._tokens = tokens
        self._clients_may_replace = clients_may_replace

    def report(
        self, response: object, reward: object, *, source: str, caller: str | None
    ) -> Future[RewardReceipt]:
        """Report how good an answer was; the future is done when that is durable."""
        self._strategy.ensure_attached()
        if is_token(response):
            decision_id = self._tokens.read(response).decision_id
            return self._routing.record_reward(decision_id, reward, source=source, caller=caller)
        key = self._stored_key(self._routed_key(response), caller)
        recorded = self._routing.record_reward(key, reward, source=source, caller=caller)
        self._strategy.on_response(response)
        return recorded

    def revoke(self, response: object, *, source: str, caller: str | None) -> Future[RewardReceipt]:
        """Take a reward back; the future is done when that is durable."""
        self._strategy.ensure_attached()
        key = (
            self._tokens.read(response).decision_id
            if is_token(response)
            else self._stored_key(self._routed_key(response), caller)
        )
        return self._routing.revoke_reward(key, source=source, caller=caller)

    def report_by_token(
        self, token: object, reward: object, *, caller: str | None, source: str
    ) -> Future[RewardReceipt]:
        """Take a reward from a client; the future is done when that is durable."""
        self._strategy.ensure_attached()
        decision_id = self._tokens.read_from(token, caller=caller).decision_id
        return self._routing.record_reward(
            decision_id, reward, source=source, replace=self._clients_may_replace
        )

    def token(self, response: object, *, caller: str | None) -> str:
        """Return a token that lets a client reward a call, once."""
        key = self._routed_key(response)
        made = self._strategy.decision_made(key)
        if made is None:
            msg = (
                f"no recent call of this process has the id {key!r}; make the token where the call was made, from "
                "what it returned"
            )
            raise UnknownDecisionError(msg)
        self._strategy.on_response(response)
        return self._tokens.mint(decision_id=made.decision_id, arm=made.arm, stage=made.stage, caller=caller)

    def id_of(self, response: object, caller: str | None) -> str:
        """Return the id under which the database knows a call, routed by StageRoute or not."""
        return self._stored_key(key_of(response), caller)

    def _stored_key(self, key: str, caller: str | None) -> str:
        """Return the id under which the database knows a call: this process may know it by others.

        Clients may name calls alike. Of these the latest is known here; the database knows which one is the caller's.
        """
        made = self._strategy.decision_made(key) if caller is None else None
        return key if made is None else made.decision_id

    def _routed_key(self, response: object) -> str:
        """Return the id of a call that was routed by StageRoute."""
        key = key_of(response)
        group = self._strategy.group_left(key)
        if group is not None:
            managed = self._routing.manages(group)
            msg = (
                f"call {key!r} was served by model group {group!r}, "
                + (
                    "but by LiteLLM's own choice (a pinned deployment, or StageRoute could not choose)"
                    if managed
                    else "which StageRoute does not manage"
                )
                + ": there is no decision to credit"
            )
            raise UnmanagedCallError(msg)
        return key
