"""The process that draws: one job a line on standard input, one answer a line on standard output, which is JSON.

The first picture waits for the drawing library to load, so the process imports little else. The process ends when its
input ends, or after ``IDLE_S`` without a job. It runs at a low priority, so that a picture never takes a processor from
calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import sys
from base64 import b64decode, b64encode
from dataclasses import dataclass

from stageroute_router.charts.draw import svg
from stageroute_router.charts.drawing import ThemeName
from stageroute_router.charts.figures import ArmsFigure, Figure
from stageroute_router.errors import StageRouteError

IDLE_S = 120.0
"""Seconds without a job after which the process ends and frees its memory, about 150 MB."""

_NICE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A picture to draw.

    Args:
        name: tells it apart from others in the same document; letters, digits and hyphens.
        figure: what it shows.
        label: for those who do not see it.
        theme: its colours.
        width: in pixels.
        zone_minutes: how far the clock of who looks is ahead of UTC.
    """

    name: str
    figure: Figure
    label: str
    theme: ThemeName
    width: int
    zone_minutes: int


def line_of(job: Job) -> bytes:
    """Return a job as a line for the process that draws: pickled, because both ends are ours."""
    return b64encode(pickle.dumps(job)) + b"\n"


def paint(job: Job) -> str:
    """Return the SVG of a job, ready to stand in a document beside others."""
    return svg(
        job.figure,
        label=job.label,
        name=job.name,
        theme=job.theme,
        width=job.width,
        zone_minutes=job.zone_minutes,
    )


def main(idle_s: float = IDLE_S) -> None:
    """Draw until no job has come for ``idle_s`` seconds."""
    os.nice(_NICE)
    if not _asked_within(0.0):
        with contextlib.suppress(StageRouteError):  # where something is missing, the first job says so
            # The first picture takes a second: spend it before the first job.
            svg(ArmsFigure(budget=1.0, rows=()), label="")
    while _asked_within(idle_s):
        line = sys.stdin.buffer.readline()
        if not line:
            return
        try:
            answer = {"svg": paint(pickle.loads(b64decode(line)))}  # noqa: S301 - from the process that started us
        except Exception as error:  # noqa: BLE001 - whatever a picture fails of, the next one may do
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _asked_within(seconds: float) -> bool:
    """Wait for a job, or for the end of the jobs, so long at most; return whether it is there."""
    return bool(select.select([sys.stdin.buffer], [], [], seconds)[0])


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
