"""Every kind of outline trouble is found where it was drawn, and not where it nearly was."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from audit_examples import SIDE, audit_of, box_ring, ellipse, kinds, outlined, polygon, ring, save, skin
from PIL import Image

from dermask import masks
from dermask.audit.kinds import KINDS
from dermask.records import Bitmask, ImageSize, Instance, MaskFile, Rle, Sample


def with_specks(count: int, side: int) -> np.ndarray:
    mask = ellipse()
    for index in range(count):
        mask[10 : 10 + side, 10 + 10 * index : 10 + 10 * index + side] = True
    return mask


def with_hole(radius: float, x: float = 60, y: float = 80) -> np.ndarray:
    return ellipse() & ~ellipse(x, y, radius, radius)


FIGURE_OF_EIGHT = np.array([[30, 60], [90, 100], [90, 60], [30, 100]], float)
PEN_TURNED_BACK = np.concatenate([ring(), [[91, 79], [90.6, 80.6], [91, 80.4]]])
OUTER, INNER = ring(), ring(a=10, b=8)
CASES = {
    # what is drawn: outlines, kind, its severity
    "a figure of eight": ((polygon(FIGURE_OF_EIGHT),), "self-crossing", "warning"),
    "a tiny loop where the pen turned back": ((polygon(PEN_TURNED_BACK),), "self-crossing", "note"),
    "nine pixels": ((Bitmask(ellipse(a=2, b=2)),), "tiny-outline", "warning"),
    "far over the border": ((polygon(ring(x=10)),), "out-of-border", "error"),
    "all of it outside": ((polygon(ring(x=-100)),), "degenerate-outline", "error"),
    "two points": ((polygon(ring()[:2]),), "degenerate-outline", "error"),
    "no number": (
        (polygon(np.array([[1, 1], [9, 1], [np.nan, 9]])),),
        "degenerate-outline",
        "error",
    ),
    "points on one line": ((polygon(np.array([[1, 1], [5, 5], [9, 9]], float)),), "degenerate-outline", "error"),
    "a mask without a pixel": ((Bitmask(np.zeros((SIDE, SIDE), bool)),), "degenerate-outline", "error"),
    "run lengths of another photograph": ((Rle(b"0c0", ImageSize(6, 8)),), "wrong-size", "error"),
    "the whole photograph": ((Bitmask(np.ones((SIDE, SIDE), bool)),), "covers-all", "warning"),
    "the same outline twice": ((polygon(OUTER), polygon(OUTER + 0.3)), "duplicate-outline", "warning"),
    "one outline inside another": ((polygon(OUTER), polygon(INNER)), "nested-outline", "warning"),
    "a rectangle of points": ((polygon(box_ring(30, 60, 60, 40)),), "box-only", "warning"),
    "a rectangle of pixels": ((Bitmask(ellipse(a=999, b=15) & ellipse(a=30, b=999)),), "box-only", "warning"),
    "five points around a lesion": ((polygon(ring(points=5, a=40, b=30)),), "few-points", "note"),
    "one large speck": ((Bitmask(with_specks(1, 6)),), "specks", "warning"),
    "one small speck": ((Bitmask(with_specks(1, 3)),), "specks", "note"),
    "many small specks": ((Bitmask(with_specks(9, 2)),), "specks", "warning"),
    "two large parts": ((Bitmask(ellipse() | ellipse(x=130, a=15)),), "many-parts", "note"),
    "a hole": ((Bitmask(with_hole(5)),), "holes", "note"),
}


@pytest.mark.parametrize("case", CASES)
def test_trouble_is_found(case):
    outlines, kind, severity = CASES[case]
    assert kinds(audit_of(outlined(*outlines))).get(kind) == severity


NEAR_MISSES = {
    "an outline": ((polygon(ring()),), CASES.keys()),
    "its pixels": ((Bitmask(ellipse()),), CASES.keys()),
    "a ring that touches itself in a point": (
        (polygon(np.array([[30, 60], [60, 80], [90, 60], [90, 100], [60, 80], [30, 100]], float)),),
        ["self-crossing"],
    ),
    "half a pixel over the border": ((polygon(ring(x=29.5)),), ["out-of-border"]),
    "a small lesion": ((Bitmask(ellipse(a=4, b=4)),), ["tiny-outline"]),
    "nearly the whole photograph": ((Bitmask(ellipse(x=80, a=90, b=90)),), ["covers-all"]),
    "two outlines that agree as two people do": ((polygon(ring()), polygon(ring(a=32, b=22.5))), ["duplicate-outline"]),
    "two neighbours that overlap": ((polygon(ring()), polygon(ring(x=85))), ["nested-outline", "duplicate-outline"]),
    "a rectangle with a corner cut off": ((polygon(np.delete(ring(points=12), 3, 0)),), ["box-only"]),
    "few points around a small lesion": ((polygon(ring(points=5, a=9, b=9)),), ["few-points"]),
    "two pixels beside the lesion": ((Bitmask(with_specks(1, 1)),), ["specks", "many-parts"]),
    "a hole of one pixel": ((Bitmask(with_hole(0.5, x=60.5, y=80.5)),), ["holes"]),
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_near_misses_are_not(case):
    outlines, absent = NEAR_MISSES[case]
    found = kinds(audit_of(outlined(*outlines)))
    absent = {CASES[name][1] for name in absent} if absent is CASES.keys() else set(absent)
    assert not found.keys() & absent
    if case in ("an outline", "its pixels"):
        assert found == {}


def test_a_crossing_is_told_with_its_place():
    (finding,) = (f for f in audit_of(outlined(polygon(FIGURE_OF_EIGHT))).findings if f.kind == "self-crossing")
    assert finding.line().startswith("drawn: one: outline 1: crosses itself at x 60.0, y 80.0 (")
    assert finding.place == ("drawn", "one")


def test_two_classes_on_one_outline_are_another_kind():
    sample = outlined(polygon(ring()), polygon(ring() + 0.3), labels=(1, 2))
    report = audit_of(sample, names=("mole", "scar"))
    assert kinds(report) == {"disagreeing-classes": "warning"}
    assert "but 'scar' where that is 'mole'" in report.findings[0].problem


def test_a_lesion_of_another_class_may_lie_inside():
    assert kinds(audit_of(outlined(polygon(OUTER), polygon(INNER), labels=(1, 2)), names=("mole", "scar"))) == {}


def test_crowds_are_not_judged():
    crowd = Instance(1, masks.bitmask_to_rle(np.ones((SIDE, SIDE), bool)), is_crowd=True)
    sample = outlined(polygon(ring()))
    report = audit_of(Sample("one", sample.image, None, (crowd, *sample.instances)))
    assert kinds(report) == {}


def test_the_annotation_is_named_by_its_id():
    instance = Instance(1, polygon(FIGURE_OF_EIGHT), annotation_id=812)
    report = audit_of(Sample("one", skin(ellipse()), None, (instance,)))
    (finding,) = (f for f in report.findings if f.kind == "self-crossing")
    assert finding.annotation_id == 812
    assert "one: annotation 812: crosses itself" in finding.line()


# Mask files


def mask_file(tmp_path: Path, levels: np.ndarray, name: str = "m.png", **options) -> Sample:
    return outlined(MaskFile(save(tmp_path / name, levels.astype(np.uint8), **options)))


@pytest.mark.parametrize(
    ("levels", "kind", "severity", "words"),
    [
        (ellipse() * 0, "empty-mask", "note", r"all black"),
        (ellipse() * 1, "dark-mask", "error", r"no value above 1 of 255"),
        (ellipse() * 128, "dark-mask", "error", r"no value above 128 of 255; only those above 128 count"),
        (ellipse() * 155 + 100 * ellipse(a=36, b=26), "soft-mask", "warning", r"\d\.\d% of its pixels are neither"),
    ],
)
def test_the_values_of_a_mask_file(tmp_path, levels, kind, severity, words):
    report = audit_of(mask_file(tmp_path, levels))
    assert kinds(report) == {kind: severity}
    assert re.search(words, report.findings[0].problem)


def test_a_mask_with_a_softened_border_is_fine(tmp_path):
    big = Image.fromarray(ellipse(x=240, y=320, a=120, b=80, side=640).astype(np.uint8) * 255)
    assert kinds(audit_of(mask_file(tmp_path, np.asarray(big.resize((SIDE, SIDE), Image.Resampling.BOX))))) == {}


def test_a_mask_file_that_is_none(tmp_path):
    path = tmp_path / "m.png"
    path.write_text("no image")
    report = audit_of(outlined(MaskFile(path)))
    assert kinds(report) == {"unreadable-mask": "error"}


def test_a_mask_file_of_another_size(tmp_path):
    assert kinds(audit_of(mask_file(tmp_path, np.zeros((20, 30))))) == {"wrong-size": "error"}


def test_every_kind_that_is_found_is_explained():
    found = set()
    for outlines, _, _ in CASES.values():
        found |= {finding.kind for finding in audit_of(outlined(*outlines)).findings}
    assert found <= KINDS.keys()
    assert all(text.endswith(".") and text[0].isupper() and "\n" not in text for text in KINDS.values())
