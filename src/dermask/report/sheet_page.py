"""A contact sheet as a page: labelled photographs in a grid, each enlarged at a click, outlines on and off by class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dermask import files
from dermask.data.dataset import Dataset
from dermask.inference.overlay import CLASS_COLOURS, TRUTH_COLOUR
from dermask.report.outlined import OutlinedPhotograph, outlined_photograph
from dermask.report.rendering import css_colour, render_page
from dermask.wording import plural

LARGE_SIDE = 900
"""Long side of a photograph as the page holds it, for sheets of at most `FEW` photographs."""
SMALL_SIDE = 480
"""The same for larger sheets, so that a page of 300 photographs stays below about 15 MB."""
FEW = 60


class SheetPhotograph(NamedTuple):
    """A photograph of the sheet.

    Attributes:
        photograph: What is shown.
        note: A further line, such as the worst thing an audit found; empty for none.
    """

    photograph: OutlinedPhotograph
    note: str = ""


class _Legend(NamedTuple):
    label: int
    name: str
    colour: str
    number: int


def read_photograph(dataset: Dataset, index: int, *, num_photographs: int, note: str = "") -> SheetPhotograph:
    """One photograph for a sheet; one that cannot be read becomes a tile that says so.

    Args:
        dataset: Where it is from.
        index: Which.
        num_photographs: Of the whole sheet, which decides how large each is kept.
        note: A further line below it.
    """
    side = LARGE_SIDE if num_photographs <= FEW else SMALL_SIDE
    return SheetPhotograph(outlined_photograph(dataset[index], side=side), note)


def write_sheet_page(
    shown: Sequence[SheetPhotograph],
    path: Path,
    *,
    class_names: Sequence[str],
    title: str,
    lead: str = "",
    columns: int = 6,
    command: str = "",
) -> Path:
    """Write a contact sheet as one HTML file.

    Args:
        shown: The photographs, in order.
        path: Where to write; a file that stands there is replaced.
        class_names: Name of label i at index i - 1.
        title: Heading of the page.
        lead: What the sheet shows, and of how much.
        columns: Photographs in a row on a wide screen; a narrow one has fewer.
        command: The command that made it.

    Returns:
        `path`.

    Raises:
        InputError: The file cannot be written.
    """
    context = {
        "title": title,
        "lead": lead or plural(len(shown), "photograph"),
        "shown": [(number, one, _describe(one, class_names)) for number, one in enumerate(shown)],
        "legend": _legend(shown, class_names),
        "columns": columns,
        "command": command,
        "class_names": list(class_names),
    }
    files.write_text(path, render_page("sheet.html", context))
    return path


def _legend(shown: Sequence[SheetPhotograph], class_names: Sequence[str]) -> list[_Legend]:
    """Every class that occurs; one class alone has the colour of truth on all of dermask's pictures."""
    colours = CLASS_COLOURS if len(class_names) > 1 else (TRUTH_COLOUR,)
    counts: dict[int, int] = {}
    for one in shown:
        for outline in one.photograph.outlines:
            counts[outline.label] = counts.get(outline.label, 0) + 1
    return [
        _Legend(label, class_names[label - 1], css_colour(colours[(label - 1) % len(colours)]), counts[label])
        for label in sorted(counts)
    ]


def _describe(one: SheetPhotograph, class_names: Sequence[str]) -> str:
    """A photograph in a few words: its outlines, and its size."""
    photograph = one.photograph
    if photograph.problem:
        return f"cannot be read: {photograph.problem}"
    counts: dict[int, int] = {}
    for outline in photograph.outlines:
        counts[outline.label] = counts.get(outline.label, 0) + 1
    if len(class_names) > 1 and counts:
        words = ", ".join(f"{count} {class_names[label - 1]}" for label, count in sorted(counts.items()))
    else:
        words = plural(len(photograph.outlines), "outline") if counts else "no outline"
    if photograph.num_broken:
        words += f", {photograph.num_broken} cannot be drawn"
    size = photograph.original_size
    return words if size is None else f"{words}, {size.width} x {size.height}"
