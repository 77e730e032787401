"""Any text has 18 numbers, which depend on what they say they do; any request is looked through for its text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stageroute_router.core.segments.features import (
    BYTES,
    FEATURE_NAMES,
    LONGEST,
    READ_BYTES,
    Featuriser,
    asked_text,
    byte_features,
    check_name,
)

# Lone surrogates too: json.loads makes them.
any_text = st.text(st.characters(exclude_categories=()), max_size=200)


def named(text: str) -> dict[str, float]:
    return dict(zip(FEATURE_NAMES, byte_features(text).tolist(), strict=True))


@given(text=any_text, times=st.sampled_from([1, 3, 500]))
@example(text="", times=1)
@example(text="\ud800", times=500)
@example(text="\x00", times=1)
def test_any_text_has_numbers_within_bounds(text: str, times: int) -> None:
    numbers = byte_features(text * times)
    assert numbers.shape == (len(FEATURE_NAMES),) == (BYTES.size,)
    assert numbers[0] == math.log1p(len(text) * times)
    assert ((numbers[1:] >= 0) & (numbers[1:] <= 1)).all()
    assert numbers[1:-2].sum() <= 1 + 1e-12
    assert np.array_equal(numbers, byte_features(text * times))


@given(data=st.data(), text=st.text(st.characters(exclude_categories=()), min_size=1, max_size=60))
def test_shares_do_not_depend_on_the_order_of_characters(data: st.DataObject, text: str) -> None:
    moved = "".join(data.draw(st.permutations(text)))
    assert np.array_equal(byte_features(moved)[:-2], byte_features(text)[:-2])


@given(text=st.text(st.characters(exclude_categories=()), min_size=1, max_size=60), times=st.integers(1, 5))
def test_shares_do_not_depend_on_how_often_a_text_is_repeated(text: str, times: int) -> None:
    assert byte_features(text * times)[1:-2] == pytest.approx(byte_features(text)[1:-2], abs=1e-12)


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("aB3 ", {"lower-case letters": 0.25, "upper-case letters": 0.25, "digits": 0.25, "spaces": 0.25}),
        ("a\n\r\n", {"lower-case letters": 0.25, "line breaks": 0.75}),
        (".,;'", {"ends of sentences": 0.25, "pauses": 0.5, "quotation marks": 0.25}),
        ("([<_", {"round brackets": 0.25, "other brackets": 0.25, "operators": 0.25, "signs of code": 0.25}),
        ("жж", {"letters of two bytes": 0.5, "continuing bytes": 0.5}),
        (
            "汉a",
            {"characters of three bytes or more": 0.25, "continuing bytes": 0.5, "lower-case letters": 0.25},
        ),
        ("😀", {"characters of three bytes or more": 0.25, "continuing bytes": 0.75}),
        (
            "\ud800a",  # half a pair
            {
                "characters of three bytes or more": 0.25,
                "continuing bytes": 0.5,
                "lower-case letters": 0.25,
            },
        ),
        ("\t\x00", {}),
    ],
)
def test_each_byte_is_of_its_kind(text: str, shares: dict[str, float]) -> None:
    found = {
        name.removeprefix("share of "): value for name, value in named(text).items() if name[:5] == "share"
    }
    assert {kind: share for kind, share in found.items() if share} == shares


@pytest.mark.parametrize(
    ("text", "asks", "fenced"),
    [
        ("Is it?", 1, 0),
        ("Is it? \n", 1, 0),
        ("Is it? No", 0, 0),
        ("```\ncode\n```", 0, 1),
        ("", 0, 0),
        ("x" * 10_000 + "?", 1, 0),
        ("?" + " " * 10_000, 0, 0),
        ("x" * READ_BYTES + "```", 0, 0),
    ],
)
def test_marks(text: str, asks: int, fenced: int) -> None:
    assert (named(text)["ends in a question mark"], named(text)["has a code fence"]) == (asks, fenced)


@pytest.mark.parametrize("read", ["x" * READ_BYTES, "汉" * (READ_BYTES // 3 + 1), "é" * READ_BYTES])
def test_only_the_beginning_is_read(read: str) -> None:
    """A long text's bytes beyond the first ones count for its length only, and for the mark at its end."""
    numbers = byte_features(read + "(9)")
    assert np.array_equal(numbers, byte_features(read + "ABC"))
    assert np.array_equal(numbers[1:], byte_features(read + "ABCD")[1:])
    assert not np.array_equal(numbers, byte_features("(9)" + read))


