"""The parts by themselves: the memory of open decisions, stepping, and what we touch of LiteLLM."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import litellm
import pytest

from stageroute_router.groups.decision import RoutingDecision
from stageroute_router.hook import compat
from stageroute_router.hook.calls.open_decisions import OpenDecision, OpenDecisions
from stageroute_router.hook.strategy import StageRouteStrategy
from stageroute_router.hook.sync_bridge import LoopThread, SyncRunner

Call = Callable[..., Any]


def decision(number: int, *, model_id: str = "a", minted: bool = False) -> OpenDecision:
    return OpenDecision(
        decision=RoutingDecision(
            decision_id=f"d{number}", group="chat", arm="m", stage=1, probability=0.5, shadow_price=0.0
        ),
        deployment=model_id,
        minted=minted,
    )


def claimed(decisions: OpenDecisions, **said: Any) -> str | None:
    found = decisions.match("c", **{"model_id": "a", "noted": None, "failed": False, **said})
    return None if found is None else found.decision_id


def test_an_answer_of_a_later_attempt_that_litellm_chose_for_ends_no_decision() -> None:
    decisions = OpenDecisions()
    decisions.add("c", decision(0))
    decisions.add_unrouted("c", "plain")
    assert claimed(decisions, model_id="b") is None
    assert claimed(decisions, failed=True) == "d0"


def test_a_late_report_settles_its_own_attempt_and_not_the_serving_one() -> None:
    decisions = OpenDecisions()
    for number in range(3):
        decisions.add("c", decision(number))
    assert [one.decision_id for one in decisions.fail_others("c", serving="d2")] == ["d0", "d1"]
    assert decisions.fail_others("c", serving="d2") == ()
    assert len(decisions) == 1
    assert claimed(decisions, failed=True) is None
    assert claimed(decisions) == "d2"
    assert len(decisions) == 0
    assert claimed(decisions, failed=True) is None


def test_a_decision_is_found_by_our_call_id_for_any_deployment_litellm_names() -> None:
    decisions = OpenDecisions()
    decisions.add("c", decision(0, minted=True))
    assert claimed(decisions, model_id="overwritten", noted="d9", failed=True) == "d0"
    assert claimed(decisions) is None
    assert len(decisions) == 0


def test_attempts_under_one_call_id_are_told_apart_by_their_deployments() -> None:
    decisions = OpenDecisions()
    decisions.add("c", decision(0, model_id="a"))
    decisions.add("c", decision(1, model_id="b"))
    # The metadata is shared, so it names the second attempt by the time the first one's failure is reported.
    assert claimed(decisions, model_id="a", noted="d1", failed=True) == "d0"
    assert claimed(decisions, model_id="a", noted="d1", failed=True) is None
    assert claimed(decisions, model_id="b", noted="d1") == "d1"


def test_of_attempts_at_one_deployment_the_first_fails_and_the_last_succeeds() -> None:
    decisions = OpenDecisions()
    for number in range(3):
        decisions.add("c", decision(number))
    assert [claimed(decisions, failed=True), claimed(decisions), claimed(decisions)] == ["d0", "d2", "d1"]


def test_different_calls_under_one_call_id_are_told_apart_by_their_metadata() -> None:
    decisions = OpenDecisions()
    for number in range(3):
        decisions.add("c", decision(number))
    assert [claimed(decisions, noted="d1"), claimed(decisions, noted="d2"), claimed(decisions)] == [
        "d1",
        "d2",
        "d0",
    ]


def test_closed_decisions_are_found_by_both_ids_until_newer_ones_replace_them() -> None:
    decisions = OpenDecisions(remembered=4)
    for number in range(3):
        decisions.add(f"c{number}", decision(number, minted=True))
        found = decisions.match(f"c{number}", model_id="a", noted=None, failed=False)
        assert found is not None
        decisions.add_response_id(f"c{number}", f"r{number}", attempt=found)
    remembered = {key: decisions.find(key) for key in ("c0", "r0", "c1", "r1", "c2", "r2")}
    names = {key: made.decision_id for key, made in remembered.items() if made is not None}
    assert names == {"c1": "d1", "r1": "d1", "c2": "d2", "r2": "d2"}


def test_a_success_whose_deployment_is_not_told_goes_to_the_noted_decision() -> None:
    decisions = OpenDecisions()
    for number in range(2):
        decisions.add("c", decision(number))
    assert claimed(decisions, model_id="", noted="d0") == "d0"
    assert claimed(decisions, model_id="") == "d1"


def test_the_oldest_calls_are_forgotten_first() -> None:
    decisions = OpenDecisions(capacity=2)
    for number in range(3):
        decisions.add(f"c{number}", decision(number))
        decisions.add_unrouted(f"left{number}", "else")
    assert len(decisions) == 2
    assert decisions.match("c0", model_id="a", noted=None, failed=False) is None
    assert [decisions.unrouted_group(f"left{number}") for number in range(3)] == [None, "else", "else"]


def test_a_managed_attempt_after_an_unmanaged_one_of_the_same_call_can_be_credited() -> None:
    decisions = OpenDecisions()
    decisions.add_unrouted("c", "else")
    decisions.add("c", decision(0))
    assert decisions.unrouted_group("c") is None


# --- stepping ----------------------------------------------------------------------------------------------


def never_rewound() -> None:
    pytest.fail("there was nothing to rewind")


async def at_once() -> int:
    return threading.get_ident()


def test_a_coroutine_that_does_not_wait_runs_in_the_calling_thread() -> None:
    runner = SyncRunner()
    assert runner.run(at_once, rewind=never_rewound) == threading.get_ident()
    assert not runner.waits


async def inside_a_loop(act: Callable[[], Any]) -> Any:
    return act()


@pytest.mark.parametrize("in_loop", [False, True], ids=["no loop", "in a running loop"])
@pytest.mark.parametrize(
    "wait", [lambda: asyncio.sleep(0), lambda: asyncio.to_thread(int)], ids=["yield", "thread"]
)
def test_a_coroutine_that_waits_is_started_again_on_a_loop_of_its_own(
    in_loop: bool,  # noqa: FBT001 - a pytest parameter
    wait: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")
    started: list[str] = []
    rewound: list[None] = []

    async def waits() -> str:
        started.append(threading.current_thread().name)
        await wait()
        return variable.get()

    def act() -> tuple[str, str]:
        variable.set("seen")
        return tuple(runner.run(waits, rewind=lambda: rewound.append(None)) for _ in range(2))  # type: ignore[return-value]

    runner = SyncRunner()
    assert (asyncio.run(inside_a_loop(act)) if in_loop else act()) == ("seen", "seen")
    assert len(rewound) == 1
    assert started[1:] == ["stageroute-healthy", "stageroute-healthy"]
    assert runner.waits


@pytest.mark.parametrize("error", [ValueError, litellm.exceptions.RateLimitError, KeyError])
def test_errors_of_the_coroutine_come_out_as_they_are(error: type[Exception]) -> None:
    async def fails() -> None:
        raise error("no", "m", "p") if error is litellm.exceptions.RateLimitError else error("no")

    with pytest.raises(error):
        SyncRunner().run(fails, rewind=never_rewound)


def test_a_runtime_error_in_a_running_loop_comes_out_as_it_is() -> None:
    async def fails() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        asyncio.run(inside_a_loop(lambda: SyncRunner().run(fails, rewind=never_rewound)))


def test_waiting_for_itself_is_refused() -> None:
    loop_thread = LoopThread()

    async def nested() -> int:
        return loop_thread.run(at_once())

    with pytest.raises(RuntimeError, match="inside LiteLLM's own filters"):
        loop_thread.run(nested())


# --- what we touch of LiteLLM ------------------------------------------------------------------------------


def test_no_deprecated_member_of_litellm_is_touched_by_us(routed: Call, entry: Call) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = routed([entry("a"), entry("b", group="else")], model_group_alias={"alias": "chat"})
        for model in ("chat", "alias", "else"):
            made.router.completion(model=model, messages=[{"role": "user", "content": "x"}])
        asyncio.run(made.router.acompletion(model="chat", messages=[{"role": "user", "content": "x"}]))
        made.control.status()
        made.control.close()
    ours = Path(compat.__file__).parents[1]
    assert [str(one.message) for one in caught if ours in Path(one.filename).parents] == []


def test_a_litellm_without_its_ordinary_choice_still_gets_a_deployment(
    routed: Call, entry: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = routed([entry("a"), entry("b")], prefer=lambda _: None)
    monkeypatch.setattr(compat, "_ASYNC_CHOICE", ("gone",))
    response = asyncio.run(made.router.acompletion(model="chat", messages=[{"role": "user", "content": "x"}]))
    assert response._hidden_params["model_id"] in {"a", "b"}


def test_the_choice_among_replicas_is_reproducible_from_its_seed(routed: Call, entry: Call) -> None:
    made = routed([entry("a"), entry("b")])

    def picks(seed: int) -> list[str]:
        strategy = StageRouteStrategy(made.router, made.routing, seed=seed)
        ask = {"messages": [{"role": "user", "content": "x"}]}
        return [
            strategy.get_available_deployment("chat", request_kwargs={}, **ask)["model_info"]["id"]
            for _ in range(20)
        ]

    assert picks(1) == picks(1) != picks(2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_workers_do_not_repeat_their_parents_call_ids() -> None:
    script = (
        "import os, sys\n"
        "from stageroute_router.hook.calls.request import ensured_call_id as _call_id\n"
        "_call_id({})\n"
        "child = os.fork()\n"
        "sys.stdout.write(_call_id({}) + '\\n')\n"
        "sys.stdout.flush()\n"
        "if child: os.waitpid(child, 0)\n"
        "else: os._exit(0)\n"
    )
    settings = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=settings,
    )
    ids = run.stdout.split()
    assert len(ids) == len(set(ids)) == 2
