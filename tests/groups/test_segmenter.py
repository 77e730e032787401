"""A process collects numbers, fits once they are enough, and takes over what was stored first."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from stageroute_router.core.segments.clusters import Segmenter, fit_segmenter
from stageroute_router.core.segments.features import BYTES, Featuriser, byte_features
from stageroute_router.errors import SettingsError
from stageroute_router.groups import segmenter as segmenter_module
from stageroute_router.groups.segmenter import MOST_TEXTS, RecentTexts, Segmenting, embedding_featuriser

TEXTS = ["Why?", "Write a long story about a fox and a crow.", "x = [1, 2, 3]", "ЧТО ЭТО?"]


def full(**options: Any) -> Segmenting:
    """Return one that has all the calls it wants."""
    made = Segmenting(**{"calls": 40, "segments": 4, **options})
    assert {made.segment(TEXTS[call % len(TEXTS)]) for call in range(40)} == {""}
    return made


def fitted(made: Segmenting) -> Segmenter:
    found = made.fit()
    assert found is not None
    return found


def embedder(vector: Any = (1.0, 2.0), *, name: str = "embedding-a") -> Featuriser:
    return Featuriser(name=name, vector=lambda _: vector)


def test_calls_have_no_segment_until_one_is_adopted() -> None:
    made = Segmenting(calls=40, segments=4)
    for call in range(40):
        assert not made.is_due
        assert made.fit() is None
        assert made.collected == call
        assert made.segment(TEXTS[call % len(TEXTS)]) == ""
    assert made.is_due
    found = fitted(made)
    assert made.segment(TEXTS[0]) == ""  # it may not be the one that is stored
    assert made.adopt(found)
    assert (made.segmenter, made.collected, made.is_due, made.fit()) == (found, 0, False, None)
    assert {made.segment(text) for text in TEXTS} == set(found.segments)
    assert len(found.segments) == 4
    assert made.segment(TEXTS[1]) == found.segment(TEXTS[1])


def test_the_fit_is_that_of_the_first_calls() -> None:
    made = full()
    for _ in range(100):
        assert made.segment("more than were wanted") == ""
    assert made.collected == 40
    rows = [byte_features(TEXTS[call % len(TEXTS)]) for call in range(40)]
    assert fitted(made) == fit_segmenter(rows, segments=4)
    assert made.failures == 0


def test_a_store_that_failed_can_be_tried_again() -> None:
    made = full()
    assert fitted(made) == fitted(made)


def test_nothing_of_a_text_is_kept() -> None:
    made = full()
    for slot in vars(made).values():
        assert not any(text in repr(slot) for text in TEXTS)
    assert not any(text in fitted(made).to_json() for text in TEXTS)


def test_all_workers_use_the_first_one_stored() -> None:
    """Two workers with calls of their own fit different ones; both go by the one that the database has."""
    one, other = full(), full(segments=2)
    stored = fitted(one)
    late = fitted(other)
    assert late != stored
    assert late.version == stored.version == 1
    assert one.adopt(stored)
    assert other.adopt(stored)
    assert not other.adopt(late)
    assert [one.segment(text) for text in TEXTS] == [other.segment(text) for text in TEXTS]


def test_a_later_version_replaces_an_earlier_one() -> None:
    made = full()
    first = fitted(made)
    second = fit_segmenter([byte_features(text) for text in TEXTS * 5], segments=4, version=2)
    assert made.adopt(first)
    assert made.adopt(second)
    assert not made.adopt(first)
    assert made.segment(TEXTS[0]).startswith("auto:2:")


def test_one_that_is_stored_already_needs_no_calls() -> None:
    stored = fitted(full())
    made = Segmenting()
    assert made.adopt(Segmenter.from_json(stored.to_json()))
    assert made.segment(TEXTS[0]) == stored.segment(TEXTS[0])


def test_a_segmenter_of_another_featuriser_stays_and_ours_is_the_next_version() -> None:
    theirs = fitted(full())
    made = full(featuriser=embedder())
    assert not made.adopt(theirs)
    assert made.segmenter is None
    ours = fitted(made)
    assert (ours.version, ours.featuriser) == (2, "embedding-a")
    assert made.adopt(ours)
    assert made.segment("anything") == "auto:2:0"
    assert made.segment_of((1.0, 2.0)) == "auto:2:0"


def test_a_stored_segmenter_of_the_wrong_width_is_refused() -> None:
    broken = Segmenter(
        featuriser=BYTES.name, version=3, calls=9, mean=(0.0,), scale=(1.0,), centroids=((0.0,),)
    )
    made = Segmenting()
    with pytest.raises(ValueError, match="version 3 has 1 numbers a call, and featuriser 'bytes-1' gives 18"):
        made.adopt(broken)
    assert made.segmenter is None
    assert made.segment(TEXTS[0]) == ""


# --- numbers that are asked for, as embeddings are ----------------------------------------------------------


def asked(**options: Any) -> Segmenting:
    return Segmenting(
        **{"featuriser": embedding_featuriser("m"), "calls": 40, "segments": 4, **options},
    )


def test_a_text_is_asked_for_once_and_fitted_on_once() -> None:
    """So that no centroid is one text's numbers, however often it was sent."""
    made = asked()
    for call in range(40):
        assert not made.is_due
        text = f"text {call % 25}"
        known = made.known(text)
        assert known == (None if call < 25 else "")
        if known is None:
            assert made.segment_of([float(call % 5), 1.0], text=text) == ""
    assert made.is_due
    assert made.collected == 25
    assert made.known("one more would be thrown away") == ""
    found = fitted(made)
    assert (found.calls, found.featuriser) == (25, "embedding-1:m")
    assert made.adopt(found)
    assert made.known("text 0") is None, "it had no segment then"
    segment = made.segment_of([0.0, 1.0], text="text 0")
    assert segment.startswith("auto:1:")
    assert made.known("text 0") == segment


