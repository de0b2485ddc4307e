"""Pieces of Markdown as GitHub reads it: escaped text, tables, and commands that fit a page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from dermask.wording import plain_path

_WIDTH = 112

# An underscore between letters and digits is one; elsewhere it begins emphasis.
_SPECIAL = re.compile(r"[\\`*<>\[\]|]|(?<![^\W_])_|_(?![^\W_])")


def escape(text: object) -> str:
    """Text that shows as it is, on one line: names of data sets and classes may hold anything."""
    return _SPECIAL.sub(lambda found: "\\" + found[0], " ".join(str(text).split()))


def code(text: object) -> str:
    """Text as code, on one line; a backtick would end it and becomes an apostrophe."""
    return "`" + " ".join(str(text).split()).replace("`", "'") + "`"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already.

    Args:
        columns: Headings; empty ones make a table whose first cells head the rows.
        rows: Each as long as `columns`.
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def plain_command(words: Sequence[str]) -> str:
    """A command as a shell takes it, its paths as `plain_path` gives them, broken into lines that fit a page."""
    shown = [shlex.quote(_plain_word(word)) for word in words]
    lines = [""]
    for index, word in enumerate(shown):
        needed = len(word) + (len(shown[index + 1]) + 1 if _takes_value(shown, index) else 0)
        if lines[-1].strip() and len(lines[-1]) + 1 + needed > _WIDTH and not _takes_value(shown, index - 1):
            lines.append("  ")
        lines[-1] += word if not lines[-1].strip() else f" {word}"
    return " \\\n".join(lines)


def _plain_word(word: str) -> str:
    option, equals, value = word.partition("=")
    return f"{option}={plain_path(value)}" if word.startswith("-") and equals else plain_path(word)


def _takes_value(words: Sequence[str], index: int) -> bool:
    """Whether a word and the next belong on one line: an option and its value."""
    if not 0 <= index < len(words) - 1:
        return False
    return words[index].startswith("-") and "=" not in words[index] and not words[index + 1].startswith("-")


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))
