"""Where the segment of a call comes from: with LiteLLM's real router, for each way to say it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from stageroute_router.errors import SettingsError
from stageroute_router.hook.calls.request import ORIGIN_KEY, Origin
from stageroute_router.hook.segments.sources import segment_sources
from stageroute_router.settings.parsing import parse_groups
from tests.support.routing import MESSAGES

CALLS = ("completion", "acompletion", "aembedding", "atext_completion", "aresponses")


def sql(**more: object) -> dict[str, Any]:
    """Return metadata that says so; LiteLLM writes into what it is given."""
    return {"stageroute": {"segment": "sql"}, **more}


@pytest.fixture
def ask(routed: Callable[..., Any], entry: Callable[..., Any]) -> Callable[..., Any]:
    """Make a router whose calls have segments; return a function that makes one and returns its segment."""

    def make(segments: Mapping[str, object] | None, **options: Any) -> Callable[..., str]:
        made = routed([entry("one"), entry("two", "openai/gpt-4o")], segments=segments, **options)

        def call(**given: Any) -> str:
            made.router.completion(model="chat", **{"messages": MESSAGES, **given})
            return str(made.routing.segments[-1])

        call.routed = made  # type: ignore[attr-defined]
        return call

    return make


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    logging.disable(logging.NOTSET)
    with caplog.at_level(logging.WARNING, logger="stageroute_router"):
        yield lambda: [one.getMessage() for one in caplog.records if "of group" in one.getMessage()]


async def _make(router: Any, kind: str, **given: Any) -> None:
    asked = {
        "aembedding": {"input": ["hello"]},
        "atext_completion": {"prompt": "hello"},
        "aresponses": {"input": "hello"},
    }.get(kind, {"messages": MESSAGES})
    made = getattr(router, kind)(model="chat", **asked, **given)
    if kind.startswith("a"):
        await made


@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
@pytest.mark.parametrize("kind", CALLS)
async def test_a_label_is_found_wherever_litellm_lets_it_be(
    ask: Callable[..., Any], kind: str, place: str
) -> None:
    call = ask({"by": "label"})
    metadata = sql(mine="1")
    await _make(call.routed.router, kind, **{place: metadata})
    assert call.routed.routing.segments[0] == "sql"
    assert metadata["stageroute"] == {"segment": "sql"}


def test_an_application_may_use_its_metadata_again(ask: Callable[..., Any]) -> None:
    call = ask({"by": "label"})
    metadata = sql()
    assert call(metadata=metadata) == "sql"
    assert metadata["stageroute"] == {"segment": "sql"}
    metadata["stageroute"]["segment"] = "prose"
    assert call(metadata=metadata) == "prose"


def test_retries_and_fallbacks_are_in_the_segment_of_their_call(
    routed: Callable[..., Any], entry: Callable[..., Any]
) -> None:
    failing = entry("one", answer=Exception("down"), group="broken")
    made = routed(
        [failing, entry("two")],
        groups=("chat", "broken"),
        segments={"by": "label"},
        num_retries=2,
        fallbacks=[{"broken": ["chat"]}],
    )
    made.router.completion(model="broken", messages=MESSAGES, metadata=sql())
    assert len(made.routing.segments) >= 2
    assert set(made.routing.segments) == {"sql"}


@pytest.mark.parametrize("segments", [None, {"by": "tag"}, {"by": "label", "names": ["prose"]}])
def test_a_label_that_is_not_asked_for_counts_nowhere(
    ask: Callable[..., Any], segments: Mapping[str, object] | None, logged: Callable[[], list[str]]
) -> None:
    assert ask(segments)(metadata=sql()) == ""
    assert logged() == []


@pytest.mark.parametrize(
    "label", [7, ["sql"], {"a": 1}, "x" * 65, "two\nlines", "\x00", "\ud800", "auto:1:3", True]
)
def test_a_label_that_is_no_name_is_counted_and_never_shown(
    ask: Callable[..., Any], label: object, logged: Callable[[], list[str]]
) -> None:
    call = ask({"by": "label"})
    for _ in range(3):
        assert call(metadata={"stageroute": {"segment": label}}) == ""
    assert call.routed.control.strategy.counters.read().misnamed == {"chat": 3}
    (line,) = logged()
    assert "the label" in line
    assert str(label) not in line.replace("'auto:'", "")


@pytest.mark.parametrize(
    "given", [None, {}, {"stageroute": None}, {"stageroute": {}}, {"stageroute": {"segment": ""}}]
)
def test_no_label_is_no_segment_and_no_mistake(
    ask: Callable[..., Any], given: dict[str, Any] | None, logged: Callable[[], list[str]]
) -> None:
    assert ask({"by": "label"})(**({} if given is None else {"metadata": given})) == ""
    assert logged() == []


def test_a_label_in_the_wrong_place_is_told_of(
    ask: Callable[..., Any], logged: Callable[[], list[str]]
) -> None:
    assert ask({"by": "label"})(metadata={"stageroute": "sql"}) == ""
    (line,) = logged()
    assert '{"segment": "sql"}' in line


def test_names_that_people_use_are_names(ask: Callable[..., Any]) -> None:
    call = ask({"by": "label"})
    for label in ("sql", "Verträge, 2. Instanz", "a/b:c", "x" * 64, "日本"):
        assert call(metadata={"stageroute": {"segment": label}}) == label


@pytest.mark.parametrize(
    ("names", "tags", "segment"),
    [
        ([], ["sql", "gold"], "sql"),
        (["gold", "silver"], ["sql", "gold"], "gold"),
        (["gold"], ["sql"], ""),
        ([], [], ""),
        (["gold"], [7, "gold"], "gold"),
    ],
)
def test_a_tag_is_a_segment(ask: Callable[..., Any], names: list[str], tags: list[Any], segment: str) -> None:
    call = ask({"by": "tag", "names": names} if names else {"by": "tag"})
    assert call(metadata={"tags": tags}) == segment


@pytest.mark.parametrize(
    ("by", "metadata", "segment"),
    [
        ("key", {ORIGIN_KEY: Origin(caller="0123456789abcdef", alias="billing")}, "billing"),
        ("key", {ORIGIN_KEY: Origin(caller="0123456789abcdef")}, "0123456789abcdef"),
        ("key", {ORIGIN_KEY: Origin(caller="0123456789abcdef", alias="x" * 65)}, "0123456789abcdef"),
        (
            "key",
            {ORIGIN_KEY: Origin(caller="0123456789abcdef"), "user_api_key_alias": "forged"},
            "0123456789abcdef",
        ),
        ("key", {"user_api_key_alias": "billing", "user_api_key_hash": "ab"}, "billing"),
        ("key", {"user_api_key_hash": "ab"}, ""),
        ("team", {ORIGIN_KEY: Origin(teams=("red", "t1"))}, "red"),
        ("team", {ORIGIN_KEY: Origin(teams=("t1",)), "user_api_key_team_alias": "forged"}, "t1"),
        ("team", {"user_api_key_team_alias": None, "user_api_key_team_id": "t1"}, "t1"),
        ("team", {}, ""),
    ],
)
def test_a_key_or_its_team_is_a_segment_by_a_name_that_is_no_secret(
    ask: Callable[..., Any], by: str, metadata: dict[str, Any], segment: str
) -> None:
    assert ask({"by": by})(metadata=metadata) == segment


def by_length(asked: dict[str, Any]) -> str | None:
    """Return a segment by what a call is about; the documentation names this function by its place."""
    return "long" if len(str(asked["messages"])) > 200 else None


async def not_now(asked: dict[str, Any]) -> str:
    return ""


class Router:
    """An application's own way, with a state."""

    def __call__(self, asked: dict[str, Any]) -> str:
        asked["messages"] = "a function's own copy"
        return str(asked["model"]) + "/" + str(asked["user"])


