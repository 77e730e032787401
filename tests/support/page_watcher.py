"""A browser that opens the page and records what it requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Response, expect

from stageroute_router.reports import Reports
from tests.support.page_server import PageServer

PATIENCE_MS = 60_000
"""The first picture takes a process to start, which a loaded machine may take long for."""


@dataclass(frozen=True)
class Answer:
    """What the server answered."""

    path: str
    status: int


class Watcher:
    """Opens pages, and keeps everything that they said and asked for.

    Args:
        browser: where pages are opened.
        server: of the page.
    """

    def __init__(self, browser: Browser, server: PageServer) -> None:
        self._browser = browser
        self.server = server
        self._contexts: list[Any] = []
        self.said: list[str] = []
        self.requests: list[str] = []
        self.answers: list[Answer] = []

    def open(
        self,
        reports: Reports,
        *,
        width: int = 1280,
        scheme: str = "light",
        log_in: bool = True,
        at: str = "",
        clock: bool = False,
    ) -> Page:
        """Open the page of some reports; where ``clock``, its time stands still until the test moves it."""
        self.server.reports = reports
        context = self._browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
            locale="en-GB",
            timezone_id="Europe/Berlin",
        )
        self._contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(repr(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("response", self._answered)
        if clock:
            page.clock.install()
        page.goto(self.server.url + at)
        if log_in:
            self.log_in(page)
        return page

    def log_in(self, page: Page) -> None:
        """Give the key, and wait for the first look."""
        page.get_by_label("Key of the LiteLLM proxy").fill(self.server.key)
        page.get_by_role("button", name="Look").click()
        expect(page.locator("#content h1")).to_be_visible(timeout=PATIENCE_MS)

    def wait_for_charts(self, page: Page, count: int) -> None:
        """Wait until so many charts are drawn."""
        expect(page.locator(".canvas svg[role=img]")).to_have_count(count, timeout=PATIENCE_MS)

    def close(self) -> None:
        """Close everything; check that no other host was requested and that no address had a key."""
        for context in self._contexts:
            context.close()
        host = urlsplit(self.server.url).netloc
        assert [url for url in self.requests if urlsplit(url).netloc != host] == []
        assert [url for url in self.requests if self.server.key in url] == []

    def statuses(self, path: str) -> list[int]:
        """Return how requests for a path were answered."""
        return [answer.status for answer in self.answers if answer.path == path]

    def _answered(self, response: Response) -> None:
        path = urlsplit(response.url).path.removeprefix("/stageroute/")
        self.answers.append(Answer(path=path, status=response.status))
