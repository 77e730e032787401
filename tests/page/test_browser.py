"""The page in a real browser: what an operator sees, and what happens when something does not work."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from stageroute_router.reports.warnings import arm_warnings
from stageroute_router.store.health import Health
from tests.support import sample
from tests.support.page_watcher import PATIENCE_MS, Watcher
from tests.support.sample import NASTY, SampleReports

TEN_SECONDS = 10_500


@pytest.fixture(scope="module")
def ran() -> SampleReports:
    return sample.ran()


def group_changed(reports: SampleReports, **values: object) -> SampleReports:
    """Return the same reports with another status; tests do not change what they share."""
    group = replace(reports.groups["chat"], **values)  # type: ignore[arg-type]
    return SampleReports(
        [group],
        stages=reports.stages_of,
        history=reports.history_of,
        receipts=list(reports.receipts.values()),
    )


def copied(reports: SampleReports) -> SampleReports:
    return group_changed(reports)


# --- who may look ---------------------------------------------------------------------------------------


def test_asks_for_a_key_and_keeps_it_in_this_tab_only(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran, log_in=False)
    expect(page.get_by_label("Key of the LiteLLM proxy")).to_be_focused()
    assert [url for url in watcher.requests if "/page/" in url] == []

    watcher.log_in(page)
    assert page.evaluate("Object.values(sessionStorage)") == [watcher.server.key]
    assert watcher.server.key not in str(page.evaluate("[Object.entries(localStorage), document.cookie]"))
    assert watcher.server.key not in page.url
    page.reload()
    expect(page.locator("#verdict h1")).to_contain_text("chat works")

    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_label("Key of the LiteLLM proxy")).to_be_focused()
    expect(page.locator("#content")).to_be_empty()
    assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize(
    ("key", "told"), [("sk-wrong", "This key was not accepted"), ("blind", "This key may not look")]
)
def test_a_wrong_key_is_said_so_and_asked_for_again(
    watcher: Watcher, ran: SampleReports, key: str, told: str
) -> None:
    page = watcher.open(ran, log_in=False)
    field = page.get_by_label("Key of the LiteLLM proxy")
    field.fill(key)
    field.press("Enter")
    expect(page.get_by_role("alert").filter(has_text=told)).to_be_visible()
    expect(field).to_be_focused()
    expect(field).to_have_value("")
    expect(field).to_have_attribute("aria-invalid", "true")
    assert page.evaluate("sessionStorage.length") == 0
    watcher.log_in(page)
    expect(page.locator("#verdict h1")).to_contain_text("chat works")


def test_a_key_that_is_taken_back_is_asked_for_again(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran, clock=True)
    key, watcher.server.key = watcher.server.key, "sk-another"
    try:
        page.clock.run_for(TEN_SECONDS)
        expect(page.get_by_role("alert").filter(has_text="not accepted")).to_be_visible()
        expect(page.locator("#content")).to_be_empty()
    finally:
        watcher.server.key = key


# --- one look -------------------------------------------------------------------------------------------


def test_one_look_tells_whether_it_works(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran)
    group = ran.groups["chat"]
    expect(page.get_by_role("heading", level=1)).to_have_text(
        re.compile(r"chat works: it spends [\d.]+\s%\sof its budget, and answers earn 0\.\d{3} on average\.")
    )
    expect(page).to_have_title(re.compile("^chat works"))
    assert group.spend_ratio is not None
    expect(page.locator("#figures")).to_contain_text(f"{group.spend_ratio:.1%}".replace("%", "\u202f%"))
    expect(page.locator("#spend")).to_contain_text(
        re.compile(r"\$1 more per [\d,]+ calls buys \+0\.\d+ reward")
    )
    expect(page.locator("#live-set")).to_contain_text(f"Stage {group.stage} opened")

    watcher.wait_for_charts(page, 3)
    for label in ("Spend per call over time", "Which arms were live", "Bounds and mean of each arm"):
        expect(page.get_by_role("img", name=re.compile(label))).to_be_visible()

    arms = page.get_by_role("region", name="Table of arms")
    expect(arms.get_by_role("row")).to_have_count(1 + len(group.arms))
    best = next(arm for arm in group.arms if arm.live)
    row = arms.get_by_role("row").filter(has=page.get_by_role("rowheader", name=best.name, exact=True))
    expect(row).to_contain_text(f"{best.reward_lcb:.3f} … {best.reward_ucb:.3f}")
    expect(row).to_contain_text(f"{best.pulls:,}")

    latest = ran.stages("chat")[-1]
    stages = page.get_by_role("region", name="Table of stages").get_by_role("row")
    for move in latest.moves:
        expect(stages.nth(1)).to_contain_text(move.arm)
        expect(stages.nth(1)).to_contain_text(move.why)
    expect(page.locator("#segments")).to_have_count(0)  # its calls are not told apart
    page.get_by_role("button", name=f"Show the latest {len(ran.stages('chat'))} stages").click()
    expect(stages).to_have_count(1 + len(ran.stages("chat")))
    assert watcher.said == []


def test_times_are_those_of_who_looks(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran)
    watcher.wait_for_charts(page, 3)
    expect(page.locator("#spend svg")).to_contain_text("UTC+1")
    opened = page.locator("#live-set time").first
    machine = opened.get_attribute("datetime") or ""
    local = f"{(int(machine[11:13]) + 1) % 24:02}:{machine[14:16]}"
    expect(opened).to_contain_text(local)


def test_says_why_it_needs_attention(watcher: Watcher, ran: SampleReports) -> None:
    reports = group_changed(ran, feasible=False, shadow_price=float("inf"), reward_coverage=0.0)
    reports.state = Health(
        state="degraded",
        since=sample.START,
        reason="the database does not answer: connection refused",
        queued=12,
        dropped=0,
        rejected=0,
        last_commit_at=None,
    )
    page = watcher.open(reports)
    expect(page.get_by_role("heading", level=1)).to_have_text(
        "chat needs attention: the database does not store what is learned, and 2 more."
    )
    expect(page).to_have_title(re.compile("^⚠ chat needs attention"))
    expect(page.locator("#verdict li")).to_have_count(3)
    expect(page.locator("#verdict")).to_contain_text("12 writes queued")
    expect(page.locator("#spend")).to_contain_text("No mixture of the live arms keeps the budget.")
    watcher.wait_for_charts(page, 3)
    assert watcher.said == []


def with_arms_that_do_not_answer(reports: SampleReports) -> SampleReports:
    """Return the same reports where one live arm does not answer and another answers half of its calls."""
    first, second, *others = reports.groups["chat"].arms
    failing = {"failing_since": sample.START, "recent_failures": 7, "last_failure": "Timeout"}
    arms = (
        replace(first, availability=0.02, probability=0.0, **failing),
        replace(second, availability=0.5, **failing),
        *others,
    )
    return group_changed(reports, arms=arms, warning_details=arm_warnings(arms))


def test_says_first_who_does_not_answer_and_is_green_again_when_it_does(
    watcher: Watcher, ran: SampleReports
) -> None:
    reports = with_arms_that_do_not_answer(ran)
    down, unsteady, *_ = reports.groups["chat"].arms
    page = watcher.open(reports, clock=True)
    title = page.locator("#verdict h1")
    expect(title).to_contain_text(
        f"chat needs attention: {down.name} does not answer since 2026-01-01 00:00:00 UTC (calls go to "
    )
    expect(page.locator("#verdict li")).to_have_count(2)
    row = page.get_by_role("row", name=down.name)
    expect(row.locator(".badge.failing")).to_contain_text("does not answer since")
    row = page.get_by_role("row", name=unsteady.name)
    expect(row.locator(".badge.failing")).to_have_text("50\u202f% chance of an answer")
    watcher.server.reports = ran
    page.clock.run_for(TEN_SECONDS)
    expect(title).to_contain_text("chat works")
    expect(page.locator(".badge.failing")).to_have_count(0)


# --- looking again --------------------------------------------------------------------------------------


def test_looks_again_every_ten_seconds_and_takes_nothing_twice(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(copied(ran), clock=True)
    watcher.wait_for_charts(page, 3)
    drawn = len(watcher.statuses("page/chart"))
    assert watcher.statuses("page/group") == [200]
    with page.expect_response(re.compile("page/group")) as answer:
        page.clock.run_for(TEN_SECONDS)
    assert answer.value.status == 304
    assert len(watcher.statuses("page/chart")) == drawn
    assert watcher.said == []


def test_a_change_is_shown_and_announced_without_losing_the_place(watcher: Watcher) -> None:
    reports = sample.many_arms()
    page = watcher.open(reports, width=700, clock=True)
    watcher.wait_for_charts(page, 3)
    more = page.get_by_role("button", name="Show all 200 arms")
    more.click()
    fewer = page.get_by_role("button", name="Show fewer arms")
    expect(fewer).to_be_focused()
    table = page.locator("#arms-scroll")
    table.evaluate("box => { box.scrollLeft = 60; scrollTo(0, 2000); }")
    place = page.evaluate("scrollY")
    assert place > 0

    group = reports.groups["chat"]
    arms = (replace(group.arms[0], pulls=987_654), *group.arms[1:])
    reports.change("chat", spend_ratio=1.5, arms=arms)
    page.clock.run_for(TEN_SECONDS)
    expect(page.locator("#verdict h1")).to_contain_text("needs attention: it spends 150")
    expect(page.get_by_role("status")).to_contain_text("needs attention: it spends 150")
    expect(table).to_contain_text("987,654")
    expect(fewer).to_be_focused()
    assert table.evaluate("box => box.scrollLeft") == 60
    assert abs(page.evaluate("scrollY") - place) < 120  # the reason is a line more above
    assert watcher.said == []


def test_pausing_and_hiding_stop_looking(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(copied(ran), clock=True)
    watcher.wait_for_charts(page, 3)
    pause = page.get_by_role("button", name="Pause")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    looks = len(watcher.statuses("page/group"))
    page.clock.run_for(5 * TEN_SECONDS)
    assert len(watcher.statuses("page/group")) == looks
    with page.expect_response(re.compile("page/group")):
        pause.click()

    hide = "hidden => { Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, arg=True)
    looks = len(watcher.statuses("page/group"))
    page.clock.run_for(5 * TEN_SECONDS)
    assert len(watcher.statuses("page/group")) == looks
    with page.expect_response(re.compile("page/group")):
        page.evaluate(hide, arg=False)


# --- when something does not work -----------------------------------------------------------------------


def test_an_outage_keeps_what_is_shown(watcher: Watcher, ran: SampleReports) -> None:
    reports = copied(ran)
    page = watcher.open(reports, clock=True)
    watcher.wait_for_charts(page, 3)
    reports.outage = True
    page.clock.run_for(TEN_SECONDS)
    banner = page.get_by_role("alert").filter(has_text="The database does not answer: connection refused.")
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("What you see is older")
    expect(page.locator("#verdict h1")).to_contain_text("chat works")
    expect(page.locator(".canvas svg")).to_have_count(3)
    reports.outage = False
    page.clock.run_for(TEN_SECONDS)
    expect(banner).to_be_hidden()


def test_a_proxy_that_is_gone_keeps_what_is_shown(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(copied(ran), clock=True)
    watcher.wait_for_charts(page, 3)
    page.route("**/page/**", lambda route: route.abort())
    page.clock.run_for(TEN_SECONDS)
    banner = page.get_by_role("alert").filter(has_text="The proxy does not answer.")
    expect(banner).to_be_visible()
    expect(page.locator("#verdict h1")).to_contain_text("chat works")
    page.unroute("**/page/**")
    page.clock.run_for(TEN_SECONDS)
    expect(banner).to_be_hidden()


def test_the_first_look_during_an_outage_waits_for_its_end(watcher: Watcher, ran: SampleReports) -> None:
    reports = copied(ran)
    reports.outage = True
    page = watcher.open(reports, log_in=False, clock=True)
    page.get_by_label("Key of the LiteLLM proxy").fill(watcher.server.key)
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_visible()
    reports.outage = False
    page.clock.run_for(TEN_SECONDS)
    expect(page.locator("#verdict h1")).to_contain_text("chat works")


def test_the_present_is_shown_while_the_past_cannot_be_read(watcher: Watcher, ran: SampleReports) -> None:
    reports = copied(ran)
    reports.history_outage = True
    page = watcher.open(reports)
    expect(page.locator("#verdict h1")).to_contain_text("chat works")
    expect(page.locator("#spend")).to_contain_text("The past is as last known")
    assert watcher.said == []


def test_pictures_that_cannot_be_drawn_leave_the_numbers(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran, log_in=False)
    page.route("**/page/chart*", lambda route: route.fulfill(status=503, json={"detail": "no process"}))
    watcher.log_in(page)
    expect(page.locator("#spend")).to_contain_text("The picture cannot be drawn now")
    expect(page.get_by_role("region", name="Table of arms")).to_be_visible()


# --- all kinds of groups --------------------------------------------------------------------------------


def test_nothing_is_managed_yet(watcher: Watcher) -> None:
    page = watcher.open(SampleReports([]))
    expect(page.get_by_role("heading", level=1)).to_have_text("Nothing is routed yet")
    expect(page.locator("pre")).to_contain_text("budget_usd_per_call")
    assert watcher.said == []


def test_no_call_was_made_yet(watcher: Watcher) -> None:
    page = watcher.open(sample.no_calls_yet())
    expect(page.get_by_role("heading", level=1)).to_have_text("chat is ready and waits for its first call.")
    expect(page.locator("#spend")).to_contain_text("Nothing has been spent yet.")
    watcher.wait_for_charts(page, 1)
    assert watcher.said == []


def test_a_group_with_one_arm(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(group_changed(ran, arms=ran.groups["chat"].arms[:1]))
    expect(page.locator("#verdict")).to_contain_text("1 of 1 arm is live")
    watcher.wait_for_charts(page, 3)
    assert watcher.said == []


def test_names_are_text_whatever_they_are(watcher: Watcher) -> None:
    reports = sample.many_arms(60)
    group = reports.groups["chat"]
    arms = (replace(group.arms[0], name=NASTY), *group.arms[1:])
    reports.change(
        "chat", name=NASTY, arms=arms, warning_details=(sample.warning(f"no price is known for {NASTY}"),)
    )
    reports.groups = {NASTY: reports.groups["chat"]}
    reports.stages_of = {NASTY: [replace(one, live=(NASTY,)) for one in reports.stages_of["chat"]]}
    reports.history_of = {NASTY: reports.history_of["chat"]}
    page = watcher.open(reports)
    watcher.wait_for_charts(page, 3)
    expect(page.locator("#verdict")).to_contain_text(NASTY)
    expect(page.get_by_role("rowheader", name=NASTY, exact=True).first).to_be_visible()
    expect(page.locator("#content img, #content script")).to_have_count(0)
    page.get_by_label("Its decision, response or call id").fill(NASTY)
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#answer")).to_contain_text(NASTY)
    expect(page.locator("#answer img, #answer script")).to_have_count(0)
    assert page.title() != "owned"


def test_many_groups_are_listed_those_in_trouble_first(watcher: Watcher) -> None:
    page = watcher.open(sample.many_groups())
    expect(page.get_by_role("heading", level=1)).to_have_text("1 of 50 groups needs attention")
    rows = page.get_by_role("region", name="Table of groups").get_by_role("row")
    expect(rows).to_have_count(51)
    expect(rows.nth(1)).to_contain_text("team-17/chat")
    page.get_by_role("link", name="team-03/chat").click()
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_contain_text("team-03/chat works")
    expect(heading).to_be_focused()
    page.get_by_role("link", name="All groups").click()
    expect(heading).to_have_text("1 of 50 groups needs attention")
    page.go_back()
    expect(heading).to_contain_text("team-03/chat works")
    assert watcher.said == []


def test_a_group_that_is_gone_leads_back(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran, at="#group=gone")
    expect(page.locator("#verdict h1")).to_contain_text("chat works")


# --- segments ------------------------------------------------------------------------------------------


def test_segments_say_what_they_are_worth_and_where_their_calls_go(
    watcher: Watcher, ran: SampleReports
) -> None:
    reports = sample.by_segment(ran)
    page = watcher.open(reports)
    segments = page.locator("#segments")
    expect(segments).to_contain_text(
        "worth +0.031 reward per call at the same spend (90\u202f% interval +0.018"
    )
    table = page.get_by_role("region", name="Table of segments")
    expect(table.get_by_role("caption")).to_be_visible()
    group = reports.groups["chat"]
    for one in group.segments:
        name = one.name or "no segment"
        row = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True))
        expect(row).to_contain_text(f"{one.reward_mean:.3f}")
        expect(row).to_contain_text(f"{one.pulls:,}")
        most = max(one.probabilities.values())
        darkest = row.locator("[class*=shade]").filter(has_text=f"{most:.1%}".replace("%", "\u202f%"))
        expect(darkest).to_have_class(re.compile(r"shade-[3-5]"))
    assert table.locator("thead th:not([scope])").count() == 0
    assert watcher.said == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_many_segments_and_arms_stay_readable(watcher: Watcher, width: int, scheme: str) -> None:
    page = watcher.open(sample.many_segments(), width=width, scheme=scheme)
    table = page.get_by_role("region", name="Table of segments")
    expect(table).to_contain_text("194 other arms")
    expect(table).to_contain_text(re.compile("The 12 segments with most calls; 52 more have"))
    expect(table.locator("tbody tr")).to_have_count(12)
    _assert_accessible(page, "#segments")
    page.get_by_role("button", name="Show all 64 segments").click()
    expect(table.locator("tbody tr")).to_have_count(64)
    expect(page.get_by_role("button", name="Show fewer segments")).to_be_focused()
    table.evaluate("box => { box.scrollLeft = 120; }")
    first = table.get_by_role("rowheader", name="auto:1:0", exact=True)
    assert first.evaluate("cell => cell.getBoundingClientRect().left >= 0")
    widest = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widest[0] <= widest[1]
    expect(page.locator("#segments img, #segments script")).to_have_count(0)
    assert watcher.said == []


# --- why a call went where it went ----------------------------------------------------------------------


def test_a_decision_is_explained(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran)
    receipt = ran.receipt("chatcmpl-1")
    assert receipt is not None
    field = page.get_by_label("Its decision, response or call id")
    field.fill(" chatcmpl-1 ")
    field.press("Enter")
    answer = page.get_by_role("region", name=f"Why this call went to {receipt.arm}")
    expect(answer).to_contain_text(receipt.explanation)
    expect(answer).to_contain_text("the budget")
    expect(page.get_by_role("heading", name="Why this call went to")).to_be_focused()
    others = answer.get_by_role("region", name="Why not the others").get_by_role("row")
    expect(others).to_have_count(1 + len(receipt.alternatives))
    attempts = answer.get_by_role("region", name="Retries and fallbacks of this call").get_by_role("row")
    expect(attempts).to_have_count(3)
    expect(attempts.nth(1)).to_contain_text("failed")
    page.reload()
    expect(answer).to_be_visible()
    answer.get_by_role("button", name="Close").click()
    expect(page.locator("#answer")).to_be_empty()
    expect(field).to_be_focused()
    assert watcher.said == []


def test_an_unknown_decision_is_said_so(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran, at="#decision=unknown")
    expect(page.get_by_role("heading", name="No decision has this id")).to_be_visible()
    expect(page.locator("#verdict h1")).to_contain_text("chat works")


# --- accessibility -------------------------------------------------------------------------------------


def test_dark_by_system_or_by_choice(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran, scheme="dark")
    watcher.wait_for_charts(page, 3)
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(14, 20, 26)"
    expect(page.locator("#spend svg > rect").first).to_have_attribute("fill", "#151c24")
    page.get_by_label("Colours").select_option("Light")
    assert page.evaluate(background) == "rgb(243, 245, 247)"
    expect(page.locator("#spend svg > rect").first).to_have_attribute("fill", "#ffffff", timeout=PATIENCE_MS)
    page.reload()
    expect(page.get_by_label("Colours")).to_have_value("light")
    assert page.evaluate(background) == "rgb(243, 245, 247)"
    page.get_by_label("Colours").select_option("Auto")
    assert page.evaluate(background) == "rgb(14, 20, 26)"
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize(
    "state", ["login", "empty", "one group", "outage", "many arms", "many groups", "receipt"]
)
def test_fits_a_phone(watcher: Watcher, ran: SampleReports, state: str) -> None:
    reports = {
        "empty": SampleReports([]),
        "outage": with_arms_that_do_not_answer(ran),
        "many arms": sample.many_arms(),
        "many groups": sample.many_groups(),
    }.get(state, ran)
    at = "#decision=call-1" if state == "receipt" else ""
    page = watcher.open(reports, width=360, log_in=state != "login", at=at)
    if state in ("one group", "outage", "many arms"):
        watcher.wait_for_charts(page, 3)
        page.locator("#more-arms, #more-stages").first.click()
    widest = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widest[0] <= widest[1]


def test_the_keyboard_is_enough(watcher: Watcher, ran: SampleReports) -> None:
    page = watcher.open(ran, log_in=False)
    page.keyboard.type(watcher.server.key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    watcher.wait_for_charts(page, 3)
    page.evaluate("document.activeElement.blur()")
    met = []
    for _ in range(20):
        page.keyboard.press("Tab")
        met.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        visible = page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'")
        assert visible or met[-1] == "", met
        if met[-1] == "more-stages":
            break
    # The heading had the focus: what comes before it is reached backwards.
    assert [one for one in met if one in ("arms-scroll", "stages-scroll", "more-stages")] == [
        "arms-scroll",
        "stages-scroll",
        "more-stages",
    ]
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Show fewer stages")).to_be_focused()
    page.get_by_label("Its decision, response or call id").focus()
    page.keyboard.type("call-1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Why this call went to")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_be_empty()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Find")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "state", ["login", "empty", "works", "attention", "outage", "groups", "receipt", "receipt in a segment"]
)
def test_no_barriers(watcher: Watcher, ran: SampleReports, state: str, scheme: str) -> None:
    reports = {
        "empty": SampleReports([]),
        "attention": group_changed(ran, feasible=False, shadow_price=float("inf")),
        "outage": with_arms_that_do_not_answer(ran),
        "groups": sample.many_groups(),
        "receipt in a segment": SampleReports(
            list(ran.groups.values()), receipts=[sample.in_a_segment(ran.receipts["call-1"])]
        ),
    }.get(state, ran)
    at = "#decision=call-1" if state.startswith("receipt") else ""
    page = watcher.open(reports, scheme=scheme, log_in=state != "login", at=at)
    if state in ("works", "attention", "outage"):
        watcher.wait_for_charts(page, 3)
    if at:
        expect(page.get_by_role("heading", name="Why this call went to")).to_be_visible()
    _assert_accessible(page)


def _assert_accessible(page: Page, part: str | None = None) -> None:
    found = Axe().run(page, context=part)
    assert [
        (violation["id"], [node["html"][:120] for node in violation["nodes"]])
        for violation in found.response["violations"]
    ] == []
