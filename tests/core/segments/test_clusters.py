"""Segments are where k-means finds them, calls go to the nearest, and what is stored comes back as it was."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from stageroute_router.core.segments.clusters import (
    CLIP_SD,
    LEAST_MEMBERS,
    Segmenter,
    as_row,
    check_row,
    fit_segmenter,
)
from stageroute_router.core.segments.features import Featuriser

FloatArray = NDArray[np.float64]


def blobs(*, sizes: tuple[int, ...], seed: int = 0, spread: float = 0.05) -> tuple[FloatArray, list[int]]:
    """Return rows around well separated centres, shuffled, and each row's centre."""
    rng = np.random.default_rng(seed)
    centres = np.array([[np.cos(a), np.sin(a), a % 1.3] for a in range(len(sizes))]) * 10
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rng.shuffle(labels)
    return centres[labels] + spread * rng.standard_normal((len(labels), 3)), labels.tolist()


def standardised(rows: FloatArray, found: Segmenter) -> FloatArray:
    return np.clip((rows - np.array(found.mean)) / np.array(found.scale), -CLIP_SD, CLIP_SD)


def inertia(rows: FloatArray, centroids: FloatArray) -> float:
    return float((((rows[:, None] - centroids[None]) ** 2).sum(axis=2)).min(axis=1).sum())


def test_separated_clusters_are_found() -> None:
    rows, labels = blobs(sizes=(20, 30, 40, 50, 60))
    found = fit_segmenter(rows, segments=5)
    segments = [found.segment_of(row) for row in rows]
    assert len(set(zip(labels, segments, strict=True))) == len(set(segments)) == 5
    assert (found.calls, found.version, found.featuriser) == (200, 1, "bytes-1")


