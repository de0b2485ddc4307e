"""`dermask data split`: a data set into parts between which nothing leaks."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dermask.cli.common import (
    ImagesOption,
    JsonOption,
    MetadataOption,
    NoMetadataOption,
    SkipBadOption,
    UsageMistake,
    check_metadata,
    counting,
    note,
    open_data,
    read_table,
    result,
)
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.data.dataset import Dataset
    from dermask.data.split_file import Split
    from dermask.data.split_summary import PartSummary
    from dermask.data.stratify import Strata
    from dermask.records import PhotoInfo

DEFAULT_PARTS: Mapping[str, float] = {"train": 0.7, "val": 0.15, "test": 0.15}
_MOST_ROWS = 12  # of one table; --json has all


def split(
    data: Annotated[Path, typer.Argument(help="Labels in any format that dermask reads.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The split file; one that is there is added to.", show_default=False)
    ],
    images: ImagesOption = None,
    part: Annotated[
        str | None, typer.Option(help="Part of an ISIC folder to divide: Training.", show_default=False)
    ] = None,
    skip_bad: SkipBadOption = False,
    parts: Annotated[
        str | None,
        typer.Option(help="Parts and their shares. train=0.7,val=0.15,test=0.15 by default.", show_default=False),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="In place of parts: that many folds.", min=2, show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another split. 0.", show_default=False)] = None,
    metadata: MetadataOption = None,
    no_metadata: NoMetadataOption = False,
    no_duplicates: Annotated[bool, typer.Option("--no-duplicates", help="Do not look for near-duplicates.")] = False,
    processes: Annotated[
        int | None, typer.Option(help="That read photographs; one per core by default.", min=1, show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start afresh in place of adding.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Divide photographs into parts that look alike and share no lesion.

    \b
      dermask data split labels.json --images photos/ -o split.json
      dermask data split isic2017 --part Training --folds 5 -o folds.json
      dermask train --data labels.json --images photos/ --split split.json -o runs/first

    Near-duplicates, photographs of one lesion and of one patient stay together. Run again after adding photographs:
    those that the file knows keep their part. Research use only.
    """
    from dermask.data.split_file import read_split, write_split

    check_metadata(metadata, no_metadata)
    standing = read_split(output) if output.exists() else None  # also with --overwrite: nothing else is replaced
    previous = None if overwrite else standing
    asked = _asked(parts, folds, seed, part, previous)
    dataset = open_data(data, images=images, part=asked.part_of, skip_bad=skip_bad)
    table, known = read_table(dataset, metadata, no_metadata)
    made, strata = _divide(dataset, asked, known, previous, skip_bad, not no_duplicates, processes)
    for line in made.warnings:
        note(f"warning: {line}")
    write_split(made, output)
    added = len(made.part_by_id) - (0 if previous is None else len(previous.part_by_id))
    text = _as_json if as_json else _as_text
    result(text(output, made, dataset, strata, table, known, added))


class _Asked(NamedTuple):
    """How to divide: `fractions` or `folds`, the other None."""

    fractions: Mapping[str, float] | None
    folds: int | None
    seed: int
    part_of: str | None


def _asked(parts: str | None, folds: int | None, seed: int | None, part: str | None, previous: Split | None) -> _Asked:
    """What the options say; what they leave open is as in the file that is added to, else the default."""
    if parts is not None and folds is not None:
        raise UsageMistake("--parts and --folds contradict each other; give one")
    fractions: Mapping[str, float] | None = None if parts is None else parse_parts(parts)
    if fractions is None and folds is None:
        fractions, folds = (DEFAULT_PARTS, None) if previous is None else (previous.fractions, previous.folds)
    if previous is None:
        return _Asked(fractions, folds, seed or 0, part)
    return _Asked(fractions, folds, previous.seed if seed is None else seed, previous.part_of if part is None else part)


def parse_parts(text: str) -> dict[str, float]:
    """`train=0.7,val=0.3` as names and shares; whether they add up is checked later.

    Raises:
        UsageMistake: Anything else.
    """
    found: dict[str, float] = {}
    for entry in text.split(","):
        name, _, share = entry.partition("=")
        name = name.strip()
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value) or name in found:
            raise UsageMistake(
                f"--parts {text}: give each name once with its share, as in train=0.7,val=0.15,test=0.15"
            )
        found[name] = value
    return found


def _divide(
    dataset: Dataset,
    asked: _Asked,
    known: Mapping[str, PhotoInfo],
    previous: Split | None,
    skip_bad: bool,
    wants_duplicates: bool,
    processes: int | None,
) -> tuple[Split, Strata]:
    """Measure, compare, divide."""
    from dermask.data.splits import fold_dataset, split_dataset
    from dermask.data.stratify import area_shares, find_strata

    with counting("measure lesions", "photographs", len(dataset)) as show_progress:
        areas = area_shares(dataset, skip_bad=skip_bad, processes=processes, on_progress=show_progress)
    unusable = {index: "an outline cannot be read" for index, area in enumerate(areas) if math.isnan(area)}
    groups: list[list[int]] | None = None
    if wants_duplicates:
        from dermask.audit.duplicate_groups import find_duplicate_groups

        with (
            counting("read", "photographs", len(dataset)) as show_read,
            counting("compare", "steps", len(dataset)) as show_compared,
        ):
            found = find_duplicate_groups(
                dataset, skip_bad=skip_bad, processes=processes, on_progress=show_read, on_compare=show_compared
            )
        groups = found.groups
        unusable |= {index: f"the photograph cannot be read: {why}" for index, why in found.unreadable.items()}
    left_out = {dataset[index].image_id: reason for index, reason in unusable.items()}
    strata = find_strata(dataset, areas, known)
    if asked.folds is not None:
        made = fold_dataset(
            dataset, asked.folds, seed=asked.seed, groups=groups, metadata=known, areas=areas,
            previous=previous, unusable=left_out, part_of=asked.part_of,
        )  # fmt: skip
    else:
        made = split_dataset(
            dataset, asked.fractions or DEFAULT_PARTS, seed=asked.seed, groups=groups, metadata=known, areas=areas,
            previous=previous, unusable=left_out, part_of=asked.part_of,
        )  # fmt: skip
    return made, strata


