"""``stageroute status``, ``stages``, ``why`` and ``redeploy`` against a proxy: output, JSON, errors, exit codes."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from typing import Any, get_args

import pytest

from stageroute_router.reports.values import Binding
from stageroute_router.reports.warnings import arm_warnings

KEY = "sk-a-key-that-must-stay-secret"


def test_status_of_a_proxy_is_what_it_reports(run: Any, proxy: Any) -> None:
    done = run("status", "--proxy", proxy.url)
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "chat  stage 7 since 2026-01-01 00:00 UTC (schedule), 12 of 3,012 calls",
        "98.7% of $0.00100 a call",
        "$1 more per 1,000 calls buys +0.012 reward per call",
        "openai/gpt-x",
        "rewards on 93% of calls",
    ):
        assert text in done.stdout
    assert "health" not in done.stdout, "what is well needs no words"


def test_status_says_what_is_wrong_with_health_and_groups(run: Any, proxy: Any) -> None:
    proxy.groups = (replace(proxy.groups[0], shadow_price=math.inf, warnings=("the [red] budget",)),)
    proxy.health = replace(proxy.health, state="degraded", since=1.0, reason="locked", queued=5)
    done = run("status", "--proxy", proxy.url)
    assert "no mixture of the live arms keeps the budget" in done.stdout
    assert "warning: the [red] budget" in done.stdout
    assert "health degraded for" in done.stdout
    assert "locked (5 writes queued)" in done.stdout


DOWN = {
    "availability": 0.03,
    "failing_since": 1_767_276_192.0,
    "recent_failures": 7,
    "last_failure": "Timeout",
}


def test_status_marks_arms_that_do_not_answer(run: Any, proxy: Any) -> None:
    first, second, *others = proxy.groups[0].arms
    arms = (replace(first, probability=0.0, **DOWN), second, *others[:-1], replace(others[-1], **DOWN))
    proxy.groups = (
        replace(proxy.groups[0], arms=arms, warnings=tuple(one.text for one in arm_warnings(arms))),
    )
    done = run("status", "--proxy", proxy.url, COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert [line.split()[1] for line in done.stdout.splitlines() if " down " in line] == ["down", "down"]
    wide = run("status", "--proxy", proxy.url).stdout
    assert (
        "warning: openai/gpt-x does not answer since 2026-01-01 14:03:12 UTC (7 calls failed, the last by Timeout): "
        "calls go to anthropic/small and mistral/look; a few probe it"
    ) in " ".join(wide.split())
    lines = run("watch", "--proxy", proxy.url, "--every", "0.2", "--count", "1").stdout
    assert "down: openai/gpt-x, openai/old; health ok" in lines


@pytest.mark.parametrize("binding", get_args(Binding))
def test_every_binding_is_told_in_words(run: Any, proxy: Any, binding: Any) -> None:
    proxy.receipts = {"d": replace(proxy.receipts["chatcmpl-1"], binding=binding)}
    done = run("why", "d", "--proxy", proxy.url)
    assert done.returncode == 0, done.stderr
    told = re.search(r"^bound by +(.*)$", done.stdout, flags=re.MULTILINE)
    assert told is not None
    assert told[1].strip() != binding


def test_json_is_what_dataclasses_are_with_null_for_infinity(run: Any, proxy: Any) -> None:
    proxy.groups = (replace(proxy.groups[0], shadow_price=math.inf),)
    told = json.loads(run("status", "--proxy", proxy.url, "--json").stdout)
    expected = json.loads(json.dumps({"groups": [asdict(proxy.groups[0]) | {"shadow_price": None}]}))
    assert told == expected

    stages = json.loads(run("stages", "--proxy", proxy.url, "--json", "--last", "2").stdout)
    assert stages == json.loads(json.dumps([asdict(stage) for stage in proxy.stages[-2:]]))

    receipt = json.loads(run("why", "chatcmpl-1", "--proxy", proxy.url, "--json").stdout)
    assert receipt == json.loads(json.dumps(asdict(proxy.receipts["chatcmpl-1"])))

    after = json.loads(run("redeploy", "chat", "--proxy", proxy.url, "--json").stdout)
    assert (after["name"], after["stage"]) == ("chat", 8)


def test_stages_tell_who_came_and_left_and_why(run: Any, proxy: Any) -> None:
    done = run("stages", "--proxy", proxy.url, "--group", "chat", "--last", "1", "--evidence")
    assert done.returncode == 0, done.stderr
    for text in (
        "chat stage 7  opened 2026-01-01 07:00 UTC (schedule) after 3,000 calls; 500 calls in it",
        "live: openai/gpt-x, anthropic/small",
        "revisit: mistral/look for 2.0% of calls",
        "+ anthropic/small came: worth more than what it replaced",
        "- openai/old left: no mixture used it",
        "0.900",
    ):
        assert text in done.stdout
    assert "stage 6" not in done.stdout
    unknown = run("stages", "--proxy", proxy.url, "--group", "nope")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no such group" in unknown.stderr


def test_why_answers_every_question_of_the_night(run: Any, proxy: Any) -> None:
    done = run("why", "chatcmpl-1", "--proxy", proxy.url)
    assert (done.returncode, done.stderr) == (0, "")
    for text in (
        "openai/gpt-x was chosen for a call to chat with probability 81.0%.",
        "openai/gpt-x is worth most within the budget.",
        "answered by anthropic/small, after a fallback; it cost $0.000400",
        "0.900 by app, 0.500 by judge",
        "the budget",
        "$1 more per 1,000 calls buys +0.012 reward per call",
        "> openai/gpt-x",
        "not live in this stage",
        "chat-fallback",
        "failed",
    ):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"state": "open", "cost_usd": None}, "open: no answer was reported yet"),
        ({"state": "failed", "cost_usd": 0.0}, "failed at the provider"),
        ({"state": "lost"}, "lost: its outcome was not reported; booked at the expected $0.000400"),
        ({"rewards": {}}, "none yet"),
        ({"alternatives": ()}, "was not recorded"),
        ({"shadow_price": math.inf}, "no mixture of the live arms keeps the budget"),
        ({"shadow_price": 0.0, "binding": "none"}, "the budget is slack"),
        ({"binding": "revisit"}, "a revisit"),
        ({"response_id": None, "segment": "[b]"}, "[b]; the estimates are those of all calls"),
        ({"priced": True, "binding": "price"}, "this call's price was its caller's: 12 reward per dollar"),
    ],
)
def test_why_says_how_a_call_stands(run: Any, proxy: Any, change: dict[str, object], text: str) -> None:
    proxy.receipts = {"d": replace(proxy.receipts["chatcmpl-1"], **change)}
    done = run("why", "d", "--proxy", proxy.url)
    assert done.returncode == 0, done.stderr
    assert text in done.stdout


def test_names_from_elsewhere_neither_steer_the_terminal_nor_are_markup(run: Any, proxy: Any) -> None:
    evil = "\x1b[2J[bold]x[/nope]\u202e"
    proxy.receipts = {"d": replace(proxy.receipts["chatcmpl-1"], arm=evil, call_id=evil, explanation=evil)}
    for arguments in (("why", "d"), ("why", "gone" + evil)):
        done = run(*arguments, "--proxy", proxy.url)
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert "\u202e" not in done.stdout + done.stderr
    assert "[bold]x[/nope]" in run("why", "d", "--proxy", proxy.url).stdout


def test_unknown_decision_is_an_error_that_says_what_to_check(run: Any, proxy: Any) -> None:
    for more in ((), ("--json",)):
        done = run("why", "nope", "--proxy", proxy.url, *more)
        assert (done.returncode, done.stdout) == (1, "")
        assert "knows no decision, response or call 'nope'" in done.stderr


def test_redeploy_opens_a_stage_through_the_proxy(run: Any, proxy: Any) -> None:
    done = run("redeploy", "chat", "--proxy", proxy.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Stage 8 is open.\n")
    assert proxy.asked == ["POST /stageroute/groups/chat/redeploy"]


@pytest.mark.parametrize("more", [(), ("--database", "sqlite:///x.db")])
def test_redeploy_without_a_proxy_says_who_can(run: Any, more: tuple[str, ...]) -> None:
    done = run("redeploy", "chat", *more)
    assert (done.returncode, done.stdout) == (2, "")
    said = " ".join(done.stderr.replace("│", " ").split())
    assert "planned by a process that routes" in said
    assert "--proxy URL" in said
    assert 'router.stageroute.redeploy("chat")' in said
    assert not list(run.folder.iterdir())


@pytest.mark.parametrize(
    ("more", "pinned", "said"),
    [
        ((), True, "is pinned and live.\n"),
        (("--off",), False, "is not pinned; it stays live until the next window at least.\n"),
        (("--forget",), None, "is not pinned; it stays live until the next window at least.\n"),
    ],
)
def test_pin_says_what_became_of_the_arm(
    run: Any, proxy: Any, more: tuple[str, ...], pinned: Any, said: str
) -> None:
    arm = next(arm.name for arm in proxy.groups[0].arms if arm.live)
    done = run("pin", "chat", arm, "--proxy", proxy.url, *more)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{arm} {said}")
    assert proxy.asked == ["POST /stageroute/groups/chat/pin"]
    told = json.loads(run("pin", "chat", arm, "--proxy", proxy.url, "--json", *more).stdout)
    (after,) = (one for one in told["arms"] if one["name"] == arm)
    assert (after["pinned"], after["pinned_by"]) == (bool(pinned), proxy.pinned_by[pinned])


def test_pin_that_cannot_be_is_an_error(run: Any, proxy: Any) -> None:
    arm = proxy.groups[0].arms[0].name
    proxy.is_full = True
    for group, name, said in (
        ("chat", arm, "2 arms would be pinned"),
        ("chat", "nope", "no arm nope"),
        ("nope", arm, "no such group"),
    ):
        done = run("pin", group, name, "--proxy", proxy.url)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr


def test_pin_without_a_proxy_says_who_can(run: Any) -> None:
    done = run("pin", "chat", "small", "--off")
    assert (done.returncode, done.stdout) == (2, "")
    said = " ".join(done.stderr.replace("│", " ").split())
    assert "--proxy URL" in said
    assert 'router.stageroute.pin("chat", "small", pinned=False)' in said


def test_key_comes_from_the_environment_only(run: Any, proxy: Any) -> None:
    proxy.key = KEY
    for environment in (
        {"STAGEROUTE_KEY": KEY, "LITELLM_API_KEY": "another"},
        {"LITELLM_API_KEY": KEY},
        {"STAGEROUTE_KEY": "", "LITELLM_API_KEY": KEY},
    ):
        assert run("status", "--proxy", proxy.url, **environment).returncode == 0
    named = run("status", "--proxy", proxy.url, "--key-env", "MINE", MINE=KEY, STAGEROUTE_KEY="wrong")
    assert named.returncode == 0
    without = run("status", "--proxy", proxy.url)
    assert without.returncode == 1
    assert "STAGEROUTE_KEY" in without.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status", "--database", "sqlite:///a.db", "--proxy", "http://h"), "not at both"),
        (("status", "--key-env", "X"), "--key-env is about a proxy"),
        (("status", "--timeout", "3"), "--timeout is about a proxy"),
        (("status", "--proxy", "http://h", "--key-env", KEY), "give the NAME of an environment variable"),
        (("status", "--proxy", "http://h", "--key-env", "NOT_SET"), "variable NOT_SET is not set"),
        (("stages", "--last", "0"), "--last"),
        (("why",), "ID"),
        (("redeploy",), "GROUP"),
        (("pin", "chat"), "ARM"),
        (("pin", "chat", "a", "--off", "--forget", "--proxy", "http://h"), "give one of them"),
        (("nonsense",), "nonsense"),
    ],
)
def test_command_line_that_cannot_be_used_is_exit_code_2(
    run: Any, arguments: tuple[str, ...], said: str
) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert KEY not in done.stderr
    assert not list(run.folder.iterdir()), "a mistake creates nothing"


def test_key_in_the_url_is_refused_and_not_repeated(run: Any) -> None:
    done = run("status", "--proxy", f"http://user:{KEY}@127.0.0.1:4000")
    assert done.returncode == 1
    assert "user, password" in done.stderr
    assert KEY not in done.stderr


def test_errors_are_one_line_on_stderr(run: Any, dead_url: str) -> None:
    done = run("status", "--proxy", dead_url, "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: nothing answers at {dead_url}")
    assert done.stderr.count("\n") == 1


def test_colour_is_for_terminals_and_can_be_switched_off(run: Any, proxy: Any) -> None:
    assert "\x1b" not in run.process("status", "--proxy", proxy.url).stdout
    forced = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    proxy.groups = (replace(proxy.groups[0], warnings=("look here",)),)
    assert "\x1b[33mwarning: \x1b[0m" in run("status", "--proxy", proxy.url, **forced).stdout
    assert "\x1b[33m" not in run("status", "--proxy", proxy.url, **forced, NO_COLOR="1").stdout


def test_errors_of_a_process_are_told_without_a_traceback(run: Any, dead_url: str) -> None:
    done = run.process("why", "x", "--proxy", dead_url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: nothing answers at")
