"""``stageroute watch`` on a real pseudo-terminal, and without one."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyte
import pytest

from stageroute_router.reports.warnings import arm_warnings

DEADLINE_S = 60.0
LEAVE_SCREEN = b"\x1b[?1049l"
SHOW_CURSOR = b"\x1b[?25h"


class Terminal:
    """A terminal of a given size that runs a command, and what can be read on it."""

    def __init__(self, command: list[str], *, rows: int, columns: int, environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""
        self._resize(theirs, rows, columns)
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={k: v for k, v in environment.items() if k not in {"COLUMNS", "LINES"}}
            | {"TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads in the child
        )
        os.close(theirs)

    def resize(self, rows: int, columns: int) -> None:
        self._screen.resize(rows, columns)
        self._resize(self._ours, rows, columns)

    def shows(self, *texts: str) -> str:
        """Return the screen once it shows all of these."""
        end = time.monotonic() + DEADLINE_S
        while not all(text in self.text for text in texts):
            assert time.monotonic() < end, f"not in time, shown is:\n{self.text}"
            assert self._read(), f"it ended, shown is:\n{self.text}"
        return self.text

    def shows_not(self, text: str) -> None:
        """Return once it does not show this any more."""
        end = time.monotonic() + DEADLINE_S
        while text in self.text:
            assert time.monotonic() < end, f"not in time, shown is:\n{self.text}"
            assert self._read(), f"it ended, shown is:\n{self.text}"

    def press_ctrl_c(self) -> None:
        os.write(self._ours, b"\x03")

    def ended(self) -> int:
        """Return the exit code, having read everything."""
        end = time.monotonic() + DEADLINE_S
        while self._read():
            assert time.monotonic() < end, "it does not end"
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # on Linux: the other end is closed
            return False
        self.written += data
        self._stream.feed(data)
        return bool(data)

    @staticmethod
    def _resize(terminal: int, rows: int, columns: int) -> None:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def watching(
    run: Any, proxy: Any, *more: str, rows: int = 24, columns: int = 80, **environment: str
) -> Iterator[Terminal]:
    terminal = Terminal(
        run.command("watch", "--proxy", proxy.url, "--every", "0.2", *more),
        rows=rows,
        columns=columns,
        environment=run.environment(**environment),
    )
    try:
        yield terminal
    finally:
        terminal.close()


def test_everything_fits_a_small_terminal_follows_and_ends_cleanly(run: Any, proxy: Any) -> None:
    with watching(run, proxy) as terminal:
        shown = terminal.shows("98.7% of $0.00100 a call: $3.01", "Ctrl-C ends")
        lines = shown.split("\n")
        assert len(lines) == 24
        for text in (
            f"stageroute watch {proxy.url}",
            "chat  stage 7 (schedule)",
            "98.7% of $0.00100 a call: $3.01",
            "half height: the budget",
            "$1 more per 1,000 calls buys +0.012 reward per call",
            "on 93% of calls",
            "health ok",
            "openai/gpt-x              81.0%",
            "├───●┤",
            "0.710  $0.000900",
            "- $0.0000200",
            "1 candidate not live",
            "7  01-01 07:00 UTC  schedule  +anthropic/small -openai/old",
        ):
            assert text in shown
        assert "▄" in shown or "▅" in shown

        proxy.groups = (replace(proxy.groups[0], calls=99_999, warnings=("raise the budget",)),)
        terminal.shows("99,999 calls", "warning: raise the budget")

        terminal.press_ctrl_c()
        assert terminal.ended() == 0
        assert LEAVE_SCREEN in terminal.written
        assert SHOW_CURSOR in terminal.written
        assert b"Traceback" not in terminal.written


def test_source_that_goes_away_is_said_and_found_again(run: Any, proxy: Any) -> None:
    with watching(run, proxy) as terminal:
        terminal.shows("3,012 calls")
        proxy.stop()
        # The last good look stays.
        terminal.shows("no news", "nothing answers at", "what is shown is", "3,012 calls", "Ctrl-C ends")
        proxy.groups = (replace(proxy.groups[0], calls=3013),)
        proxy.start()
        terminal.shows("3,013 calls")
        terminal.shows_not("no news")


def test_answer_that_does_not_come_is_said_while_it_is_waited_for(run: Any, proxy: Any) -> None:
    with watching(run, proxy, "--timeout", "300") as terminal:
        terminal.shows("3,012 calls")
        proxy.released.clear()
        terminal.shows("waiting for an answer; what is shown is")
        terminal.press_ctrl_c()
        assert terminal.ended() == 0


def test_sigterm_gives_the_terminal_back(run: Any, proxy: Any) -> None:
    with watching(run, proxy) as terminal:
        terminal.shows("3,012 calls")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == 0
        assert LEAVE_SCREEN in terminal.written


def test_tiny_terminal_shows_what_matters_most_and_a_larger_one_the_rest(run: Any, proxy: Any) -> None:
    with watching(run, proxy, rows=6, columns=40) as terminal:
        shown = terminal.shows("98.7%", "Ctrl-C ends")
        assert "last stages" not in shown
        terminal.resize(40, 120)
        terminal.shows("last stages", "4  01-01 04:00 UTC", "openai/gpt-x")


def test_several_groups_have_a_line_each_and_one_can_be_chosen(run: Any, proxy: Any) -> None:
    first = proxy.groups[0]
    proxy.groups = (first, replace(first, name="code", calls=77, spend_ratio=None, warnings=("no price",)))
    with watching(run, proxy) as terminal:
        shown = terminal.shows("warning: no price", "Ctrl-C ends")
        (code,) = [line for line in shown.split("\n") if line.startswith("code ")]
        assert "77" in code
        assert "93%" in code
    with watching(run, proxy, "--group", "code") as terminal:
        terminal.shows("12 of 77 calls")


def test_arms_that_do_not_answer_are_marked_within_80_columns(run: Any, proxy: Any) -> None:
    first, *others = proxy.groups[0].arms
    failing = {"failing_since": 1_767_276_192.0, "recent_failures": 7, "last_failure": "Timeout"}
    arms = (replace(first, availability=0.02, probability=0.0, **failing), *others)
    warnings = tuple(one.text for one in arm_warnings(arms))
    proxy.groups = (replace(proxy.groups[0], arms=arms, warnings=warnings),)
    with watching(run, proxy) as terminal:
        shown = terminal.shows(
            "warning: openai/gpt-x does not answer since 2026-01-01 14:03:12 UTC", "Ctrl-C ends"
        )
        (line,) = [line for line in shown.split("\n") if line.startswith("openai/gpt-x")]
        assert line.split()[1:3] == ["0.0%", "down"]


def test_terminal_without_unicode_gets_ascii(run: Any, proxy: Any) -> None:
    with watching(run, proxy, PYTHONIOENCODING="ascii") as terminal:
        shown = terminal.shows("|---o|", "Ctrl-C ends")
        assert shown.isascii()


def test_without_a_terminal_lines_are_printed(run: Any, proxy: Any) -> None:
    done = run("watch", "--proxy", proxy.url, "--every", "0.2", "--count", "2")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    for text in ("chat: stage 7", "3,012 calls", "98.7% of the budget", "openai/gpt-x 81.0%", "health ok"):
        assert text in first
        assert text in second


def test_lines_go_on_while_the_source_is_away(run: Any, proxy: Any) -> None:
    process = run.start("watch", "--proxy", proxy.url, "--every", "0.2", "--json", PYTHONUNBUFFERED="1")
    try:
        told = json.loads(process.stdout.readline())
        assert told["status"]["groups"][0]["calls"] == 3012
        assert told["health"]["state"] == "ok"
        proxy.stop()
        while "error" not in told:
            told = json.loads(process.stdout.readline())
        assert "nothing answers" in told["error"]
        proxy.start()
        while "status" not in told:
            told = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()


def test_what_cannot_be_watched_in_the_first_place_is_an_error(run: Any, proxy: Any, dead_url: str) -> None:
    for arguments in (("--proxy", dead_url), ("--proxy", proxy.url, "--group", "nope")):
        done = run("watch", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: ")


def test_reader_that_goes_away_ends_the_watch_quietly(run: Any, proxy: Any) -> None:
    process = run.start("watch", "--proxy", proxy.url, "--every", "0.2")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize("every", ["0", "0.1", "soon"])
def test_rhythm_that_makes_no_sense(run: Any, proxy: Any, every: str) -> None:
    assert run("watch", "--proxy", proxy.url, "--every", every).returncode == 2
