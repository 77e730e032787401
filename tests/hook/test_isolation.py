"""An exception inside us never reaches the caller; several routers in one process do not hear each other."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import litellm
import pytest

from stageroute_router.errors import SettingsError, UnknownDecisionError, UnmanagedCallError
from stageroute_router.hook.calls.observer import observer

MESSAGES = [{"role": "user", "content": "hello"}]
BIG, SMALL = "openai/gpt-4o", "openai/gpt-4o-mini"

Call = Callable[..., Any]


def sync_call(made: Any, **asked: Any) -> Any:
    return made.router.completion(**{"model": "chat", "messages": MESSAGES, **asked})


def async_call(made: Any, **asked: Any) -> Any:
    return asyncio.run(made.router.acompletion(**{"model": "chat", "messages": MESSAGES, **asked}))


both = pytest.mark.parametrize("call", [sync_call, async_call], ids=["sync", "async"])


def broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


def moved(*_: Any, **__: Any) -> Any:
    msg = "LiteLLM moved this"
    raise AttributeError(msg)


async def moved_async(*_: Any, **__: Any) -> Any:
    return moved()


@both
def test_a_broken_runtime_leaves_the_choice_to_litellm(routed: Call, entry: Call, call: Call) -> None:
    made = routed([entry("big", BIG, order=2), entry("small", SMALL, order=1)])
    made.routing.expected_errors = True
    made.routing.choose = broken
    response = call(made)
    assert response._hidden_params["model_id"] == "small"
    assert [type(error) for error in made.routing.errors] == [ZeroDivisionError]
    with pytest.raises(UnmanagedCallError, match="LiteLLM's own choice"):
        made.control.record_reward(response, 1.0)


@both
def test_the_request_is_restored_before_litellm_chooses_by_itself(
    routed: Call, entry: Call, call: Call
) -> None:
    made = routed([entry("big", BIG, order=2), entry("small", SMALL, order=1)])
    made.routing.expected_errors = True
    made.routing.choose = broken
    assert call(made, _target_order=2)._hidden_params["model_id"] == "big"


@both
@pytest.mark.parametrize("part", ["healthy", "group_of", "changed", "deployments"])
def test_a_part_of_litellm_that_moved_leaves_the_choice_to_litellm(
    routed: Call, entry: Call, call: Call, part: str
) -> None:
    made = routed([entry("big", BIG), entry("small", SMALL)])
    made.routing.expected_errors = True
    setattr(made.control.strategy._compat, part, moved_async if part == "healthy" else moved)
    if part == "deployments":
        made.router.delete_deployment(id="big") if not hasattr(made.router, "apply") else made.router.apply(
            change(delete=["big"])
        )
    assert call(made).choices[0].message.content == "hi"
    assert [type(error) for error in made.routing.errors] == [AttributeError]


def change(**changes: Any) -> Any:
    return importlib.import_module("litellm.router_api").ChangeSet(**changes)


def test_a_broken_report_stays_inside(routed: Call, entry: Call) -> None:
    made = routed([entry("big", BIG)])
    made.routing.expected_errors = True
    made.routing.settled = broken
    request: dict[str, Any] = {"litellm_call_id": "c"}
    made.control.strategy.get_available_deployment("chat", messages=MESSAGES, request_kwargs=request)
    observer.log_success_event({"litellm_call_id": "c", "response_cost": 1.0}, {"id": "r"}, None, None)
    assert [type(error) for error in made.routing.errors] == [ZeroDivisionError]


@both
def test_routers_do_not_hear_each_other(routed: Call, entry: Call, call: Call) -> None:
    one, two = (routed([entry("big", BIG), entry("small", SMALL)]) for _ in range(2))

    async def main() -> None:
        for made in (one, two, one):
            await made.router.acompletion(model="chat", messages=MESSAGES)
        await asyncio.to_thread(one.routing.wait, 2)
        await asyncio.to_thread(two.routing.wait, 1)

    if call is async_call:
        asyncio.run(main())
    else:
        for made in (one, two, one):
            call(made)
        one.routing.wait(2)
        two.routing.wait(1)
    assert [decision for _, decision, _ in two.routing.reports] == ["d0"]
    assert sorted(decision for _, decision, _ in one.routing.reports) == ["d0", "d1"]


def test_routers_share_one_place_in_litellms_callbacks(routed: Call, entry: Call) -> None:
    for _ in range(40):  # LiteLLM refuses more than 30 callbacks
        routed([entry("big", BIG)])
    assert sum(callback is observer for callback in litellm.callbacks) == 1


def test_the_observer_does_not_keep_a_strategy_alive() -> None:
    """LiteLLM itself keeps routers alive through callbacks of its own; a strategy must not need that."""

    class Listener:
        def on_report(self, report: Any) -> None:
            pytest.fail(f"a listener without users got {report}")

    listener = Listener()
    observer.attach(listener)
    gone = weakref.ref(listener)
    del listener
    gc.collect()
    assert gone() is None
    observer.log_success_event({"litellm_call_id": "c"}, None, None, None)


def test_a_closed_control_leaves_everything_to_litellm(routed: Call, entry: Call) -> None:
    made = routed([entry("big", BIG)])
    made.control.close()
    assert sync_call(made)._hidden_params["model_id"] == "big"
    assert made.routing.closed
    assert made.routing.chosen == []


def reconfigure(made: Any) -> None:
    """Change the routing strategy at run time, which makes newer versions of LiteLLM drop ours."""
    if hasattr(made.router, "apply"):
        made.router.apply(change(settings={"routing_strategy": "least-busy"}))
    else:
        made.router.update_settings(routing_strategy="least-busy")
        if made.control.strategy._compat.attached() is not None:
            pytest.skip("this LiteLLM keeps the strategy")
    sync_call(made)
    assert made.routing.chosen == []


def look(made: Any) -> None:
    made.control.status()


def reward(made: Any) -> None:
    with pytest.raises(UnknownDecisionError):
        made.control.record_reward("unknown", 1.0)


def hear(made: Any) -> None:
    assert made is not None
    observer.log_success_event({"litellm_call_id": "foreign"}, {"id": "r"}, None, None)


@pytest.mark.parametrize("in_control", [look, reward, hear])
def test_a_strategy_that_litellm_dropped_is_attached_again_as_soon_as_we_get_control(
    routed: Call, entry: Call, in_control: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = routed([entry("big", BIG)])
    with monkeypatch.context() as deaf:
        deaf.setattr(observer, "_listeners", ())
        reconfigure(made)
    in_control(made)
    sync_call(made)
    assert len(made.routing.chosen) == 1


def test_a_strategy_attached_later_by_other_code_stays_in_place(routed: Call, entry: Call) -> None:
    made = routed([entry("big", BIG)])

    class Theirs(litellm.types.router.CustomRoutingStrategyBase):  # type: ignore[misc,name-defined]
        def get_available_deployment(self, model: str, *_: Any, **__: Any) -> Any:
            return entry("big", BIG)

    (getattr(made.router, "register_plugin", None) or made.router.set_custom_routing_strategy)(Theirs())
    made.control.status()
    sync_call(made)
    assert made.routing.chosen == []


def test_a_router_is_attached_only_once(routed: Call, entry: Call) -> None:
    made = routed([entry("big", BIG)])
    with pytest.raises(SettingsError, match="already"):
        routed([], router=made.router)
    made.control.close()
    again = routed([], router=made.router)
    sync_call(again)
    assert len(again.routing.chosen) == 1
    assert made.routing.chosen == []


def test_routing_plugins_are_refused_because_a_strategy_would_bypass_them(routed: Call, entry: Call) -> None:
    if "plugins" not in inspect.signature(litellm.Router.__init__).parameters:
        pytest.skip("this LiteLLM has no routing plugins")
    router = litellm.Router(model_list=[entry("big", BIG)], plugins=[object()])
    with pytest.raises(SettingsError, match="plugins"):
        routed([], router=router)