@pytest.mark.parametrize("seed", range(20))
def test_a_fit_of_few_rows_is_the_best_partition_there_is(seed: int) -> None:
    """Ten rows that fall apart into two fives: every partition into two is tried."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((10, 2)) + np.repeat([[0.0, 0.0], [6.0, 6.0]], 5, axis=0)
    found = fit_segmenter(rows, segments=2, seed=seed)
    scaled = standardised(rows, found)
    best = min(
        inertia(
            scaled, np.array([scaled[list(part)].mean(axis=0), np.delete(scaled, part, axis=0).mean(axis=0)])
        )
        for size in range(1, 6)
        for part in itertools.combinations(range(10), size)
    )
    assert len(found.centroids) == 2
    assert inertia(scaled, np.array(found.centroids)) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_fit_is_about_as_good_as_scipys_best_of_twenty(seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((300, 4))
    found = fit_segmenter(rows, segments=8, seed=seed)
    scaled = standardised(rows, found)
    rng = np.random.default_rng(seed)
    best = min(
        inertia(scaled, kmeans2(scaled, 8, iter=50, minit="++", missing="raise", seed=rng)[0])
        for _ in range(20)
    )
    assert len(found.centroids) == 8
    assert inertia(scaled, np.array(found.centroids)) <= 1.1 * best


tables = arrays(
    float,
    st.tuples(st.integers(LEAST_MEMBERS, 40), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6) | st.integers(0, 2).map(float),
)


@settings(deadline=None)
@given(rows=tables, segments=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_any_table_is_fitted(rows: FloatArray, segments: int, seed: int) -> None:
    """Few distinct rows, more clusters than rows, constant columns, outliers: each call has one of the segments."""
    found = fit_segmenter(rows, segments=segments, seed=seed)
    assert 1 <= len(found.centroids) <= min(segments, len(rows) // LEAST_MEMBERS)
    assert found == fit_segmenter(rows, segments=segments, seed=seed)
    assert {found.segment_of(row) for row in rows} <= set(found.segments)
    assert (np.abs(found.centroids) <= CLIP_SD).all()
    assert Segmenter.from_json(found.to_json()) == found


@settings(deadline=None)
@given(
    data=st.data(),
    centroids=arrays(float, st.tuples(st.integers(1, 8), st.just(3)), elements=st.floats(-3, 3)),
    mean=arrays(float, 3, elements=st.floats(-5, 5)),
    scale=arrays(float, 3, elements=st.floats(0.1, 5)),
)
def test_a_call_goes_to_the_nearest_centroid(
    data: st.DataObject, centroids: FloatArray, mean: FloatArray, scale: FloatArray
) -> None:
    made = Segmenter(
        featuriser="own",
        version=7,
        calls=5,
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        centroids=tuple(map(tuple, centroids.tolist())),
    )
    row = data.draw(arrays(float, 3, elements=st.floats(-50, 50) | st.floats(allow_nan=False)))
    with np.errstate(over="ignore"):
        scaled = np.clip((row - mean) / scale, -CLIP_SD, CLIP_SD)
    distance = ((centroids - scaled) ** 2).sum(axis=1)
    name, version, cluster = made.segment_of(row).split(":")
    assert (name, version) == ("auto", "7")
    assert distance[int(cluster)] <= distance.min() + 1e-9  # of equally near ones rounding may decide


def test_every_centroid_is_the_mean_of_five_calls_at_least() -> None:
    rows, labels = blobs(sizes=(40, 40, LEAST_MEMBERS, LEAST_MEMBERS - 1, 1))
    found = fit_segmenter(rows, segments=5)
    means = {
        label: standardised(rows, found)[np.array(labels) == label].mean(axis=0) for label in Counter(labels)
    }
    kept = {
        min(means, key=lambda label: float(((means[label] - np.array(centroid)) ** 2).sum()))
        for centroid in found.centroids
    }
    assert kept == {0, 1, 2}
    for centroid in found.centroids:
        assert min(np.abs(mean - np.array(centroid)).max() for mean in means.values()) < 0.002
    assert {found.segment_of(row) for row in rows} == set(
        found.segments
    )  # members of dropped ones go elsewhere


def test_calls_that_are_all_alike_are_one_segment() -> None:
    found = fit_segmenter(np.full((50, 3), 0.1), segments=32)
    assert found.segments == ("auto:1:0",)
    assert found.scale == (1.0, 1.0, 1.0)  # 0.1 has no exact mean
    assert found.segment_of([0.1, 0.1, 0.1]) == found.segment_of([9.0, -9.0, 0.0]) == "auto:1:0"


def test_one_odd_call_does_not_hide_the_others() -> None:
    """Numbers are clipped, so that what is unlike all others by a million is not a million times as important."""
    rows, labels = blobs(sizes=(40, 40, 40))
    rows = np.vstack([rows, [[1e6, 0.0, 0.0]]])
    found = fit_segmenter(rows, segments=8)
    pairs = {(label, found.segment_of(row)) for label, row in zip(labels, rows[:-1], strict=True)}
    assert len({segment for _, segment in pairs}) == len(pairs)  # no segment has calls of two kinds


def test_what_is_far_away_is_fitted_on_as_if_it_were_nearer() -> None:
    rows = np.repeat([[0.0], [1e6]], [94, 6], axis=0)  # four deviations apart
    found = fit_segmenter(rows, segments=2)
    assert max(max(centroid) for centroid in found.centroids) == CLIP_SD
    assert found.segment_of([0.0]) != found.segment_of([1e6]) == found.segment_of([1e9])


@pytest.mark.parametrize("seed", range(5))
def test_clusters_have_settled(seed: int) -> None:
    """Every centroid is the mean of the calls that are nearest to it."""
    rows = np.random.default_rng(seed).standard_normal((60, 2))
    found = fit_segmenter(rows, segments=4, seed=seed)
    assert len(found.centroids) == 4
    scaled, segments = standardised(rows, found), np.array([found.segment_of(row) for row in rows])
    for name, centroid in zip(found.segments, found.centroids, strict=True):
        assert centroid == pytest.approx(scaled[segments == name].mean(axis=0), abs=0.002)


def test_another_seed_may_find_others_and_the_same_seed_finds_the_same() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 3))
    fits = [fit_segmenter(rows, segments=8, seed=seed) for seed in (0, 1, 0)]
    assert fits[0] == fits[2] != fits[1]
    assert hash(fits[0]) == hash(fits[2])


def test_a_text_has_the_segment_of_its_numbers() -> None:
    texts = ["Why?", "Write a long story about a fox and a crow.", "x = [1, 2, 3]"]
    by_words = Featuriser(name="words-1", vector=lambda text: [float(len(text.split()))])
    found = fit_segmenter(
        [by_words.vector(text) for text in texts * 10], segments=3, featuriser=by_words.name, version=4
    )
    assert len({found.segment(text, featuriser=by_words) for text in texts}) == 3
    assert found.segment(texts[0], featuriser=by_words) == found.segment_of([1.0])
    with pytest.raises(ValueError, match="fitted with featuriser 'words-1', and 'bytes-1' is another one"):
        found.segment(texts[0])


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vectors", "complaint"),
    [
        ([[1.0]] * 4, "4 calls are too few to find segments in; 5 are the least"),
        ([1.0] * 9, r"one row a call, not an array of shape \(9,\)"),
        ([[]] * 9, r"not an array of shape \(9, 0\)"),
        ([[1.0]] * 8 + [[1.0, 2.0]], "all of the same length"),
        ([["a"]] * 9, "rows of numbers"),
        ([[1.0]] * 8 + [[float("nan")]], "finite numbers of at most 1e.100; row 8 is not"),
        ([[1e200]] * 9, "row 0 is not"),
    ],
)
def test_vectors_that_are_no_table_are_refused(vectors: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        fit_segmenter(vectors, segments=2)


@pytest.mark.parametrize("segments", [0, -1, 1.5, True, None])
def test_no_segments_are_refused(segments: Any) -> None:
    with pytest.raises(ValueError, match="segments must be a whole number of at least 1, not"):
        fit_segmenter([[1.0]] * 9, segments=segments)


STORED = {
    "featuriser": "own",
    "version": 1,
    "calls": 9,
    "mean": [1.0, 2.0],
    "scale": [1.0, 0.5],
    "centroids": [[0.0, 0.0], [1.0, -1.0]],
}


def test_what_is_stored_is_whole() -> None:
    made = Segmenter.from_json(json.dumps(STORED))
    assert json.loads(made.to_json()) == STORED
    assert made.segments == ("auto:1:0", "auto:1:1")
    assert made.segment_of((2.0, 1.5)) == "auto:1:1"


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"featuriser": ""}, "featuriser's name"),
        ({"featuriser": 3}, "featuriser's name"),
        ({"version": 0}, "version must be a whole number of at least 1, not 0"),
        ({"version": "1"}, "version must be"),
        ({"calls": True}, "calls must be"),
        ({"mean": []}, "'scale' has 2 numbers, and 'mean' has 0"),
        ({"mean": [], "scale": []}, "'mean' must have at least one number"),
        ({"mean": None}, "'mean' must be a list of numbers, not NoneType"),
        ({"mean": ["1", 2]}, "'mean' must have finite numbers of at most 1e.100, not 1"),
        ({"mean": [True, 2]}, "'mean' must have"),
        ({"mean": [float("nan"), 2]}, "'mean' must have finite numbers of at most 1e.100, not nan"),
        ({"mean": [10**400, 2]}, "'mean' must have"),
        ({"scale": [1, 0]}, "'scale' must have numbers greater than 0, not 0"),
        ({"scale": [1, -1]}, "'scale' must have numbers greater than 0, not -1"),
        ({"scale": [1]}, "'scale' has 1 numbers, and 'mean' has 2"),
        ({"centroids": []}, "'centroids' must have at least one"),
        ({"centroids": {}}, "'centroids' must be a list"),
        ({"centroids": [3]}, r"'centroids\[0\]' must be a list of numbers, not int"),
        ({"centroids": [[0, 0], [1]]}, r"'centroids\[1\]' has 1 numbers"),
        ({"centroids": [[0, float("inf")]]}, r"'centroids\[0\]' must have finite numbers"),
        ({"more": 1}, "must be an object with calls, centroids, featuriser, mean, scale, version, not"),
    ],
)
def test_what_is_no_segmenter_is_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Segmenter.from_json(json.dumps({**STORED, **changed}))


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "3", "{}", "[" * 100_000, '"\ud800"'])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="segmenter: "):
        Segmenter.from_json(text)


@pytest.mark.parametrize(
    ("vector", "complaint"),
    [
        ([1.0], "a call must have 2 numbers, not 1"),
        ([float("nan"), 0.0], "not NaN"),
        ([[1.0, 2.0]], "a call must have a sequence of numbers, not list"),
        (None, "not NoneType"),
        ("secret", "not str"),
        ([1.0, "secret"], "not list"),
        ([1.0, 10**400], "not list"),
        ([1.0, [2.0]], "not list"),
    ],
)
def test_a_call_without_its_numbers_is_refused_and_nothing_of_it_told(vector: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        Segmenter.from_json(json.dumps(STORED)).segment_of(vector)
    assert "secret" not in f"{refused.value}{refused.value.__cause__}"


class Tensor:
    """Converts itself as it pleases."""

    def __array__(self, *_: Any, **__: Any) -> FloatArray:
        raise RuntimeError


def test_numbers_that_cannot_be_converted_are_refused() -> None:
    with pytest.raises(ValueError, match="a call must have a sequence of numbers, not Tensor"):
        as_row(Tensor())


def test_infinite_numbers_are_far_away_and_not_fitted_on() -> None:
    made = Segmenter.from_json(json.dumps(STORED))
    assert made.segment_of([float("inf"), float("-inf")]) == "auto:1:1"
    for row in ([float("inf")], [float("nan")], [], [1e101]):
        with pytest.raises(ValueError, match=r"finite numbers of at most 1e.100, and at least one"):
            check_row(as_row(row))
