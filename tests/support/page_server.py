"""The page in a real server on a free port, in a thread of the tests' process; any reports can be put behind it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from fastapi import FastAPI, HTTPException, Request

from stageroute_router.page import page_router
from stageroute_router.reports import Reports


@dataclass
class PageServer:
    """Serves the page of whatever ``reports`` are put here.

    Args:
        url: of the page.
        key: the only one that may look; ``"blind"`` is a good one that may not.
        reports: what is shown.
    """

    url: str
    key: str
    reports: Reports
    asked: list[str] = field(default_factory=list)


@contextmanager
def served(reports: Reports) -> Iterator[PageServer]:
    """Serve the page, as LiteLLM's proxy would: a key in the Authorization header."""
    server = PageServer(url="", key=f"sk-{secrets.token_hex(8)}", reports=reports)

    def may_read(request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if given == "blind":
            raise HTTPException(403, "this key may not look")
        if given != server.key:
            raise HTTPException(401, "no such key")

    app = FastAPI()

    @app.middleware("http")
    async def note(request: Request, call_next):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        server.asked.append(str(request.url))
        return await call_next(request)

    app.include_router(page_router(reports=lambda: server.reports, may_read=may_read))
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        thread.join(0.01)
        assert thread.is_alive(), "the server did not start"
    port = running.servers[0].sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}/stageroute/"
    try:
        yield server
    finally:
        running.should_exit = True
        thread.join()
