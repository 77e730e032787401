"""Segments by a model of the router that embeds: through LiteLLM's real router, from a provider that embeds words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import litellm
import pytest

from stageroute_router import StageRouteRouter, attach
from stageroute_router.errors import SettingsError
from stageroute_router.hook.segments import embedding as embedding_module
from stageroute_router.hook.segments.embedding import (
    EMBEDDING_CALL_KEY,
    READ_CHARACTERS,
    Embedder,
    Embedding,
    is_asking,
)
from stageroute_router.settings.parsing import parse_groups
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel
from tests.support.topics import COOK, QUERY, SIZE, store_segmenter

FAILING, HANGING, ODD = "failing", "hanging", "odd"
EMBEDDERS = ("embedder", FAILING, HANGING, ODD)


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    models = [
        SimulatedModel(name="one", answer="hi"),
        SimulatedModel(name="two", answer="hi"),
        SimulatedModel(name="embedder", embedding_size=SIZE, input_usd_per_token=1.0),
        SimulatedModel(name=FAILING, error_rate=1.0, error_status=400),  # which LiteLLM does not try again
        SimulatedModel(name=HANGING, hang_rate=1.0),
        SimulatedModel(name=ODD, embedding_size=7),
    ]
    with SimulatedProvider(models) as started:
        yield started


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the segmenter of each group, as earlier calls have left it: one segment for each topic."""
    url = f"sqlite:///{tmp_path_factory.mktemp('embedding')}/stageroute.db"
    for model in EMBEDDERS:
        store_segmenter(url, group=f"by-{model}", model=model)
    return url


@pytest.fixture(scope="module")
def router(provider: SimulatedProvider, database: str) -> Iterator[Any]:
    """A router with a group whose texts are embedded, and one for each way in which that fails."""
    models = [provider.deployment(name, name) for name in EMBEDDERS]
    settings = {}
    for name in EMBEDDERS:
        models += provider.model_list(f"by-{name}", ["one", "two"])
        settings[f"by-{name}"] = {
            "budget_usd_per_call": 0.01,
            "segments": {
                "by": "auto",
                "embedding": name,
                "embedding_deadline": 0.2 if name == HANGING else 20,
            },
        }
    made = StageRouteRouter(model_list=models, stageroute=settings, database_url=database, num_retries=0)
    with made.stageroute:
        yield made


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logging.disable(logging.NOTSET)
    with caplog.at_level(logging.WARNING, logger="stageroute_router"):
        yield caplog


async def call(router: Any, text: str, kind: str = "acompletion", *, group: str = "by-embedder") -> str:
    """Make a call about a text; return its segment."""
    kind, _, stream = kind.partition(" ")
    asked = {"atext_completion": {"prompt": text}, "aresponses": {"input": text}}.get(
        kind, {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]}
    )
    response = getattr(router, kind)(model=group, **asked, **({"stream": True} if stream else {}))
    if kind.startswith("a"):
        response = await response
    if stream:
        assert [chunk async for chunk in response] if kind.startswith("a") else list(response)
    receipt = router.stageroute.receipt(response)
    assert receipt is not None
    return str(receipt.segment)


KINDS = (
    "completion",
    "completion stream",
    "acompletion",
    "acompletion stream",
    "atext_completion",
    "aresponses",
)


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_are_told_apart_by_what_they_mean(router: Any, kind: str) -> None:
    found: dict[Callable[[str], str], set[str]] = {COOK: set(), QUERY: set()}
    for topic, segments in found.items():
        for words in ("onions", "carrots"):
            segments.add(await call(router, topic(f"{words} {kind}"), kind))
    assert sorted(len(segments) for segments in found.values()) == [1, 1]
    assert found[COOK] | found[QUERY] == {"auto:1:0", "auto:1:1"}


