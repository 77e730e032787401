"""What a proxy reports arrives as the same values, and what goes wrong on the way is said in plain words."""

from __future__ import annotations

import inspect
import math
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from stageroute_router.errors import ProxyError, ProxyUnavailableError, SettingsError, StageRouteError
from stageroute_router.reports import Reports, endpoints
from stageroute_router.reports.remote import ProxyReports
from stageroute_router.reports.status import Status

KEY = "sk-a-key-that-must-stay-secret"


@pytest.fixture
def client(proxy: Any) -> Iterator[ProxyReports]:
    with ProxyReports(proxy.url, timeout_s=10) as made:
        yield made


def failure(client: ProxyReports, ask: Callable[[ProxyReports], object] = ProxyReports.status) -> str:
    """Return what the error of a request says; never the key, and no line breaks."""
    with pytest.raises(StageRouteError) as caught:
        ask(client)
    said = str(caught.value)
    assert KEY not in said
    assert "\n" not in said
    return said


def test_every_report_arrives_as_the_value_it_was(client: ProxyReports, proxy: Any) -> None:
    reports = client
    assert reports.status() == Status(groups=proxy.groups)
    assert reports.group_status("chat") == proxy.groups[0]
    assert tuple(reports.stages("chat", last=3)) == proxy.stages[-3:]
    assert len(reports.history("chat", points=7)) == 7
    assert reports.receipt("chatcmpl-1") == proxy.receipts["chatcmpl-1"]
    assert reports.health() == proxy.health
    assert client.redeploy("chat").stage == proxy.groups[0].stage + 1
    arm = proxy.groups[0].arms[0].name
    for pinned in (True, False, None):
        after = client.pin("chat", arm, pinned=pinned).arms[0]
        assert (after.pinned, after.pinned_by) == (bool(pinned), proxy.pinned_by[pinned])


def test_infinities_survive_the_journey(client: ProxyReports, proxy: Any) -> None:
    proxy.groups = (replace(proxy.groups[0], shadow_price=math.inf, feasible=False),)
    proxy.receipts = {"x": replace(proxy.receipts["chatcmpl-1"], shadow_price=math.inf)}
    assert client.status().groups == proxy.groups
    receipt = client.receipt("x")
    assert receipt == proxy.receipts["x"]
    assert receipt.alternatives[1].value is None, "what may be None is not taken for an infinity"


def test_ids_and_groups_may_have_any_characters(client: ProxyReports, proxy: Any) -> None:
    for odd in ("a/b c?d#e%2F", "..", "../status", "é"):
        proxy.groups = (replace(proxy.groups[0], name=odd),)
        proxy.receipts = {odd: proxy.receipts.get("chatcmpl-1") or next(iter(proxy.receipts.values()))}
        if ".." not in odd:  # which proxies in between resolve
            assert client.receipt(odd) is not None
            assert client.redeploy(odd).name == odd
        else:
            with pytest.raises(SettingsError, match="cannot be asked for"):
                client.receipt(odd)


def test_unhealthy_is_an_answer_though_its_status_is_503(client: ProxyReports, proxy: Any) -> None:
    proxy.health = replace(proxy.health, state="unhealthy", since=1.0, reason="the disk is full", dropped=3)
    assert client.health() == proxy.health


def test_unknown_group_is_a_settings_error_and_unknown_decision_none(client: ProxyReports) -> None:
    with pytest.raises(SettingsError, match="no managed group 'nope'; there are: chat"):
        client.group_status("nope")
    for ask in (
        lambda: client.stages("nope"),
        lambda: client.redeploy("nope"),
        lambda: client.pin("nope", "a"),
    ):
        with pytest.raises(SettingsError, match="no such group"):
            ask()
    assert client.receipt("nope") is None


