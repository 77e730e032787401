"""The page over HTTP: who gets what, how large it is, and that nothing is made twice or on the event loop."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from xml.etree import ElementTree

import httpx
import pytest

from stageroute_router.reports.status import GroupStatus
from stageroute_router.reports.warnings import arm_warnings
from tests.support import sample
from tests.support.page_server import PageServer
from tests.support.sample import NASTY, SampleReports

DATA = ["groups", "group?name=chat", "chart?group=chat&kind=spend", "decision?key=call-1"]
KINDS = ["spend", "live-set", "arms"]


@pytest.fixture(scope="module")
def ran() -> SampleReports:
    return sample.ran()


@pytest.fixture
def client(page_server: PageServer, ran: SampleReports) -> Iterator[httpx.Client]:
    page_server.reports = ran
    headers = {"Authorization": f"Bearer {page_server.key}"}
    with httpx.Client(base_url=page_server.url, headers=headers, timeout=60) as asking:
        yield asking


@pytest.mark.parametrize("address", DATA)
@pytest.mark.parametrize(("key", "status"), [(None, 401), ("sk-wrong", 401), ("blind", 403)])
def test_what_is_told_of_groups_needs_a_key(
    page_server: PageServer, ran: SampleReports, address: str, key: str | None, status: int
) -> None:
    page_server.reports = ran
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{page_server.url}page/{address}", headers=headers)
    assert answer.status_code == status
    assert "chat works" not in answer.text


@pytest.mark.parametrize("address", ["", "static/page.css", "static/page.js", "static/icon.svg"])
def test_the_empty_page_needs_none_and_is_taken_once(page_server: PageServer, address: str) -> None:
    answer = httpx.get(page_server.url + address)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    again = httpx.get(page_server.url + address, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_addresses_without_the_slash_lead_to_the_page(page_server: PageServer) -> None:
    answer = httpx.get(page_server.url.rstrip("/"), follow_redirects=True)
    assert str(answer.url) == page_server.url


def test_no_other_file_is_served(page_server: PageServer) -> None:
    for name in ("shell.html", "nothing", "..%2Froutes.py", "%2e%2e/routes.py"):
        assert httpx.get(f"{page_server.url}static/{name}").status_code == 404


@pytest.mark.parametrize("address", DATA)
def test_what_is_told_is_kept_on_no_disk(client: httpx.Client, address: str) -> None:
    answer = client.get(f"page/{address}")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("address", DATA[:3])
def test_what_did_not_change_is_not_told_again(
    client: httpx.Client, page_server: PageServer, ran: SampleReports, address: str
) -> None:
    first = client.get(f"page/{address}")
    tag = first.headers["etag"]
    group = ran.groups["chat"]
    history = ran.history_of["chat"]
    # A little later, without a call: the present moves, traffic fades.
    later = SampleReports(
        [replace(group, calls_per_minute=(group.calls_per_minute or 0.0) * 0.999)],
        stages=ran.stages_of,
        history={"chat": [*history[:-1], replace(history[-1], at=history[-1].at + 5)]},
    )
    later.state = replace(later.state, last_commit_at=1.0)
    page_server.reports = later
    again = client.get(f"page/{address}", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")

    page_server.reports = SampleReports(
        [replace(group, budget_usd_per_call=0.5, calls=4_321)], stages=ran.stages_of, history=ran.history_of
    )
    changed = client.get(f"page/{address}", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.text != first.text


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_say_what_they_show(client: httpx.Client, kind: str) -> None:
    answer = client.get("page/chart", params={"group": "chat", "kind": kind, "theme": "dark", "width": 700})
    assert answer.headers["content-type"] == "image/svg+xml"
    root = ElementTree.fromstring(answer.text)  # noqa: S314
    assert root.get("role") == "img"
    assert len(root.get("aria-label", "")) > 40
    assert not any("http" in value for element in root.iter() for value in element.attrib.values())
    assert 600 < float(root.get("width", "0")) <= 700


def test_nothing_is_large(client: httpx.Client, page_server: PageServer) -> None:
    page_server.reports = sample.many_arms()
    answers = [client.get("page/group", params={"name": "chat", "arms": "all", "stages": "all"})]
    answers += [
        client.get("page/chart", params={"group": "chat", "kind": kind, "width": 1200}) for kind in KINDS
    ]
    page_server.reports = sample.many_segments()
    answers += [
        client.get("page/group", params={"name": "chat", "arms": arms, "stages": "all", "segments": "all"})
        for arms in ("few", "all")
    ]
    page_server.reports = sample.many_groups()
    answers.append(client.get("page/groups"))
    for answer in answers:
        assert answer.status_code == 200
        assert len(answer.content) < 200_000


def test_foreign_text_is_escaped(client: httpx.Client, page_server: PageServer, ran: SampleReports) -> None:
    group = sample.warned(replace(ran.groups["chat"], name=NASTY), sample.warning(NASTY))
    page_server.reports = SampleReports([group], stages={NASTY: ran.stages_of["chat"]})
    for answer in (
        client.get("page/groups"),
        client.get("page/group", params={"name": NASTY}),
        client.get("page/decision", params={"key": NASTY}),
    ):
        assert "<script" not in answer.text
        assert "<img" not in answer.text
        assert "&lt;script&gt;" in answer.text


def test_arms_that_do_not_answer_are_marked_and_why_windows_opened_is_told(
    client: httpx.Client, page_server: PageServer, ran: SampleReports
) -> None:
    group = ran.groups["chat"]
    first, second, *others = group.arms
    failing = {"failing_since": 1_767_276_192.0, "recent_failures": 4, "last_failure": "Timeout"}
    arms = (
        replace(first, availability=0.03, **failing),
        replace(second, availability=0.52, **failing),
        *others,
    )
    stages = ran.stages_of["chat"]
    told = {"outage": "no live arm answered", "recovery": "an arm answered again"}
    for reason, words in told.items():
        page_server.reports = SampleReports(
            [replace(group, arms=arms, stage_reason=reason)],
            stages={"chat": [*stages[:-1], replace(stages[-1], reason=reason)]},
        )
        shown = client.get("page/group", params={"name": "chat"}).text
        assert shown.count(words) == 2
    marks = re.findall(r'<span class="badge failing">(.*?)</span>', shown)
    assert marks == [
        'does not answer since <time datetime="2026-01-01T14:03:12Z">2026-01-01 14:03 UTC</time>',
        "52\u202f% chance of an answer",
    ]
    page_server.reports = ran
    assert "badge failing" not in client.get("page/group", params={"name": "chat"}).text


def test_the_group_that_no_arm_answers_is_listed_first(client: httpx.Client, page_server: PageServer) -> None:
    many = sample.many_groups(40)
    last = many.groups["team-39/chat"]
    arms = tuple(
        replace(arm, availability=0.01, failing_since=1.0, recent_failures=4, last_failure="Timeout")
        for arm in last.arms
    )
    many.change("team-39/chat", arms=arms, warning_details=arm_warnings(arms))
    page_server.reports = many
    shown = client.get("page/groups").text
    assert re.findall(r"team-\d\d", shown)[0] == "team-39"
    assert "does not work</span> no arm answers since 1970-01-01 00:00:01 UTC" in shown


def test_errors_are_told_apart(client: httpx.Client, page_server: PageServer, ran: SampleReports) -> None:
    for address in ("group?name=gone", "chart?group=gone&kind=arms"):
        answer = client.get(f"page/{address}")
        assert answer.status_code == 404
        assert "there are: chat" in answer.json()["detail"]
    unknown = client.get("page/decision?key=gone")
    assert unknown.status_code == 404
    assert "No decision has this id" in unknown.text
    away = SampleReports(list(ran.groups.values()))
    away.outage = True
    page_server.reports = away
    for address in DATA:
        answer = client.get(f"page/{address}")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the database does not answer: connection refused"


@pytest.mark.parametrize(
    "address",
    [
        "group",
        f"group?name={'x' * 600}",
        "chart?group=chat&kind=other",
        "chart?group=chat&kind=arms&theme=pink",
        "chart?group=chat&kind=arms&width=0",
        "chart?group=chat&kind=arms&zone=100000",
    ],
)
def test_what_cannot_be_meant_is_refused(client: httpx.Client, address: str) -> None:
    assert client.get(f"page/{address}").status_code == 422


def test_looking_never_holds_up_the_event_loop(
    client: httpx.Client, page_server: PageServer, ran: SampleReports
) -> None:
    """While reports wait for a database, the server goes on answering."""
    asked, go_on = threading.Event(), threading.Event()

    class Slow(SampleReports):
        def group_status(self, group: str) -> GroupStatus:
            asked.set()
            assert go_on.wait(30)
            return super().group_status(group)

    page_server.reports = Slow(list(ran.groups.values()))
    answers: list[int] = []
    looking = threading.Thread(target=lambda: answers.append(client.get("page/group?name=chat").status_code))
    looking.start()
    try:
        assert asked.wait(30)
        assert httpx.get(page_server.url).status_code == 200
        assert answers == []
    finally:
        go_on.set()
        looking.join()
    assert answers == [200]
