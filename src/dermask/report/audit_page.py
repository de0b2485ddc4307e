"""The page of an audit: what was found, with pictures, in one HTML file that needs no network.

The first findings of each kind come with the photographs they are about; the rest are lines of text, so that a page of
thousands of findings opens at once and stays below about 25 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dermask import files
from dermask.audit.findings import AuditReport, Finding, Part, Place, Severity
from dermask.audit.kinds import KINDS
from dermask.data.dataset import Dataset
from dermask.records import ImageSize, Sample
from dermask.report.outlined import OutlinedPhotograph, outlined_photograph
from dermask.report.rendering import render_page
from dermask.report.tables import Headline, Table
from dermask.wording import plural

PICTURES_PER_KIND = 24
"""Findings of each kind that are shown with their photographs."""
MAX_PHOTOGRAPHS = 1000
"""Photographs on a page; with many kinds, fewer of each are shown."""
MAX_PICTURE_BYTES = 18_000_000
"""All photographs of a page together, as they stand in it; findings beyond it are shown as text."""
_SIDE = 340  # long side of a photograph on the page, pixels
_PER_FINDING = 4  # photographs of one finding: of a large group of copies the first tell enough
_FIRST = 6  # findings of a kind that are open to begin with
_AT_ONCE = 64  # photographs read ahead

_SEVERITY_MEANING = {
    Severity.ERROR: ("Errors", "Unusable, or figures come out wrong."),
    Severity.WARNING: ("Warnings", "Probably wrong, and worth a look."),
    Severity.NOTE: ("Notes", "Worth knowing, and often right."),
}


_SECTIONS = (("result", "Result"), ("kinds", "Kinds"), ("findings", "Findings"), ("checked", "What was checked"))


class View(NamedTuple):
    """A photograph in a finding.

    Attributes:
        key: Id of its picture in the page.
        photograph: What is shown.
        caption: Its part and id.
        chosen: The outline that the finding is about, as in the label file; None for none.
        alt: The picture in words.
    """

    key: str
    photograph: OutlinedPhotograph
    caption: str
    chosen: int | str | None
    alt: str


class Card(NamedTuple):
    """A finding on the page, with its photographs, or without any as a line of text."""

    finding: Finding
    parts: tuple[str, ...]
    views: tuple[View, ...] = ()
    num_hidden: int = 0


@dataclass(frozen=True, slots=True)
class KindGroup:
    """All findings of a kind; `severities` are those that occur, with their number."""

    key: str
    kind: str
    meaning: str
    severities: Mapping[Severity, int]
    pictured: tuple[Card, ...]
    rows: tuple[Card, ...]

    @property
    def count(self) -> int:
        """Findings of this kind."""
        return len(self.pictured) + len(self.rows)


def write_audit_page(
    report: AuditReport,
    parts: Sequence[Part],
    path: Path,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write an audit as one HTML file; photographs that cannot be read show a placeholder that says why.

    Args:
        report: What was found.
        parts: The data that was audited, for the photographs and outlines.
        path: Where to write; a file that stands there is replaced.
        on_progress: Told how many photographs are read, and of how many.

    Returns:
        `path`.

    Raises:
        InputError: The file cannot be written.
    """
    groups = _make_groups(report, parts, on_progress)
    pictures = {view.key: view.photograph for group in groups for card in group.pictured for view in card.views}
    num_pictured = sum(len(group.pictured) for group in groups)
    context = {
        "title": "Audit: " + (", ".join(report.parts) or "no photographs"),
        "lead": _lead(report),
        "sections": [
            ("result", "Result"),
            ("kinds", "Kinds"),
            ("findings", "Findings"),
            ("checked", "What was checked"),
        ],
        "headline": _headline(report),
        "groups": groups,
        "photographs": {key: photo for key, photo in pictures.items() if photo.source},
        "num_findings": len(report.findings),
        "num_pictured": num_pictured,
        "first": _FIRST,
        "severities": [severity for severity in Severity if report.count(severity)],
        "part_names": list(report.parts),
        "command": report.command,
        "tables": _tables(report),
        "repairs": report.repairs,
    }
    files.write_text(path, render_page("audit.html", context))
    return path


def _make_groups(
    report: AuditReport, parts: Sequence[Part], on_progress: Callable[[int, int], None] | None
) -> list[KindGroup]:
    by_kind: dict[str, list[Finding]] = {}
    for finding in report.findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    per_kind = _findings_with_pictures(by_kind.values())
    album = _Album(parts)
    wanted = {
        album.key(*spot) for found in by_kind.values() for one in found[:per_kind] for spot in _photographs_of(one)
    }
    album.read(sorted(wanted), on_progress)
    groups = []
    for number, (kind, found) in enumerate(by_kind.items()):
        cards = [_make_card(finding, album) for finding in found[:per_kind]]
        pictured = tuple(card for card in cards if card.views)
        rows = tuple(card for card in cards if not card.views)
        rows += tuple(Card(finding, _parts_of(finding)) for finding in found[per_kind:])
        severities = {one: sum(finding.severity is one for finding in found) for one in Severity}
        groups.append(
            KindGroup(
                f"kind-{number}",
                kind,
                KINDS.get(kind, ""),
                {severity: count for severity, count in severities.items() if count},
                pictured,
                rows,
            )
        )
    return groups


