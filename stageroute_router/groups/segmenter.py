"""Automatic segments of one group in one process: from its first calls to a segmenter that all workers share.

Memory only. Of a call its numbers are kept until enough calls are there, and then nothing. Who has the database stores
what :meth:`Segmenting.fit` returns, and hands what is stored to :meth:`Segmenting.adopt`.

Numbers that a model finds (an embedding, which takes a request) are asked for once a text: see
:meth:`Segmenting.known`.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from stageroute_router.core.arrays import FloatArray
from stageroute_router.core.segments.clusters import Segmenter, as_row, check_row, fit_segmenter
from stageroute_router.core.segments.features import BYTES, Featuriser
from stageroute_router.errors import SettingsError
from stageroute_router.process.fork import ForkAware, survive_fork

# What was found for the last texts, without keeping a text.

MOST_TEXTS = 1000
"""How many texts are remembered: those of the tasks under way, not of a day."""


class RecentTexts:
    """Remembers a segment for each of the last texts, in memory only.

    A text is known by a digest under a key that is drawn for this object: a reader of its memory could not look for
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


MOST_SEGMENTS = 64
"""More segments than this have too few calls each to tell anything."""

FEWEST_CALLS = 20
MOST_CALLS = 10_000
"""Bounds of how many calls can be fitted on: they wait in memory."""

_EMBEDDING = "embedding-1:"
"""What featurisers of embeddings are called first; the number is that of how they become segments' numbers."""


