"""The simulated provider as an HTTP server: routes, outcomes, faults, life cycle. No LiteLLM here."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stageroute_router.errors import SettingsError
from stageroute_router.testing.provider import Outcome, SimulatedModel, SimulatedProvider
from stageroute_router.testing.provider.__main__ import main
from stageroute_router.testing.simulated_model import OutcomeDraws, Recording

MESSAGES: Any = [{"role": "user", "content": "hello"}]
DEADLINE_S = 20.0

MODELS = [
    SimulatedModel(
        name="vendor/large",
        reward_mean=0.5,
        prompt_tokens=90.5,
        completion_tokens=30.0,
        tokens_cv=0.5,
        input_usd_per_token=3e-6,
        output_usd_per_token=15e-6,
    ),
    SimulatedModel(
        name="recorded",
        input_usd_per_token=1e-6,
        output_usd_per_token=2e-6,
        recording=Recording(
            rewards=np.array([0.25, 0.75]),
            prompt_tokens=np.array([10, 20]),
            completion_tokens=np.array([1, 2]),
        ),
    ),
    SimulatedModel(name="plain", answer="four"),
    SimulatedModel(name="quiet", always_stream_usage=False),
]


@pytest.fixture(params=[False, True], ids=["thread", "process"])
def provider(request: pytest.FixtureRequest) -> Iterator[SimulatedProvider]:
    with SimulatedProvider(
        MODELS, seed=3, prompts=["first question", "second question"], process=request.param
    ) as p:
        yield p


@pytest.fixture
def in_thread() -> Iterator[SimulatedProvider]:
    with SimulatedProvider(MODELS, seed=3, prompts=["first question", "second question"]) as started:
        yield started


@pytest.fixture
def client(provider: SimulatedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key="simulated", max_retries=0) as opened:
        yield opened


def call(
    provider: SimulatedProvider, method: str, path: str, body: bytes | None = None
) -> tuple[int, Any, Any]:
    connection = http.client.HTTPConnection(provider.url.removeprefix("http://"), timeout=DEADLINE_S)
    with closing(connection):
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())


def chat(provider: SimulatedProvider, **body: Any) -> tuple[int, Any, Any]:
    request = {"model": "recorded", "messages": MESSAGES, **body}
    return call(provider, "POST", "/v1/chat/completions", json.dumps(request).encode())


def test_openais_own_client_understands_every_route(
    provider: SimulatedProvider, client: openai.OpenAI
) -> None:
    """Chat, text, responses and embeddings answer with the model's outcome, and its id leads back to it."""
    answered = client.chat.completions.create(model="vendor/large", messages=MESSAGES)
    assert Outcome.from_text(answered.choices[0].message.content or "") == provider.outcome(answered)
    text = client.completions.create(model="vendor/large", prompt="hello")
    assert Outcome.from_text(text.choices[0].text) == provider.outcome(text.id)
    response = client.responses.create(model="vendor/large", input="hello")
    assert Outcome.from_text(response.output_text) == provider.outcome(response)
    assert response.usage is not None
    assert response.usage.input_tokens == provider.outcome(response).prompt_tokens
    embedded = client.embeddings.create(model="plain", input=["one", "two"])
    assert [len(entry.embedding) for entry in embedded.data] == [4, 4]
    assert {model.id for model in client.models.list()} == {model.name for model in MODELS}


def test_streams_say_the_same_text_in_pieces(provider: SimulatedProvider, client: openai.OpenAI) -> None:
    """Each streaming route sends several chunks that join to one outcome."""
    chunks = list(client.chat.completions.create(model="vendor/large", messages=MESSAGES, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(chunks) > 3
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert Outcome.from_text(said) == provider.outcome(chunks[-1])
    texts = list(client.completions.create(model="vendor/large", prompt="hello", stream=True))
    assert Outcome.from_text("".join(chunk.choices[0].text for chunk in texts if chunk.choices))
    events = list(client.responses.create(model="vendor/large", input="hello", stream=True))
    assert events[0].type == "response.created"
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == deltas
    assert Outcome.from_text(deltas) == provider.outcome(events[-1].response)


@pytest.mark.parametrize(
    ("model", "asked", "expected"),
    [
        ("quiet", False, False),
        ("quiet", True, True),
        ("plain", False, True),
    ],
)
def test_usage_ends_a_stream_when_asked_or_when_the_model_always_sends_it(
    in_thread: SimulatedProvider,
    model: str,
    asked: bool,  # noqa: FBT001
    expected: bool,  # noqa: FBT001
) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    with openai.OpenAI(base_url=f"{in_thread.url}/v1", api_key="simulated") as client:
        chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **options))
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [expected]