def test_texts_asked_for_at_once_are_fitted_on_once() -> None:
    made = asked()
    assert [made.known("twice") for _ in range(2)] == [None, None]
    assert [made.segment_of([1.0], text="twice") for _ in range(2)] == ["", ""]
    assert made.collected == 1


def test_few_texts_are_waited_for_until_there_are_some() -> None:
    made = asked()
    for call in range(500):
        text = f"text {call % 19}"
        if made.known(text) is None:
            made.segment_of([float(call)], text=text)
    assert not made.is_due
    made.segment_of([1.0], text="the twentieth")
    assert made.is_due


def test_a_text_whose_numbers_could_not_be_used_is_asked_for_again() -> None:
    made = asked()
    assert made.segment_of([float("nan")], text="a text") == ""
    assert made.known("a text") is None


def test_a_later_version_forgets_what_texts_were() -> None:
    made = asked()
    for version, text in ((1, "one"), (2, "two")):
        rows = [[float(number)] for number in range(20)]
        assert made.adopt(fit_segmenter(rows, segments=2, featuriser="embedding-1:m", version=version))
        assert made.known("one") is None
        made.segment_of([1.0], text=text)


def test_an_embedding_cannot_be_had_from_its_featuriser() -> None:
    made = asked()
    assert made.segment("a secret") == ""
    assert made.last_failure == "featuriser 'embedding-1:m' raised TypeError"


def test_the_texts_of_the_last_calls_are_remembered_by_digest_only() -> None:
    texts = RecentTexts()
    for number in range(MOST_TEXTS):
        texts.put(f"text {number}", "auto:1:0")
    assert texts.get("text 0") == "auto:1:0"
    texts.put("one more", "auto:1:1")
    assert texts.get("text 1") is None
    assert [texts.get("text 0"), texts.get("one more"), texts.get("half \ud83d")] == [
        "auto:1:0",
        "auto:1:1",
        None,
    ]
    assert "text 5" not in repr(vars(texts))
    other = RecentTexts()
    other.put("text 5", "")
    assert not other._segments.keys() & texts._segments.keys(), "digests are keyed by process"


# --- calls without usable numbers ----------------------------------------------------------------------------


def _raise(text: str) -> list[float]:
    raise TimeoutError(text)


@pytest.mark.parametrize(
    ("featuriser", "why"),
    [
        (Featuriser(name="own", vector=_raise), "featuriser 'own' raised TimeoutError"),
        (embedder(None), "a call must have a sequence of numbers, not NoneType"),
        (embedder([]), "a call must have finite numbers of at most 1e+100, and at least one"),
        (embedder([float("nan")]), "a call must have finite numbers of at most 1e+100, and at least one"),
        (embedder([[1.0]]), "a call must have a sequence of numbers, not list"),
    ],
)
def test_a_featuriser_that_fails_costs_a_call_its_segment_only(featuriser: Featuriser, why: str) -> None:
    made = Segmenting(featuriser=featuriser)
    assert (made.failures, made.last_failure) == (0, None)
    for call in range(3):
        assert made.segment("a secret") == ""
        assert (made.failures, made.last_failure) == (call + 1, why)
    assert made.collected == 0


