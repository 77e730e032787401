"""What was found for the last texts, without keeping a text."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict

MOST_TEXTS = 1000
"""How many texts are remembered: those of the tasks under way, not of a day."""


class RecentTexts:
    """Remembers a segment for each of the last texts, in memory only.

    A text is known by a digest under a key that is drawn for this object: whoever saw its memory could not look for
    texts of their own in it. Not for several threads at once.

    >>> texts = RecentTexts()
    >>> texts.put("What is 2 + 2?", "auto:1:3")
    >>> texts.get("What is 2 + 2?"), texts.get("What is 2 + 3?")
    ('auto:1:3', None)
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._segments: OrderedDict[bytes, str] = OrderedDict()

    def get(self, text: str) -> str | None:
        """Return what was found for a text; None if it is not remembered."""
        digest = self._digest(text)
        found = self._segments.get(digest)
        if found is not None:
            self._segments.move_to_end(digest)
        return found

    def put(self, text: str, segment: str) -> None:
        """Remember what was found for a text, and forget the one that was not asked for longest."""
        self._segments[self._digest(text)] = segment
        if len(self._segments) > MOST_TEXTS:
            self._segments.popitem(last=False)

    def clear(self) -> None:
        """Forget all of them."""
        self._segments.clear()

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).digest()
