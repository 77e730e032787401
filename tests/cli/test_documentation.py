"""docs/cli.md has every command, option and column that there is, and none that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from stageroute_router.cli import app
from stageroute_router.tables.export import COLUMNS

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


def commands(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each command with its options, as the parser has them."""
    if hasattr(command, "commands"):
        for part, below in command.commands.items():
            yield from commands(below, f"{name} {part}")
        return
    options = {option for each in command.params for option in each.opts if option.startswith("-")}
    yield name, options - {"--help"}


COMMANDS = dict(commands(typer.main.get_command(app), "stageroute"))


def sections() -> dict[str, str]:
    """Return what stands under each command's heading."""
    found = re.split(r"^#+ (.*)$", TEXT, flags=re.MULTILINE)
    titles = dict(zip(found[1::2], found[2::2], strict=True))
    return {
        re.sub(r"( [A-Z]+)+$", "", title.strip("`")): text for title, text in titles.items() if "`" in title
    }


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_section_names_the_options_of_its_command_and_no_others(command: str, run: Any) -> None:
    named = set(
        re.findall(r"(?<![\w-])--?[a-z][a-z-]*", re.sub(r"\(#[^)]*\)|```.*?```", "", sections()[command]))
    )
    if command == "stageroute redeploy":
        named.add("--database")  # told in words
    assert named == COMMANDS[command]
    helped = run(*command.split()[1:], "--help")
    assert helped.returncode == 0
    for option in COMMANDS[command]:
        assert option in helped.stdout


def test_every_option_says_what_it_is_for() -> None:
    def parameters(command: Any) -> Iterator[Any]:
        for below in getattr(command, "commands", {}).values():
            yield from parameters(below)
        yield from command.params

    for each in parameters(typer.main.get_command(app)):
        if "--help" not in each.opts:
            assert each.help, each.name


def test_columns_are_documented_in_their_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", sections()["stageroute export"], flags=re.MULTILINE)
    assert rows == [(column.name, column.meaning) for column in COLUMNS]


def test_exit_codes_are_documented_in_both_places(run: Any) -> None:
    assert "**Exit codes**: 0 done; 1 an error" in TEXT
    assert "Exit codes: 0 done, 1 an error" in " ".join(run("--help").stdout.split())