def test_numbers_that_are_more_or_fewer_than_before_are_not_collected() -> None:
    made = Segmenting(featuriser=embedder())
    made.segment_of([1.0, 2.0])
    assert made.segment_of([1.0, 2.0, 3.0]) == ""
    assert made.collected == 1
    assert made.last_failure == "a call has 3 numbers, and those before have 2"


def test_once_adopted_numbers_that_do_not_fit_have_no_segment() -> None:
    made = full(featuriser=embedder())
    made.adopt(fitted(made))
    assert made.segment_of([1.0]) == ""
    assert made.last_failure == "segmenter: a call must have 2 numbers, not 1"


def test_numbers_that_change_afterwards_were_copied() -> None:
    vector = np.array([1.0, 2.0])
    made = full(featuriser=embedder(vector))
    vector[:] = 7.0
    assert fitted(made).mean == (1.0, 2.0)


def test_calls_beyond_those_wanted_are_not_embedded() -> None:
    """An embedding may cost money; these would be thrown away."""
    asked: list[str] = []

    def vector(text: str) -> list[float]:
        asked.append(text)
        return [1.0, 2.0]

    made = full(featuriser=Featuriser(name="own", vector=vector))
    made.segment("one more")
    assert len(asked) == 40


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"segments": 0}, "segments must be a whole number from 1 to 64, not 0"),
        ({"segments": 65}, "segments must be a whole number from 1 to 64, not 65"),
        ({"segments": True}, "segments must be a whole number"),
        ({"calls": 19}, "calls must be a whole number from 20 to 10,000, not 19"),
        ({"calls": 10_001}, "calls must be a whole number from 20 to 10,000, not 10001"),
        ({"calls": 500.0}, "calls must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"featuriser": embedder(name="bytes-1")}, "'bytes-1' is the name of the built-in one"),
    ],
)
def test_options_out_of_bounds_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        Segmenting(**options)


# --- threads and forks ---------------------------------------------------------------------------------------


def test_threads_lose_no_call_and_fit_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Segmenting(calls=400, segments=4)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(made.segment, TEXTS * 99)) == {""}
        assert made.collected == 396
        assert set(pool.map(made.segment, TEXTS * 20)) == {""}
        assert made.collected == 400

        entered, go_on = threading.Event(), threading.Event()

        def slowly(*arguments: Any, **options: Any) -> Segmenter:
            entered.set()
            assert go_on.wait(30)
            return fit_segmenter(*arguments, **options)

        monkeypatch.setattr(segmenter_module, "fit_segmenter", slowly)
        first = pool.submit(made.fit)
        assert entered.wait(30)
        assert [made.fit() for _ in range(3)] == [None] * 3  # another thread is at it
        assert made.segment(TEXTS[0]) == ""  # and calls do not wait for it
        go_on.set()
        found = first.result()
    assert found is not None
    assert made.adopt(found)


def test_threads_that_adopt_agree() -> None:
    rows = [byte_features(text) for text in TEXTS * 5]
    versions = [fit_segmenter(rows, segments=4, version=version) for version in range(1, 9)]
    made = full()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(made.adopt, versions * 5))
    assert made.segmenter == versions[-1]


def test_a_fit_that_fails_can_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = full()
    with monkeypatch.context() as patch:
        patch.setattr(segmenter_module, "fit_segmenter", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made.fit()
    assert fitted(made).version == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the parent's threads are at: one fits, one has the lock now and then."""
    made = full()
    entered, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def slowly(*arguments: Any, **options: Any) -> Segmenter:
        entered.set()
        assert go_on.wait(30)
        return fit_segmenter(*arguments, **options)

    def call_on() -> None:
        while not over.is_set():
            made.segment_of([1.0])  # refused, and counted under the lock

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(segmenter_module, "fit_segmenter", slowly)
        parents = pool.submit(made.fit)
        busy = pool.submit(call_on)
        assert entered.wait(30)
        patch.undo()
        children = [_forked(made) for _ in range(5)]
        over.set()
        go_on.set()
        busy.result()
        found = parents.result()
    assert found is not None
    assert children == [found.to_json()] * 5
    assert made.adopt(found)


def _forked(made: Segmenting) -> str:
    """Return what a forked child fits, adopts and goes by; '' if it could not."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            found = made.fit()
            good = (
                found is not None and made.adopt(found) and made.segment(TEXTS[0]) == found.segment(TEXTS[0])
            )
            os.write(write, found.to_json().encode() if good and found is not None else b"")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return told
