"""Random ids are unique, among threads and among processes forked from one another."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from stageroute_router.process.ids import RandomIds, random_128

THREADS = 8
EACH = 2_000


def test_threads_never_get_the_same_number(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    real = os.urandom

    def counted(size: int) -> bytes:
        fetched.append(size)
        return real(size)

    monkeypatch.setattr(os, "urandom", counted)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        ids = RandomIds()
        with ThreadPoolExecutor(THREADS) as pool:
            taken = list(pool.map(lambda _: [ids.next() for _ in range(EACH)], range(THREADS)))
    finally:
        sys.setswitchinterval(interval)
    numbers = {number for numbers in taken for number in numbers}
    assert len(numbers) == THREADS * EACH
    assert all(0 <= number < 1 << 128 for number in numbers)
    assert max(numbers) >= 1 << 120, "all 128 bits are used"
    assert len(fetched) < THREADS * EACH / 10, "the system is asked for many at a time"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python warns of any fork with threads
def test_a_forked_child_does_not_repeat_its_parent() -> None:
    random_128()  # so that some are at hand when the process forks
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(str(random_128()) for _ in range(20)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        childs = {int(number) for number in pipe.read().split()}
    os.waitpid(child, 0)
    assert len(childs) == 20
    assert childs.isdisjoint({random_128() for _ in range(256)})
