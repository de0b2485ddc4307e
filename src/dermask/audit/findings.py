"""What an audit finds: one record for each finding, and the report that holds them all.

A finding names the place, what is wrong there and the cure, as every message of dermask does. Kinds are a fixed table,
so that reports, filters and `--json` speak of the same things.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from dermask.data.dataset import Dataset


class Severity(StrEnum):
    """How bad a finding is, worst first."""

    ERROR = "error"
    """Unusable, or it makes figures wrong: a leak between training and test, a photograph that cannot be read."""
    WARNING = "warning"
    """Probably wrong, and worth a look: an outline that crosses itself, a mask that looks inverted."""
    NOTE = "note"
    """Worth knowing, often right: a lesion cut by the border, a photograph without a lesion."""


class Part(NamedTuple):
    """One part of the data, such as training, under the name that findings and split files use.

    Attributes:
        name: Unique among the parts of one audit: ``Training``, ``val``, ``labels``.
        dataset: Its photographs, opened with `skip_bad`, so that `Dataset.problems` holds what could not be read.
    """

    name: str
    dataset: Dataset


class Place(NamedTuple):
    """A photograph of a part.

    Attributes:
        part: The part's name.
        image_id: The photograph in it.
    """

    part: str
    image_id: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        kind: A key of `dermask.audit.kinds.KINDS`, such as ``self-crossing``.
        severity: How bad it is here.
        item: Where, as a person would name it: ``Training: ISIC_0000051: outline 2``.
        problem: What was found, with values.
        cure: What to do about it.
        place: The photograph it is about; None for the label file as a whole.
        annotation_id: The outline it is about, as in the label file; None for the photograph as a whole.
        others: Further photographs that belong to it: the other copy of a duplicate, the other side of a leak.
        photograph: Where the photograph lies, for pictures; None where it could not be found.
        measure: The figure it was found by (pixels, share, similarity); the larger, the clearer. Orders findings.
    """

    kind: str
    severity: Severity
    item: str
    problem: str
    cure: str
    place: Place | None = None
    annotation_id: int | str | None = None
    others: tuple[Place, ...] = ()
    photograph: Path | None = None
    measure: float = 0.0

    def line(self) -> str:
        """One line for a terminal."""
        return f"{self.item}: {self.problem}; {self.cure}"

    def to_json(self) -> dict[str, Any]:
        """For `--json`: plain values, paths as text."""
        return {
            "kind": self.kind,
            "severity": str(self.severity),
            "item": self.item,
            "problem": self.problem,
            "cure": self.cure,
            "part": self.place.part if self.place else None,
            "image_id": self.place.image_id if self.place else None,
            "annotation_id": self.annotation_id,
            "others": [{"part": other.part, "image_id": other.image_id} for other in self.others],
            "photograph": str(self.photograph) if self.photograph else None,
            "measure": round(self.measure, 6),
        }


@dataclass(frozen=True, slots=True)
class AuditReport:
    """All findings of an audit, worst first.

    Attributes:
        parts: Name of each part and its photographs.
        findings: By severity, then kind, then `measure`, largest first.
        num_outlines: Labelled outlines that were looked at.
        seconds: How long it took.
        settings: Thresholds it was made with, by name.
        command: The command that made it; empty in Python.
        repairs: What `--fix` did, one line for each repair; empty where nothing was asked for.
    """

    parts: Mapping[str, int]
    findings: tuple[Finding, ...]
    num_outlines: int = 0
    seconds: float = 0.0
    settings: Mapping[str, float | int | str | bool] = field(default_factory=dict)
    command: str = ""
    repairs: tuple[str, ...] = ()

    def count(self, severity: Severity) -> int:
        """Findings of a severity."""
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def has_errors(self) -> bool:
        """Whether anything found is an error."""
        return self.count(Severity.ERROR) > 0

    def by_kind(self) -> dict[str, int]:
        """Findings of each kind that occurs, in the report's order."""
        return dict(Counter(finding.kind for finding in self.findings))

    def worst_photographs(self) -> list[Place]:
        """Photographs with findings, those with the worst and most first; each once."""
        weight = {Severity.ERROR: 10_000, Severity.WARNING: 100, Severity.NOTE: 1}
        marks: Counter[Place] = Counter()
        for finding in self.findings:
            for place in (finding.place, *finding.others):
                if place is not None:
                    marks[place] += weight[finding.severity]
        return [place for place, _ in marks.most_common()]

    def to_json(self) -> str:
        """The whole report as JSON text."""
        tree = {
            "dermask_audit": 1,
            "command": self.command,
            "parts": dict(self.parts),
            "outlines": self.num_outlines,
            "seconds": round(self.seconds, 3),
            "settings": dict(self.settings),
            "counts": {str(severity): self.count(severity) for severity in Severity},
            "findings": [finding.to_json() for finding in self.findings],
            "repairs": list(self.repairs),
        }
        return json.dumps(tree, indent=1) + "\n"


def sort_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Errors first; within a severity by kind, and within a kind the clearest first."""
    order = {severity: rank for rank, severity in enumerate(Severity)}
    return tuple(sorted(findings, key=lambda one: (order[one.severity], one.kind, -one.measure, one.item)))