def _as_json(
    output: Path,
    made: Split,
    dataset: Dataset,
    strata: Strata,
    table: Path | None,
    known: Mapping[str, PhotoInfo],
    added: int,
) -> str:
    from dermask.data.split_summary import summarise_split

    summary = summarise_split(made, dataset, strata)
    tree = {
        "split": str(output),
        "seed": made.seed,
        **({"folds": made.folds} if made.fractions is None else {"fractions": dict(made.fractions)}),
        "part_of": made.part_of,
        "metadata": None if table is None else str(table),
        "added": added,
        "all": summary["all"].to_json(),
        "parts": {name: summary[name].to_json() for name in made.parts},
        "size_edges": list(strata.size_edges),
        "licences": dict(sorted(_licences(dataset, known).items())),
        "groups": dict(made.groups),
        "left_out": dict(made.left_out),
        "absent": sorted(made.absent),
        "warnings": list(made.warnings),
    }
    return json.dumps(tree, indent=1)


def _as_text(
    output: Path,
    made: Split,
    dataset: Dataset,
    strata: Strata,
    table: Path | None,
    known: Mapping[str, PhotoInfo],
    added: int,
) -> str:
    from dermask.data.split_summary import summarise_split

    summary = summarise_split(made, dataset, strata)
    whole = summary["all"]
    what = f"{plural(whole.photographs, 'photograph')} in {plural(len(made.parts), 'part')}, {added:,} of them new"
    lines = [f"{output}: {what}; seed {made.seed}", ""]
    shares = made.shares()
    lines += _aligned(
        [
            ["part", "photographs", "lesions", "share", "wanted"],
            *(
                [
                    name,
                    f"{summary[name].photographs:,}",
                    f"{summary[name].lesions:,}",
                    _percent(summary[name].photographs / max(whole.photographs, 1)),
                    _percent(shares[name]),
                ]
                for name in made.parts
            ),
        ]
    )
    for axis, title in (("classes", "class"), ("diagnosis", "diagnosis"), ("size", "size of the lesion")):
        lines += _axis_table(axis, title, summary, strata)
    lines += ["", _together(made)]
    licences = _licences(dataset, known)
    if licences:
        lines.append("licences: " + ", ".join(f"{name} ({count:,})" for name, count in licences.most_common()))
    return "\n".join(lines)


def _axis_table(axis: str, title: str, summary: Mapping[str, PartSummary], strata: Strata) -> list[str]:
    """The share of each kind in all parts and in each; nothing where there is only one kind."""
    kinds = summary["all"].counts[axis]
    if len(kinds) < 2:
        return []
    shown = sorted(kinds, key=lambda kind: (-kinds[kind], kind))[:_MOST_ROWS]
    if axis == "size":
        shown = sorted(kinds)
    rows = [[title, *summary]]
    for kind in shown:
        name = _size_name(kind, strata) if axis == "size" else kind
        rows.append([name, *(_percent(part.share(axis, kind)) for part in summary.values())])
    rest = len(kinds) - len(shown)
    return ["", *_aligned(rows), *([f"and {rest} more, which --json tells"] if rest else [])]


def _size_name(kind: str, strata: Strata) -> str:
    """`size 2` as the shares of the photograph that it spans."""
    if not kind.startswith("size "):
        return "no lesion"
    number, edges = int(kind.removeprefix("size ")), strata.size_edges
    if number > len(edges):
        return f"above {_percent(edges[-1])}" if edges else "any"
    return f"up to {_percent(edges[number - 1])}"


def _together(made: Split) -> str:
    groups = made.groups
    if not groups["groups"]:
        looked_for = "no near-duplicates" if "near_duplicates" in groups else "near-duplicates were not looked for"
        return f"nothing to keep together: {looked_for}, no lesion or patient with several photographs"
    reasons = ", ".join(
        plural(groups[key], noun)
        for key, noun in (("near_duplicates", "near-duplicate group"), ("lesion", "lesion"), ("patient", "patient"))
        if groups.get(key)
    )
    return (
        f"kept together: {plural(groups['photographs'], 'photograph')} in {plural(groups['groups'], 'group')}, "
        f"the largest of {groups['largest']:,}, for {reasons}"
    )


def _licences(dataset: Dataset, known: Mapping[str, PhotoInfo]) -> Counter[str]:
    """How many photographs have which licence, where a table says so."""
    found = (known[sample.image_id].licence for sample in dataset if sample.image_id in known)
    return Counter(licence for licence in found if licence is not None)


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells in columns, the first flush left and the others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
