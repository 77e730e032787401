"""A call's attempts go where it has not failed, as long as there is anywhere else, and only providers are blamed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import litellm
import pytest

from stageroute_router import StageRouteRouter
from stageroute_router.hook.calls.failure import Terms, providers_fault
from stageroute_router.hook.calls.request import terms_of
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

MESSAGES = [{"role": "user", "content": "hello"}]
NAMES = ("first", "second", "third")
Call = Callable[..., Any]


def sync_chat(router: Any, **asked: Any) -> Any:
    return router.completion(**{"model": "chat", "messages": MESSAGES, **asked})


def async_chat(router: Any, **asked: Any) -> Any:
    return run(router.acompletion(**{"model": "chat", "messages": MESSAGES, **asked}))


def sync_stream(router: Any, **asked: Any) -> Any:
    return list(router.completion(model="chat", messages=MESSAGES, stream=True, **asked))


def async_stream(router: Any, **asked: Any) -> Any:
    async def main() -> Any:
        stream = await router.acompletion(model="chat", messages=MESSAGES, stream=True, **asked)
        return [chunk async for chunk in stream]

    return run(main())


def sync_embedding(router: Any, **asked: Any) -> Any:
    return router.embedding(model="chat", input="hello", **asked)


def async_embedding(router: Any, **asked: Any) -> Any:
    return run(router.aembedding(model="chat", input="hello", **asked))


def async_text(router: Any, **asked: Any) -> Any:
    return run(router.atext_completion(model="chat", prompt="hello", **asked))


def async_responses(router: Any, **asked: Any) -> Any:
    return run(router.aresponses(model="chat", input="hello", **asked))


WAYS = [
    sync_chat,
    async_chat,
    sync_stream,
    async_stream,
    sync_embedding,
    async_embedding,
    async_text,
    async_responses,
]
ways = pytest.mark.parametrize("call", WAYS, ids=lambda call: call.__name__)
both = pytest.mark.parametrize("call", [sync_chat, async_chat], ids=["sync", "async"])


_LOOPS: list[asyncio.AbstractEventLoop] = []


def run(coroutine: Any) -> Any:
    """Run a coroutine in the one event loop of these tests, in whose background LiteLLM reports."""
    return _LOOPS[0].run_until_complete(coroutine)


@pytest.fixture(autouse=True, scope="module")
def _loop() -> Iterator[None]:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        _LOOPS.append(loop)
        yield
        run(litellm.close_litellm_async_clients())
        # LiteLLM's own reporting never ends: what is left of it must not be found by another test.
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        _LOOPS.clear()
    # What LiteLLM keeps open to providers that are gone is closed here, not while another test runs.
    litellm.in_memory_llm_clients_cache.flush_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider(
        [SimulatedModel(name=name, embedding_size=4) for name in NAMES], seed=0
    ) as started:
        yield started


@pytest.fixture
def model_list(provider: SimulatedProvider) -> list[dict[str, Any]]:
    entries = []
    for name in NAMES:
        entry = provider.deployment(name, "chat")
        entries.append({**entry, "model_info": {**entry.get("model_info", {}), "id": name}})
    return entries


def prefer(*order: str) -> Callable[[Collection[str]], str]:
    """Prefer arms in this order, whatever is eligible."""
    return lambda eligible: next(f"openai/{name}" for name in order if f"openai/{name}" in eligible)


def arms(made: Any) -> list[str]:
    return [routed.arm.removeprefix("openai/") for _, _, routed in made.routing.chosen]


@pytest.mark.parametrize("status", [500, 429, 401])
@ways
def test_a_retry_goes_elsewhere(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call, status: int
) -> None:
    provider.set("first", error_rate=1.0, error_status=status)
    provider.set("second", error_rate=1.0, error_status=status)
    made = routed(model_list, prefer=prefer(*NAMES), num_retries=2, disable_cooldowns=True)
    call(made.router)
    assert arms(made) == list(NAMES)
    # LiteLLM's oldest versions say nothing of an embedding's request.
    assert made.routing.retries in ([True, True, False], [False, False, False])


@both
def test_the_attempts_of_a_call_share_its_id_so_that_a_receipt_shows_the_path(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call
) -> None:
    provider.set("first", error_rate=1.0)
    provider.set("second", error_rate=1.0)
    made = routed(model_list, prefer=prefer(*NAMES), num_retries=2, disable_cooldowns=True)
    response = call(made.router)
    assert len(set(made.routing.call_ids)) == 1
    assert made.control.record_reward(response, 1.0).decision_id == "d2"


@both
def test_the_next_call_may_go_where_the_last_one_failed(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call
) -> None:
    provider.set("first", error_rate=1.0)
    made = routed(model_list, prefer=prefer(*NAMES), num_retries=1, disable_cooldowns=True)
    shared = {"user": "the same dictionary in every call"}
    for _ in range(2):
        call(made.router, metadata=shared)
    assert arms(made) == ["first", "second"] * 2


@both
def test_calls_of_one_trace_and_one_metadata_are_told_apart(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call
) -> None:
    made = routed(model_list, prefer=prefer(*NAMES), num_retries=2)
    shared = {"user": "the same dictionary in every call"}
    for _ in range(3):
        call(made.router, metadata=shared, litellm_trace_id="a session")
    assert arms(made) == ["first"] * 3


def test_concurrent_calls_with_one_metadata_dictionary_each_go_elsewhere(
    routed: Call, model_list: Any, provider: SimulatedProvider
) -> None:
    provider.set("first", error_rate=1.0)
    provider.set("second", error_rate=1.0)
    made = routed(model_list, prefer=prefer(*NAMES), num_retries=2, disable_cooldowns=True)
    shared = {"user": "the same dictionary in every call"}

    async def main() -> None:
        calls = (made.router.acompletion(model="chat", messages=MESSAGES, metadata=shared) for _ in range(10))
        await asyncio.gather(*calls)

    run(main())
    assert arms(made).count("third") == 10


@both
def test_when_all_have_failed_a_call_goes_on_as_plain_litellm_does(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call
) -> None:
    for name in NAMES:
        provider.set(name, error_rate=1.0)
    made = routed(model_list, prefer=prefer(*NAMES), num_retries=4, disable_cooldowns=True)
    with pytest.raises(litellm.InternalServerError):
        call(made.router)
    assert arms(made)[:3] == list(NAMES)
    assert len(made.routing.chosen) == 5


@both
def test_another_replica_is_tried_where_there_is_no_other_arm(
    routed: Call, provider: SimulatedProvider, call: Call
) -> None:
    entries = []
    for name in NAMES:
        entry = provider.deployment(name, "chat")
        entries.append({**entry, "model_info": {"id": name, "stageroute": {"arm": "one"}}})
        provider.set(name, error_rate=1.0)
    made = routed(entries, num_retries=2, disable_cooldowns=True)
    with pytest.raises(litellm.InternalServerError):
        call(made.router)
    failed = [said["deployment"] for kind, _, said in made.routing.wait(3) if kind == "failed"]
    assert sorted(failed) == sorted(NAMES)


@both
@pytest.mark.parametrize("retries", [0, 2])
def test_the_next_order_level_serves_when_one_is_down(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call, retries: int
) -> None:
    for level, entry in enumerate(model_list, 1):
        entry["litellm_params"]["order"] = level
    made = routed(model_list, prefer=prefer(*NAMES), num_retries=retries, disable_cooldowns=True)
    assert call(made.router)._hidden_params["model_id"] == "first"
    provider.set("first", error_rate=1.0)
    provider.set("second", error_rate=1.0)
    made.routing.chosen.clear()
    assert call(made.router)._hidden_params["model_id"] == "third"
    assert arms(made) == list(NAMES)


@both
def test_an_order_level_that_does_not_answer_is_passed_over(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call
) -> None:
    for level, entry in enumerate(model_list, 1):
        entry["litellm_params"]["order"] = level
    made = routed(model_list, prefer=prefer("second"))
    made.routing.down = {"openai/first"}
    assert call(made.router)._hidden_params["model_id"] == "second"


@both
def test_a_fallback_into_the_same_group_goes_elsewhere(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call
) -> None:
    provider.set("first", error_rate=1.0)
    made = routed(
        model_list,
        prefer=prefer(*NAMES),
        num_retries=0,
        disable_cooldowns=True,
        model_group_alias={"again": "chat"},
        fallbacks=[{"chat": ["again"]}],
    )
    assert call(made.router)._hidden_params["model_id"] == "second"


# --- whose fault ---------------------------------------------------------------------------------------------


def kinds(made: Any, count: int = 1) -> list[str | None]:
    return [said["kind"] for kind, _, said in made.routing.wait(count, "failed") if kind == "failed"]


@pytest.mark.parametrize("status", [500, 503, 429, 401, 403, 404, 400, 422])
@both
def test_failures_are_the_providers_by_their_status(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call, status: int
) -> None:
    provider.set("first", error_rate=1.0, error_status=status)
    made = routed(model_list, prefer=prefer(*NAMES))
    with pytest.raises(Exception):  # noqa: B017, PT011 - a kind for each status
        call(made.router)
    assert [kind is not None for kind in kinds(made)] == [status not in (400, 422)]


@pytest.mark.parametrize("limits", [(0.2, None), (None, 0.2), (0.1, 0.3), (5.0, 0.2)])
@both
def test_a_time_limit_counts_only_where_it_is_not_the_clients(
    routed: Call,
    model_list: Any,
    provider: SimulatedProvider,
    call: Call,
    limits: tuple[float | None, float | None],
) -> None:
    own, clients = limits
    provider.set("first", hang_rate=1.0)
    if own is not None:
        model_list[0]["litellm_params"]["timeout"] = own
    made = routed(model_list, prefer=prefer(*NAMES))
    with pytest.raises(litellm.Timeout):
        call(made.router, **({} if clients is None else {"timeout": clients}))
    (kind,) = kinds(made)
    # Where the client's limit is longer than the deployment's own, the deployment was too slow for both.
    assert (kind is not None) == (own is not None and (clients is None or own <= clients))


@both
def test_a_refused_connection_is_the_providers(routed: Call, model_list: Any, call: Call) -> None:
    model_list[0]["litellm_params"]["api_base"] = "http://127.0.0.1:9/v1"
    made = routed(model_list, prefer=prefer(*NAMES))
    with pytest.raises(litellm.InternalServerError):
        call(made.router)
    (kind,) = kinds(made)
    assert kind is not None


@both
def test_a_key_of_the_clients_own_counts_against_no_arm(
    routed: Call, model_list: Any, provider: SimulatedProvider, call: Call
) -> None:
    provider.set("first", error_rate=1.0, error_status=401)
    made = routed(model_list, prefer=prefer(*NAMES))
    with pytest.raises(litellm.AuthenticationError):
        call(made.router, api_key="mine")
    assert kinds(made) == [None]


class GuardrailRaisedException(Exception):  # noqa: N818 - LiteLLM's name
    """As LiteLLM raises it, with a status that is otherwise a provider's."""

    status_code = 500


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), GuardrailRaisedException(), ValueError("no number"), None]
)
def test_what_is_not_the_providers_fault(error: object) -> None:
    assert providers_fault(error, Terms(), own_limit_s=None) is None