async def test_a_text_is_embedded_once_and_only_its_beginning(
    router: Any, provider: SimulatedProvider
) -> None:
    asked = provider.counts("embedder")["requests"]
    text = COOK("garlic").ljust(READ_CHARACTERS)
    found = {await call(router, text, kind) for kind in ("completion", "acompletion", "acompletion")}
    assert await call(router, text + QUERY("everything") * 100) in found
    assert len(found) == 1
    assert provider.counts("embedder")["requests"] == asked + 1
    assert await call(router, "  ") == ""
    assert provider.counts("embedder")["requests"] == asked + 1


async def test_the_question_itself_is_neither_routed_nor_charged_nor_counted(
    router: Any, provider: SimulatedProvider
) -> None:
    """An embedding costs a million times what the calls cost here."""
    before = router.stageroute.status("by-embedder")
    left = dict(router.stageroute.strategy.counters.read().fallbacks)
    for kind in ("completion", "acompletion"):
        await call(router, COOK(f"leeks {kind}"), kind)
    after = router.stageroute.status("by-embedder")
    assert after.calls == before.calls + 2
    assert after.spend_usd - before.spend_usd < 0.1
    assert router.stageroute.strategy.counters.read().fallbacks == left
    assert router.stageroute.strategy.open_calls() <= 2
    assert after.warnings == ()


@pytest.mark.parametrize("kind", ["completion", "acompletion", "acompletion stream"])
@pytest.mark.parametrize(
    ("model", "why"),
    [
        (FAILING, "embedding model 'failing' failed with BadRequestError 400"),
        (HANGING, "embedding model 'hanging' did not answer within 0.2 s"),
        (ODD, "segmenter: a call must have 128 numbers, not 7"),
    ],
)
async def test_a_call_whose_embedding_fails_goes_on_without_a_segment(
    router: Any, model: str, why: str, kind: str
) -> None:
    assert await call(router, f"{kind} about a secret", kind, group=f"by-{model}") == ""
    status = router.stageroute.status(f"by-{model}")
    assert any("went on without an automatic segment" in one and why in one for one in status.warnings)


async def test_failures_are_logged_once_and_never_with_the_text(
    provider: SimulatedProvider, logged: pytest.LogCaptureFixture
) -> None:
    models = [provider.deployment(FAILING, FAILING), *provider.model_list("chat", ["one", "two"])]
    settings = {"chat": {"budget_usd_per_call": 0.01, "segments": {"by": "auto", "embedding": FAILING}}}
    made = StageRouteRouter(
        model_list=models,
        stageroute=settings,
        database_url="memory://",
        num_retries=0,
        disable_cooldowns=True,
    )
    asked = provider.counts(FAILING)["requests"]
    with made.stageroute:
        for number in range(8):
            assert await call(made, f"a secret {number}", group="chat") == ""
        (warning,) = made.stageroute.status("chat").warnings
    assert provider.counts(FAILING)["requests"] == asked + 5, "then it is given a rest"
    assert warning.startswith("8 calls went on")
    assert "is given a rest of 30 s" in warning
    (line,) = [one.getMessage() for one in logged.records if one.name == "stageroute_router"]
    assert "calls of group 'chat' go on without a segment, 1 so far" in line
    assert "secret" not in line + warning


@pytest.mark.parametrize(
    ("segments", "problem"),
    [
        ({"by": "label", "embedding": "embedder"}, '"embedding" belongs to by="auto"'),
        ({"by": "auto", "embedding_deadline": 1}, '"embedding_deadline" needs "embedding"'),
        ({"by": "auto", "embedding": "embedder", "embedding_deadline": 0}, "must be a time longer than 0"),
        ({"by": "auto", "embedding": ""}, "at least 1 character"),
        ({"by": "auto", "embedding": 7}, "valid string"),
        ({"by": "auto", "embedding": "embeder"}, "no deployment in model_list.*did you mean 'embedder'"),
        ({"by": "auto", "embedding": "chat"}, "embedding = 'chat': that is the group itself"),
        ({"by": "auto", "embedding": "other"}, "a group that StageRoute routes as well"),
    ],
)
def test_what_cannot_be_an_embedding_is_named_at_the_start(
    provider: SimulatedProvider, segments: dict[str, Any], problem: str
) -> None:
    models = [
        *provider.model_list("chat", ["one"]),
        *provider.model_list("other", ["one"]),
        provider.deployment("embedder", "embedder"),
    ]
    settings = {
        "chat": {"budget_usd_per_call": 1, "segments": segments},
        "other": {"budget_usd_per_call": 1},
    }
    with pytest.raises(SettingsError, match=rf"stageroute\['chat'\]\.segments.*{problem}"):
        attach(litellm.Router(model_list=models), stageroute=settings, database_url="memory://")


