"""One server for all tests of the page that a worker runs, and a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from stageroute_router.page import cache
from tests.page import browser as browsers
from tests.support.page_server import PageServer, served
from tests.support.page_watcher import Watcher
from tests.support.sample import SampleReports


@pytest.fixture(scope="session")
def page_server() -> Iterator[PageServer]:
    """The page, of reports that each test puts there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "FRESH_S", 0.0)  # the next test's reports are other ones
        with served(SampleReports([])) as server:
            yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser, for one module: Playwright's event loop stands in the way of tests that run one themselves."""
    path = browsers.find()
    if path is None:
        if os.environ.get("CI"):
            pytest.fail(browsers.MISSING)
        pytest.skip(browsers.MISSING)
    expect.set_options(timeout=30_000)  # a loaded machine is slow, and no reason to fail
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",  # as root there is none
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-default-apps",
                "--no-first-run",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def watcher(chromium: Browser, page_server: PageServer) -> Iterator[Watcher]:
    """A browser that opens the page, and checks at the end what must never happen."""
    watching = Watcher(chromium, page_server)
    yield watching
    watching.close()
