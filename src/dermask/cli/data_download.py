"""`dermask data download`: the official photographs and masks of an ISIC challenge, checked and unpacked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dermask.cli.common import JsonOption, note, result
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.data.acquire import Acquired, Step
    from dermask.data.overlaps import Overlap

Challenge = Literal["isic2016", "isic2017", "isic2018"]
_PART_ALIASES = {"train": "training", "val": "validation", "test_v2": "test"}


def download(
    challenge: Annotated[Challenge, typer.Argument(help="Which challenge; its Task 1 has the lesions' outlines.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the folders go.", show_default=False)],
    parts: Annotated[
        str | None, typer.Option(help="Of training,validation,test; all if not given.", show_default=False)
    ] = None,
    only: Annotated[
        Literal["photographs", "masks"] | None, typer.Option(help="Leave the others out.", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="A folder with the archives, or a mirror's address; else ISIC's.", show_default=False),
    ] = None,
    accept_checksum: Annotated[
        list[str] | None,
        typer.Option(help="Take an archive with this MD5 or SHA-256 as good. Repeatable.", show_default=False),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of another year, to count shared photographs. Repeatable.", show_default=False),
    ] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep archives once unpacked.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done; do nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch the official photographs and masks of an ISIC challenge, check and unpack them.

    \b
      dermask data download isic2017 -o isic2017 --dry-run
      dermask data download isic2017 -o isic2017
      dermask data download isic2018 -o isic2018 --parts validation,test
      dermask data download isic2016 -o isic2016 --source ~/Downloads

    A break costs nothing: the same command goes on where it stopped. The
    licence is shown first and kept beside the data. Research use only.
    """
    from dermask.data.acquire import check_accepted, check_space, make_plan, space_needed, write_licence
    from dermask.data.archives import licence_text, select
    from dermask.errors import InputError

    year = int(challenge.removeprefix("isic"))
    archives = select(year, _parse_parts(parts), [only] if only else [])
    accepted = check_accepted(accept_checksum or [])
    for other in beside or []:
        if not other.is_dir():
            raise InputError("--beside", f"{str(other)!r} is no folder", "check the path")
    steps = make_plan(archives, output, source)
    note(licence_text([year]) + "\n")
    if dry_run:
        needed = space_needed(steps, keep_archives=keep_archives)
        tree = _plan_tree(challenge, output, steps, source, needed)
        result(json.dumps(tree, indent=2) if as_json else _plan_text(steps))
        note(f"about {_size(needed)} of room needed; nothing was fetched")
        return
    check_space(steps, output, keep_archives=keep_archives)
    licence = write_licence(output, year)
    done = _acquire_all(steps, output, source=source, accepted=accepted, keep_archives=keep_archives)
    overlaps, roots = _count_overlaps(output, beside or [])
    _say_overlaps(year, overlaps)
    note(f"next: {_next_step(output, roots, overlaps)}")
    result(json.dumps(_result_tree(challenge, output, licence, done, overlaps), indent=2) if as_json else str(output))


def _acquire_all(steps: Sequence[Step], output: Path, **options: Any) -> list[Acquired]:
    """Bring one archive after the other to its folder, and say how it goes."""
    from dermask.data.acquire import acquire

    done: list[Acquired] = []
    try:
        with _showing() as (say, on_progress):

            def on_wait(problem: str, seconds: float) -> None:
                say(f"{problem}; again in {seconds:.0f} s")

            for step in steps:
                done.append(acquire(step, output, on_progress=on_progress, on_wait=on_wait, **options))
                say(_done_line(done[-1]))
    except KeyboardInterrupt:
        note("what has arrived is kept; run the same command again to go on from there")
        raise
    return done


def _parse_parts(text: str | None) -> list[str]:
    names = [name.strip().lower() for name in (text or "").split(",") if name.strip()]
    return [_PART_ALIASES.get(name, name) for name in names]


def _size(count: int) -> str:
    """Bytes as the challenge's page writes them, in powers of 1024."""
    for unit, scale in (("GB", 2**30), ("MB", 2**20)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 2**10:.0f} KB"


# What is going on


