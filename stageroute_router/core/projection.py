"""Long vectors, such as embeddings, in few numbers that keep their distances.

A random projection: each of 128 numbers is the sum of all the vector's numbers with signs of its own. Angles between
vectors stay as they are, to a few hundredths, whatever model the vectors come from. So segments of an embedding are
found and stored in a few kilobytes, and what is stored of a text's meaning is far less than the embedding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from stageroute_router.core.clusters import as_row, check_row

FloatArray = NDArray[np.float64]

PROJECTED = 128
"""So many numbers are left. Vectors that have no more are left as they are, but for their length."""


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
    return row if len(row) <= PROJECTED else _signs(len(row)) @ row


@lru_cache(maxsize=8)
def _signs(count: int) -> FloatArray:
    """Return the signs of so many numbers, scaled so that lengths stay.

    From a hash, because random number generators of libraries change: centroids are stored.
    """
    drawn = hashlib.shake_256(b"stageroute projection 1 of %d" % count).digest(PROJECTED * count // 8)
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8)).reshape(PROJECTED, count)
    signs: FloatArray = (2.0 * bits - 1.0) / np.sqrt(PROJECTED)
    return signs
