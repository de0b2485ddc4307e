"""What a reader left out, as findings: the messages of the readers, sorted into kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dermask.audit.findings import Finding, Part, Severity
from dermask.data.dataset import ReadProblem
from dermask.errors import InputError

# The first that matches the problem's text decides. Readers add new messages; what none of these knows is told under
# its own words as a bad annotation or record, so nothing is lost.
_RULES = (
    (r"mask .*: .*(damaged|empty|no such file|cannot be|is not|is a )", "unreadable-mask"),
    (r"has no mask", "no-mask"),
    (r"has no photograph", "no-photograph"),
    (r"damaged or cut short \(.*(truncated|cut short|ends? too early)", "truncated-photograph"),
    (r"no such file|is not in ", "missing-photograph"),
    (r"pixels, [\d.]+ million", "too-many-pixels"),
    (r"turned by its EXIF", "turned"),
    (r"is not the photograph's|pixels, the photograph \d+x\d+|drawn on \d+x\d+", "wrong-size"),
    (r"past the \w+ border", "out-of-border"),
    (r"area 0|needs 3 or more|holds no pixel|empty list", "degenerate-outline"),
    (r"used twice|the same photograph|appears twice|same id|has two masks|listed twice", "repeated-id"),
    (r"photograph .*: |damaged or cut short|is empty \(0 bytes\)|not an image", "unreadable-photograph"),
)
_ANNOTATION = re.compile(r"annotation|region|shape|outline|polygon|segmentation", re.IGNORECASE)


def left_out_findings(part: Part) -> Iterator[Finding]:
    """One error for each thing that the reader of `part` left out: training refuses it too."""
    for problem in part.dataset.problems:
        yield left_out_finding(part.name, problem)


def left_out_finding(part_name: str, problem: ReadProblem) -> Finding:
    """The finding of one problem; its item, problem and cure are the reader's own."""
    error = problem.error
    return Finding(
        kind_of(error),
        Severity.ERROR,
        f"{part_name}: {error.item}",
        error.problem,
        error.cure or "correct it and check again",
        photograph=problem.photograph or _named_photograph(error.item),
    )


def kind_of(error: InputError) -> str:
    """A key of `KINDS` for what a reader or decoder said."""
    for pattern, kind in _RULES:
        if re.search(pattern, error.problem):
            return kind
    return "bad-annotation" if _ANNOTATION.search(error.item) else "bad-record"


def photograph_kind(error: InputError) -> str:
    """As `kind_of`, for what the decoder said of a photograph."""
    kinds: Iterable[str] = ("truncated-photograph", "missing-photograph", "too-many-pixels")
    kind = kind_of(error)
    return kind if kind in kinds else "unreadable-photograph"


def _named_photograph(item: str) -> Path | None:
    try:
        path = Path(item)
        return path if path.is_file() else None
    except (OSError, ValueError):  # too long, or no path at all
        return None
