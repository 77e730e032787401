"""Embeddings without a model: a text's words, hashed into a vector. Texts that share words are near each other."""

from __future__ import annotations

import hashlib
import re

import numpy as np

_WORD = re.compile(r"\w+")


def word_vector(text: str, *, size: int) -> list[float]:
    """Return a text's embedding, of length 1: each word adds to one of its numbers, or takes away from it.

    Args:
        text: any; one without words is all zeros but the first.
        size: how many numbers, >= 1.

    >>> import numpy as np
    >>> one, other, third = (
    ...     np.array(word_vector(text, size=1024)) for text in ("the red fox", "the red cat", "select name from users")
    ... )
    >>> round(float(one @ other), 2), round(abs(float(one @ third)), 2)
    (0.67, 0.0)
    """
    vector = np.zeros(size)
    for word in _WORD.findall(text.lower()):
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        drawn, sign = divmod(int.from_bytes(digest, "big"), 2)
        vector[drawn % size] += 1.0 if sign else -1.0
    length = float(np.linalg.norm(vector))
    if length == 0.0:
        vector[0] = length = 1.0
    return [float(number) for number in vector / length]
