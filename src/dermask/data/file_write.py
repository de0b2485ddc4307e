"""What the writers of label files share: how a file names its photographs, and what has to be saved beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from dermask import files, images
from dermask.data.dataset import Dataset
from dermask.errors import OutputExistsError
from dermask.records import Sample


def photograph_names(dataset: Dataset, path: Path) -> list[str]:
    """How a label file at `path` names each photograph.

    Relative to the label file's folder if all lie in it, else to the deepest folder that holds them all, which reading
    then takes as `images`. Photographs that exist only in memory are ``images/ID.png``.
    """
    root = photograph_root(dataset, path.parent.absolute())
    return [_photograph_name(sample, root) for sample in dataset]


def photograph_root(dataset: Dataset, folder: Path) -> Path:
    """The absolute `folder` if all photographs lie below it, else the deepest folder that holds them all."""
    parents = [sample.image.absolute().parent for sample in dataset if isinstance(sample.image, Path)]
    if all(parent.is_relative_to(folder) for parent in parents):
        return folder
    return Path(os.path.commonpath(parents))


def photograph_targets(dataset: Dataset, names: Sequence[str], path: Path) -> dict[int, Path]:
    """Where the photographs go that exist only in memory, by their index.

    Raises:
        InputError: A name leaves the folder.
    """
    return {
        index: files.safe_join(path.parent, names[index])
        for index, sample in enumerate(dataset)
        if not isinstance(sample.image, Path)
    }


def save_photographs(dataset: Dataset, targets: Mapping[int, Path]) -> None:
    """Save the photographs that exist only in memory, as PNG."""
    for index, target in targets.items():
        image = dataset[index].image
        if not isinstance(image, Path):
            images.write_png(target, image)


def refuse_existing(targets: Iterable[Path], *, overwrite: bool) -> None:
    """Check that nothing is lost by writing.

    Raises:
        OutputExistsError: One of the files is there, and `overwrite` is off.
    """
    for target in targets:
        if target.exists() and not overwrite:
            raise OutputExistsError(str(target), "is there already", "choose another name or allow overwriting")


def _photograph_name(sample: Sample, root: Path) -> str:
    if isinstance(sample.image, Path):
        return sample.image.absolute().relative_to(root).as_posix()
    return f"images/{PurePath(sample.image_id).as_posix()}.png"
