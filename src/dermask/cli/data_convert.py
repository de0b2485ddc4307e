"""`dermask data convert`: labels of one format written in another, with everything said that got lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermask.cli.common import (
    ImagesOption,
    JsonOption,
    PartOption,
    SkipBadOption,
    SplitOption,
    UsageMistake,
    counting,
    note,
    open_data,
    result,
)
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.data.conversion import Comparison
    from dermask.data.dataset import Dataset
    from dermask.data.formats import Format

_KEYS = (
    "coco, makesense-coco, makesense-vgg, via1, via2, via-project, labelme, cvat, label-studio, label-studio-tasks, "
    "yolo, isic, folders, colour-masks"
)  # dermask.data.formats.FORMATS, which costs too much to import for --help; a test compares them


def convert(
    data: Annotated[Path, typer.Argument(help="Labels in any format that dermask reads.")],
    to: Annotated[str, typer.Option("--to", help=f"Format to write: {_KEYS}.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The label file or folder to write.", show_default=False)
    ],
    images: ImagesOption = None,
    part: PartOption = None,
    split: SplitOption = None,
    skip_bad: SkipBadOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what an earlier conversion wrote there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write labels in another format, and say what that format cannot hold.

    \b
      dermask data convert labels.json --images photos/ --to yolo -o yolo
      dermask data convert isic2017 --part Training --to makesense-coco -o labels.json
      dermask data convert labels.json --split split.json --to yolo -o yolo

    What was written is read back and compared. With --split and no --part, YOLO gets all parts of the split file.

    Research use only.
    """
    import json

    from dermask.data.formats import FORMATS, find_format

    if to not in {one.key for one in FORMATS}:
        raise UsageMistake(f"--to {to}: is unknown; choose one of {_KEYS}")
    kind = find_format(to)
    _check_suffix(output, kind)
    if kind.key != "labelme":  # which adds files to a folder
        _refuse(output, overwrite)
    parts = _open_parts(data, images, split, skip_bad) if kind.key == "yolo" and part is None else {}
    if parts:
        losses, checks = _write_parts(parts, output, overwrite)
        datasets = list(parts.values())
    else:
        datasets = [open_data(data, images=images, part=part, skip_bad=skip_bad, split=split)]
        losses, checks = _write_one(datasets[0], output, to, overwrite)
    photographs = sum(len(dataset) for dataset in datasets)
    outlines = sum(len(sample.instances) for dataset in datasets for sample in dataset)
    for line in losses:
        note(f"lost: {line}")
    for line in (line for check in checks for line in check.differences()):
        note(f"read back: {line}")
    if as_json:
        tree = {"path": str(output), "format": to, "photographs": photographs, "outlines": outlines}
        found = [_check_json(check) for check in checks]
        result(json.dumps(tree | {"lost": list(losses), "read_back": found}, ensure_ascii=False))
        return
    note(f"{plural(photographs, 'photograph')}, {plural(outlines, 'outline')} as {kind.name}")
    if checks and all(check.is_same for check in checks):
        compared = plural(sum(check.compared for check in checks), "photograph")
        what = "all there but what is lost" if losses else "all there"
        note(f"read back: {what}; {compared} compared, least IoU {min(check.least_iou for check in checks):.4f}")
    folder = None if kind.reader is None else _folder_to_name(datasets, output, kind)
    if folder is not None:
        note(f"the photographs stay where they are: read it with --images {folder}")
    result(str(output))


def _check_suffix(output: Path, kind: Format) -> None:
    """Refuse a name that cannot be meant: a label file takes no photograph's place, and a folder is no .json.

    Raises:
        UsageMistake: The name does not go with the format.
    """
    if not kind.is_folder and output.suffix.lower() != ".json":
        raise UsageMistake(f"-o {output}: {kind.name} is one file, so its name must end in .json")
    if kind.is_folder and output.suffix.lower() == ".json":
        raise UsageMistake(f"-o {output}: {kind.name} is a folder; leave .json out of its name")


def _folder_to_name(datasets: Sequence[Dataset], output: Path, kind: Format) -> Path | None:
    """The photographs' folder, where what was written holds none and does not lie beside them."""
    from dermask.audit.fix import photographs_folder

    if kind.is_folder and kind.key != "labelme":
        return None
    return photographs_folder(datasets[0], output / "any.json" if kind.is_folder else output)


def _write_one(dataset: Dataset, output: Path, key: str, overwrite: bool) -> tuple[tuple[str, ...], list[Comparison]]:
    from dermask.data.conversion import compare, read_back
    from dermask.data.formats import find_format, write_dataset

    with counting("write", "photographs", len(dataset)) as show_progress:
        losses = write_dataset(dataset, output, key, overwrite=overwrite, on_progress=show_progress)
    written = read_back(dataset, output, key)
    return losses, [] if written is None else [compare(dataset, written, find_format(key).holds)]


def _write_parts(parts: dict[str, Dataset], output: Path, overwrite: bool) -> tuple[tuple[str, ...], list[Comparison]]:
    """All parts as one YOLO data set."""
    from dermask.data.conversion import compare
    from dermask.data.formats import Watched, find_format, open_dataset
    from dermask.data.yolo_write import PART_NAMES, write_yolo_parts

    total, before = sum(len(dataset) for dataset in parts.values()), 0
    watched: dict[str, Dataset] = {}
    with counting("write", "photographs", total) as show_progress:
        for name, dataset in parts.items():
            watched[name] = Watched(dataset, show_progress, before=before, total=total)
            before += len(dataset)
        losses = write_yolo_parts(watched, output, overwrite=overwrite)
    names = {name: PART_NAMES.get(name.casefold(), name) for name in parts}
    holds = find_format("yolo").holds
    return losses, [compare(parts[name], open_dataset(output, part=own), holds) for name, own in names.items()]


def _refuse(output: Path, overwrite: bool) -> None:
    """Refuse before anything is read; writers check once more, and know what may be replaced."""
    from dermask.errors import OutputExistsError

    is_empty_folder = output.is_dir() and not any(output.iterdir())
    if output.exists() and not overwrite and not is_empty_folder:
        raise OutputExistsError(str(output), "already exists", "choose another -o, or pass --overwrite")


def _open_parts(data: Path, images: Path | None, split: Path | None, skip_bad: bool) -> dict[str, Dataset]:
    """Every part of the split file, or of a data set that has several; nothing where there are no parts."""
    from dermask.data.formats import list_part_names, part_of_split
    from dermask.data.split_file import read_split

    if split is not None:
        whole = read_split(split)
        dataset = open_data(data, images=images, part=part_of_split(data, whole), skip_bad=skip_bad)
        return {name: whole.select(dataset, name) for name in whole.parts}
    names = list_part_names(data)
    if len(names) < 2:
        return {}
    return {name: open_data(data, images=images, part=name, skip_bad=skip_bad) for name in names}


def _check_json(check: Comparison) -> dict[str, object]:
    return {
        "same": check.is_same,
        "photographs": list(check.photographs),
        "compared": check.compared,
        "outlines": list(check.outlines),
        "least_iou": round(check.least_iou, 6),
        "differences": check.differences(),
    }
