"""Which texts can be the name of a segment: they are stored with decisions, and shown.

Applications name segments, and in a proxy their clients do: the names are not to become a way to store anything else.
"""

from __future__ import annotations

LONGEST_SEGMENT = 64
"""Characters of a segment's name."""

AUTO_PREFIX = "auto:"
"""The names of segments that StageRoute finds by itself begin so, and no others do."""


def is_segment(text: str) -> bool:
    r"""Return whether a segment may have this name: 1 to 64 printable characters that do not begin with ``auto:``.

    >>> is_segment("sql"), is_segment("Verträge, 2. Instanz"), is_segment("two\nlines"), is_segment("auto:1:7")
    (True, True, False, False)
    """
    return 0 < len(text) <= LONGEST_SEGMENT and text.isprintable() and not text.startswith(AUTO_PREFIX)