@pytest.mark.parametrize("error", [ConnectionResetError(), TimeoutError(), OSError()])
def test_a_broken_connection_is_the_providers_fault_but_not_every_os_error(error: OSError) -> None:
    blamed = providers_fault(error, Terms(), own_limit_s=None) is not None
    assert blamed == (type(error) is not OSError)


def test_an_unknown_object_that_the_request_names_is_not_the_deployments_fault() -> None:
    missing = litellm.NotFoundError("no such response", model="m", llm_provider="p")
    named = terms_of({"previous_response_id": "resp_1"})
    assert providers_fault(missing, named, own_limit_s=None) is None
    assert providers_fault(missing, terms_of({"model": "chat"}), own_limit_s=None) == "NotFoundError"


@pytest.mark.parametrize("value", ["soon", True, [], "1e999", float("nan"), 10**400])
def test_no_time_limit_of_a_client_can_raise(value: object) -> None:
    terms_of({"timeout": value, "api_key": value, "stream_timeout": 1})


# --- the whole router ---------------------------------------------------------------------------------------


async def until(made: Any, reason: str, *, sync: bool, most: int = 500) -> None:
    """Make calls until a stage was opened for a reason. In one event loop, in whose background LiteLLM reports."""
    for _ in range(most):
        if sync:
            await asyncio.to_thread(sync_chat, made)
        else:
            await made.acompletion(model="chat", messages=MESSAGES)
        if made.stageroute.stages("chat")[-1].reason == reason:
            return


