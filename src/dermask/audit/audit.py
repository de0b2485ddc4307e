"""The audit: every photograph, every outline, and all of them against each other."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from dermask.audit.findings import AuditReport, Finding, Part, Place, Severity, sort_findings
from dermask.audit.leaks import Entry, duplicate_findings, info_of
from dermask.audit.left_out import left_out_findings
from dermask.audit.names import check_names
from dermask.audit.photographs import Look, Task, look_at_all
from dermask.audit.settings import AuditSettings
from dermask.errors import SettingError
from dermask.records import PhotoInfo

Progress = Callable[[str, int, int], None]
"""Told which step runs (``look`` at photographs, then ``compare`` them), how many are done, and of how many."""


def audit(
    parts: Sequence[Part],
    *,
    settings: AuditSettings | None = None,
    metadata: Mapping[str, PhotoInfo] | None = None,
    processes: int | None = None,
    on_progress: Progress | None = None,
    command: str = "",
) -> AuditReport:
    """Look at all photographs and labels of one or more parts; nothing is changed.

    Args:
        parts: The data, such as training and test; photographs that stand in two of them are leaks.
        settings: Thresholds; None for the defaults.
        metadata: Patient, lesion and so on of each photograph, by image id.
        processes: Worker processes, and threads that compare; None for one for each CPU, see
            `photographs.look_at_all`.
        on_progress: Told how far it is.
        command: The command that asked, for the report.

    Raises:
        SettingError: Two parts have one name.
    """
    started = time.monotonic()
    settings = settings or AuditSettings()
    _check_parts(parts)
    tasks = _tasks(parts, settings)
    looks = look_at_all(tasks, processes=processes, on_progress=_step(on_progress, "look"))
    entries = [
        Entry(
            Place(task.part, task.sample.image_id),
            task.sample.image if isinstance(task.sample.image, Path) else None,
            look,
            info_of(metadata or {}, task.sample.image_id),
        )
        for task, look in zip(tasks, looks, strict=True)
    ]
    findings = [finding for part in parts for finding in left_out_findings(part)]
    findings += [finding for look in looks for finding in look.findings]
    findings += check_names(parts)
    findings += _counted(parts, tasks, looks)
    findings += duplicate_findings(entries, settings, threads=processes, on_progress=_step(on_progress, "compare"))
    return AuditReport(
        {part.name: len(part.dataset) for part in parts},
        sort_findings(findings),
        sum(look.num_outlines for look in looks),
        time.monotonic() - started,
        settings.to_dict(),
        command,
    )


def _check_parts(parts: Sequence[Part]) -> None:
    for name, count in Counter(part.name for part in parts).items():
        if count > 1:
            raise SettingError(f"part {name!r}", f"is there {count} times", "give every part its own name")


def _step(on_progress: Progress | None, step: str) -> Callable[[int, int], None] | None:
    return None if on_progress is None else lambda done, total: on_progress(step, done, total)


def _tasks(parts: Sequence[Part], settings: AuditSettings) -> list[Task]:
    sizes = {
        sample.image: _byte_size(sample.image)
        for part in parts
        for sample in part.dataset
        if isinstance(sample.image, Path)
    }
    # Only files of equal size can be equal; of 10,000 photographs that leaves few to be read once more.
    by_size = Counter(
        sizes[sample.image] for part in parts for sample in part.dataset if isinstance(sample.image, Path)
    )
    return [
        Task(
            part.name,
            sample,
            part.dataset.class_names,
            settings,
            isinstance(sample.image, Path) and by_size[sizes[sample.image]] > 1,
        )
        for part in parts
        for sample in part.dataset
    ]


def _byte_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _counted(parts: Sequence[Part], tasks: Sequence[Task], looks: Sequence[Look]) -> Iterator[Finding]:
    """What is common and mostly right: one note for a part, with the photographs in `Finding.others`."""
    touching: dict[str, list[Place]] = defaultdict(list)
    without: dict[str, list[Place]] = defaultdict(list)
    for task, look in zip(tasks, looks, strict=True):
        place = Place(task.part, task.sample.image_id)
        if look.touches_border:
            touching[task.part].append(place)
        if not task.sample.instances:
            without[task.part].append(place)
    for part in parts:
        count = len(part.dataset)
        for kind, places, what, cure in (
            ("touches-border", touching[part.name], "have an outline that reaches the border", "know it when you read"),
            ("no-lesion", without[part.name], "have no outline", "draw what is missing, unless they show no lesion"),
        ):
            if places:
                problem = f"{len(places):,} of {count:,} photographs {what}"
                yield Finding(
                    kind,
                    Severity.NOTE,
                    part.name,
                    problem,
                    cure if kind == "no-lesion" else "nothing to do if the photographs are cropped like this",
                    others=tuple(places),
                    measure=float(len(places)),
                )
