"""Markdown that shows names as they are, tables that stay tables, commands that name no machine."""

from __future__ import annotations

import re
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermask.report.markdown import code, escape, plain_command, table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("isic2017 Test_v2", "isic2017 Test_v2"),
        ("_v2_ of a_b", r"\_v2\_ of a_b"),
        ("a|b *c* [d](e) <f> `g` \\", r"a\|b \*c\* \[d\](e) \<f\> \`g\` \\"),
        ("two\nlines\tand more", "two lines and more"),
    ],
)
def test_names_show_as_they_are(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_code_ends_where_it_should() -> None:
    assert code("a`b\nc") == "`a'b c`"


def test_a_table_without_rows_has_its_heading() -> None:
    assert table(["a", "b"], []) == "| a | b |\n| --- | --- |"


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4))
def test_whatever_stands_in_cells_a_row_keeps_its_cells(rows: list[tuple[str, str]]) -> None:
    lines = table(["a", "b"], [[escape(cell) for cell in row] for row in rows]).split("\n")
    assert len(lines) == len(rows) + 2
    for line in lines:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3


def test_a_command_keeps_its_options_and_loses_its_places() -> None:
    words = ["dermask", "evaluate", "runs/a", "--data=/home/me/labels.json", "-o", "/tmp/out here", "--seed", "1"]
    assert plain_command(words) == "dermask evaluate runs/a --data=labels.json -o 'out here' --seed 1"
    assert plain_command([]) == ""


@given(st.lists(st.from_regex(r"\A-{0,2}[a-z0-9=_. ]{1,30}\Z").filter(lambda word: ".." not in word), max_size=30))
def test_a_command_broken_into_lines_is_the_same_command(words: list[str]) -> None:
    text = plain_command(words)
    assert shlex.split(text.replace("\\\n", "")) == words
    assert all(len(line) <= 116 for line in text.split("\n"))