def _findings_with_pictures(kinds: Iterable[Sequence[Finding]]) -> int:
    """How many findings of each kind get pictures, so that the page keeps to `MAX_PHOTOGRAPHS`."""
    widths = [max(len(_photographs_of(finding)) for finding in found[:PICTURES_PER_KIND]) for found in kinds]
    return max(1, min(PICTURES_PER_KIND, MAX_PHOTOGRAPHS // max(1, sum(widths))))


_Spot = tuple[Place | None, Path | None]


def _photographs_of(finding: Finding) -> list[_Spot]:
    """The photographs that a finding is shown with."""
    own: list[_Spot] = [(finding.place, finding.photograph)] if finding.place or finding.photograph else []
    return (own + [(place, None) for place in finding.others])[:_PER_FINDING]


class _Album:
    """The photographs of a page, each read once however many findings it has."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._datasets = {part.name: part.dataset for part in parts}
        self._samples = {part.name: _index(part.dataset) for part in parts}
        self._photographs: dict[_Key, OutlinedPhotograph] = {}
        self._numbers: dict[_Key, str] = {}

    def key(self, place: Place | None, photograph: Path | None) -> _Key:
        """What a photograph is known by: its place in the data, else its path."""
        if place is not None and place.image_id in self._samples.get(place.part, {}):
            return _Key(place.part, place.image_id, "")
        part, image_id = place if place is not None else ("", "")
        return _Key(part, image_id, "" if photograph is None else str(photograph))

    def read(self, keys: Sequence[_Key], on_progress: Callable[[int, int], None] | None) -> None:
        """Read photographs until the page is full; those that come after are left out."""
        total = 0
        with ThreadPoolExecutor(2, thread_name_prefix="dermask-page") as pool:
            done = 0
            for chunk in _batches(keys):
                for key, photograph in zip(chunk, pool.map(self._read_one, chunk), strict=True):
                    done += 1
                    total += len(photograph.source)
                    if total <= MAX_PICTURE_BYTES:
                        self._numbers[key] = f"photo-{len(self._numbers)}"
                        self._photographs[key] = photograph
                if on_progress is not None:
                    on_progress(done, len(keys))

    def view(self, place: Place | None, photograph: Path | None, finding: Finding) -> View | None:
        """A photograph of a finding; None where the page had no room for it."""
        key = self.key(place, photograph)
        if key not in self._photographs:
            return None
        shown = self._photographs[key]
        chosen = finding.annotation_id if place == finding.place else None
        caption = ": ".join(name for name in (key.part, shown.image_id) if name)
        return View(self._numbers[key], shown, caption, chosen, _describe(shown, caption, chosen))

    def _read_one(self, key: _Key) -> OutlinedPhotograph:
        index = self._samples.get(key.part, {}).get(key.image_id)
        if index is not None:
            return outlined_photograph(self._datasets[key.part][index], side=_SIDE)
        if key.path:
            path = Path(key.path)
            return outlined_photograph(Sample(key.image_id or path.name, path), side=_SIDE)
        placeholder = ImageSize(_SIDE * 3 // 4, _SIDE)
        return OutlinedPhotograph(key.image_id, "", placeholder, problem="is not among the photographs that were read")


class _Key(NamedTuple):
    part: str
    image_id: str
    path: str


def _index(dataset: Dataset) -> dict[str, int]:
    return {sample.image_id: index for index, sample in enumerate(dataset)}


def _batches(keys: Sequence[_Key]) -> Iterator[tuple[_Key, ...]]:
    for start in range(0, len(keys), _AT_ONCE):
        yield tuple(keys[start : start + _AT_ONCE])


def _make_card(finding: Finding, album: _Album) -> Card:
    spots = _photographs_of(finding)
    views = [view for spot in spots if (view := album.view(*spot, finding)) is not None]
    if len(views) < len(spots):
        views = []  # half of a pair shows nothing
    num_places = len(finding.others) + (finding.place is not None or finding.photograph is not None)
    return Card(finding, _parts_of(finding), tuple(views), num_places - len(views) if views else 0)


def _parts_of(finding: Finding) -> tuple[str, ...]:
    places = (finding.place, *finding.others)
    return tuple(dict.fromkeys(place.part for place in places if place is not None))


def _describe(photograph: OutlinedPhotograph, caption: str, chosen: int | str | None) -> str:
    if photograph.problem:
        return f"No picture: {caption} {photograph.problem}"
    words = f"Photograph {caption}, {plural(len(photograph.outlines), 'outline')}"
    if any(chosen is not None and outline.annotation_id == chosen for outline in photograph.outlines):
        words += f", outline {chosen} highlighted"
    return words


def _lead(report: AuditReport) -> str:
    what = f"{plural(sum(report.parts.values()), 'photograph')} with {plural(report.num_outlines, 'outline')}"
    if not report.findings:
        return f"{what}: nothing was found to be wrong."
    return f"{what}: {plural(len(report.findings), 'finding')} of {plural(len(report.by_kind()), 'kind')}."


def _headline(report: AuditReport) -> list[Headline]:
    cards = [
        Headline(title, f"{report.count(severity):,}", meaning)
        for severity, (title, meaning) in _SEVERITY_MEANING.items()
    ]
    total = sum(report.parts.values())
    named = len(report.worst_photographs())
    cards.append(Headline("Photographs named", f"{named:,}", f"Of {total:,}: those with at least one finding."))
    return cards


def _tables(report: AuditReport) -> list[Table]:
    counts = dict.fromkeys(report.parts, 0)
    for finding in report.findings:
        for part in _parts_of(finding):
            counts[part] = counts.get(part, 0) + 1
    parts = tuple((name, f"{number:,}", f"{counts[name]:,}") for name, number in report.parts.items())
    found = [Table("Parts", ("Part", "Photographs", "Findings"), parts)] if parts else []
    work = (("Outlines looked at", f"{report.num_outlines:,}"), ("Time taken", f"{report.seconds:.1f} s"))
    found.append(Table("Work", (), work))
    settings = tuple((name.replace("_", " "), _show(value)) for name, value in report.settings.items())
    return [*found, Table("Settings", (), settings)] if settings else found


def _show(value: float | int | str | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