@pytest.mark.parametrize(
    "body",
    [
        {"user": "row:1"},
        {"row": 1},
        {"row": "1"},
        {"messages": [{"role": "user", "content": "second question"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "second question"}]}]},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "second question"},
                {"role": "assistant", "content": "…"},
            ]
        },
    ],
)
def test_a_request_that_names_a_row_or_asks_its_prompt_gets_the_recorded_outcome(
    in_thread: SimulatedProvider, body: dict[str, Any]
) -> None:
    _, headers, answer = chat(in_thread, **body)
    outcome = Outcome(
        model="recorded",
        reward=0.75,
        cost_usd=20 * 1e-6 + 2 * 2e-6,
        prompt_tokens=20,
        completion_tokens=2,
        row=1,
    )
    assert in_thread.outcome(answer) == outcome
    assert Outcome.from_text(headers["x-simulated-outcome"]) == outcome
    assert answer["usage"] == {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22}


def test_a_named_row_goes_before_the_prompt(in_thread: SimulatedProvider) -> None:
    asked = [{"role": "user", "content": "second question"}]
    assert in_thread.outcome(chat(in_thread, user="row:0", messages=asked)[2]).row == 0


def test_an_unknown_prompt_draws_a_recorded_row(in_thread: SimulatedProvider) -> None:
    rows = {in_thread.outcome(chat(in_thread)[2]).row for _ in range(40)}
    assert rows == {0, 1}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/chat/completions", b"{", 400, "not a JSON object"),
        ("/v1/chat/completions", b"[]", 400, "not a JSON object"),
        ("/v1/chat/completions", b'{"model": "recorded"}', 400, "asks nothing"),
        ("/v1/chat/completions", b'{"model": "recorded", "messages": []}', 400, "asks nothing"),
        ("/v1/embeddings", b'{"model": "recorded"}', 400, "asks nothing"),
        ("/v1/chat/completions", b'{"model": "gone", "messages": [{}]}', 404, "`gone` does not exist"),
        ("/v1/chat/completions", b'{"messages": [{}]}', 404, "`None` does not exist"),
        ("/v1/completions", b'{"model": "recorded", "prompt": "", "row": "x"}', 400, "not 'x'"),
        ("/v1/nowhere", b"{}", 404, "no route POST /v1/nowhere"),
    ],
)
def test_a_request_that_makes_no_sense_gets_openais_error(
    in_thread: SimulatedProvider, path: str, body: bytes, status: int, said: str
) -> None:
    found, _, answer = call(in_thread, "POST", path, body)
    assert found == status
    assert said in answer["error"]["message"]
    assert answer["error"]["code"]


def test_prompts_of_more_than_a_mebibyte_are_taken(in_thread: SimulatedProvider) -> None:
    status, _, _ = chat(in_thread, messages=[{"role": "user", "content": "x" * 3_000_000}])
    assert status == 200


def test_equal_seeds_give_equal_answers_whatever_the_other_models_do() -> None:
    """A model's n-th outcome depends on the seed and n alone."""

    def rewards(*, disturbed: bool, seed: int = 5) -> list[Outcome]:
        with SimulatedProvider(MODELS, seed=seed) as provider:
            outcomes = []
            for _ in range(20):
                if disturbed:
                    chat(provider, model="plain")
                outcomes.append(provider.outcome(chat(provider, model="vendor/large")[2]))
            return outcomes

    assert rewards(disturbed=False) == rewards(disturbed=True)
    assert rewards(disturbed=False) != rewards(disturbed=False, seed=6)


def test_a_model_can_be_failed_limited_and_healed_while_it_serves(provider: SimulatedProvider) -> None:
    provider.set("recorded", error_rate=1.0, error_status=503)
    assert chat(provider)[0] == 503
    provider.set("recorded", error_rate=0.0, rate_limited=True, retry_after_s=7)
    status, headers, answer = chat(provider)
    assert (status, headers["Retry-After"]) == (429, "7")
    assert answer["error"]["code"] == "rate_limit_exceeded"
    provider.set("recorded", rate_limited=False)
    assert chat(provider)[0] == 200
    assert chat(provider, model="plain")[0] == 200
    assert provider.counts("recorded") == {
        "requests": 3,
        "answered": 1,
        "errors": 1,
        "rate_limited": 1,
        "hung": 0,
        "broken": 0,
    }


def test_a_rate_limit_admits_so_many_requests(in_thread: SimulatedProvider) -> None:
    in_thread.set("recorded", rate_limit=2)
    assert [chat(in_thread)[0] for _ in range(4)] == [200, 200, 429, 429]


def test_faults_come_at_their_rate_and_reproducibly() -> None:
    def statuses() -> list[int]:
        with SimulatedProvider([SimulatedModel(name="recorded", error_rate=0.3)], seed=1) as provider:
            return [chat(provider)[0] for _ in range(100)]

    first = statuses()
    assert first == statuses()
    assert 15 <= first.count(500) <= 45


