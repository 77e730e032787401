"""What the LiteLLM seam asks of the rest: the runtime satisfies these protocols without knowing LiteLLM."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from stageroute_router.core.arm import Arm
from stageroute_router.groups.availability import Eligible
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.rewards.receipt import RewardReceipt


class Routing(Protocol):
    """Chooses arms and learns from what became of the calls. Every method may be called from any thread."""

    def manages(self, group: str) -> bool:
        """Return whether calls of ``group`` are to be routed."""

    def set_arms(self, group: str, arms: Sequence[Arm]) -> None:
        """Say which candidates a group has now."""

    def choose(
        self,
        group: str,
        *,
        eligible: Eligible,
        call_id: str,
        segment: str = "",
        price: float | None = None,
        caller: str | None = None,
        has_retry: bool = False,
    ) -> RoutingDecision | None:
        """Choose among the eligible arms; None to leave the call to LiteLLM. Never raises.

        ``caller`` is a short digest naming who makes the call, never a key; ``has_retry``, whether another attempt is
        made if this one fails.
        """

    def set_deployments(self, group: str, deployments: Mapping[str, Sequence[str]]) -> None:
        """Say which deployments each arm has now, by id."""

    def unavailable(self, group: str) -> Collection[str]:
        """Return the arms that do not answer of late."""

    def replica_weights(
        self, group: str, deployments: Sequence[str], *, has_retry: bool
    ) -> Sequence[float] | None:
        """Return by how much less each replica of an arm is to be asked, in (0, 1]; None where all of them answer."""

    def segment_of_text(self, group: str, text: str) -> str:
        """Return the automatic segment of a call by what it asks."""

    def known_segment(self, group: str, text: str) -> str | None:
        """Return it if it can be told without embedding the text; None where it cannot."""

    def segment_of_embedding(self, group: str, text: str, numbers: Sequence[float]) -> str:
        """Return it by the text's embedding. Numbers that cannot be used are counted, and raise nothing."""

    def segment_failed(self, group: str, why: str) -> None:
        """Count a call whose text could not be embedded; ``why`` tells nothing of the text."""

    def segment_failures(self) -> Mapping[str, int]:
        """Return how many calls of each group whose segments are found in texts could not be told apart here."""

    def settled(
        self,
        decision_id: str,
        *,
        arm: str,
        cost_usd: float,
        prompt_tokens: int,
        completion_tokens: int,
        response_id: str | None,
        deployment: str = "",
    ) -> None:
        """Report that ``arm`` answered, for ``cost_usd`` US dollars, by the deployment of that id."""

    def failed(
        self, decision_id: str, *, arm: str = "", deployment: str = "", kind: str | None = "failure"
    ) -> None:
        """Report that the call failed; ``kind`` in a word, None where the provider is not to blame."""

    def withdrawn(self, decision_id: str) -> None:
        """Report that the decision does not count: LiteLLM answered from its cache."""

    def record_reward(
        self,
        key: str,
        reward: object,
        *,
        source: str = "app",
        replace: bool = True,
        caller: str | None = None,
    ) -> Future[RewardReceipt]:
        """Report how good an answer was; the future is done when that is durable.

        With a ``caller``, it raises ``NotYourCallError`` for a call that another one made.
        """

    def internal_error(self, error: BaseException) -> None:
        """Count an error that was kept from the user's call, and log it now and then."""