def test_a_model_may_be_one_of_a_pattern_and_is_waited_for_two_seconds() -> None:
    groups = parse_groups(
        {"chat": {"budget_usd_per_call": 1, "segments": {"by": "auto", "embedding": "openai/small"}}},
        known_groups={"chat", "openai/*"},
    )
    assert embedding_module.embeddings(groups) == {"chat": Embedding(model="openai/small", deadline_s=2.0)}


class Asked:
    """A router that is asked for an embedding, and the runtime behind."""

    def __init__(self, answer: Any = None, *, deadline_s: float = 20.0) -> None:
        self.answer = answer
        self.said: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.now = 0.0
        self.waiting = asyncio.Event()
        self.cancelled = False
        self.embedder = Embedder(
            self,
            self,  # type: ignore[arg-type]
            group="chat",
            embedding=Embedding(model="m", deadline_s=deadline_s),
            has_model=lambda name: name == "m",
            clock=lambda: self.now,
        )

    async def aembedding(self, **said: Any) -> Any:
        assert is_asking()
        self.said.append(said)
        if self.answer is not None:
            return self.answer
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise LookupError("not asyncio's own error") from None

    def known_segment(self, group: str, text: str) -> str | None:
        return None

    def segment_failed(self, group: str, why: str) -> None:
        self.failures.append(why)

    def segment_of_embedding(self, group: str, text: str, numbers: Any) -> str:
        return f"{group} {numbers}"


def answered(numbers: object) -> SimpleNamespace:
    return SimpleNamespace(data=[{"embedding": numbers}])


async def test_a_question_is_cancelled_with_its_call_and_at_the_deadline() -> None:
    asked = Asked()
    call = asyncio.create_task(asked.embedder.segment("a text"))
    await asked.waiting.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(0)
    assert asked.cancelled
    assert asked.failures == []
    late = Asked(deadline_s=0.01)
    assert await late.embedder.segment("a text") == ""
    await asyncio.sleep(0)
    assert late.cancelled
    assert late.failures == ["embedding model 'm' did not answer within 0.01 s"]


async def test_what_is_asked_says_whom_it_is_for_and_has_no_fallback() -> None:
    asked = Asked(answered([1.0]))
    assert await asked.embedder.segment("half a \ud83d character") == "chat [1.0]"
    (said,) = asked.said
    assert said == {
        "model": "m",
        "input": ["half a ? character"],
        "disable_fallbacks": True,
        "num_retries": 0,
        "metadata": {EMBEDDING_CALL_KEY: "chat"},
    }
    assert not is_asking()


@pytest.mark.parametrize("answer", ["", SimpleNamespace(data=[]), SimpleNamespace(data=None), object()])
async def test_an_answer_without_an_embedding_is_a_failure(answer: object) -> None:
    asked = Asked(answer)
    assert await asked.embedder.segment("a text") == ""
    assert asked.failures == ["embedding model 'm' answered without an embedding"]


async def test_after_a_rest_one_call_tries_again_and_its_success_ends_it() -> None:
    asked = Asked(object())

    async def made() -> int:
        before = len(asked.said)
        for _ in range(4):
            await asked.embedder.segment("a text")
        return len(asked.said) - before

    assert [await made(), await made()] == [4, 1]
    asked.now = 29.9
    assert await made() == 0
    asked.now = 30.0
    assert await made() == 1
    assert await made() == 0
    asked.now, asked.answer = 60.0, answered([1.0])
    assert await made() == 4