def test_a_hung_request_ends_with_its_client_and_lets_the_provider_stop(
    provider: SimulatedProvider,
) -> None:
    provider.set("recorded", hang=True)
    with (
        openai.OpenAI(
            base_url=f"{provider.url}/v1", api_key="simulated", timeout=0.2, max_retries=0
        ) as client,
        pytest.raises(openai.APITimeoutError),
    ):
        client.chat.completions.create(model="recorded", messages=MESSAGES)
    assert provider.counts("recorded")["hung"] == 1


def test_stopping_drops_open_requests() -> None:
    async def ask(provider: SimulatedProvider) -> None:
        async with aiohttp.ClientSession() as session:
            request = {"model": "recorded", "messages": MESSAGES}
            asked = asyncio.ensure_future(session.post(f"{provider.url}/v1/chat/completions", json=request))
            while not provider.counts("recorded")["hung"]:  # noqa: ASYNC110 - another thread's count
                await asyncio.sleep(0)
            await asyncio.to_thread(provider.stop)
            with pytest.raises(aiohttp.ClientError):
                await asked

    with SimulatedProvider([SimulatedModel(name="recorded", hang_rate=1.0)]) as provider:
        asyncio.run(asyncio.wait_for(ask(provider), DEADLINE_S))


@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_answer_breaks_off_in_the_middle(provider: SimulatedProvider, stream: bool) -> None:  # noqa: FBT001
    async def ask() -> bytes:
        request = {"model": "recorded", "messages": MESSAGES, "stream": stream}
        got = b""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{provider.url}/v1/chat/completions", json=request) as answer,
        ):
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):  # noqa: PT012 - what came before counts
                async for piece in answer.content.iter_any():
                    got += piece
        return got

    provider.set("recorded", broken_rate=1.0)
    got = asyncio.run(asyncio.wait_for(ask(), DEADLINE_S))
    assert got
    assert b"[DONE]" not in got
    assert provider.counts("recorded")["broken"] == 1


def test_the_slower_model_answers_later(in_thread: SimulatedProvider) -> None:
    async def ask() -> list[str]:
        order: list[str] = []

        async def one(session: aiohttp.ClientSession, model: str) -> None:
            request = {"model": model, "messages": MESSAGES}
            async with session.post(f"{in_thread.url}/v1/chat/completions", json=request) as answer:
                await answer.read()
            order.append(model)

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(one(session, "recorded"), one(session, "plain"))
        return order

    in_thread.set("recorded", latency_s=1.0)
    assert asyncio.run(asyncio.wait_for(ask(), DEADLINE_S)) == ["plain", "recorded"]


