"""What the commands share: where output goes, how options become settings, how data sets are opened.

Results go to stdout, everything else to stderr. Only modules that cost little are imported here, because every
`dermask --help` pays for them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dermask.wording import plural

if TYPE_CHECKING:
    from rich.progress import Progress

    from dermask.config import RunSettings
    from dermask.data.dataset import Dataset
    from dermask.data.split_file import Split
    from dermask.records import PhotoInfo
    from dermask.tidying import TidyStep

DeviceName = Literal["auto", "cpu", "cuda"]
EngineName = Literal["auto", "onnxruntime", "openvino"]
Rule = Literal["primary", "union"]

RESEARCH_USE = "Research use only: dermask outlines lesions; it does not say what a lesion is."


class UsageMistake(Exception):
    """Options that do not go together; exit status 2."""


# Options that several commands take. None means "not given": the default lives in dermask.config.
DataOption = Annotated[
    Path,
    typer.Option(help="Labels in any format that dermask reads.", show_default=False),
]
ImagesOption = Annotated[
    Path | None, typer.Option(help="Photographs, where they are not beside the labels.", show_default=False)
]
PartOption = Annotated[
    str | None, typer.Option(help="Part of an ISIC folder or of --split: Training, Test_v2, val.", show_default=False)
]
SplitOption = Annotated[
    Path | None,
    typer.Option("--split", help="File of dermask data split; --part then names one of its parts.", show_default=False),
]
FoldOption = Annotated[
    int | None, typer.Option("--fold", help="Fold of the split file, from 1.", min=1, show_default=False)
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Go on without labels that are wrong; say how many.")]
DeviceOption = Annotated[DeviceName, typer.Option(help="Where to compute; auto takes a GPU if there is one.")]
EngineOption = Annotated[
    EngineName, typer.Option(help="What runs an .onnx model; auto takes the faster one that is installed.")
]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads.", min=1, show_default=False)]
BatchSizeOption = Annotated[int | None, typer.Option(help="Photographs computed at once.", min=1, show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
MetadataOption = Annotated[
    Path | None,
    typer.Option(
        help="CSV with patient, lesion and diagnosis; by default one beside or above the photographs.",
        show_default=False,
    ),
]
NoMetadataOption = Annotated[bool, typer.Option("--no-metadata", help="Look for no table.")]
RuleOption = Annotated[
    Rule, typer.Option(help="The one mask of a photograph: its best-scoring lesion, or all of them together.")
]
TidyOption = Annotated[
    str | None,
    typer.Option(
        help="Tidy what a model finds: largest (part alone), holes (filled), smooth, or all, as largest,holes.",
        show_default=False,
    ),
]


def parse_tidy(text: str | None) -> tuple[TidyStep, ...]:
    """`largest,holes` as steps, in the order in which they are taken; `all` is every one.

    Raises:
        UsageMistake: One is not known, or there is none.
    """
    from dermask.tidying import TIDY_STEPS

    if text is None:
        return ()
    names = parse_names("--tidy", text, (*TIDY_STEPS, "all"))
    return TIDY_STEPS if "all" in names else tuple(step for step in TIDY_STEPS if step in names)


def parse_names(option: str, text: str, known: Sequence[str]) -> frozenset[str]:
    """The names in a list with commas.

    Raises:
        UsageMistake: One is not known, or there is none.
    """
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not names or names - set(known):
        raise UsageMistake(f"{option} {text}: choose from {','.join(known)}")
    return names


def is_first_process() -> bool:
    """Whether this process speaks and writes; torchrun starts several that train together."""
    return os.environ.get("RANK", "0") == "0"


def complain(text: str) -> None:
    """Tell what went wrong, to stderr; of several processes each speaks, for any of them may be the one that failed."""
    typer.echo(text, err=True)


def note(text: str) -> None:
    """Tell the person something that is not a result, to stderr; of several processes the first alone."""
    if is_first_process():
        typer.echo(text, err=True)


def result(text: str) -> None:
    """Print a result, to stdout; of several processes the first alone."""
    if is_first_process():
        typer.echo(text)


def progress_bar(unit: str) -> Progress:
    """A progress bar on stderr, silent unless that is a terminal; a context manager.

    Args:
        unit: What stands behind the count, such as "photographs"; may name a task's fields in braces.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),  # a console also counts as a terminal where FORCE_COLOR is set
        transient=True,
    )