def test_longest_texts_are_of_one_length() -> None:
    assert named("a" * LONGEST) == named("a" * (LONGEST + 1))
    assert named("a" * (LONGEST - 1)) != named("a" * LONGEST)


def test_numbers_of_this_version_stay_what_they_are() -> None:
    """Stored segmenters were fitted on them: who changes them gives the featuriser another name."""
    assert BYTES.name == "bytes-1"
    text = "Schreib' mir 3 Zeilen über `x = [1, 2]`:\n```python\nprint(x)\n```\nGeht das?"
    counts = [36, 3, 3, 9, 4, 1, 2, 9, 2, 2, 1, 0, 1, 1, 0]
    numbers = [math.log1p(len(text)), *(count / len(text.encode()) for count in counts), 1.0, 1.0]
    assert byte_features(text) == pytest.approx(numbers)


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "é", None, 3, "line\n"])
def test_a_name_that_cannot_be_used_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="1 to 64 printable ASCII characters without spaces, not"):
        check_name(name)
    with pytest.raises(ValueError, match="featuriser's name"):
        Featuriser(name=name, vector=byte_features)


# --- which text ----------------------------------------------------------------------------------------------


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("request_of", "text"),
    [
        ({"messages": [user("one"), {"role": "assistant", "content": "two"}, user("three")]}, "three"),
        ({"messages": ({"role": "system", "content": "s"}, user("one"))}, "one"),
        ({"messages": [user("task"), {"role": "tool", "content": "a long result"}]}, "task"),
        ({"messages": [user("task"), user([{"type": "tool_result", "content": "r"}])]}, "task"),
        (
            {"messages": [{"role": "system", "content": "only"}, {"role": "assistant", "content": None}]},
            "only",
        ),
        ({"messages": [user([{"type": "text", "text": "a"}, {"type": "image_url"}])]}, "a"),
        (
            {"messages": [user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "c"])]},
            "a\nb\nc",
        ),
        ({"messages": [user({"type": "text", "text": "a"})]}, "a"),
        ({"messages": [user([{"type": "input_image"}])], "prompt": "p"}, "p"),
        ({"messages": "hello"}, "hello"),
        ({"prompt": "p"}, "p"),
        ({"prompt": ["p", "q"]}, "p\nq"),
        ({"prompt": [1, 2]}, ""),
        ({"prompt": [[1, 2], [3]]}, ""),
        ({"input": "i"}, "i"),
        ({"input": ["i", "j"]}, "i\nj"),
        ({"input": [user([{"type": "input_text", "text": "i"}]), {"type": "function_call"}]}, "i"),
        ({"input": [{"type": "input_text", "text": "i"}]}, "i"),
        ({}, ""),
        ({"messages": []}, ""),
        ({"messages": [user("")]}, ""),
    ],
)
def test_text_of_a_request(request_of: dict[str, Any], text: str) -> None:
    assert asked_text(**request_of) == text


def test_a_single_text_is_not_copied() -> None:
    long = "x" * 1000
    assert asked_text(messages=[user(long)]) is long
    assert asked_text(messages=[user([{"type": "text", "text": long}])]) is long


def test_no_more_than_the_longest_text_is_put_together() -> None:
    part = {"type": "text", "text": "x" * (LONGEST // 2)}
    assert len(asked_text(messages=[user([part] * 100)])) < 2 * LONGEST


class Hostile(dict[str, Any]):
    """Raises wherever it is asked."""

    def get(self, *_: Any) -> Any:
        raise RuntimeError

    def __eq__(self, _: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


garbage = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.integers()
    | any_text
    | st.binary()
    | st.builds(Hostile)
    | st.just(np.array([1, 2])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["role", "content", "text", "type"]), inner, max_size=4)
        | inner.map(lambda content: {"role": "user", "content": content})
    ),
    max_leaves=12,
)


@given(messages=garbage, prompt=garbage, given_input=garbage)
def test_whatever_is_given_is_looked_through(messages: Any, prompt: Any, given_input: Any) -> None:
    text = asked_text(messages=messages, prompt=prompt, input=given_input)
    assert isinstance(text, str)
    assert np.isfinite(byte_features(text)).all()
