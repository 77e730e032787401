"""Draws pictures in another process and caches them.

vl-convert holds Python's lock while it draws: in a thread of the serving process, every call would wait for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from stageroute_router.charts.worker import Job, line_of
from stageroute_router.errors import StageRouteError

PATIENCE_S = 50.0
"""A picture that takes longer is given up, and the process that draws it is ended. The first takes a second or two."""

KEPT = 96
"""Pictures kept: three of each of ten groups, in both themes, for a screen and a phone. About 30 kB each."""

MOST_WAITING = 24
"""Most requests that wait for a picture; further ones are refused and may try again."""

COMMAND = (sys.executable, "-m", "stageroute_router.charts.worker")


class PaintingError(StageRouteError):
    """A picture cannot be drawn now; the rest of the page can be shown."""


class Painting:
    """Draws one picture after the other, in a process that is started when it is needed. For any thread.

    Args:
        command: starts that process.
        patience_s: see :data:`PATIENCE_S`.
    """

    def __init__(self, *, command: Sequence[str] = COMMAND, patience_s: float = PATIENCE_S) -> None:
        self._command = command
        self._patience_s = patience_s
        self._drawing = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MOST_WAITING)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._kept: OrderedDict[Hashable, str] = OrderedDict()
        self.drawn = 0

    def picture(self, key: Hashable, job: Job) -> str:
        """Return a picture, which may take a moment the first time.

        Args:
            key: names its content; the same key is the same picture.
            job: how to draw it.

        Raises:
            PaintingError: it cannot be drawn now.
        """
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        if not self._waiting.acquire(blocking=False):
            msg = f"{MOST_WAITING} pictures are waiting to be drawn already; ask again in a moment"
            raise PaintingError(msg)
        try:
            with self._drawing:
                if key not in self._kept:
                    self._keep(key, self._draw(job))
                return self._kept[key]
        finally:
            self._waiting.release()

    def prepare(self) -> None:
        """Start the process that draws, unless it runs: its first second passes while the rest of a page is made."""
        if self._drawing.acquire(blocking=False):
            try:
                self._started()
            finally:
                self._drawing.release()

    def close(self) -> None:
        """End the drawing process, if there is one. The next request for a picture starts another."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _keep(self, key: Hashable, picture: str) -> None:
        self._kept[key] = picture
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def _draw(self, job: Job) -> str:
        line = line_of(job)
        for _ in range(2):
            process = self._started()
            answer = self._asked(process, line)
            if answer:
                self.drawn += 1
                drawn = json.loads(answer)
                if "svg" in drawn:
                    return str(drawn["svg"])
                raise PaintingError(f"the picture cannot be drawn: {drawn['error']}")
            # The process ended: it had been idle for ``IDLE_S``, or another thread ended it.
            self.close()
        msg = (
            "the process that draws pictures ends without an answer; the log may say why "
            f"({' '.join(self._command)})"
        )
        raise PaintingError(msg)

    def _asked(self, process: subprocess.Popen[bytes], line: bytes) -> bytes:
        """Return the answer to a job; nothing if the process ended."""
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101
        given_up = threading.Event()

        def give_up() -> None:
            given_up.set()
            process.kill()

        limit = threading.Timer(self._patience_s, give_up)
        limit.daemon = True
        limit.start()
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = b""
        finally:
            limit.cancel()
        if given_up.is_set():
            self.close()
            raise PaintingError(f"the picture took longer than {self._patience_s:g} s and was given up")
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():
            # Forked: the process that draws is the parent's, and so are the pipes to it.
            self._process, self._owner = None, os.getpid()
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        return self._process
