"""Tables of the subgroups of an evaluation: photographs of one kind, their figures, and whether kinds differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dermask.evaluation.subgroups import Subgroup, TraitSpread
from dermask.evaluation.traits import TRAITS
from dermask.report.evaluation_tables import SUBGROUP_FIGURES, show_interval
from dermask.report.tables import show_number


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table, and where it lies with confidence; empty where that cannot be said."""

    text: str
    interval: str = ""


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group of photographs.

    Attributes:
        value: Which value of the trait.
        name: The same in words.
        count: Photographs, and units where they differ.
        is_small: Whether it is too small for an interval, and so for a claim.
        cells: Its figures.
    """

    value: str
    name: str
    count: str
    is_small: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class GroupTable:
    """The groups by one trait.

    Attributes:
        trait: Its key.
        title: Its name.
        meaning: How photographs are put into groups.
        note: How far that is to be trusted, such as how often a detector errs.
        spread: Whether the groups' Jaccard differs by more than chance; empty where that was not tested.
        columns: Of the figures.
        rows: The groups.
    """

    trait: str
    title: str
    meaning: str
    note: str
    spread: str
    columns: tuple[str, ...]
    rows: tuple[GroupRow, ...]


def subgroup_tables(groups: Sequence[Subgroup], spreads: Sequence[TraitSpread]) -> list[GroupTable]:
    """One table for each trait, in the order of the groups.

    Args:
        groups: Those of one trait together.
        spreads: Whether the groups of a trait differ, for any of the traits.
    """
    told = {spread.trait: spread.describe() for spread in spreads}
    by_trait: dict[str, list[Subgroup]] = {}
    for group in groups:
        by_trait.setdefault(group.trait, []).append(group)
    found = []
    for name, members in by_trait.items():
        trait = TRAITS[name]
        shown = [figure for figure in SUBGROUP_FIGURES if figure in members[0].figures]
        rows = tuple(
            GroupRow(
                value=group.value,
                name=group.value,
                count=_group_count(group),
                is_small=group.is_small,
                cells=tuple(
                    Cell(show_number(group.figures[figure]), show_interval(group.intervals.get(figure)))
                    for figure in shown
                ),
            )
            for group in members
        )
        columns = ("Photographs", *(SUBGROUP_FIGURES[figure] for figure in shown))
        found.append(
            GroupTable(name, trait.title, trait.meaning, trait.note, _sentence(told.get(name, "")), columns, rows)
        )
    return found


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _group_count(group: Subgroup) -> str:
    if group.num_units == group.num_photographs:
        return f"{group.num_photographs:,}"
    return f"{group.num_photographs:,} ({group.num_units:,} units)"