@contextmanager
def router(model_list: Any, **options: Any) -> Iterator[Any]:
    made = StageRouteRouter(
        model_list=model_list,
        stageroute={
            "chat": {"budget_usd_per_call": 0.01, "max_live_models": options.pop("max_live_models", 3)}
        },
        database_url="memory://",
        stageroute_options={"seed": 3},
        retry_after=0,
        disable_cooldowns=True,
        **options,
    )
    try:
        yield made
    finally:
        made.stageroute.close()


@both
def test_calls_leave_an_arm_that_is_down_and_come_back(
    model_list: Any, provider: SimulatedProvider, call: Call
) -> None:
    with router(model_list, num_retries=2) as made:
        for name in ("second", "third"):
            provider.set(name, error_rate=1.0)
        for _ in range(20):
            assert call(made)._hidden_params["model_id"] == "first"
        by_name = {arm.name: arm for arm in made.stageroute.status("chat").arms}
        assert by_name["openai/second"].availability < 0.2
        assert by_name["openai/second"].failing_since is not None
        assert by_name["openai/second"].last_failure == "InternalServerError"
        assert by_name["openai/first"].availability == 1
        provider.set("second", error_rate=0.0)
        provider.set("first", error_rate=1.0)
        served = {call(made)._hidden_params["model_id"] for _ in range(10)}
        assert served == {"second"}


