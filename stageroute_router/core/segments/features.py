"""What a prompt looks like, in 18 numbers: its length, which kinds of bytes it is made of, two marks.

Enough to tell code from prose from a list of options, and cheap enough for every call. A prompt cannot be told from
its numbers, and nothing of it is kept.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stageroute_router.core.arrays import FloatArray

READ_BYTES = 2048
"""How many bytes of a text are read, in UTF-8 from its beginning.

About 350 English words: most questions whole, and what the others begin with. It bounds the time, for a byte takes a
few nanoseconds: these take about as long as everything else that is done for a call's segment. Segments of recorded
prompts were worth no more from 4,096 or 16,384 bytes.
"""

_NAME = re.compile(r"[!-~]{1,64}")

LONGEST = 1_000_000
"""Texts of more characters than this count as this long."""

_END = 16
"""A question mark counts among this many last characters: blanks may follow it."""

_MOST_PARTS = 1000
"""Most messages, and parts of messages, that are read: a request of many thousands must not delay others."""

# Each byte belongs to the first kind that has it. What an 8-bit encoding would not do: of other scripts UTF-8 has a
# leading byte that tells Cyrillic or Greek from Chinese or Japanese.
_KINDS: tuple[tuple[str, bytes], ...] = (
    ("lower-case letters", string.ascii_lowercase.encode()),
    ("upper-case letters", string.ascii_uppercase.encode()),
    ("digits", string.digits.encode()),
    ("spaces", b" "),
    ("line breaks", b"\n\r"),
    ("ends of sentences", b".!?"),
    ("pauses", b",;:"),
    ("quotation marks", b"\"'`"),
    ("round brackets", b"()"),
    ("other brackets", b"[]{}"),
    ("operators", b"+-*/=<>%^|&~"),
    ("signs of code", b"#@_\\$"),
    ("continuing bytes", bytes(range(0x80, 0xC0))),
    ("letters of two bytes", bytes(range(0xC0, 0xE0))),
    ("characters of three bytes or more", bytes(range(0xE0, 0x100))),
)

FEATURE_NAMES: tuple[str, ...] = (
    "length",
    *(f"share of {kind}" for kind, _ in _KINDS),
    "ends in a question mark",
    "has a code fence",
)
"""What each number of :func:`byte_features` is."""

# Row i marks the bytes of kind i, so that one product turns counts of bytes into counts of kinds.
_MEMBERS: FloatArray = np.array(
    [[1.0 if byte in members else 0.0 for byte in range(256)] for _, members in _KINDS]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Featuriser:
    """A named function from a text to numbers.

    Args:
        name: says which way it is: statistics of segments found by one are of no use to another. Change it whenever the
            same text gives other numbers: 1 to 64 printable characters without spaces.
        vector: the text's numbers, as many for every text. It may raise: then the call has no segment.
        size: how many numbers, where that is known beforehand.

    Raises:
        ValueError: the name cannot be used.

    >>> by_length = Featuriser(name="length-1", vector=lambda text: [float(len(text))])
    >>> by_length.vector("four")
    [4.0]
    """

    name: str
    vector: Callable[[str], Sequence[float] | FloatArray]
    size: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name)


def check_name(name: object) -> str:
    """Return a featuriser's name, if it is one.

    Args:
        name: what may be one.

    Raises:
        ValueError: it is none; the message says what is.

    >>> check_name("openai/text-embedding-3-small")
    'openai/text-embedding-3-small'
    >>> check_name("")
    Traceback (most recent call last):
    ValueError: a featuriser's name must be 1 to 64 printable ASCII characters without spaces, not ''
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    shown = repr(name[:100]) if isinstance(name, str) else repr(type(name).__name__)
    msg = f"a featuriser's name must be 1 to 64 printable ASCII characters without spaces, not {shown}"
    raise ValueError(msg)


def byte_features(text: str) -> FloatArray:
    """Return a text's 18 numbers, in the order of :data:`FEATURE_NAMES`.

    The first is the logarithm of the length in characters plus 1, up to :data:`LONGEST` characters; all others are in
    [0, 1] and come from the first :data:`READ_BYTES` bytes, but for the mark at the end. Shares are of the bytes that
    were read. Every text has numbers, the empty one as well.

    >>> seen = dict(zip(FEATURE_NAMES, byte_features("Is 7 prime?").tolist()))
    >>> round(seen["share of digits"], 3), seen["ends in a question mark"], seen["has a code fence"]
    (0.091, 1.0, 0.0)
    """
    # Half a surrogate pair is no text, but strings out of JSON may have one.
    read = text[:READ_BYTES].encode("utf-8", "surrogatepass")[:READ_BYTES]
    counts = np.bincount(np.frombuffer(read, np.uint8), minlength=256)
    numbers = np.empty(len(FEATURE_NAMES))
    numbers[0] = math.log1p(min(len(text), LONGEST))
    numbers[1:-2] = _MEMBERS @ counts / max(len(read), 1)
    numbers[-2] = text[-_END:].rstrip().endswith("?")
    numbers[-1] = b"```" in read
    return numbers


BYTES = Featuriser(name="bytes-1", vector=byte_features, size=len(FEATURE_NAMES))
"""The featuriser that is used where no other is given."""


def asked_text(
    *,
    messages: object = None,
    prompt: object = None,
    input: object = None,  # noqa: A002 - LiteLLM's name
) -> str:
    """Return the text that tells what a call is about: ``""`` where there is none.

    Of a chat that is the last message of the user that has text. What the system says is the same for all calls of
    an application, and would hide the question; what tools answered belongs to the question before it, so that the
    calls of an agent's task are of one segment. Without a message of the user it is the last message that has text. Of
    a list of prompts, or of inputs to embed, it is all of them.

    Args:
        messages: of a chat, as LiteLLM hands them on: mappings whose content is a text or a list of parts.
        prompt: of a text completion: a text, or a list of texts. Tokens are no text.
        input: of an embedding, likewise, or of the Responses API: a text or a list of items.

    Returns:
        The text. A single one as it was given, without a copy. Whatever else is given is looked through: this function
        raises nothing, and keeps nothing.

    >>> asked_text(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    'Hello'
    >>> parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "..."}}]
    >>> asked_text(messages=[{"role": "user", "content": parts}])
    'What is this?'
    >>> asked_text(input=["one", "two"]).splitlines()
    ['one', 'two']
    """
    for given in (messages, prompt, input):
        text = given if isinstance(given, str) else _of_chat(given) or _joined(given)
        if text:
            return text
    return ""


def _of_chat(given: object) -> str:
    """Return the text of the last message of the user that has any, else of the last message that has any."""
    if not isinstance(given, list | tuple):
        return ""
    otherwise = ""
    for message in reversed(given[-_MOST_PARTS:]):
        # As dictionaries have it, for a subclass may raise.
        if not isinstance(message, dict):
            continue
        role = dict.get(message, "role")
        if isinstance(role, str) and role == "user":
            if text := _joined(dict.get(message, "content")):
                return text
        elif not otherwise:
            otherwise = _joined(dict.get(message, "content"))
    return otherwise


def _joined(content: object) -> str:
    """Return the text in a message's content, a list of texts, or a text."""
    texts = list(_texts(content))
    return texts[0] if len(texts) == 1 else "\n".join(texts)


def _texts(content: object) -> Iterator[str]:
    parts: Any = content if isinstance(content, list | tuple) else (content,)
    left = LONGEST
    for part in parts[:_MOST_PARTS]:
        text = dict.get(part, "text") if isinstance(part, dict) else part
        if isinstance(text, str) and text:
            yield text
            left -= len(text)
            if left < 0:
                return