def test_a_streams_first_chunk_need_not_wait_for_the_last(in_thread: SimulatedProvider) -> None:
    in_thread.set("recorded", latency_s=3600.0, first_chunk_s=0.0)
    with (
        openai.OpenAI(base_url=f"{in_thread.url}/v1", api_key="simulated", timeout=DEADLINE_S) as client,
        client.chat.completions.create(model="recorded", messages=MESSAGES, stream=True) as chunks,
    ):
        assert next(iter(chunks)).choices[0].delta.role == "assistant"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"error_rate": 1.5}, r"error_rate must lie in \[0, 1\], not 1.5"),
        ({"latency_s": -1.0}, "latency_s must be 0 or more, not -1.0"),
        ({"reward_mean": 0.1}, "cannot set reward_mean .* one can set .*hang.*rate_limited"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused_and_changes_nothing(
    in_thread: SimulatedProvider, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        in_thread.set("recorded", **changes)
    assert chat(in_thread)[0] == 200


def test_asking_for_what_is_not_there_says_so(provider: SimulatedProvider) -> None:
    with pytest.raises(SettingsError, match="no model 'gone'; it has vendor/large, recorded"):
        provider.set("gone", hang=True)
    with pytest.raises(LookupError, match="no answer with the id 'chatcmpl-1'"):
        provider.outcome("chatcmpl-1")
    with pytest.raises(LookupError, match="a dict without an id"):
        provider.outcome({})
    with pytest.raises(ValueError, match="not the outcome of a simulated call"):
        Outcome.from_text("four")


def test_models_must_have_different_names_and_there_must_be_one() -> None:
    with pytest.raises(SettingsError, match="at least one model"):
        SimulatedProvider([])
    with pytest.raises(SettingsError, match="two simulated models are called a"):
        SimulatedProvider([SimulatedModel(name="a"), SimulatedModel(name="a")])


def test_before_the_start_and_after_the_stop_there_is_no_url() -> None:
    provider = SimulatedProvider(MODELS)
    with pytest.raises(RuntimeError, match="not started"):
        _ = provider.url
    with provider, pytest.raises(RuntimeError, match="already serves"):
        provider.start()
    with pytest.raises(RuntimeError, match="not started"):
        provider.model_list("chat")
    provider.stop()


@pytest.mark.parametrize("process", [False, True])
def test_a_taken_port_is_an_os_error(in_thread: SimulatedProvider, process: bool) -> None:  # noqa: FBT001
    port = int(in_thread.url.rpartition(":")[2])
    with pytest.raises(OSError, match=r"port|address"):
        SimulatedProvider(MODELS, port=port, process=process).start()


def test_a_stopped_provider_can_be_started_again() -> None:
    provider = SimulatedProvider(MODELS)
    for _ in range(2):
        with provider:
            assert chat(provider)[0] == 200


def test_the_command_prints_its_url_and_ends_on_a_signal() -> None:
    """Without a table it serves RouterBench's eleven models."""
    command = [sys.executable, "-m", "stageroute_router.testing.provider"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        with openai.OpenAI(base_url=f"{url}/v1", api_key="simulated") as client:
            assert "gpt-4-1106-preview" in {model.id for model in client.models.list()}
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=DEADLINE_S) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_the_command_serves_at_an_address_of_ones_choice() -> None:
    command = [sys.executable, "-m", "stageroute_router.testing.provider", "--host", "127.0.0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        assert url.startswith("http://127.0.0.2:")
        with openai.OpenAI(base_url=f"{url}/v1", api_key="simulated") as client:
            assert client.models.list().data
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=DEADLINE_S) == 0


def test_the_command_serves_a_table(tmp_path: Any) -> None:
    table = tmp_path / "outcomes.csv"
    table.write_text("query,prompt,model,reward,cost_usd\n1,why?,tiny,0.5,0.001\n")
    command = [sys.executable, "-m", "stageroute_router.testing.provider", "--table", str(table)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        url = child.stdout.readline().strip()
        with openai.OpenAI(base_url=f"{url}/v1", api_key="simulated") as client:
            asked: Any = [{"role": "user", "content": "why?"}]
            answer = client.chat.completions.create(model="tiny", messages=asked)
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=DEADLINE_S) == 0
    outcome = Outcome.from_text(answer.choices[0].message.content or "")
    assert (outcome.row, outcome.reward, round(outcome.cost_usd, 9)) == (0, 0.5, 0.001)


def test_the_command_says_what_is_wrong_with_its_table(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--table", str(tmp_path / "gone.csv")])
    assert ended.value.code == 2
    assert "gone.csv: there is no such file" in capsys.readouterr().err


def test_the_process_ends_when_its_parent_does() -> None:
    """It watches its standard input, which the system closes however the parent ends."""
    command = [sys.executable, "-m", "stageroute_router.testing.provider", "--models", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps({"models": [{"name": "a"}]}) + "\n")
        child.stdin.flush()
        assert child.stdout.readline().startswith("http://127.0.0.1:")
        child.stdin.close()
        assert child.wait(timeout=DEADLINE_S) == 0


@settings(deadline=None, max_examples=30)
@given(
    reward=st.floats(0.0, 1.0),
    prompt=st.floats(0.0, 300.0),
    completion=st.floats(0.0, 300.0),
    cv=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_drawn_outcomes_have_the_models_means(
    reward: float, prompt: float, completion: float, cv: float, seed: int
) -> None:
    """Over 4,096 calls, within six standard errors."""
    model = SimulatedModel(
        name="a", reward_mean=reward, prompt_tokens=prompt, completion_tokens=completion, tokens_cv=cv
    )
    draws = OutcomeDraws(model, seed=seed)
    outcomes = [draws.next() for _ in range(4096)]
    error = 6 / 64
    assert abs(np.mean([o.reward for o in outcomes]) - reward) <= error * 0.5
    spread = cv * (prompt + completion) + 1.0
    assert abs(np.mean([o.cost_usd for o in outcomes]) - model.mean_cost_usd) <= error * spread * 1e-6
    assert all(o.cost_usd == o.prompt_tokens * 1e-6 + o.completion_tokens * 1e-6 for o in outcomes)


def test_a_model_survives_the_way_through_json() -> None:
    for model in MODELS:
        again = SimulatedModel.from_json(json.loads(json.dumps(model.to_json())))
        assert again.to_json() == model.to_json()
    with pytest.raises(SettingsError, match="no field colour"):
        SimulatedModel.from_json({"name": "a", "colour": "red"})
    with pytest.raises(SettingsError, match="three columns of one length"):
        Recording(
            rewards=np.ones(2), prompt_tokens=np.ones(1, dtype=int), completion_tokens=np.ones(2, dtype=int)
        )
