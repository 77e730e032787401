"""Reports rewards over a writer until it is killed; run by ``test_crash.py``, not a test itself.

Every acknowledged reward is written to standard output, in one unbuffered write, after its future was
resolved.
"""

from __future__ import annotations

import os
import sys
import threading

from stageroute_router.store.sql import SqlStore
from stageroute_router.store.writer import Writer
from stageroute_router.testing.writes import decided, failed, rewarded, settled, withdrawn


def work(writer: Writer, name: str) -> None:
    """Decide, settle and reward, each call a little differently, for ever."""
    number = 0
    while True:
        number += 1
        one = f"{name}-{number}"
        writer.submit(decided(one, arm=f"arm{number % 3}"))
        if number % 5 == 0:
            writer.submit(failed(one, reward=0.0))
        elif number % 11 == 0:
            writer.submit(decided(f"{one}-cached"))
            writer.submit(withdrawn(f"{one}-cached"))
        else:
            writer.submit(
                settled(one, arm=f"arm{number % 2}", cost_usd=0.001 * (number % 7), response=f"r-{one}")
            )
        reward = (number % 10) / 10
        receipt = writer.submit_reward(rewarded(f"call-{one}", reward)).result()
        assert receipt.status == "recorded", receipt
        os.write(1, f"{one} {reward}\n".encode())


def main() -> None:
    """Work in several threads, so that commits are shared."""
    url, name = sys.argv[1:]
    writer = Writer(SqlStore(url))
    os.write(1, b"ready\n")
    for thread in range(4):
        threading.Thread(target=work, args=(writer, f"{name}.{thread}"), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
