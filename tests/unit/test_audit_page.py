"""The page of an audit: findings with photographs and outlines, whole in itself, fast with thousands of findings."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import HOSTILE, check_page

from dermask.audit.findings import AuditReport, Finding, Part, Place, Severity, sort_findings
from dermask.audit.kinds import KINDS
from dermask.data.dataset import Dataset
from dermask.errors import InputError
from dermask.records import Bitmask, ImageSize, Instance, MaskFile, Polygons, Rle, Sample
from dermask.report import audit_page
from dermask.report.audit_page import write_audit_page
from dermask.report.outlined import outline_path, outlined_photograph

SIZE = ImageSize(30, 40)
RING = np.array([[5.0, 5], [30, 5], [30, 25], [5, 25]])


def sample(name: str, *, num_outlines: int = 1) -> Sample:
    image = np.full((*SIZE, 3), 180, np.uint8)
    outlines = tuple(Instance(1, Polygons((RING,)), annotation_id=number) for number in range(num_outlines))
    return Sample(name, image, SIZE, outlines)


def a_finding(name: str = "a", *, kind: str = "self-crossing", **values) -> Finding:
    defaults = {"severity": Severity.WARNING, "place": Place("train", name), "annotation_id": 0}
    return Finding(kind=kind, item=f"train: {name}", problem="is wrong", cure="draw it again", **{**defaults, **values})


def page_of(tmp_path: Path, findings: list[Finding], parts: list[Part], **values) -> str:
    report = AuditReport({part.name: len(part.dataset) for part in parts}, sort_findings(findings), **values)
    path = write_audit_page(report, parts, tmp_path / "audit.html")
    return path.read_text(encoding="utf-8")


def train(*names: str) -> Part:
    return Part("train", Dataset([sample(name) for name in names]))


def test_an_audit_that_found_nothing_says_so(tmp_path: Path) -> None:
    page = check_page(page_of(tmp_path, [], [train("a", "b")], num_outlines=2))
    assert "2 photographs with 2 outlines: nothing was found to be wrong." in page.text
    assert "finding" not in page.classes
    assert "form" not in page.tags


def test_an_audit_of_nothing_is_a_page(tmp_path: Path) -> None:
    assert "no photographs" in check_page(page_of(tmp_path, [], [])).text


def test_a_finding_is_shown_with_its_photograph_and_outline(tmp_path: Path) -> None:
    part = Part("train", Dataset([sample("a", num_outlines=2)]))
    text = page_of(
        tmp_path, [a_finding(annotation_id=1)], [part], command="dermask data check x", settings={"on": True}
    )
    page = check_page(text)
    assert page.classes.count("finding") == 1
    assert len(page.addresses) == 1
    assert page.labels == ["Photograph train: a, 2 outlines, outline 1 highlighted"]
    assert text.count('class="outline chosen"><path class="casing" d="M5.0 5.0L30.0 5.0') == 1
    assert KINDS["self-crossing"] in page.text
    for words in ("is wrong", "draw it again", "warning", "dermask data check x", "on yes"):
        assert words in page.text


def test_both_sides_of_a_leak_are_shown(tmp_path: Path) -> None:
    parts = [train("a"), Part("test", Dataset([sample("b"), sample("c")]))]
    found = a_finding(kind="leak-near-duplicate", annotation_id=None, others=(Place("test", "b"), Place("test", "c")))
    text = page_of(tmp_path, [found], parts)
    page = check_page(text)
    assert [label.split(",")[0] for label in page.labels if label] == [
        "Photograph train: a", "Photograph test: b", "Photograph test: c",
    ]  # fmt: skip
    assert json.loads(re.findall(r"data-parts='(.*?)'", text)[0]) == ["train", "test"]


def test_a_large_group_shows_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(9)]
    found = a_finding("n0", others=tuple(Place("train", name) for name in names[1:]))
    page = check_page(page_of(tmp_path, [found], [train(*names)]))
    assert len(page.labels) == 4
    assert "and 5 further photographs" in page.text


def test_a_photograph_stands_once_however_many_findings_it_has(tmp_path: Path) -> None:
    page = check_page(page_of(tmp_path, [a_finding(kind=kind) for kind in list(KINDS)[:5]], [train("a")]))
    assert page.classes.count("finding") == 5
    assert len(page.addresses) == 1


def test_what_cannot_be_read_shows_a_placeholder(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    part = Part("train", Dataset([Sample("a", tmp_path / "broken.jpg")]))
    findings = [
        a_finding("a"),
        a_finding("left out", photograph=tmp_path / "missing.png"),
        a_finding("never seen"),
        a_finding("whole file", place=None, annotation_id=None),
    ]
    page = check_page(page_of(tmp_path, findings, [part]))
    assert page.classes.count("missing") == 3
    assert "damaged or cut short" in page.text
    assert "no such file" in page.text
    assert "is not among the photographs that were read" in page.text
    assert page.classes.count("row") == 1  # the finding about the file as a whole has no picture


def test_text_from_outside_cannot_become_markup(tmp_path: Path) -> None:
    part = Part(HOSTILE, Dataset([sample(HOSTILE)], (HOSTILE,)))
    found = Finding(HOSTILE, Severity.ERROR, HOSTILE, HOSTILE, HOSTILE, Place(HOSTILE, HOSTILE), HOSTILE)
    text = page_of(tmp_path, [found, found], [part], command=HOSTILE, settings={HOSTILE: HOSTILE}, repairs=(HOSTILE,))
    page = check_page(text)
    assert "script" in page.tags
    assert "<img" not in text
    assert "{{ 7*7 }}" in page.text
    assert json.loads(re.findall(r"data-parts='(.*?)'", text)[0]) == [HOSTILE]


def test_three_thousand_findings_stay_small_and_fast(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (300, 300, 3), np.uint8)  # what compresses worst
    names = [f"n{number}" for number in range(40)]
    part = Part("train", Dataset([Sample(name, noise, ImageSize(300, 300)) for name in names]))
    findings = [a_finding(names[number % 40], kind=list(KINDS)[number % 3], measure=number) for number in range(3000)]
    started = time.perf_counter()
    text = page_of(tmp_path, findings, [part])
    seconds = time.perf_counter() - started
    page = check_page(text)
    assert page.classes.count("finding") == 3 * audit_page.PICTURES_PER_KIND
    assert page.classes.count("row") == 3000 - 3 * audit_page.PICTURES_PER_KIND
    assert "24 of 1,000 with their photographs." in page.text
    assert len(text) < 8_000_000
    assert seconds < 15  # about 1 s alone


def test_a_full_page_goes_on_in_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_page, "MAX_PICTURE_BYTES", 1000)
    names = [f"n{number}" for number in range(20)]
    text = page_of(tmp_path, [a_finding(name) for name in names], [train(*names)])
    page = check_page(text)
    assert 0 < page.classes.count("finding") < 20
    assert page.classes.count("finding") + page.classes.count("row") == 20


def test_many_kinds_share_the_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_page, "MAX_PHOTOGRAPHS", 10)
    findings = [a_finding(f"n{number}", kind=kind) for kind in list(KINDS)[:5] for number in range(6)]
    page = check_page(page_of(tmp_path, findings, [train(*(f"n{number}" for number in range(6)))]))
    assert page.classes.count("finding") == 10


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = AuditReport({"train": 2}, (a_finding("a"), a_finding("b")))
    write_audit_page(
        report, [train("a", "b")], tmp_path / "x.html", on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (2, 2)


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="a file has this name"):
        write_audit_page(AuditReport({}, ()), [], tmp_path / "file" / "audit.html")


# Outlines as they were drawn


def test_rings_are_drawn_point_by_point_even_where_they_cross() -> None:
    crossing = np.array([[0.0, 0], [20, 20], [20, 0], [0, 20]])
    assert outline_path(Polygons((crossing,)), SIZE, ImageSize(15, 20)) == "M0.0 0.0L10.0 10.0L10.0 0.0L0.0 10.0Z"


def test_points_that_no_one_sees_are_left_out() -> None:
    dense = np.stack([np.linspace(0, 30, 3001), np.zeros(3001)], axis=1)
    path = outline_path(Polygons((np.concatenate([dense, RING]),)), SIZE, SIZE)
    assert path.count("L") < 200


def test_far_points_are_brought_near_and_wild_ones_refused() -> None:
    far = outline_path(Polygons((RING * 1e9,)), SIZE, SIZE)
    assert max(float(number) for number in re.findall(r"[\d.]+", far)) <= 80
    with pytest.raises(InputError, match="not a finite number"):
        outline_path(Polygons((RING * np.nan,)), SIZE, SIZE)


def test_masks_of_another_size_are_stretched(tmp_path: Path) -> None:
    mask = np.zeros((60, 80), np.bool_)
    mask[20:40, 20:60] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "mask.png")
    for outline in (MaskFile(tmp_path / "mask.png"), Bitmask(mask)):
        numbers = [float(number) for number in re.findall(r"[\d.]+", outline_path(outline, SIZE, SIZE))]
        assert (min(numbers[::2]), max(numbers[::2])) == pytest.approx((10, 30), abs=0.5)


def test_a_broken_outline_is_counted() -> None:
    broken = Instance(1, Rle(b"!!", SIZE))
    shown = outlined_photograph(Sample("a", np.zeros((*SIZE, 3), np.uint8), SIZE, (broken,)), side=64)
    assert (shown.outlines, shown.num_broken, shown.problem) == ((), 1, "")