@both
def test_where_no_live_arm_answers_a_window_opens_and_again_when_one_does(
    model_list: Any, provider: SimulatedProvider, call: Call
) -> None:
    with router(model_list, num_retries=2, max_live_models=1) as made:
        call(made)
        (live,) = (arm.name for arm in made.stageroute.status("chat").arms if arm.live)
        down = live.removeprefix("openai/")
        provider.set(down, error_rate=1.0)
        for _ in range(10):
            assert call(made)._hidden_params["model_id"] != down
        made.stageroute.status("chat")
        stages = made.stageroute.stages("chat")
        assert stages[-1].reason == "outage"
        assert live not in stages[-1].live
        provider.set(down, error_rate=0.0)
        run(until(made, "recovery", sync=call is sync_chat))
        assert made.stageroute.stages("chat")[-1].reason == "recovery"


def test_an_outage_of_everything_is_over_with_the_first_call(
    model_list: Any, provider: SimulatedProvider
) -> None:
    with router(model_list, num_retries=2) as made:
        for name in NAMES:
            provider.set(name, error_rate=1.0)
        for _ in range(20):
            with pytest.raises(litellm.InternalServerError):
                sync_chat(made)
        provider.set(random.Random(0).choice(NAMES), error_rate=0.0)
        assert sync_chat(made) is not None


def test_a_receipt_shows_the_path_and_why(model_list: Any, provider: SimulatedProvider) -> None:
    with router(model_list, num_retries=2) as made:
        provider.set("first", error_rate=1.0)
        provider.set("second", error_rate=1.0)
        attempts: Any = ()
        while len(attempts) < 2:
            # LiteLLM may report a call after its answer; a reward says as much.
            reward = made.record_reward(sync_chat(made), 1.0)
            attempts = made.stageroute.receipt(reward.decision_id).attempts
        assert [one.state for one in attempts[:-1]] == ["failed"] * (len(attempts) - 1)
        assert attempts[-1].served_arm == "openai/third"


def test_a_clients_mistakes_leave_an_arm_where_it_was(model_list: Any, provider: SimulatedProvider) -> None:
    with router(model_list) as made:
        for name in NAMES:
            provider.set(name, error_rate=1.0, error_status=400)
        for _ in range(20):
            with pytest.raises(litellm.BadRequestError):
                sync_chat(made)
        assert {arm.availability for arm in made.stageroute.status("chat").arms} == {1.0}
