"""Random projection: long vectors, such as embeddings, in few numbers that keep their distances.

A random projection of the sparse kind: each of the vector's numbers is added to one of 128 sums, or taken away from it,
by a hash of its place. Cosines of angles between vectors stay as they are, to about a tenth, whatever model the vectors
come from. So segments of an embedding are found and stored in a few kilobytes, and what is stored of a text's meaning
is far less than its embedding.

Source of the method: Charikar, Chen & Farach-Colton, "Finding frequent items in data streams" (2002), for features by
Weinberger et al., "Feature hashing for large scale multitask learning" (2009).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stageroute_router.core.arrays import FloatArray
from stageroute_router.core.segments.clusters import as_row, check_row

PROJECTED = 128
"""Dimensions after the projection. Shorter vectors are normalised only."""


def projected(vector: Sequence[float] | FloatArray) -> FloatArray:
    """Return a vector's direction in at most :data:`PROJECTED` numbers, the same in every process and release.

    Args:
        vector: its numbers, of any count and length.

    Raises:
        ValueError: it has none, or they are not finite.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> one, other = rng.normal(size=(2, 1536))
    >>> near = one + 0.1 * other
    >>> [round(float(np.linalg.norm(projected(one) - projected(two))), 1) for two in (3 * one, near, other)]
    [0.0, 0.1, 1.4]
    """
    row = as_row(vector)
    check_row(row)
    length = float(np.linalg.norm(row))
    if length > 0:
        row = row / length
    if len(row) <= PROJECTED:
        return row
    sums, signs = _places(len(row))
    # No product of matrices: its threads may wait for each other for tens of milliseconds on a busy machine.
    found: FloatArray = np.bincount(sums, weights=signs * row, minlength=PROJECTED).astype(float)
    return found


@lru_cache(maxsize=8)
def _places(count: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Return, for each of so many numbers, to which sum it is added, and with which sign.

    From a hash, because random number generators of libraries change: centroids are stored.
    """
    drawn = hashlib.shake_256(b"stageroute projection 1 of %d" % count).digest(count)
    octets = np.frombuffer(drawn, np.uint8).astype(np.int64)
    return octets % PROJECTED, np.where(octets >= PROJECTED, 1.0, -1.0)
