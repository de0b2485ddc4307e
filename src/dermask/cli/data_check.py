"""`dermask data check`: what is wrong with labelled photographs, and what to do about it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermask.cli.common import (
    ImagesOption,
    JsonOption,
    PartOption,
    SplitOption,
    UsageMistake,
    counting,
    given,
    is_first_process,
    note,
    progress_bar,
    refuse_existing,
    result,
)
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.audit.findings import AuditReport, Finding, Part
    from dermask.data.dataset import Dataset
    from dermask.data.splits import Split
    from dermask.records import PhotoInfo

_STYLES = {"error": "bold red", "warning": "yellow", "note": "default"}
_LISTED = 20  # repairs that are listed one by one on the terminal


def check(
    data: Annotated[list[Path], typer.Argument(help="Labels of any known format; several are parts of one data set.")],
    images: ImagesOption = None,
    part: PartOption = None,
    split: SplitOption = None,
    metadata: Annotated[
        Path | None,
        typer.Option(help="CSV with patient_id and lesion_id; found by itself beside them.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures of what was found.", show_default=False)
    ] = None,
    json: JsonOption = False,
    fix: Annotated[
        Path | None, typer.Option(help="Write a COCO JSON with all safe repairs made.", show_default=False)
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Worker processes; by default one for each CPU.", min=1, show_default=False)
    ] = None,
    no_duplicates: Annotated[
        bool, typer.Option("--no-duplicates", help="Leave out the search for near-duplicates.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when errors are found.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the page and the JSON if they are there.")
    ] = False,
) -> None:
    """Say what is wrong with labelled photographs. Nothing is changed; --fix writes a new file.

    \b
      dermask data check labels.json --images photos/
      dermask data check isic2017 --html audit.html              all parts, and leaks between them
      dermask data check train.json test.json --strict           in a script: exit 1 on errors
      dermask data check labels.json --fix repaired.json

    Research use only.
    """
    from dermask.audit.audit import audit
    from dermask.audit.settings import AuditSettings

    for path, suffix, option in ((html, ".html", "--html"), (fix, ".json", "--fix")):
        if path is not None:
            refuse_existing(path, overwrite)
            if path.suffix.lower() != suffix:
                raise UsageMistake(f"{option} {path}: the name must end in {suffix}")
    parts = open_parts(data, images=images, part=part, split=split)
    if fix is not None and len(parts) > 1:
        names = ", ".join(one.name for one in parts)
        raise UsageMistake(
            f"--fix {fix}: one data set at a time, and there are the parts {names}; name one with --part"
        )
    known = _metadata(parts, metadata)
    with _two_bars() as on_progress:
        report = audit(
            parts,
            settings=AuditSettings(near_duplicates=not no_duplicates),
            metadata=known,
            processes=processes,
            on_progress=on_progress,
            command=_command(data, images=images, part=part, split=split, metadata=metadata),
        )
    if fix is not None:
        report = _write_repaired(parts[0], report, fix, overwrite=overwrite)
    if json:
        result(report.to_json().rstrip("\n"))
    else:
        _print_summary(report, wants_page=html is None, wants_fix=fix is None)
    if html is not None:
        from dermask.report.audit_page import write_audit_page

        with counting("page", "photographs", 0) as on_page_progress:
            write_audit_page(report, parts, html, on_progress=on_page_progress)
        note(f"page: {html}")
    if strict and report.has_errors:
        raise typer.Exit(1)


# What is checked


def open_parts(
    data: Sequence[Path], *, images: Path | None = None, part: str | None = None, split: Path | None = None
) -> list[Part]:
    """The parts of an audit: each of several sources, each part of an ISIC folder, or each part of a split file.

    Raises:
        UsageMistake: Several sources with an option that is for one.
        LabelError: Labels that cannot be read at all, or that do not fit the split file.
    """
    from dermask.audit.findings import Part
    from dermask.data.isic import list_parts

    if len(data) > 1:
        for value, option in ((split, "--split"), (part, "--part")):
            if value is not None:
                raise UsageMistake(f"{option}: goes with one data set, and there are {len(data)}")
        datasets = [_open(one, images, None) for one in data]
        return [Part(name, dataset) for name, dataset in zip(_names(data), datasets, strict=True)]
    (source,) = data
    if split is not None:
        return _split_parts(source, images, part, split)
    folders = list_parts(source) if source.is_dir() else {}
    if part is None and len(folders) > 1:
        return [Part(name, _open(source, images, name)) for name in folders]
    return [Part(part or _names(data)[0], _open(source, images, part))]


def _open(source: Path, images: Path | None, part: str | None) -> Dataset:
    """A data set with what its reader left out, even where that is all of it."""
    from dermask.data.checks import NothingLeft
    from dermask.data.dataset import Dataset
    from dermask.data.formats import open_dataset

    try:
        dataset = open_dataset(source, images=images, part=part, skip_bad=True)
    except NothingLeft as error:
        skipped = [f"{problem.error}; left out" for problem in error.found]
        return Dataset([], (), source.stem, source, skipped=skipped, problems=error.found)
    for line in dataset.notes:
        note(line)
    return dataset


def _names(data: Sequence[Path]) -> list[str]:
    """A name for each source: its own, with its folder where two have one."""
    names = [path.resolve().stem if path.suffix else path.resolve().name for path in data]
    if len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{name}" for path, name in zip(data, names, strict=True)]
    return names if len(set(names)) == len(names) else [f"{number}: {name}" for number, name in enumerate(names, 1)]


def _split_parts(source: Path, images: Path | None, part: str | None, split: Path) -> list[Part]:
    from dermask.audit.findings import Part
    from dermask.data.formats import part_of_split
    from dermask.data.splits import read_split

    chosen = read_split(split)
    whole = _open(source, images, part_of_split(source, chosen))
    names = list(chosen.parts) if part is None else [part]
    return [Part(name, _with_problems(chosen.select(whole, name), whole, chosen, name, names[0])) for name in names]


def _with_problems(dataset: Dataset, whole: Dataset, split: Split, name: str, first: str) -> Dataset:
    """What the reader left out goes to the part that the split gives it, and where that is unknown to the first."""
    from dermask.data.dataset import Dataset

    problems = [
        problem
        for problem in whole.problems
        if name == split.part_by_id.get(problem.photograph.stem if problem.photograph else "", first)
    ]
    return Dataset(dataset, dataset.class_names, dataset.name, dataset.source, dataset.categories, problems=problems)


def _metadata(parts: Sequence[Part], path: Path | None) -> dict[str, PhotoInfo]:
    """The table that was named, or those beside the photographs, which are told."""
    from dermask.data.metadata import find_metadata, read_metadata

    if path is not None:
        return read_metadata(path)
    known: dict[str, PhotoInfo] = {}
    tables = dict.fromkeys(found for part in parts if (found := find_metadata(part.dataset)) is not None)
    for table in tables:
        known = read_metadata(table) | known
        note(f"metadata: {table}")
    return known


@contextmanager
def _two_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each step of the audit: looking at photographs, and comparing them."""
    with progress_bar("photographs") as bar:
        tasks = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done, total=total)

        yield show


