"""What labelme's and Label Studio's readers and writers share: classes by name, and photographs' names.

Such tools keep a class as a name at every shape, and name photographs by paths or addresses of the machine they ran on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from dermask import files
from dermask.data.checks import Draft, Problems, show
from dermask.data.dataset import Dataset, ReadProblem
from dermask.errors import InputError, LabelError
from dermask.records import Instance, Outline

_MAX_DEPTH = 16
"""Folders of a name that are tried; keeps the work on names made of slashes small."""


def names_below(name: str) -> list[str]:
    """What a path or address may be called below the folder of the photographs, longest first.

    The parts before a drive, a root or ``..`` are of another machine or outside the folder, so only what comes behind
    counts: ``../photos/a/x.jpg`` gives ``photos/a/x.jpg``, ``a/x.jpg`` and ``x.jpg``.
    """
    windows = PureWindowsPath(name)
    parts = list(windows.parts[1:] if windows.anchor else windows.parts)
    while ".." in parts:
        del parts[: parts.index("..") + 1]
    parts = parts[-_MAX_DEPTH:]
    return ["/".join(parts[start:]) for start in range(len(parts))]


def find_by_names(names: Sequence[str], folders: Iterable[Path]) -> tuple[Path, str] | None:
    """The first of `names` that is a file in one of `folders`, never outside them; None where none is."""
    folders = list(folders)
    for name in names:
        for folder in folders:
            try:
                path = files.safe_join(folder, name)
                if path.is_file():
                    return path, name
            except (InputError, OSError, ValueError):  # a name that leaves the folder, or that no file can have
                continue
    return None


def files_in(folder: Path) -> list[Path]:
    """What lies in a folder, in order; nothing where it cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


@dataclass(slots=True)
class NamedRegion:
    """One object of a label file, before its class has a number.

    Attributes:
        draft: Its photograph.
        item: For messages.
        class_name: None where the file names none.
        outline: Where it is.
        is_crowd: Whether it is a region to be ignored, which needs no class.
        annotation_id: Its id in the file.
    """

    draft: Draft
    item: str
    class_name: str | None
    outline: Outline
    is_crowd: bool = False
    annotation_id: int | str | None = None


def add_instances(regions: Sequence[NamedRegion], problems: Problems) -> tuple[str, ...]:
    """Put the regions into their photographs with labels by the sorted class names.

    Where no region has a class, as is usual with a single one, all are "lesion".

    Returns:
        The class names in the order of labels.
    """
    names = sorted({region.class_name for region in regions if region.class_name is not None}) or ["lesion"]
    labels = {name: label for label, name in enumerate(names, start=1)}
    is_single_class = all(region.class_name is None for region in regions)
    for region in regions:
        if region.class_name is None and not is_single_class and not region.is_crowd:
            cure = f"choose one of {', '.join(show(name)[1:-1] for name in names[:8])}"
            problems.add(LabelError(region.item, "has no label, and others have", cure), region.draft)
            continue
        label = 1 if region.class_name is None else labels[region.class_name]
        instance = Instance(label, region.outline, region.is_crowd, annotation_id=region.annotation_id)
        region.draft.instances.append(instance)
    return tuple(names)


def note_unlabelled(problems: Problems, item: str, photographs: Sequence[tuple[str, Path | None]], reason: str) -> None:
    """Say which photographs stay out because nobody has labelled them; that is no error.

    Args:
        problems: Where it is said: one line in all, and one finding for each photograph.
        item: The label file or folder.
        photographs: Name and, as far as found, place of each.
        reason: Why it counts as unlabelled, behind "photograph X".
    """
    if not photographs:
        return
    cure = "label it, or save it without an outline if it shows no lesion"
    for name, path in photographs:
        problems.found.append(ReadProblem(LabelError(item, f"photograph {show(name)} {reason}", cure), path))
    more = len(photographs) - 1
    others = f", and so with {more} more" if more else ""
    problems.lines.append(f"{item}: photograph {show(photographs[0][0])} {reason}{others}; left out as unlabelled")


def lost_classes(dataset: Dataset) -> list[str]:
    """One line for the classes that no object has: a format that names classes at objects does not keep them."""
    used = {instance.label for sample in dataset for instance in sample.instances if not instance.is_crowd}
    lost = [name for label, name in enumerate(dataset.class_names, start=1) if label not in used]
    if not lost or dataset.class_names == ("lesion",):  # which is what readers say where nothing is named
        return []
    names = ", ".join(show(name)[1:-1] for name in lost[:8])
    return [
        f"class {names} not kept: no outline has it"
        if len(lost) == 1
        else f"classes {names} not kept: no outline has them"
    ]
