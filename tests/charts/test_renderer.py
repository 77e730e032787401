"""The process that draws: started when needed, replaced when it dies, never asked twice for the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stageroute_router.charts.figures import ArmRow, ArmsFigure
from stageroute_router.charts.renderer import COMMAND, MOST_WAITING, Painting, PaintingError
from stageroute_router.charts.worker import Job, line_of


def job(arm: str = "gpt") -> Job:
    row = ArmRow(
        arm=arm,
        state="live",
        reward_lcb=0.1,
        reward_mean=0.5,
        reward_ucb=0.9,
        cost=0.001,
        cost_seen=True,
        share=1.0,
        cap=0.5,
    )
    return Job(
        name="arms",
        figure=ArmsFigure(budget=0.001, rows=(row,)),
        label="one arm",
        theme="light",
        width=600,
        zone_minutes=0,
    )


@pytest.fixture(scope="module")
def painting() -> Iterator[Painting]:
    drawing = Painting()
    yield drawing
    drawing.close()


def test_the_same_picture_is_drawn_once_for_all_who_ask(painting: Painting) -> None:
    before = painting.drawn
    with ThreadPoolExecutor(8) as pool:
        pictures = set(pool.map(lambda _: painting.picture("same", job("same")), range(16)))
    (picture,) = pictures
    assert ">same</text>" in picture
    assert painting.drawn == before + 1
    assert ">other</text>" in painting.picture("other", job("other"))
    assert painting.drawn == before + 2


def test_a_process_that_was_killed_is_replaced(painting: Painting) -> None:
    painting.picture("before", job("before"))
    assert painting._process is not None
    os.kill(painting._process.pid, signal.SIGKILL)
    assert ">after</text>" in painting.picture("after", job("after"))


def test_a_picture_that_cannot_be_drawn_does_not_end_the_process(painting: Painting) -> None:
    painting.picture("good", job("good"))
    process = painting._process
    broken = job()
    object.__setattr__(broken, "width", "wide")
    with pytest.raises(PaintingError, match="cannot be drawn"):
        painting.picture("broken", broken)
    assert ">better</text>" in painting.picture("better", job("better"))
    assert painting._process is process


def test_a_process_that_ends_at_once_is_an_error() -> None:
    painting = Painting(command=(sys.executable, "-c", "pass"))
    with pytest.raises(PaintingError, match="ends without an answer"):
        painting.picture("key", job())
    painting.close()


def test_a_process_that_hangs_is_given_up() -> None:
    painting = Painting(command=(sys.executable, "-c", "import time; time.sleep(600)"), patience_s=0.2)
    with pytest.raises(PaintingError, match=r"longer than 0\.2 s"):
        painting.picture("key", job())
    assert painting._process is None


def test_only_so_many_wait_for_pictures() -> None:
    hangs = (sys.executable, "-c", "import sys; sys.stdin.readline(); sys.stdin.readline()")
    painting = Painting(command=hangs)
    told: list[str] = []

    def ask(number: int) -> None:
        try:
            painting.picture(number, job(str(number)))
        except PaintingError as error:
            told.append(str(error))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(MOST_WAITING + 1)]
    for thread in threads:
        thread.start()
    # The one too many is told at once; the others wait for a process that never answers, until it is ended.
    while not told or painting._process is None:
        threads[0].join(0.01)
    assert "waiting to be drawn already" in told[0]
    process = painting._process
    assert process is not None
    painting._command = (sys.executable, "-c", "pass")
    process.kill()
    for thread in threads:
        thread.join()
    painting.close()


def test_it_ends_when_idle_and_is_started_again() -> None:
    painting = Painting(command=(*COMMAND, "0.05"), patience_s=60)
    # The first job is there before it waits for one.
    assert ">one</text>" in painting.picture("one", job("one"))
    assert painting._process is not None
    assert painting._process.wait(60) == 0
    assert ">two</text>" in painting.picture("two", job("two"))
    painting.close()


def test_it_ends_with_its_input() -> None:
    ended = subprocess.run(COMMAND, input=line_of(job("last")), capture_output=True, check=True)
    assert b">last</text>" in ended.stdout


def test_a_forked_child_has_its_own(painting: Painting) -> None:
    painting.picture("parent", job("parent"))
    assert painting._process is not None
    parents = painting._process.pid
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        drawn = ">child</text>" in painting.picture("child", job("child"))
        own = painting._process is not None and painting._process.pid != parents
        painting.close()
        os._exit(0 if drawn and own else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ">again</text>" in painting.picture("again", job("again"))
    assert painting._process.pid == parents
