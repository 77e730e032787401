"""LangChain, LangGraph and an agent over the router: every decision is rewarded by the id of any run around it."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_litellm import ChatLiteLLM, ChatLiteLLMRouter
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langsmith import Client, tracing_context

from stageroute_router import InvalidRewardError, SettingsError, StageRouteRouter, UnknownDecisionError
from stageroute_router.errors import NotAResponseError
from stageroute_router.integrations.langchain import RunRewards, follow
from stageroute_router.integrations.langsmith import pull_feedback
from stageroute_router.integrations.litellm_provider import register
from stageroute_router.integrations.openai_transport import async_http_client, http_client

MODELS = ("router", "openai", "provider")


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def rewards(router: StageRouteRouter) -> RunRewards:
    return RunRewards(router)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, router: StageRouteRouter) -> Iterator[Any]:
    """The same router behind each of LangChain's models that can end in it."""
    if request.param == "router":
        yield ChatLiteLLMRouter(router=router, model="chat")
    elif request.param == "openai":
        yield ChatOpenAI(
            model="chat",
            base_url="http://any/v1",
            api_key="unused",
            http_client=http_client(router),
            http_async_client=async_http_client(router),
        )
    else:
        register(router)
        yield ChatLiteLLM(model="stageroute/chat")


def calls(router: StageRouteRouter) -> int:
    return int(router.stageroute.status("chat").calls)


def config(rewards: RunRewards, run_id: uuid.UUID) -> dict[str, Any]:
    return {"callbacks": [rewards], "run_id": run_id}


def test_each_call_is_rewarded_by_its_run(router: StageRouteRouter, rewards: RunRewards, model: Any) -> None:
    run, streamed = uuid.uuid4(), uuid.uuid4()
    answer = model.invoke("hello", config(rewards, run))
    assert answer.text
    (receipt,) = rewards.record_reward(str(run), 0.9)
    assert receipt.status == "recorded"
    assert [part for part in model.stream("hello", config(rewards, streamed)) if part.text]
    (of_stream,) = rewards.record_reward(streamed, 0.8)
    assert of_stream.decision_id != receipt.decision_id
    batch = [uuid.uuid4() for _ in range(3)]
    model.batch(["a", "b", "c"], [config(rewards, one) for one in batch])
    rewarded = {rewards.record_reward(one, 0.7)[0].decision_id for one in batch}
    assert len(rewarded) == 3
    assert calls(router) == 5
    assert sum(arm.reward_count for arm in router.stageroute.status("chat").arms) == 5


async def test_asynchronous_calls_are_rewarded_by_their_runs(
    router: StageRouteRouter, rewards: RunRewards, model: Any
) -> None:
    run, streamed = uuid.uuid4(), uuid.uuid4()
    await model.ainvoke("hello", config(rewards, run))
    assert [part async for part in model.astream("hello", config(rewards, streamed)) if part.text]
    batch = [uuid.uuid4() for _ in range(3)]
    await model.abatch(["a", "b", "c"], [config(rewards, one) for one in batch])
    receipts = [await rewards.arecord_reward(one, 0.7) for one in (run, streamed, *batch)]
    assert len({receipt.decision_id for (receipt,) in receipts}) == 5
    assert calls(router) == 5


def test_a_message_is_as_good_as_its_runs_id(
    router: StageRouteRouter, rewards: RunRewards, model: Any
) -> None:
    answer = model.invoke("hello", {"callbacks": [rewards]})
    assert len(rewards.record_reward(answer, 1.0)) == 1


def test_an_agents_run_rewards_all_calls_inside(
    router: StageRouteRouter, rewards: RunRewards, model: Any
) -> None:
    agent, run = create_agent(model, [add]), uuid.uuid4()
    answer = agent.invoke({"messages": [("user", "add 2 and 3")]}, config(rewards, run))
    assert [message.text for message in answer["messages"] if message.type == "tool"] == ["5"]
    assert calls(router) == 2
    assert len(rewards.record_reward(run, 1.0)) == 2
    # Each model's run is known, too: a critic may judge one step alone.
    steps = [message for message in answer["messages"] if message.type == "ai"]
    assert [len(rewards.decisions(step)) for step in steps] == [1, 1]