@contextmanager
def _showing() -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int | None], None]]]:
    """A way to say a line, and a bar with megabytes a second that follows one archive after the other."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    current: dict[str, Any] = {"what": None, "task": None}

    def say(text: str) -> None:
        if bar.disable:
            note(text)
        else:
            bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def on_progress(what: str, done: int, total: int | None) -> None:
        if what != current["what"]:
            if bar.disable:
                note(what)
            if current["task"] is not None:
                bar.remove_task(current["task"])
            # What is here already must not count as fast, so the bar begins at it.
            current.update(what=what, task=bar.add_task(what, total=total, completed=done))
        else:
            bar.update(current["task"], completed=done, total=total)

    with bar:
        yield say, on_progress


def _done_line(acquired: Acquired) -> str:
    archive = acquired.archive
    what = plural(acquired.images, archive.kind.removesuffix("s"))
    line = f"{acquired.folder.name}: {what}"
    if acquired.images != archive.count:
        line += f", and {archive.count:,} were expected"
    if not acquired.is_new:
        return f"{line}, here already"
    how = {"known": "has the known sum", "accepted": "has another sum than the known one, as accepted"}
    return f"{line}; the archive {how.get(acquired.checked, 'was not checked')}"


# What comes out


def _plan_text(steps: Sequence[Step]) -> str:
    lines = []
    for step in steps:
        archive = step.archive
        size = _size(archive.size) if step.state != "at hand" else _size(step.present)
        lines.append(f"{step.state:<9}  {size:>9}  {archive.checksum_kind} {archive.checksum}  {archive.name}")
        if step.state == "to fetch" and step.present:
            lines[-1] += f"  ({_size(step.present)} here)"
    return "\n".join(lines)


def _plan_tree(challenge: str, output: Path, steps: Sequence[Step], source: str | None, needed: int) -> dict[str, Any]:
    from dermask.data.acquire import addresses, source_folder

    is_folder = source_folder(source) is not None
    return {
        "challenge": challenge,
        "folder": str(output),
        "space_needed": needed,
        "archives": [
            {
                "name": step.archive.name,
                "part": step.archive.part,
                "kind": step.archive.kind,
                "state": step.state,
                "size": step.archive.size,
                "present": step.present,
                step.archive.checksum_kind: step.archive.checksum,
                "from": [str(step.path)] if is_folder else list(addresses(step.archive, source)),
            }
            for step in steps
        ],
    }


def _result_tree(
    challenge: str, output: Path, licence: Path, done: Sequence[Acquired], overlaps: Sequence[Overlap]
) -> dict[str, Any]:
    from dermask.data.archives import LICENCES, known_overlaps

    year = int(challenge.removeprefix("isic"))
    terms = LICENCES[year]
    return {
        "challenge": challenge,
        "folder": str(output),
        "licence": {"name": terms.name, "url": terms.url, "source": terms.source, "file": str(licence)},
        "archives": [
            {
                "name": one.archive.name,
                "part": one.archive.part,
                "kind": one.archive.kind,
                "folder": str(one.folder),
                "images": one.images,
                "expected": one.archive.count,
                "md5": one.md5,
                "sha256": one.sha256,
                "checked": one.checked,
                "from": one.url,
                "is_new": one.is_new,
            }
            for one in done
        ],
        "shared": [
            {
                "first": {
                    "year": overlap.first.year,
                    "part": overlap.first.part,
                    "photographs": len(overlap.first.ids),
                },
                "second": {
                    "year": overlap.second.year,
                    "part": overlap.second.part,
                    "photographs": len(overlap.second.ids),
                },
                "shared": overlap.shared,
            }
            for overlap in overlaps
        ],
        "known_overlaps": list(known_overlaps(year)),
    }


# Photographs that stand in several years


def _count_overlaps(output: Path, beside: Sequence[Path]) -> tuple[list[Overlap], list[Path]]:
    """Shared photographs of everything in the folder, in those given, and in its neighbours called isic2016 to 2018."""
    from dermask.data.archives import YEARS
    from dermask.data.overlaps import count_overlaps, find_parts

    above = output.parent if output.name not in ("", "..") else output.absolute().parent
    neighbours = [above / f"isic{year}" for year in YEARS]
    roots = [output, *beside]
    seen = {root.resolve() for root in roots}
    roots += [root for root in neighbours if root.is_dir() and root.resolve() not in seen]
    parts = find_parts(roots)
    used = [root for root in roots if any(part.folder.parent == root for part in parts)]
    return count_overlaps(parts), used


def _say_overlaps(year: int, overlaps: Sequence[Overlap]) -> None:
    from dermask.data.archives import known_overlaps

    if overlaps:
        note("\nCounted here, by the ids of the photographs:")
        for overlap in overlaps:
            note(f"  {overlap}")
    note("\nKnown of the whole challenges:")
    for text in known_overlaps(year):
        note(f"  {text}")
    note("A model judged on photographs that it has learnt looks better than it is.")


def _next_step(output: Path, roots: Sequence[Path], overlaps: Sequence[Overlap]) -> str:
    """What to do now, as a command."""
    if overlaps:
        folders = " ".join(str(root) for root in roots) or str(output)
        return f"dermask data check {folders}, which names the shared photographs"
    return f"dermask data check {output}, or dermask data split {output} -o split.json"
