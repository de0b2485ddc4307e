"""`dermask data stats`: what a data set holds, in figures, parts side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dermask.cli.common import (
    ImagesOption,
    JsonOption,
    PartOption,
    SplitOption,
    UsageMistake,
    counting,
    note,
    refuse_existing,
    result,
)
from dermask.cli.data_check import open_parts
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.audit.findings import Part
    from dermask.data.dataset import Dataset
    from dermask.data.statistics import PartStatistics
    from dermask.records import PhotoInfo
    from dermask.report.tables import Table


def stats(
    data: Annotated[
        list[Path], typer.Argument(help="Labels, one or several; an ISIC folder or split file gives all its parts.")
    ],
    images: ImagesOption = None,
    part: PartOption = None,
    split: SplitOption = None,
    metadata: Annotated[
        Path | None, typer.Option(help="Table with diagnoses; default the one beside the data.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Page with charts to write, .html.", show_default=False)
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--csv", help="Table of all photographs to write.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    processes: Annotated[
        int | None, typer.Option(help="Worker processes; default one per CPU.", min=1, show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is written, if it is there.")] = False,
) -> None:
    """Count and measure: photographs, outlines, colours, and the tone of the skin around lesions.

    \b
      dermask data stats isic2017/ -o stats.html
      dermask data stats labels.json --images photos/ --json
      dermask data stats train.json test.json --csv photographs.csv

    Photographs that cannot be read are counted, and the others measured. Skin tone is the individual typology angle,
    which follows the light as well as the skin: docs/data_stats.md says what each figure means.

    Research use only.
    """
    from dermask.data.statistics import measure
    from dermask.data.statistics_summary import photographs_csv, summarize
    from dermask.files import write_text

    _check_outputs(output, table, overwrite)
    parts = open_parts(data, images=images, part=part, split=split)
    measured: list[PartStatistics] = []
    with counting("stats", "photographs", sum(len(one.dataset) for one in parts)) as show_progress:
        for name, dataset in parts:
            measured.append(
                measure(
                    name,
                    dataset,
                    metadata=_read_metadata(dataset, metadata),
                    processes=processes,
                    on_progress=_further(show_progress, measured, parts),
                )
            )
    summaries = [summarize(one) for one in measured]
    _say_what_was_left_out(measured)
    if table is not None:
        write_text(table, photographs_csv(measured))
        note(f"photographs: {table}")
    if output is not None:
        from dermask.report.stats_page import write_stats_page

        note(f"page: {write_stats_page(measured, output, command=_command())}")
    if as_json:
        result(json.dumps({"dermask_stats": 1, "parts": summaries}, indent=1))
    else:
        _print_tables(summaries)


def _check_outputs(output: Path | None, table: Path | None, overwrite: bool) -> None:
    if output is not None and output.suffix.lower() not in (".html", ".htm"):
        raise UsageMistake(f"-o {output}: the charts are a page, so its name must end in .html")
    if table is not None and table.suffix.lower() != ".csv":
        raise UsageMistake(f"--csv {table}: the name must end in .csv")
    for path in (output, table):
        if path is not None:
            refuse_existing(path, overwrite)


def _further(
    show_progress: Callable[[int, int], None], measured: Sequence[PartStatistics], parts: Sequence[Part]
) -> Callable[[int, int], None]:
    """Progress of one part as progress of them all."""
    before = sum(len(part.dataset) for part in parts[: len(measured)])
    total = sum(len(part.dataset) for part in parts)
    return lambda done, _: show_progress(before + done, total)


def _read_metadata(dataset: Dataset, path: Path | None) -> dict[str, PhotoInfo]:
    from dermask.data.metadata import find_metadata, read_metadata

    found = path or find_metadata(dataset)
    return {} if found is None else read_metadata(found)


def _say_what_was_left_out(measured: Sequence[PartStatistics]) -> None:
    for one in measured:
        if one.left_out:
            note(f"{one.name}: {plural(len(one.left_out), 'label')} left out; dermask data check says which")
        for photograph in one.unreadable[:5]:
            note(f"not measured: {one.name}: {photograph.image_id}: {photograph.problem}")
        if len(one.unreadable) > 5:
            note(f"not measured: {one.name}: {plural(len(one.unreadable) - 5, 'further photograph')}")


def _print_tables(summaries: Sequence[Mapping[str, Any]]) -> None:
    from dermask.report.stats_page import short_table, tone_table

    result(_as_text(short_table(summaries)))
    result("\nMedians; in brackets the range that holds nine tenths of the values.\n")
    result(_as_text(tone_table(summaries)))
    result("\nSkin tone follows the light as well as the skin, and is not the Fitzpatrick type. Research use only.")


def _as_text(table: Table) -> str:
    """Columns of one width each, whatever the terminal: so that files and pipes get the same."""
    rows = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _command() -> str:
    import shlex
    import sys

    return shlex.join(["dermask", *sys.argv[1:]])
