"""Automatic segments: prompts that look alike, found once by k-means and then frozen.

The first few hundred calls are fitted on. Afterwards a call belongs to the nearest centroid. Nothing is split, merged
or moved later: statistics of a segment are of use only as long as it means the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.vq import kmeans2, vq

from stageroute_router.core.arrays import FloatArray
from stageroute_router.core.segments.features import BYTES, Featuriser, check_name

LEAST_MEMBERS = 5
"""A cluster of fewer calls is dropped: a centroid is the mean of so many calls at least, never one prompt's numbers."""

CLIP_SD = 3.0
"""Numbers count as at most so many standard deviations from their mean, so that one odd prompt is no cluster."""

_RESTARTS = 3
_LLOYD_STEPS = 15
_DECIMALS = 3
"""Of standardised numbers. Closer rows count as equal, and what is stored stays short."""

_ONE_THREAD = 200_000
"""Multiplications that OpenBLAS does in one thread; it has more do more than 262,144."""

_LARGEST = 1e100
"""Of any number, so that squares are finite."""

_SMALLEST_SCALE = 1e-100


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """Where the automatic segments of a group are: enough to find a call's, and all that is stored of prompts.

    Args:
        featuriser: name of the featuriser that the numbers come from.
        version: of the group's segmenters, from 1 on; part of the segments' names.
        calls: how many calls it was fitted on.
        mean: of each number over these calls.
        scale: what each number is divided by, less its mean: its standard deviation, or 1 where that is 0.
        centroids: of the clusters, in numbers so standardised.

    Raises:
        ValueError: they do not fit together; the message names the field.

    >>> halves = Segmenter(
    ...     featuriser="length-1", version=2, calls=9, mean=(5.0,), scale=(2.0,), centroids=((-1.0,), (1.0,))
    ... )
    >>> halves.segment_of([3.5]), halves.segment_of([100])
    ('auto:2:0', 'auto:2:1')
    >>> Segmenter.from_json(halves.to_json()) == halves
    True
    """

    featuriser: str
    version: int
    calls: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    centroids: tuple[tuple[float, ...], ...]
    segments: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The names of its segments, one a centroid."""
    _mean: FloatArray = field(init=False, repr=False, compare=False)
    _least: FloatArray = field(init=False, repr=False, compare=False)
    _most: FloatArray = field(init=False, repr=False, compare=False)
    _directions: FloatArray = field(init=False, repr=False, compare=False)
    _half_squares: FloatArray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name(self.featuriser)
        _check_count("version", self.version)
        _check_count("calls", self.calls)
        width = len(self.mean)
        _check_numbers("mean", self.mean, width)
        _check_numbers("scale", self.scale, width)
        if not width:
            msg = "segmenter: 'mean' must have at least one number"
            raise ValueError(msg)
        if min(self.scale) < _SMALLEST_SCALE:
            msg = f"segmenter: 'scale' must have numbers greater than 0, not {min(self.scale)!r}"
            raise ValueError(msg)
        if not self.centroids:
            msg = "segmenter: 'centroids' must have at least one"
            raise ValueError(msg)
        for number, centroid in enumerate(self.centroids):
            _check_numbers(f"centroids[{number}]", centroid, width)
        mean, scale, centroids = (
            np.array(each, dtype=float) for each in (self.mean, self.scale, self.centroids)
        )
        derived = {
            "segments": tuple(segment_name(self.version, number) for number in range(len(self.centroids))),
            "_mean": mean,
            "_least": mean - CLIP_SD * scale,
            "_most": mean + CLIP_SD * scale,
            # Divided by the scale here, so that calls need not be.
            "_directions": centroids / scale,
            "_half_squares": (centroids**2).sum(axis=1) / 2,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def segment(self, text: str, *, featuriser: Featuriser = BYTES) -> str:
        """Return the segment of a text.

        Args:
            text: any.
            featuriser: what it was fitted with.

        Raises:
            ValueError: it was fitted with another featuriser.
        """
        if featuriser.name != self.featuriser:
            msg = f"segmenter: fitted with featuriser {self.featuriser!r}, and {featuriser.name!r} is another one"
            raise ValueError(msg)
        return self.segment_of(featuriser.vector(text))

    def segment_of(self, vector: Sequence[float] | FloatArray) -> str:
        """Return the segment of a call by its numbers: that of the nearest centroid, of equally near ones the first.

        Args:
            vector: the numbers, finite, as many as it was fitted on.

        Raises:
            ValueError: they are more or fewer, or one is NaN.
        """
        row = as_row(vector)
        if row.shape != self._mean.shape:
            msg = f"segmenter: a call must have {len(self.mean)} numbers, not {len(row)}"
            raise ValueError(msg)
        row = np.maximum(row, self._least)
        np.minimum(row, self._most, out=row)
        row -= self._mean
        # Half the squared distance, negative and without the row's own square, which is the same for all centroids.
        nearness = self._directions @ row
        nearness -= self._half_squares
        nearest = int(nearness.argmax())
        if math.isnan(nearness[nearest]):
            msg = "segmenter: a call must have numbers, not NaN"
            raise ValueError(msg)
        return self.segments[nearest]

    def to_json(self) -> str:
        """Return all of it as JSON, on one line."""
        stored = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        return json.dumps(stored, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Segmenter:
        """Return the segmenter that :meth:`to_json` wrote.

        Args:
            text: the JSON.

        Raises:
            ValueError: it is no segmenter; the message names the field.
        """
        try:
            stored = json.loads(text)
        except (ValueError, RecursionError) as error:
            msg = f"segmenter: not JSON: {error}"
            raise ValueError(msg) from error
        expected = {each.name for each in fields(cls) if each.init}
        if not isinstance(stored, dict) or set(stored) != expected:
            found = sorted(stored) if isinstance(stored, dict) else type(stored).__name__
            msg = f"segmenter: must be an object with {', '.join(sorted(expected))}, not {found}"
            raise ValueError(msg)
        if not isinstance(stored["centroids"], list):
            msg = "segmenter: 'centroids' must be a list"
            raise ValueError(msg)
        return cls(
            featuriser=stored["featuriser"],
            version=stored["version"],
            calls=stored["calls"],
            mean=_numbers("mean", stored["mean"]),
            scale=_numbers("scale", stored["scale"]),
            centroids=tuple(
                _numbers(f"centroids[{number}]", each) for number, each in enumerate(stored["centroids"])
            ),
        )


def as_row(vector: object) -> FloatArray:
    """Return a call's numbers as an array, of whichever kind they are; the error tells none of them.

    Args:
        vector: a sequence of numbers, or an array with one dimension.

    Raises:
        ValueError: it is none.

    >>> as_row([1, 2.5]).tolist()
    [1.0, 2.5]
    >>> as_row("a prompt")
    Traceback (most recent call last):
    ValueError: a call must have a sequence of numbers, not str
    """
    try:
        row: FloatArray = np.asarray(vector, dtype=float)
    except Exception:  # noqa: BLE001 - arrays of other libraries convert themselves, and fail in their own ways
        row = np.empty(())
    if row.ndim != 1:
        msg = f"a call must have a sequence of numbers, not {type(vector).__name__}"
        raise ValueError(msg)
    return row


def check_row(row: FloatArray) -> None:
    """Refuse numbers of a call that could not be fitted on.

    Args:
        row: what :func:`as_row` returned.

    Raises:
        ValueError: there are none, or they are not finite, or greater than 1e100.

    >>> check_row(as_row([1.0, float("inf")]))
    Traceback (most recent call last):
    ValueError: a call must have finite numbers of at most 1e+100, and at least one
    """
    if not row.size or not (np.abs(row) <= _LARGEST).all():
        msg = f"a call must have finite numbers of at most {_LARGEST:g}, and at least one"
        raise ValueError(msg)


def segment_name(version: int, cluster: int) -> str:
    """Return the name of an automatic segment: of a segmenter's version (>= 1), the cluster's position (>= 0).

    >>> segment_name(2, 17)
    'auto:2:17'
    """
    return f"auto:{version}:{cluster}"


def fit_segmenter(
    vectors: ArrayLike, *, segments: int, featuriser: str = BYTES.name, version: int = 1, seed: int = 0
) -> Segmenter:
    """Return a segmenter fitted on some calls: standardised, k-means from three starts, the best of them.

    There may be fewer clusters than asked for: of calls that are few or all alike, and because clusters with fewer than
    :data:`LEAST_MEMBERS` calls are dropped. The same calls and seed give the same one.

    Args:
        vectors: the calls' numbers, one row a call, at least :data:`LEAST_MEMBERS` rows.
        segments: clusters wanted, >= 1.
        featuriser: name of the featuriser that made them.
        version: of the segmenter, >= 1.
        seed: of the starts, >= 0.

    Raises:
        ValueError: the vectors are no table of finite numbers, or are too few.

    >>> import numpy as np
    >>> lengths = np.repeat([[10.0], [12.0], [500.0]], 20, axis=0)
    >>> found = fit_segmenter(lengths, segments=2, featuriser="length-1")
    >>> found.segment_of([10.0]) == found.segment_of([12.0]) != found.segment_of([500.0])
    True
    """
    _check_count("segments", segments)
    rows = _table(vectors)
    mean = rows.mean(axis=0)
    scale = rows.std(axis=0)
    # What is the same in all calls has a deviation of rounding errors only.
    scale[scale <= 1e-9 * np.maximum(np.abs(mean), 1e-9)] = 1.0
    standardised = np.clip((rows - mean) / scale, -CLIP_SD, CLIP_SD)
    centroids, members = _clusters(np.round(standardised, _DECIMALS), segments, seed=seed)
    return Segmenter(
        featuriser=featuriser,
        version=version,
        calls=len(rows),
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        centroids=tuple(
            tuple(each) for each in np.round(centroids[members >= LEAST_MEMBERS], _DECIMALS).tolist()
        ),
    )


def _clusters(rows: FloatArray, wanted: int, *, seed: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the means of the best clusters found, and how many rows each has."""
    # So few that one of them has enough members, whichever way the rows fall, and that each starts at another row.
    count = min(wanted, len(rows) // LEAST_MEMBERS, len(np.unique(rows, axis=0)))
    rng = np.random.default_rng(seed)
    found = [_one_clustering(rows, count, rng) for _ in range(_RESTARTS)]
    _, centroids, members = min(found, key=lambda each: each[0])
    return centroids, members


def _one_clustering(
    rows: FloatArray, count: int, rng: np.random.Generator
) -> tuple[float, FloatArray, NDArray[np.int64]]:
    """Return the sum of squared distances, the means of the clusters and their sizes, from k-means++ and Lloyd's steps.

    A cluster that loses its last row is left out, where scipy would warn, through a filter that threads share.
    """
    centroids, _ = kmeans2(rows, count, iter=1, minit="++", missing="raise", seed=rng)
    for _ in range(_LLOYD_STEPS):
        _, labels, members = np.unique(_nearest(rows, centroids), return_inverse=True, return_counts=True)
        moved = np.zeros((len(members), rows.shape[1]))
        np.add.at(moved, labels, rows)
        moved /= members[:, None]
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return float(((rows - centroids[labels]) ** 2).sum()), centroids, members


def _nearest(rows: FloatArray, centroids: FloatArray) -> NDArray[np.int64]:
    """Return the position of each row's nearest centroid.

    A few rows at a time, and sums are added up by numpy: larger products of matrices are shared among threads, which on
    a busy machine wait for each other for tens of milliseconds, every time.
    """
    few = max(1, _ONE_THREAD // centroids.size)
    return np.concatenate([vq(rows[first : first + few], centroids)[0] for first in range(0, len(rows), few)])


def _table(vectors: ArrayLike) -> FloatArray:
    try:
        rows = np.asarray(vectors, dtype=float)
    except (TypeError, ValueError) as error:
        msg = f"vectors must be rows of numbers, all of the same length: {error}"
        raise ValueError(msg) from error
    if rows.ndim != 2 or rows.shape[1] == 0:
        msg = f"vectors must be rows of numbers, one row a call, not an array of shape {rows.shape}"
        raise ValueError(msg)
    if len(rows) < LEAST_MEMBERS:
        msg = f"{len(rows)} calls are too few to find segments in; {LEAST_MEMBERS} are the least"
        raise ValueError(msg)
    if not (np.abs(rows) <= _LARGEST).all():
        at = int(np.flatnonzero(~(np.abs(rows) <= _LARGEST).all(axis=1))[0])
        msg = f"vectors must be finite numbers of at most {_LARGEST:g}; row {at} is not"
        raise ValueError(msg)
    return rows


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        msg = f"{name} must be a whole number of at least 1, not {value!r}"
        raise ValueError(msg)


def _check_numbers(name: str, numbers: Sequence[float], width: int) -> None:
    if len(numbers) != width:
        msg = f"segmenter: {name!r} has {len(numbers)} numbers, and 'mean' has {width}"
        raise ValueError(msg)
    for number in numbers:
        if not (abs(number) <= _LARGEST):
            msg = f"segmenter: {name!r} must have finite numbers of at most {_LARGEST:g}, not {number!r}"
            raise ValueError(msg)


def _numbers(name: str, stored: object) -> tuple[float, ...]:
    """Return a list of numbers out of JSON."""
    if not isinstance(stored, list):
        msg = f"segmenter: {name!r} must be a list of numbers, not {type(stored).__name__}"
        raise ValueError(msg)
    for each in stored:
        if not isinstance(each, int | float) or isinstance(each, bool) or not abs(each) <= _LARGEST:
            msg = (
                f"segmenter: {name!r} must have finite numbers of at most {_LARGEST:g}, not {str(each)[:50]}"
            )
            raise ValueError(msg)
    return tuple(float(each) for each in stored)