@contextmanager
def counting(description: str, unit: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A progress bar as a function that is told how many are done, and of how many."""
    with progress_bar(unit) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def given(**options: object) -> dict[str, object]:
    """The options that were given: those that are not None. Double underscores in a name become dots."""
    return {name.replace("__", "."): value for name, value in options.items() if value is not None}


def parse_assignments(assignments: Sequence[str] | None) -> dict[str, object]:
    """`--set train.epochs=3` as a dictionary.

    Raises:
        UsageMistake: One has no `=`.
    """
    values: dict[str, object] = {}
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise UsageMistake(f"--set {assignment}: needs a name and a value, as in --set train.epochs=3")
        values[name.strip()] = value.strip()
    return values


def run_settings(
    config_file: Path | None, preset: str | None, values: Mapping[str, object], *, base: RunSettings | None = None
) -> RunSettings:
    """Settings of a run: `base` or the defaults, then a TOML file, the preset, single values; later ones win.

    Raises:
        SettingError: An unknown name or a value out of range.
    """
    from dermask import config

    settings = base or config.RunSettings()
    if config_file is not None:
        settings = config.from_toml(config.RunSettings, config_file)
    if preset is not None:
        settings = settings.model_copy(update={"model": config.preset(preset)})
    return config.override(settings, values)


def open_data(
    data: Path,
    *,
    images: Path | None = None,
    part: str | None = None,
    skip_bad: bool = False,
    split: Path | None = None,
) -> Dataset:
    """Open labelled photographs, and say on stderr what was left out or taken otherwise.

    Args:
        data: The labels.
        images: Their photographs, where they lie elsewhere.
        part: Part of an ISIC folder; with `split`, part of the split file, and None stands for all of them.
        skip_bad: Go on without what is bad.
        split: A split file.

    Raises:
        LabelError: The labels are wrong, or there are none; the split file does not fit them.
    """
    if split is None:
        return _opened(data, images, part, skip_bad)
    from dermask.data.splits import read_split

    chosen = read_split(split)
    return chosen.select(open_whole(data, chosen, images=images, skip_bad=skip_bad), part)


def open_whole(data: Path, split: Split, *, images: Path | None = None, skip_bad: bool = False) -> Dataset:
    """Open the photographs that a split divides, all parts of it together, and say whether they have changed.

    Raises:
        LabelError: As `open_data`.
    """
    from dermask.data.formats import part_of_split

    dataset = _opened(data, images, part_of_split(data, split), skip_bad)
    if not split.is_of(dataset):
        note(f"{split.item}: some photographs had another size when it was made; is this the same data?")
    return dataset


def _opened(data: Path, images: Path | None, part: str | None, skip_bad: bool) -> Dataset:
    from dermask.data.formats import open_dataset

    dataset = open_dataset(data, images=images, part=part, skip_bad=skip_bad)
    for line in dataset.notes:
        note(line)
    if dataset.skipped:
        for line in dataset.skipped:
            note(f"skipped: {line}")
        note(f"{plural(len(dataset.skipped), 'label')} skipped, {plural(len(dataset), 'photograph')} left")
    if not any(sample.instances for sample in dataset):
        note(f"{data}: no photograph has an outline; if that is not meant, export the labels again")
    return dataset


def choose_part(split: Split, part: str | None, fold: int | None) -> str:
    """The part of a split file that `--part` or `--fold` names.

    Raises:
        UsageMistake: Neither does, both do, or there is no such fold; the names are in the message.
    """
    known = ", ".join(split.parts)
    if part is not None and fold is not None:
        raise UsageMistake("--part and --fold both name a part of the split; give one")
    if fold is None:
        if part is None:
            raise UsageMistake(f"{split.item} has the parts {known}; name one with --part")
        return part
    if split.folds is None:
        raise UsageMistake(f"--fold {fold}: {split.item} has no folds; name one of {known} with --part")
    if fold > split.folds:
        raise UsageMistake(f"--fold {fold}: {split.item} has {split.folds} folds")
    return f"fold{fold}"


def check_metadata(path: Path | None, no_metadata: bool) -> None:
    """Raise UsageMistake where both options were given, before any work is done."""
    if path is not None and no_metadata:
        raise UsageMistake("--metadata and --no-metadata contradict each other; give one")


def read_table(dataset: Dataset, path: Path | None, no_metadata: bool) -> tuple[Path | None, Mapping[str, PhotoInfo]]:
    """The table of patients, lesions and diagnoses, and what it says; neither where there is none.

    Raises:
        UsageMistake: Both options were given.
        LabelError: The table cannot be read, or knows none of the photographs.
    """
    from dermask.data.metadata import find_metadata, read_metadata
    from dermask.errors import LabelError

    check_metadata(path, no_metadata)
    if no_metadata:
        return None, {}
    found = find_metadata(dataset) if path is None else path
    if found is None:
        note("no metadata.csv or the like beside the photographs: patients, lesions and diagnoses are not known")
        return None, {}
    known = read_metadata(found)
    count = sum(sample.image_id in known for sample in dataset)
    if not count:
        raise LabelError(str(found), "knows none of the photographs", "name their table with --metadata")
    note(f"{found}: knows {count:,} of {plural(len(dataset), 'photograph')}")
    return found, known


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Check that nothing stands where a result goes, unless it may be replaced.

    Raises:
        OutputExistsError: Something does.
    """
    from dermask.errors import OutputExistsError

    if path.exists() and not overwrite:
        raise OutputExistsError(str(path), "already exists", "choose another -o, or pass --overwrite")


def set_threads(threads: int | None) -> None:
    """Let torch compute with that many CPU threads; None leaves its own choice. Imports torch."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def require_training(feature: str) -> None:
    """Check that the part of dermask that trains is installed.

    Raises:
        MissingExtraError: It is not; names `feature` and the install command.
    """
    from dermask.errors import MissingExtraError

    if not all(_is_installed(name) for name in ("torch", "torchvision", "safetensors")):
        raise MissingExtraError(feature, "train")


def _is_installed(package: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(package) is not None  # looks without importing
    except ModuleNotFoundError:
        return False
