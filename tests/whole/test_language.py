"""The lint of words finds names, docstrings and comments, and leaves what the program says to its readers alone."""

from __future__ import annotations

import pytest

from tests.language import banned


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('"""Nobody knows."""', 1),
        ("x = 1\n# whoever asks", 2),
        ("def asks_nobody(): ...", 1),
        ("class ForSomebody: ...", 1),
        ('class A:\n    """One.\n\n    What everybody sees.\n    """', 4),
    ],
)
def test_banned_word_is_found_with_its_line(source: str, line: int) -> None:
    assert [found for found, _ in banned(source)] == [line]


@pytest.mark.parametrize("source", ["key = 'sk-nobody'", "# bodywork", "somebodys = 1"])
def test_other_text_is_left_alone(source: str) -> None:
    assert not list(banned(source))