def test_a_function_is_given_the_request_and_cannot_change_it(ask: Callable[..., Any]) -> None:
    call = ask({"by": by_length})
    assert call() == ""
    call.routed.router.completion(model="chat", messages=[{"role": "user", "content": "x" * 300}])
    assert call.routed.routing.segments[-1] == "long"
    assert ask({"by": f"{__name__}:by_length"})() == ""
    assert ask({"by": Router()})(user="ann") == "chat/ann"


def test_what_a_function_raises_is_an_error_inside_and_the_call_goes_on(ask: Callable[..., Any]) -> None:
    def wrong(_asked: dict[str, Any]) -> str:
        raise LookupError("not there")

    call = ask({"by": wrong})
    call.routed.routing.expected_errors = True
    assert call() == ""
    assert [type(error) for error in call.routed.routing.errors] == [LookupError]


def test_what_a_function_returns_is_checked(ask: Callable[..., Any], logged: Callable[[], list[str]]) -> None:
    assert ask({"by": lambda _asked: 7})() == ""
    assert "what the function returned" in logged()[0]


@pytest.mark.parametrize(
    ("by", "problem"),
    [
        ("no_such_module_at_all:f", "cannot be imported"),
        (f"{__name__}:no_such_function", "cannot be imported"),
        (f"{__name__}:CALLS", "it is a tuple; it has to be a plain function"),
        (f"{__name__}:not_now", "it is an async function"),
    ],
)
def test_a_source_that_cannot_be_used_is_named_at_the_start(by: str, problem: str) -> None:
    groups = parse_groups({"chat": {"budget_usd_per_call": 1, "segments": {"by": by}}})
    with pytest.raises(SettingsError, match=rf"stageroute\['chat'\]\.segments\.by = '{by}': .*{problem}"):
        segment_sources(groups)


