"""The page inside LiteLLM's real proxy: real calls, real keys, a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import Browser, expect

from stageroute_router.testing.provider.provider import SimulatedProvider
from stageroute_router.testing.proxy_process import ProxyProcess
from stageroute_router.testing.simulated_model import SimulatedModel
from tests.support.page_watcher import PATIENCE_MS

CALLS = 40


@dataclass(frozen=True)
class Proxy:
    """A proxy that has routed some calls.

    Args:
        process: the proxy.
        decision_id: of one of the calls.
    """

    process: ProxyProcess
    decision_id: str

    @property
    def page(self) -> str:
        """Address of the page."""
        return f"{self.process.url}/stageroute/"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One proxy with a group of two models."""
    folder = tmp_path_factory.mktemp("proxy")
    models = [
        SimulatedModel(
            name=name, reward_mean=reward, input_usd_per_token=price, output_usd_per_token=2 * price
        )
        for name, reward, price in (("small", 0.4, 1e-7), ("large", 0.8, 2e-6))
    ]
    with SimulatedProvider(models, seed=1) as provider:
        configuration = {
            "model_list": provider.model_list("chat"),
            "stageroute_settings": {
                "groups": {"chat": {"budget_usd_per_call": 0.0002, "max_live_models": 2}},
                "database_url": f"sqlite:///{folder / 'stageroute.db'}",
            },
        }
        with ProxyProcess(configuration, folder=folder) as process, process.client() as client:
            for _ in range(CALLS):
                asked = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
                answer = client.post("/v1/chat/completions", json=asked)
                answer.raise_for_status()
            yield Proxy(process=process, decision_id=answer.headers["x-stageroute-decision-id"])


@pytest.mark.parametrize("key", [None, "sk-of-a-stranger"])
def test_strangers_are_told_nothing(proxy: Proxy, key: str | None) -> None:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    assert httpx.get(proxy.page, headers=headers, timeout=60).status_code == 200
    for address in ("page/groups", "page/group?name=chat", "page/chart?group=chat&kind=arms"):
        answer = httpx.get(proxy.page + address, headers=headers, timeout=60)
        assert answer.status_code == 401, answer.text
        assert "small" not in answer.text


def test_an_operator_looks_at_calls_through_the_proxy(chromium: Browser, proxy: Proxy) -> None:
    context = chromium.new_context()
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(proxy.page)
    page.get_by_label("Key of the LiteLLM proxy").fill(proxy.process.master_key)
    page.get_by_role("button", name="Look").click()
    expect(page.locator("#verdict h1")).to_have_text(re.compile("^chat works: "), timeout=PATIENCE_MS)
    expect(page.locator("#figures")).to_contain_text(str(CALLS))
    expect(page.locator(".canvas svg[role=img]")).to_have_count(3, timeout=PATIENCE_MS)
    expect(page.get_by_role("region", name="Table of arms").get_by_role("row")).to_have_count(3)
    page.get_by_label("Its decision, response or call id").fill(proxy.decision_id)
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("heading", name="Why this call went to")).to_be_visible()
    expect(page.locator("#answer")).to_contain_text(proxy.decision_id)
    assert said == []
    context.close()
