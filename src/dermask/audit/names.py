"""Class names that mean the same: they differ by case, spaces, punctuation, plural or a slip of the key."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dermask.audit.findings import Finding, Part, Severity
from dermask.wording import plural

_MIN_LENGTH = 6
"""Pairs of names shorter than this are only compared by case, spaces and plural: one letter makes "mole" another word,
"pole"."""


def count_classes(parts: Sequence[Part]) -> Counter[str]:
    """Outlines of each class name, 0 for classes without one, over all parts."""
    counts: Counter[str] = Counter()
    for part in parts:
        names = part.dataset.class_names
        counts.update(dict.fromkeys(names, 0))
        counts.update(names[instance.label - 1] for sample in part.dataset for instance in sample.instances)
    return counts


def similar_names(counts: Mapping[str, int]) -> dict[str, str]:
    """Names that mean the same as another, each with the spelling to keep: the one with the most outlines.

    Args:
        counts: Outlines of each name.
    """
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    kept: list[str] = []
    same_as: dict[str, str] = {}
    for name in ordered:
        other = next((known for known in kept if is_same_name(name, known)), None)
        if other is None:
            kept.append(name)
        else:
            same_as[name] = other
    return same_as


def is_same_name(one: str, other: str) -> bool:
    """Whether two different class names are probably one."""
    first, second = _key(one), _key(other)
    if first == second:
        return True
    if max(len(first), len(second)) < _MIN_LENGTH:
        return False
    # A class numbered otherwise is another class: "naevus 1" and "naevus 2".
    return re.findall(r"\d+", first) == re.findall(r"\d+", second) and is_one_edit(first, second)


def _key(name: str) -> str:
    """Letters and digits alone, in lower case, without accents and the plural's end."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    words = re.findall(r"[^\W_]+", plain)
    joined = "".join(_singular(word) for word in words)
    return joined.replace("ae", "e").replace("oe", "e") or name  # naevus and nevus


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def is_one_edit(one: str, other: str) -> bool:
    """Whether one letter added, left out or changed, or two neighbours swapped, makes one name the other."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    is_changed = short[start + 1 :] == long[start + 1 :]
    is_swapped = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return is_changed or is_swapped


def check_names(parts: Sequence[Part]) -> Iterator[Finding]:
    """Findings about the class names of all parts together."""
    counts = count_classes(parts)
    same_as = similar_names(counts)
    where = ", ".join(part.name for part in parts)
    for name, kept in sorted(same_as.items()):
        there, here = (plural(counts[one], "outline") for one in (name, kept))
        problem = f"class {name!r} ({there}) looks like {kept!r} ({here})"
        yield Finding(
            "similar-class-names",
            Severity.WARNING,
            where,
            problem,
            "give both one name, or let --fix do it",
            measure=float(counts[name]),
        )
    for name, count in sorted(counts.items()):
        if not count and name not in same_as:
            problem = f"class {name!r} has no outline"
            cure = "drop it, unless photographs without it are meant to be learnt from"
            yield Finding("unused-class", Severity.NOTE, where, problem, cure)