class Segmenting(ForkAware):
    """Finds the automatic segment of each call, from the moment on that a segmenter is known.

    Until then every call is of segment ``""``, and its numbers wait, ``calls`` of them at most. Nothing here raises for
    what a call has: a call without usable numbers is of segment ``""``, and counted in :attr:`failures`.

    All methods may be called from any thread. ``fit`` takes tens of milliseconds and belongs off the path of calls; the
    others wait for nothing. A forked child goes on with what its parent had collected.

    Args:
        featuriser: how a text becomes numbers. Default: 18 numbers of the text's bytes, without a model.
        segments: how many are wanted, from 1 to 64. Default 32; 16 where there are few calls. There may be fewer, where
            calls are few or much alike.
        calls: how many to fit on, from 20 to 10,000. Default 500; 200 do nearly as well.
        seed: of the fit, >= 0: the same calls and seed give the same segments. Default 0.

    Raises:
        SettingsError: a number is out of its bounds, or another featuriser has the name of the built-in one.

    >>> segmenting = Segmenting(calls=20, segments=2)
    >>> for _ in range(10):
    ...     first = segmenting.segment("What is 2 + 2?"), segmenting.segment("Write a long story about a fox.")
    >>> first
    ('', '')
    >>> segmenting.adopt(segmenting.fit())
    True
    >>> sorted({segmenting.segment("What is 3 + 4?"), segmenting.segment("Write a long story about a crow.")})
    ['auto:1:0', 'auto:1:1']
    """

    def __init__(
        self, *, featuriser: Featuriser = BYTES, segments: int = 32, calls: int = 500, seed: int = 0
    ) -> None:
        _check("segments", segments, least=1, most=MOST_SEGMENTS)
        _check("calls", calls, least=FEWEST_CALLS, most=MOST_CALLS)
        _check("seed", seed, least=0, most=None)
        if featuriser.name == BYTES.name and featuriser != BYTES:
            msg = f"featuriser: {BYTES.name!r} is the name of the built-in one; give yours another"
            raise SettingsError(msg)
        self._featuriser = featuriser
        self._segments = segments
        self._calls = calls
        self._seed = seed
        self._segmenter: Segmenter | None = None
        self._collected: list[FloatArray] = []
        self._seen = 0
        self._texts = RecentTexts()
        self._next_version = 1
        self._failures = 0
        self._last_failure: str | None = None
        self._begin()
        survive_fork(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._fitting = False

    def before_fork(self) -> None:
        """Let no thread be half through with a change."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Go on with what was collected; a fit that was under way is the parent's."""
        self._begin()

    @property
    def segmenter(self) -> Segmenter | None:
        """What calls are told apart by; None until one is adopted."""
        return self._segmenter

    @property
    def collected(self) -> int:
        """How many calls' numbers wait to be fitted on; 0 once a segmenter is adopted."""
        return len(self._collected)

    @property
    def failures(self) -> int:
        """How many calls had no usable numbers."""
        return self._failures

    @property
    def last_failure(self) -> str | None:
        """Why the last of them had none; it tells nothing of the text. None before any."""
        return self._last_failure

    @property
    def is_due(self) -> bool:
        """Whether enough calls are there to fit on, and no segmenter is."""
        return self._segmenter is None and self._seen >= self._calls and len(self._collected) >= FEWEST_CALLS

    def segment(self, text: str) -> str:
        """Return the segment of a call by its text: ``""`` before a segmenter is known, or without usable numbers.

        Args:
            text: what the call is about, see :func:`~stageroute_router.core.segments.features.asked_text`.
        """
        if self._segmenter is None and self.is_due:
            return ""  # the numbers would be thrown away
        try:
            vector = self._featuriser.vector(text)
        except Exception as error:  # noqa: BLE001 - a user's function may fail of anything; the call goes on
            # Not what it says: that may quote the text.
            self.failed(f"featuriser {self._featuriser.name!r} raised {type(error).__name__}")
            return ""
        return self.segment_of(vector)

    def known(self, text: str) -> str | None:
        """Return the segment of a call if it can be told without its numbers; None where :meth:`segment_of` needs them.

        It can be told of a text that was asked about a moment ago, as by the steps of an agent's task, and while
        enough calls are there and their segmenter is not.

        Args:
            text: as for :meth:`segment`.
        """
        with self._lock:
            if self.is_due:
                return ""
            found = self._texts.get(text)
            if found is not None and self._segmenter is None:
                self._seen += 1
            return found

    def segment_of(self, vector: Sequence[float] | FloatArray, *, text: str | None = None) -> str:
        """Return the segment of a call whose numbers the caller has found, as asynchronous embeddings need it.

        Args:
            vector: what the featuriser's ``vector`` would return.
            text: what they were found for, if :meth:`known` is to know it from now on. A text is fitted on once then,
                so that no centroid is that of one text.
        """
        segmenter = self._segmenter
        try:
            if segmenter is None:
                self._collect(vector, text=text)
                return ""
            segment = segmenter.segment_of(vector)
        except ValueError as error:
            self.failed(str(error))
            return ""
        if text is not None:
            with self._lock:
                if self._segmenter is segmenter:
                    self._texts.put(text, segment)
        return segment

    def failed(self, why: str) -> None:
        """Count a call whose numbers could not be found.

        Args:
            why: must tell nothing of the text.
        """
        with self._lock:
            self._failures += 1
            self._last_failure = why

    def fit(self) -> Segmenter | None:
        """Return a segmenter of the calls collected, to be stored: all workers adopt the first one stored.

        Returns:
            None if it is not due, or another thread is at it. Otherwise it stays due until one is adopted, so a store
            that failed can be tried again.
        """
        with self._lock:
            if self._fitting or not self.is_due:
                return None
            self._fitting = True
            rows, version = np.array(self._collected), self._next_version
        try:
            return fit_segmenter(
                rows,
                segments=self._segments,
                featuriser=self._featuriser.name,
                version=version,
                seed=self._seed,
            )
        finally:
            with self._lock:
                self._fitting = False

    def adopt(self, stored: Segmenter) -> bool:
        """Tell calls apart by a stored segmenter from now on, if it is of this featuriser and later than the present.

        The numbers that were collected are dropped then. One of another featuriser is left to the workers that have it,
        and what is fitted here gets a later version.

        Args:
            stored: what is stored under its version, which is not always what was fitted here.

        Returns:
            Whether it is used now, and was not before.

        Raises:
            ValueError: it has not as many numbers as its featuriser gives.
        """
        size = self._featuriser.size
        with self._lock:
            self._next_version = max(self._next_version, stored.version + 1)
            if stored.featuriser != self._featuriser.name:
                return False
            if size is not None and size != len(stored.mean):
                msg = (
                    f"segmenter: version {stored.version} has {len(stored.mean)} numbers a call, and featuriser "
                    f"{stored.featuriser!r} gives {size}"
                )
                raise ValueError(msg)
            if self._segmenter is not None and stored.version <= self._segmenter.version:
                return False
            self._segmenter = stored
            self._collected = []
            self._texts.clear()
            return True

    def _collect(self, vector: Sequence[float] | FloatArray, *, text: str | None) -> None:
        row = as_row(vector).copy()  # theirs may change
        check_row(row)
        with self._lock:
            if self._segmenter is not None or self.is_due:
                return
            if self._collected and len(row) != len(self._collected[0]):
                msg = f"a call has {len(row)} numbers, and those before have {len(self._collected[0])}"
                raise ValueError(msg)
            self._seen += 1
            if text is not None:
                if self._texts.get(text) is not None:  # asked about twice at once
                    return
                self._texts.put(text, "")
            self._collected.append(row)


def embedding_featuriser(model: str) -> Featuriser:
    """Return the featuriser of an embedding: under the model's name, so that another model's segments are others.

    Its numbers take a request, so they are found elsewhere, see :meth:`Segmenting.known`: asking it for a text's
    raises an error that says so.

    Args:
        model: the embedding model, by any name.

    >>> embedding_featuriser("text-embedding-3-small").name
    'embedding-1:text-embedding-3-small'
    >>> embedding_featuriser("my model").name
    'embedding-1:sha256:76eeb051b539717c'
    """

    def vector(_text: str) -> Sequence[float]:
        msg = f"a text's embedding by {model!r} has to be asked for, and given to segment_of"
        raise TypeError(msg)

    try:
        return Featuriser(name=f"{_EMBEDDING}{model}", vector=vector)
    except ValueError:  # blanks, or too long
        digest = hashlib.sha256(model.encode("utf-8", "surrogatepass")).hexdigest()
        return Featuriser(name=f"{_EMBEDDING}sha256:{digest[:16]}", vector=vector)


def _check(name: str, value: object, *, least: int, most: int | None) -> None:
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and value >= least
        and (most is None or value <= most)
    ):
        return
    bounds = f"from {least} to {most:,}" if most is not None else f"of at least {least}"
    msg = f"{name} must be a whole number {bounds}, not {value!r}"
    raise SettingsError(msg)