def test_what_is_said_to_us_is_not_sent_to_a_provider(ask: Callable[..., Any]) -> None:
    """Where LiteLLM keeps its notes apart, ``metadata`` is sent; OpenAI refuses a mapping in it."""
    strategy = ask({"by": "label"}).routed.control.strategy
    for mine in ({"mine": "1"}, {}):
        metadata = sql(**mine)
        request = {"metadata": metadata, "litellm_metadata": {}}
        strategy.get_available_deployment("chat", request_kwargs=request)
        assert request["metadata"] == (mine or None)
        assert request["litellm_metadata"]["stageroute"] == {"segment": "sql"}
        assert metadata == sql(**mine), "it is the application's"


async def test_automatic_segments_are_found_by_what_is_asked(ask: Callable[..., Any]) -> None:
    call = ask({"by": "auto"})
    assert (
        call(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "four"}])
        == "auto:1:4"
    )
    routed = call.routed
    for kind in CALLS:
        await _make(routed.router, kind)
    assert all(routed.routing.texts)
    assert len(routed.routing.texts) == 1 + len(CALLS)


def test_a_price_is_taken_from_what_the_application_says(
    ask: Callable[..., Any], logged: Callable[[], list[str]]
) -> None:
    call = ask(None)
    for price in (0, 50, 12.5):
        call(metadata={"stageroute": {"price": price}})
    call()
    assert call.routed.routing.prices == [0.0, 50.0, 12.5, None]
    assert logged() == []


@pytest.mark.parametrize("price", [-1, float("nan"), float("inf"), "50", True, [1]])
def test_a_price_that_is_none_leaves_the_call_to_the_budget(
    ask: Callable[..., Any], price: object, logged: Callable[[], list[str]]
) -> None:
    call = ask(None)
    for _ in range(2):
        call(metadata={"stageroute": {"price": price}})
    assert call.routed.routing.prices == [None, None]
    (line,) = logged()
    assert "'price'" in line
    assert "are left to the budget" in line
