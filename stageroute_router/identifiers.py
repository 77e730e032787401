"""Which texts are stored as the id of a call or an answer.

Call ids may be chosen by an application or even by its clients, and response ids by a provider: they are not to
become a way to store anything else.
"""

from __future__ import annotations

import hashlib
import re

LONGEST_ID = 256
"""Characters of an id that is stored as it is: the ids of LiteLLM and of the known providers have fewer than 100."""

_ID = re.compile(rf"[!-~]{{1,{LONGEST_ID}}}")


def is_id(text: str) -> bool:
    """Return whether a text looks like an id: printable ASCII without spaces, at most 256 characters."""
    return _ID.fullmatch(text) is not None


def stored_id(text: str) -> str:
    """Return the form of a call's or an answer's id that is stored: itself, or the hash of what looks like none.

    >>> stored_id("chatcmpl-1")
    'chatcmpl-1'
    >>> stored_id("a long story")
    'sha256-f9f7f98188617d4561f9e537e168e85cdd8ffecabbea184a110927780f7dc731'
    """
    if is_id(text):
        return text
    return "sha256-" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
