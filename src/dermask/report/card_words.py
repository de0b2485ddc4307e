"""What a model card needs and no file of a run can tell: a TOML file with the words of people.

Figures do not belong there: they come from evaluations, or they are out of date after the next one. `typed_numbers`
finds those that look as if they did.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from dermask.errors import InputError

SECTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "model": ("name", "description", "authors", "date", "contact", "licence", "more_information"),
        "intended_use": ("primary", "out_of_scope"),
        "factors": ("text",),
        "metrics": ("text",),
        "evaluation_data": ("text",),
        "training_data": ("text",),
        "training_procedure": ("text",),
        "uncertainty": ("text",),
        "limits": ("failures", "risks"),
        "ethics": ("text",),
        "reproduction": ("text",),
        "citation": ("text",),
    }
)
"""The tables of the file and what may stand in each. A value is Markdown text, or a list of texts for points."""

# Numbers that are no figures: in addresses, licences, years and dates, versions and names.
_NO_FIGURE = re.compile(
    r"https?://\S+|doi:\S+|arXiv:\S+"
    r"|\b(?:CC[- ]?0|CC[- ]BY(?:-\w\w)*|Apache|MIT|BSD|GPL)[- ]?(?:v|licence )?[\d.]*(?:-\w+)?"
    r"|\b(?:19|20)\d\d(?:-\d\d){0,2}\b"
    r"|\bv?\d+\.\d+\.\d+\b"
    r"|\b[A-Za-z_][\w-]*(?:\.\w+)*",  # Test_v2, ISIC_0000013, v1.2, and ISIC-2017 in full
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class CardWords:
    """The words of people, by section and name.

    Attributes:
        values: Each a text or a tuple of texts, under ``section.name``; what is not said is not there.
    """

    values: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """One text; the points of a list as Markdown's; empty where nothing is said."""
        value = self.values.get(name, "")
        return value if isinstance(value, str) else "\n".join(f"- {point}" for point in value)

    def points(self, name: str) -> tuple[str, ...]:
        """A list of texts; one text is a list of one."""
        value = self.values.get(name, ())
        return (value,) if isinstance(value, str) else value


def read_words(path: Path) -> CardWords:
    """Read a file of words.

    Raises:
        InputError: It is missing, not TOML, or has a section, name or value that a card has no place for; names it.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise InputError(str(path), problem, "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"is not TOML: {error}") from None
    values: dict[str, str | tuple[str, ...]] = {}
    for section, content in tree.items():
        if section not in SECTIONS or not isinstance(content, dict):
            raise InputError(
                f"{path}: {section}", "is no section of a card's words", f"choose from {', '.join(SECTIONS)}"
            )
        for name, value in content.items():
            if name not in SECTIONS[section]:
                cure = f"choose from {', '.join(SECTIONS[section])}"
                raise InputError(f"{path}: {section}.{name}", "is not known", cure)
            values[f"{section}.{name}"] = _checked(value, item=f"{path}: {section}.{name}")
    return CardWords({name: value for name, value in values.items() if value})


def typed_numbers(path: Path) -> list[tuple[int, str]]:
    """Numbers in a file of words that look like figures, with their lines, from 1.

    Left alone are years and dates, names with digits in them, licences, and addresses: see `_NO_FIGURE`. Comments are
    not part of the card and are left alone too.

    Raises:
        InputError: It cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}", "check the path") from None
    return [
        (number, found)
        for number, line in enumerate(lines, 1)
        if not line.lstrip().startswith("#")
        for found in _NUMBER.findall(_NO_FIGURE.sub(" ", line))
    ]


def _checked(value: object, *, item: str) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(part.strip() for part in value if part.strip())
    raise InputError(item, f"is {value!r}", "give a text or a list of texts")
