"""What the writers of folders share: a folder that appears whole or not at all, names in it, photographs copied to it.

A folder is written under a hidden name beside its place and renamed at the end, so a run killed at any moment leaves
no half of a data set under the name that was asked for.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from dermask import files, images
from dermask.data.checks import show
from dermask.data.dataset import Dataset
from dermask.errors import InputError, OutputExistsError
from dermask.records import Sample
from dermask.wording import plural

_MAX_STEM_BYTES = 180
"""File names end at 255 bytes; this leaves room for a suffix such as ``_segmentation.png`` and a number."""
_RESERVED = re.compile(r"[\x00-\x1f\x7f-\x9f<>:\"/\\|?*\ud800-\udfff]")
"""What some file system or program does not take in a name."""


@contextlib.contextmanager
def new_folder(path: Path, *, own_names: Collection[str], dataset: Dataset, overwrite: bool) -> Iterator[Path]:
    """A folder to write into that takes the name `path` once the block has ended without an error.

    Args:
        path: The folder to make. An empty one that stands there is taken.
        own_names: What such a folder holds at its top. With `overwrite`, a folder that holds anything else is refused
            all the same: it is not an older data set of ours, and replacing it would delete what somebody put there.
        dataset: What is written; a folder that its photographs lie in is never replaced.
        overwrite: Whether to replace an older data set of the same format.

    Raises:
        OutputExistsError: Something stands there that may not be replaced.
        InputError: The folder cannot be written.
    """
    _check_target(path, own_names, dataset, overwrite)
    temporary = path.absolute().parent / f".{secrets.token_hex(8)}.tmp"
    files.make_folder(temporary)
    try:
        yield temporary
        _take_name(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(str(path), f"cannot be written: {reason}", "choose another place or make room") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _take_name(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    old = path.absolute().parent / f".{secrets.token_hex(8)}.old"
    path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_target(path: Path, own_names: Collection[str], dataset: Dataset, overwrite: bool) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise OutputExistsError(str(path), "is there already", "choose another name or allow overwriting")
    if not path.is_dir():
        raise OutputExistsError(str(path), "is a file, and a folder would take its place", "choose another name")
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in own_names)
    if foreign:
        raise OutputExistsError(
            str(path), f"holds {show(foreign[0])}, which this format does not write", "choose another name or empty it"
        )
    root = path.resolve()
    if any(isinstance(one.image, Path) and one.image.resolve().is_relative_to(root) for one in dataset):
        raise OutputExistsError(str(path), "holds the photographs that are being converted", "choose another name")


def file_stems(dataset: Dataset, *, avoid: re.Pattern[str] | None = None) -> list[str]:
    """A file name without suffix for each photograph: its `image_id` where that is one, else the nearest name.

    Args:
        dataset: The photographs.
        avoid: Stems that a reader of the format would take for something else; they get a ``_`` at the end.

    Returns:
        As many names, distinct even where the file system ignores case, free of separators, never hidden.
    """
    taken: set[str] = set()
    stems = []
    for sample in dataset:
        stem = _RESERVED.sub("_", sample.image_id).strip(" ").lstrip(".") or "photograph"
        if "/" in sample.image_id or "\\" in sample.image_id:  # whole names, where stems were not distinct
            stem = re.sub(r"\.[A-Za-z]{3,4}$", "", stem)
        stem = stem.encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
        if avoid is not None and avoid.search(stem):
            stem += "_"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        stems.append(name)
    return stems


def copy_photograph(sample: Sample, folder: Path, stem: str) -> Path:
    """Put a photograph into a folder, byte for byte; pixels that exist only in memory become a PNG.

    A file whose name does not say that it is an image, which readers of folders go by, is written as PNG too.

    Returns:
        Where it lies now.

    Raises:
        InputError: It cannot be read or written.
    """
    if not isinstance(sample.image, Path):
        target = folder / f"{stem}.png"
        images.write_png(target, sample.image)
        return target
    suffix = sample.image.suffix
    if suffix.lower() not in images.SUFFIXES:
        target = folder / f"{stem}.png"
        images.write_png(target, images.read_image(sample.image))
        return target
    target = folder / f"{stem}{suffix}"
    try:
        shutil.copyfile(sample.image, target)
    except FileNotFoundError:
        raise InputError(str(sample.image), "no such file", "restore it, or read the labels again") from None
    return target


def photograph_losses(dataset: Dataset, stems: Sequence[str]) -> list[str]:
    """One line for each thing that changed about the photographs themselves: names, and files that are no images."""
    renamed = sum(sample.image_id != stem for sample, stem in zip(dataset, stems, strict=True))
    redone = sum(isinstance(one.image, Path) and one.image.suffix.lower() not in images.SUFFIXES for one in dataset)
    losses = []
    if renamed:
        losses.append(f"{plural(renamed, 'photograph')} renamed: folders need plain, distinct file names")
    if redone:
        losses.append(f"{plural(redone, 'photograph')} written as PNG: the file's name did not say that it is an image")
    return losses


def turned_loss(num_turned: int) -> list[str]:
    """The line for photographs that are stored turned, where masks lie beside them; none for none."""
    if not num_turned:
        return []
    return [
        f"{plural(num_turned, 'photograph')} with an EXIF orientation: the masks are upright, as viewers show the "
        "photographs; a program that ignores the orientation will see them apart"
    ]


def is_turned(sample: Sample) -> bool:
    """Whether a photograph's file is stored in another orientation than it is shown in."""
    return isinstance(sample.image, Path) and images.orientation(sample.image) != 1