def test_key_is_sent_and_a_wrong_or_missing_one_named_without_repeating_it(proxy: Any) -> None:
    proxy.key = KEY
    with ProxyReports(proxy.url, KEY) as client:
        assert client.status().groups == proxy.groups
    with ProxyReports(proxy.url) as client:
        said = failure(client)
        assert "asks for a key (401)" in said
        assert "STAGEROUTE_KEY" in said
    with ProxyReports(proxy.url, "sk-1234") as client:
        said = failure(client)
        assert "does not accept this key (401)" in said
        assert "1234" not in said, "what LiteLLM says of keys has parts of them"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _: JSONResponse({"error": {"message": "Invalid key sk-...1234"}}, 403), "(403)"),
        (lambda _: JSONResponse({"detail": "Not Found"}, 404), "the plugin is not loaded"),
        (lambda _: PlainTextResponse("gone", 404), "the plugin is not loaded"),
        (
            lambda _: JSONResponse({"error": {"message": "no", "code": "404"}}, 404),
            "the plugin is not loaded",
        ),
        (lambda _: JSONResponse({"detail": "Method Not Allowed"}, 405), "older than this command"),
        (lambda _: RedirectResponse("https://elsewhere.example/login", 302), "points to 'https://elsewhere"),
        (lambda _: JSONResponse({"detail": "boom\x1b[2J"}, 500), "failed (500: boom[2J); its log"),
        (lambda _: JSONResponse({"error": {"message": "starting"}}, 503), "not ready (503: starting)"),
        (lambda _: PlainTextResponse("busy", 429), "no more now (429)"),
        (lambda _: JSONResponse({"error": "odd"}, 418), "refused the request (418: odd)"),
        (lambda _: PlainTextResponse("<html>"), "its answer is not JSON"),
        (lambda _: JSONResponse({"status": "ok"}), "groups: Field required"),
        (lambda _: JSONResponse({"groups": [{"name": 1}]}), "no proxy with StageRoute"),
        (lambda _: JSONResponse([]), "no proxy with StageRoute"),
    ],
)
def test_other_answers_are_explained(
    client: ProxyReports, proxy: Any, answer: Callable[[Request], Response], said: str
) -> None:
    proxy.answer = answer
    assert said in failure(client)


def test_a_404_that_is_not_stageroutes_is_no_unknown_decision(client: ProxyReports, proxy: Any) -> None:
    proxy.answer = lambda _: JSONResponse({"detail": "Not Found"}, 404)
    assert "the plugin is not loaded" in failure(client, lambda asked: asked.receipt("d"))


def test_a_port_without_a_listener(dead_url: str) -> None:
    with ProxyReports(dead_url) as client, pytest.raises(ProxyUnavailableError, match="nothing answers at"):
        client.status()


def test_unknown_host() -> None:
    with ProxyReports("http://no-such-host.invalid:4000") as client:
        assert "nothing answers at http://no-such-host.invalid:4000" in failure(client)


def test_proxy_that_hangs(proxy: Any) -> None:
    proxy.released.clear()
    with ProxyReports(proxy.url, timeout_s=0.2) as client:
        assert "did not answer within 0.2 s" in failure(client)


def test_connection_that_breaks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def slam() -> None:
            connection, _ = server.accept()
            connection.close()

        thread = threading.Thread(target=slam)
        thread.start()
        with ProxyReports(f"http://127.0.0.1:{server.getsockname()[1]}") as client:
            assert "broke" in failure(client)
        thread.join()


def test_https_where_only_http_is_spoken(proxy: Any) -> None:
    assert ssl.OPENSSL_VERSION  # what the message depends on
    with ProxyReports(proxy.url.replace("http:", "https:")) as client:
        assert "does not speak TLS" in failure(client)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://user:{KEY}@host", "has a user, password"),
        (f"http://{KEY}@host", "has a user, password"),
        (f"http://host?key={KEY}", "has a user, password, query"),
        (f"http://host/#{KEY}", "fragment"),
        ("host:4000", "such as http://localhost:4000"),
        ("ftp://host", "such as http://localhost:4000"),
        ("http://", "such as http://localhost:4000"),
        ("", "such as http://localhost:4000"),
        ("http://host:port", "cannot be used"),
        ("http://a\x00b", "cannot be used"),
    ],
)
def test_url_that_cannot_be_used(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        ProxyReports(url)
    assert said in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", ["", " ", "a\nb", "schlüssel", "a "])
def test_key_that_cannot_be_sent(key: str) -> None:
    with pytest.raises(SettingsError, match="key for the proxy cannot be sent"):
        ProxyReports("http://host", key)


@pytest.mark.parametrize("suffix", ["/", "/stageroute", "/stageroute/"])
def test_url_may_be_what_the_browser_shows(proxy: Any, suffix: str) -> None:
    with ProxyReports(proxy.url + suffix) as client:
        assert client.url == proxy.url
        assert client.status().groups


def test_redirect_does_not_take_the_key_elsewhere(proxy: Any) -> None:
    proxy.answer = lambda _: RedirectResponse(f"{proxy.url}/elsewhere", 307)
    with ProxyReports(proxy.url, KEY) as client, pytest.raises(ProxyError, match="points to"):
        client.status()
    assert proxy.asked == ["GET /stageroute/status"]


def test_numbers_in_queries_have_the_defaults_of_the_methods() -> None:
    for endpoint, method in ((endpoints.STAGES, "stages"), (endpoints.HISTORY, "history")):
        for name, count in endpoint.query.items():
            for reports in (Reports, ProxyReports):
                assert inspect.signature(getattr(reports, method)).parameters[name].default == count.default
