"""A runtime that remembers what it was told."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from stageroute_router.core.arm import Arm
from stageroute_router.errors import InvalidRewardError, UnknownDecisionError
from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.reports.status import GroupStatus
from stageroute_router.rewards.receipt import RewardReceipt

DEADLINE_S = 20.0
MESSAGES = [{"role": "user", "content": "hello"}]


@dataclass
class FakeRouting:
    """Chooses uniformly (or as ``prefer`` says) and remembers everything it is told."""

    groups: set[str]
    prefer: Callable[[Collection[str]], str | None] | None = None
    arms: dict[str, tuple[Arm, ...]] = field(default_factory=dict)
    chosen: list[tuple[str, tuple[str, ...], RoutingDecision]] = field(default_factory=list)
    call_ids: list[str] = field(default_factory=list)
    segments: list[str] = field(default_factory=list)
    prices: list[float | None] = field(default_factory=list)
    retries: list[bool] = field(default_factory=list)
    deployments: dict[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    down: Collection[str] = ()
    texts: list[str] = field(default_factory=list)
    reports: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    expected_errors: bool = False
    closed: bool = False

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._random = random.Random(7)

    def manages(self, group: str) -> bool:
        return group in self.groups

    def set_arms(self, group: str, arms: Sequence[Arm]) -> None:
        self.arms[group] = tuple(arms)

    def set_deployments(self, group: str, deployments: Mapping[str, Sequence[str]]) -> None:
        self.deployments[group] = deployments

    def unavailable(self, group: str) -> Collection[str]:
        return self.down

    def replica_weights(
        self, group: str, deployments: Sequence[str], *, has_retry: bool
    ) -> Sequence[float] | None:
        return None

    def choose(
        self,
        group: str,
        *,
        eligible: Collection[str],
        call_id: str,
        segment: str = "",
        price: float | None = None,
        caller: str | None = None,
        has_retry: bool = False,
    ) -> RoutingDecision | None:
        arm = self.prefer(eligible) if self.prefer else self._random.choice(sorted(eligible))
        if arm is None:
            return None
        with self._changed:
            routed = RoutingDecision(
                decision_id=f"d{len(self.chosen)}",
                group=group,
                arm=arm,
                stage=1,
                probability=0.5,
                shadow_price=0.0,
            )
            self.chosen.append((group, tuple(sorted(eligible)), routed))
            self.call_ids.append(call_id)
            self.segments.append(segment)
            self.prices.append(price)
            self.retries.append(has_retry)
        return routed

    def segment_of_text(self, group: str, text: str) -> str:
        self.texts.append(text)
        return f"auto:1:{len(text)}"

    def settled(self, decision_id: str, **said: Any) -> None:
        self._heard("settled", decision_id, said)

    def failed(self, decision_id: str, **said: Any) -> None:
        self._heard("failed", decision_id, said)

    def withdrawn(self, decision_id: str) -> None:
        self._heard("withdrawn", decision_id, {})

    def record_reward(
        self,
        key: str,
        reward: object,
        *,
        source: str = "app",
        replace: bool = True,
        caller: str | None = None,
    ) -> Future[RewardReceipt]:
        if not isinstance(reward, float) or not 0 <= reward <= 1:
            raise InvalidRewardError(repr(reward))
        done: Future[RewardReceipt] = Future()
        decision = self._decision(key)
        if decision is None:
            done.set_exception(UnknownDecisionError(key))
        else:
            self._heard(
                "reward", decision, {"reward": reward, "source": source, "key": key, "replace": replace}
            )
            done.set_result(RewardReceipt(status="recorded", key=key, decision_id=decision))
        return done

    def internal_error(self, error: BaseException) -> None:
        self.errors.append(error)

    @property
    def source(self) -> FakeRouting:
        """What reports are computed from: no group has a status."""
        return self

    def statuses(self) -> Sequence[GroupStatus]:
        return ()

    def flush(self, timeout: float = 10.0) -> bool:
        return True

    def close(self, timeout: float = 10.0) -> int:
        self.closed = True
        return 0

    def wait(self, count: int, kind: str | None = None) -> list[tuple[str, str, dict[str, Any]]]:
        """Wait for reports (of one kind) and return them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(kind)) >= count, DEADLINE_S), self.reports
        return self.of(kind)

    def of(self, kind: str | None) -> list[tuple[str, str, dict[str, Any]]]:
        return [report for report in self.reports if kind in (None, report[0])]

    def _heard(self, kind: str, decision_id: str, said: dict[str, Any]) -> None:
        with self._changed:
            self.reports.append((kind, decision_id, said))
            self._changed.notify_all()

    def _decision(self, key: str) -> str | None:
        for decision, call_id in zip(
            reversed([routed.decision_id for _, _, routed in self.chosen]),
            reversed(self.call_ids),
            strict=True,
        ):
            if key in (decision, call_id):
                return decision
        for _, decision, said in self.reports:
            if said.get("response_id") == key:
                return decision
        return None