def _command(data: Sequence[Path], **options: object) -> str:
    """The command as it may be typed again, with the options that say what is checked."""
    words = ["dermask", "data", "check", *(str(path) for path in data)]
    for name, value in given(**options).items():
        words += [f"--{name}", str(value)]
    return shlex.join(words)


# What is told


def _write_repaired(part: Part, report: AuditReport, path: Path, *, overwrite: bool) -> AuditReport:
    from dermask.audit.fix import photographs_folder, repair
    from dermask.data.coco import write_coco

    repaired = repair(part, report)
    write_coco(repaired.dataset, path, overwrite=overwrite)
    for line in repaired.lines[:_LISTED]:
        note(f"repaired: {line}")
    if len(repaired.lines) > _LISTED:
        note(f"and {len(repaired.lines) - _LISTED:,} more, all of them in --json")
    folder = photographs_folder(repaired.dataset, path)
    where = "" if folder is None else f"; read it with --images {folder}"
    count = plural(len(repaired.dataset), "photograph")
    note(f"{path}: {count}, {plural(len(repaired.lines), 'repair')}{where}")
    return replace(report, repairs=repaired.lines)


def _print_summary(report: AuditReport, *, wants_page: bool, wants_fix: bool) -> None:
    """One row for each kind, worst first, and the next step."""
    photographs = sum(report.parts.values())
    parts = ", ".join(f"{name} {count:,}" for name, count in report.parts.items())
    result(
        f"{plural(photographs, 'photograph')} ({parts}) with {plural(report.num_outlines, 'outline')} "
        f"in {report.seconds:.0f} s"
    )
    if not report.findings:
        result("nothing found")
        return
    if is_first_process():
        _print_table(report)
    counts = [plural(report.count(severity), str(severity)) for severity in type(report.findings[0].severity)]
    result(", ".join(counts))
    if wants_page:
        result(f"next: {report.command} --html audit.html shows each with its picture; --json lists all")
    elif wants_fix and len(report.parts) == 1:
        result(f"next: {report.command} --fix repaired.json makes the safe repairs")


def _print_table(report: AuditReport) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    by_kind: dict[tuple[str, str], list[Finding]] = {}
    for finding in report.findings:
        by_kind.setdefault((str(finding.severity), finding.kind), []).append(finding)
    table = Table(box=None, pad_edge=False)
    table.add_column("severity")
    table.add_column("kind", no_wrap=True)
    table.add_column("count", justify="right")
    table.add_column("for example", overflow="fold")
    for (severity, kind), findings in by_kind.items():
        example = f"{findings[0].item}: {findings[0].problem}"
        table.add_row(Text(severity, _STYLES[severity]), kind, f"{len(findings):,}", Text(_one_line(example)))
    Console().print(table)


def _one_line(text: str) -> str:
    """File names may hold line ends and terminal codes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
