"""Words that messages, tables and pages share."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath


def plural(count: int, noun: str) -> str:
    """``1 photograph``, ``2,000 photographs``, ``40 patients or lesions``."""
    return f"{count:,} {noun if count == 1 else plural_of(noun)}"


def plural_of(noun: str) -> str:
    """``photographs``; of several kinds each has its ending: ``patients, lesions or photographs``."""
    return f"{noun}s".replace(", ", "s, ").replace(" or ", "s or ")


def short_path(text: str, *, keep: int = 2) -> str:
    """The last parts of an absolute path, for what is sent to other people; a relative one stays as it was typed.

    Args:
        text: The path, of any system.
        keep: How many parts are left.
    """
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        if path.is_absolute():
            return "/".join(path.relative_to(path.anchor).parts[-keep:]) or text
    return text


def plain_path(text: str) -> str:
    """A path without what is of one machine only: of an absolute one, or one that climbs, its last part is left."""
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        if path.is_absolute() or ".." in path.parts:
            return path.name or text
    return text


def short_word(word: str) -> str:
    """A word of a command, its path as `short_path` gives it; in ``--option=path`` too."""
    name, equals, value = word.partition("=")
    return f"{name}={short_path(value)}" if equals and "/" not in name else short_path(word)
