"""How long the page at /stageroute/ takes to load, and what it costs the process that serves it.

    python -m benchmarks.proxy.page_process [--decisions 1000000] [--json FILE]

The page is served from an SQLite file of so many answered and rewarded decisions, by Uvicorn in a process of its own.
One after the other, as a browser asks: the shell, the list of groups, the group, its charts. "First" is with nothing
running yet: the process that draws starts, and reads its library and V8. "Again" is the median of nine further looks
at a picture that must be drawn anew (another width each time); "same" of nine that find it drawn already.

Pauses are those of a thread of the serving process that wants to wake every millisecond while pictures are drawn: what
calls would notice. For comparison, the same while that process draws by itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import uvicorn
from fastapi import FastAPI
from rich.console import Console
from rich.table import Table

from benchmarks.durability.fixture import GROUP
from benchmarks.durability.history import make_history
from stageroute_router.page import page_router
from stageroute_router.page.routes import WIDTHS
from stageroute_router.reports.database import StoredReports

KINDS = ("spend", "live-set", "arms")
LOOKS = 9


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        _serve(asked.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.db"
        make_history(path, count=asked.decisions)
        measured = measure(f"sqlite:///{path}")
    measured["decisions"] = asked.decisions
    _show(measured)
    if asked.json:
        asked.json.write_text(json.dumps(measured, indent=2), encoding="utf-8")


def measure(database_url: str) -> dict[str, float]:
    """Return seconds and megabytes by what they are of."""
    command = [sys.executable, "-m", "benchmarks.proxy.page_process", "--serve", database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None  # noqa: S101 - for the type checker
            url = server.stdout.readline().strip()
            with httpx.Client(base_url=url, timeout=120) as client:
                return _looks(client, psutil.Process(server.pid))
        finally:
            server.terminate()


def _looks(client: httpx.Client, process: psutil.Process) -> dict[str, float]:
    found: dict[str, float] = {}
    client.get("")
    alone = process.memory_info().rss
    started = time.perf_counter()
    client.get("page/groups").raise_for_status()
    client.get("page/group", params={"name": GROUP}).raise_for_status()
    found["first text, s"] = time.perf_counter() - started
    for number, kind in enumerate(KINDS):
        _chart(client, kind, width=720)
        if number == 0:
            found["first picture, s"] = time.perf_counter() - started
    found["first three pictures, s"] = time.perf_counter() - started
    found["text again, s"] = _median(lambda _: client.get("page/group", params={"name": GROUP}))
    found["picture drawn anew, s"] = _median(lambda number: _chart(client, "arms", width=WIDTHS[number]))
    found["picture drawn already, s"] = _median(lambda _: _chart(client, "arms", width=720))
    found["server's memory, MB more than before"] = (process.memory_info().rss - alone) / 1e6
    children = process.children()
    found["memory of the process that draws, MB"] = sum(child.memory_info().rss for child in children) / 1e6
    pauses = client.get("pauses").json()
    found["longest pause while another process draws, ms"] = pauses["another"]
    found["longest pause while the same process draws, ms"] = pauses["same"]
    return found


def _chart(client: httpx.Client, kind: str, *, width: int) -> None:
    client.get("page/chart", params={"group": GROUP, "kind": kind, "width": width}).raise_for_status()


def _median(look: Callable[[int], object]) -> float:
    seconds = []
    for number in range(LOOKS):
        started = time.perf_counter()
        look(number)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _serve(database_url: str) -> None:
    """Serve the page until terminated; write its address to standard output first."""
    reports = StoredReports(database_url)
    app = FastAPI()

    @app.get("/stageroute/pauses")
    def pauses() -> dict[str, float]:
        return _pauses(reports)

    app.include_router(page_router(reports=lambda: reports, may_read=lambda: None))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))

    def tell() -> None:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}/stageroute/", flush=True)

    threading.Thread(target=tell, daemon=True).start()
    server.run()


def _pauses(reports: StoredReports) -> dict[str, float]:
    from stageroute_router.charts.renderer import Painting  # noqa: PLC0415
    from stageroute_router.charts.worker import Job, paint  # noqa: PLC0415 - what a server does without
    from stageroute_router.page.series import arms_figure  # noqa: PLC0415

    figure = arms_figure(reports.group_status(GROUP))

    def job(width: int) -> Job:
        return Job(name="arms", figure=figure, label="arms", theme="light", width=width, zone_minutes=0)

    painting = Painting()
    painting.picture("first", job(700))
    paint(job(700))
    another = _longest_pause(lambda: [painting.picture(width, job(width)) for width in range(701, 711)])
    same = _longest_pause(lambda: [paint(job(width)) for width in range(701, 711)])
    painting.close()
    return {"another": another, "same": same}


def _longest_pause(work: Callable[[], object]) -> float:
    """Return for how many milliseconds a thread was kept from running, at most, while something was done."""
    over = threading.Event()
    longest = 0.0

    def beat() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not over.wait(0.001):
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        work()
    finally:
        over.set()
        beating.join()
    return 1000 * longest


def _show(measured: dict[str, float]) -> None:
    table = Table(title=f"The page over {measured['decisions']:,} decisions")
    table.add_column("what")
    table.add_column("measured", justify="right")
    for what, value in measured.items():
        if what != "decisions":
            table.add_row(what, f"{value:.3f}" if what.endswith(" s") else f"{value:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