async def test_agents_side_by_side_are_kept_apart(
    router: StageRouteRouter, rewards: RunRewards, model: Any
) -> None:
    agent, runs = create_agent(model, [add]), [uuid.uuid4() for _ in range(4)]

    async def stream(run: uuid.UUID) -> None:
        asked = {"messages": [("user", "add 2 and 3")]}
        assert [step async for step in agent.astream(asked, config(rewards, run))]

    await asyncio.gather(*map(stream, runs))
    decisions = [rewards.decisions(run) for run in runs]
    assert [len(made) for made in decisions] == [2, 2, 2, 2]
    assert len(set(sum(decisions, ()))) == 8 == calls(router)


def test_calls_of_the_router_itself_belong_to_the_run_around_them(
    router: StageRouteRouter, rewards: RunRewards
) -> None:
    ask = [{"role": "user", "content": "hello"}]
    run = uuid.uuid4()

    def node(_: MessagesState) -> dict[str, Any]:
        text = router.completion(model="chat", messages=ask).choices[0].message.content
        return {"messages": [("ai", text)]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", node)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    graph.compile().invoke({"messages": []}, config(rewards, run))
    assert len(rewards.decisions(run)) == 1
    # What comes after the run's end, in the very same context, is none of it.
    router.completion(model="chat", messages=ask)
    assert len(rewards.decisions(run)) == 1
    assert calls(router) == 2


async def test_what_comes_after_an_asynchronous_run_is_none_of_it(
    router: StageRouteRouter, rewards: RunRewards
) -> None:
    async def ask(_: object) -> str:
        answer = await router.acompletion(model="chat", messages=[{"role": "user", "content": "hello"}])
        return str(answer.choices[0].message.content)

    run = uuid.uuid4()
    await RunnableLambda(ask).ainvoke("x", config(rewards, run))
    await ask(None)
    assert len(rewards.decisions(run)) == 1
    assert calls(router) == 2


def test_a_failed_attempt_is_not_rewarded(provider: Any) -> None:
    made = StageRouteRouter(
        model_list=provider.model_list("chat"),
        stageroute={"chat": {"budget_usd_per_call": 0.01, "max_live_models": 2, "stage": {"calls": 100}}},
        database_url="memory://",
        stageroute_options={"seed": 0},
        num_retries=3,
        retry_after=0,
        disable_cooldowns=True,
    )
    with made.stageroute:
        rewards, run = RunRewards(made), uuid.uuid4()
        provider.set("small", error_rate=0.5)
        for _ in range(6):
            ChatLiteLLMRouter(router=made, model="chat").invoke("hello", config(rewards, run))
        assert provider.counts("small")["errors"] > 0
        assert len(rewards.decisions(run)) == 6


def test_all_runs_of_the_process_can_be_followed(router: StageRouteRouter) -> None:
    rewards = follow(router)
    agent, run = create_agent(ChatLiteLLMRouter(router=router, model="chat"), [add]), uuid.uuid4()
    agent.invoke({"messages": [("user", "add 2 and 3")]}, {"run_id": run})
    assert [receipt.status for receipt in rewards.record_reward(run, 0.5)] == ["recorded", "recorded"]


def test_only_so_much_is_remembered(router: StageRouteRouter) -> None:
    rewards = RunRewards(router, remembered=6)
    model = ChatLiteLLMRouter(router=router, model="chat")
    chain = RunnableLambda(lambda text: text) | model
    runs = [uuid.uuid4() for _ in range(5)]
    for run in runs:
        chain.invoke("hello", config(rewards, run))
    assert [len(rewards.decisions(run)) for run in runs] == [0, 0, 1, 1, 1]  # each is in two runs
    assert len(rewards.runs.ids()) == 6
    with pytest.raises(UnknownDecisionError, match="forgotten"):
        rewards.record_reward(runs[0], 1.0)


def test_what_cannot_be_rewarded_is_told(router: StageRouteRouter, rewards: RunRewards) -> None:
    run = uuid.uuid4()
    RunnableLambda(lambda text: text).invoke("x", config(rewards, run))
    with pytest.raises(UnknownDecisionError, match="nothing was routed"):
        rewards.record_reward(run, 1.0)
    with pytest.raises(NotAResponseError, match="int"):
        rewards.record_reward(7, 1.0)
    ChatLiteLLMRouter(router=router, model="chat").invoke("hello", config(rewards, run := uuid.uuid4()))
    with pytest.raises(InvalidRewardError):
        rewards.record_reward(run, 9)
    with pytest.raises(SettingsError, match="attach"):
        RunRewards(object())


class LangSmith(ThreadingHTTPServer):
    """What LangSmith's client sees of the service: it takes runs and feedback, and lists feedback by run and key."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), LangSmithRequests)
        self.received = b""
        self.feedback: list[dict[str, Any]] = []
        self.listings = 0


class LangSmithRequests(BaseHTTPRequestHandler):
    """Answers the requests of LangSmith's client."""

    server: LangSmith

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path != "/feedback":
            return self._reply({})
        query = parse_qs(asked.query)
        self.server.listings += 1
        found = [
            one
            for one in self.server.feedback
            if one["run_id"] in query["run"] and one["key"] in query.get("key", [one["key"]])
        ]
        start = int(query.get("offset", ["0"])[0])
        return self._reply(found[start : start + int(query["limit"][0])])

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/feedback":
            given = {"trace_id": None, **json.loads(body)}
            given["modified_at"] = (
                datetime.now(timezone.utc) + timedelta(len(self.server.feedback))
            ).isoformat()
            self.server.feedback.append(given)
        else:
            self.server.received += body
        self._reply({})

    def _reply(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def langsmith() -> Iterator[LangSmith]:
    with LangSmith() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def client(langsmith: LangSmith) -> Iterator[Client]:
    made = Client(
        api_url=f"http://127.0.0.1:{langsmith.server_port}", api_key="unused", info={}, otel_enabled=False
    )
    yield made
    made.close()


def test_feedback_in_langsmith_becomes_rewards(
    router: StageRouteRouter, rewards: RunRewards, langsmith: LangSmith, client: Client
) -> None:
    agent = create_agent(ChatLiteLLMRouter(router=router, model="chat"), [add])
    runs = [uuid.uuid4() for _ in range(3)]
    with tracing_context(enabled=True, client=client):
        for run in runs:
            agent.invoke({"messages": [("user", "add 2 and 3")]}, config(rewards, run))
    client.flush()
    assert all(
        str(run).encode() in langsmith.received for run in runs
    )  # LangSmith knows the runs by these ids
    for run, key, score in [
        (runs[0], "stars", 4),
        (runs[1], "correct", False),
        (runs[1], "correct", True),  # a second thought
        (runs[2], "stars", 9),  # not on the scale
        (runs[2], "other", 1),
        (uuid.uuid4(), "stars", 1),  # another process's run
    ]:
        client.create_feedback(run, key, score=score, session_id=uuid.uuid4())
    keys = {"stars": (1, 5), "correct": (0, 1)}
    assert len(pull_feedback(rewards, keys=keys, client=client)) == 6

    def given(run: uuid.UUID) -> list[dict[str, float]]:
        return [dict(router.stageroute.receipt(made).rewards) for made in rewards.decisions(run)]

    assert given(runs[0]) == [{"langsmith:stars": 0.75}] * 2
    assert given(runs[1]) == [{"langsmith:correct": 1.0}] * 2
    assert given(runs[2]) == [{}, {}]
    pull_feedback(rewards, keys=keys, client=client, run_ids=[runs[0]])
    assert given(runs[0]) == [{"langsmith:stars": 0.75}] * 2


def test_feedback_is_asked_for_in_requests_of_bounded_length(
    rewards: RunRewards, langsmith: LangSmith, client: Client
) -> None:
    assert pull_feedback(rewards, keys={"stars": (1, 5)}, client=client, run_ids=[uuid.uuid4()] * 120) == ()
    assert langsmith.listings == 3
    with pytest.raises(SettingsError, match="two different numbers"):
        pull_feedback(rewards, keys={"stars": (1, 1)}, client=client)


def test_the_pages_example(router: StageRouteRouter, documented: dict[str, Any]) -> None:
    run = uuid.uuid4()
    answer = documented["agent"].invoke({"messages": [("user", "hello")]}, {"run_id": run})
    assert len(documented["rewards"].record_reward(run, 0.9)) == 1
    assert len(documented["rewards"].record_reward(answer["messages"][-1], 1.0, source="critic")) == 1


def test_the_example_runs(example: Callable[[str], str]) -> None:
    assert "reward coverage 100%" in example("langchain_agent.py")


def test_the_examples_of_the_adapter(
    router: StageRouteRouter, rewards: RunRewards, client: Client, shows: Callable[..., None]
) -> None:
    shows("langchain")
    ChatLiteLLMRouter(router=router, model="chat").invoke("hello", config(rewards, run := uuid.uuid4()))
    client.create_feedback(run, "stars", score=5, session_id=uuid.uuid4())
    shows("langsmith", rewards=rewards, client=client)
