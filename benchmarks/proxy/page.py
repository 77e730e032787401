"""How long a person waits for the page of a proxy with a long history, and how much it sends.

    python -m benchmarks.proxy.page [--decisions 1000000] [--looks 5] [--browser PATH] [--json FILE]

A million answered and rewarded decisions are made inside an SQLite file (as in ``benchmarks.durability.history``), and
LiteLLM's proxy is started on it with the plugin. Then Chromium opens ``/stageroute/``, gives the key, and waits until
the first picture is drawn; once right after the proxy has started, then with an empty browser each time (the median
counts). Goals: 2 s, and no response over 300 kB.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Response, sync_playwright
from rich.console import Console
from rich.table import Table

from benchmarks.durability.fixture import ARMS, BUDGET_USD
from benchmarks.durability.history import make_history
from benchmarks.proxy.fixture import GROUP, Proxy
from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.simulated_model import SimulatedModel

PATIENCE_MS = 120_000
FIRST_PICTURE = """() => new Promise((seen) => {
  const look = () => document.querySelector(".canvas svg[role=img]") ? seen() : requestAnimationFrame(look);
  look();
})"""
"""Looks at every frame: Playwright's own locators look up to half a second apart."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def config(provider: SimulatedProvider, *, database_url: str) -> dict[str, Any]:
    """Return the configuration of a proxy whose arms are those of the history."""
    return {
        "model_list": [
            provider.deployment(name, GROUP, model_info={"stageroute": {"arm": name}}) for name in ARMS
        ],
        "stageroute_settings": {
            "database_url": database_url,
            "groups": {GROUP: {"budget_usd_per_call": BUDGET_USD, "max_live_models": len(ARMS)}},
        },
    }


def look(browser: Browser, proxy: Proxy) -> tuple[float, list[int]]:
    """Open the page as a person does; return the seconds to the first picture, and every response's bytes."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    responses: list[Response] = []
    page.on("response", lambda response: responses.append(response))  # noqa: PLW0108 - it is given attributes
    begun = time.perf_counter()
    page.goto(f"{proxy.url}/stageroute/")
    page.get_by_label("Key of the LiteLLM proxy").fill(proxy.master_key)
    page.get_by_role("button", name="Look").click()
    page.evaluate(FIRST_PICTURE)
    took = time.perf_counter() - begun
    page.wait_for_load_state("networkidle")
    sizes = [len(response.body()) for response in responses if response.status == 200]
    context.close()
    return took, sizes


def measure(*, decisions: int, looks: int, browser_path: str | None) -> dict[str, float]:
    """Return what a person waits, and what is sent."""
    with (
        tempfile.TemporaryDirectory() as name,
        SimulatedProvider([SimulatedModel(name=arm) for arm in ARMS], process=True) as provider,
    ):
        path = Path(name, "history.db")
        make_history(path, count=decisions)
        settings = config(provider, database_url=f"sqlite:///{path}")
        with (
            Proxy(settings, folder=Path(name), name="routed") as proxy,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
            first, sizes = look(browser, proxy)
            later = [look(browser, proxy) for _ in range(looks)]
            browser.close()
    sizes += [size for _, sent in later for size in sent]
    return {
        "first look after the start, s": first,
        "later looks, median s": statistics.median(took for took, _ in later),
        "later looks, longest s": max(took for took, _ in later),
        "largest response, kB": max(sizes) / 1000,
        "all of a look, kB": sum(later[-1][1]) / 1000,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--looks", type=int, default=5)
    parser.add_argument(
        "--browser", help="path of a Chromium; by default an installed one, else Playwright's"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    installed = next((path for path in map(shutil.which, BROWSERS) if path is not None), None)
    results = measure(
        decisions=arguments.decisions, looks=arguments.looks, browser_path=arguments.browser or installed
    )
    table = Table("page", f"{arguments.decisions:,} decisions")
    for name, value in results.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
