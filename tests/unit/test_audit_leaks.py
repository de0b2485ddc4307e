"""Photographs that are there twice, inside a part and across parts."""

from __future__ import annotations

import shutil

import pytest
from audit_examples import PLAIN, data, ellipse, outlined, polygon, ring, save, skin

from dermask.audit.audit import audit
from dermask.audit.findings import AuditReport, Part, Severity
from dermask.errors import SettingError
from dermask.records import PhotoInfo, Sample

COPIES = {"same-file", "same-pixels", "leak-file", "leak-pixels", "leak-id", "leak-lesion", "leak-patient"}


def photograph(tmp_path, name: str, seed: int = 0, **options) -> Sample:
    path = save(tmp_path / f"{name}.png", skin(ellipse(), seed=seed), **options)
    return outlined(polygon(ring()), image=path, image_id=path.stem)


def check(metadata=None, **parts: list[Sample]) -> AuditReport:
    return audit(
        [Part(name, data(*samples)) for name, samples in parts.items()],
        settings=PLAIN,
        metadata=metadata,
        processes=1,
    )


def found(report: AuditReport) -> list[tuple[str, str, str]]:
    return [(f.kind, str(f.severity), f"{f.item}: {f.problem}") for f in report.findings if f.kind in COPIES]


def test_photographs_that_differ_give_nothing(tmp_path):
    samples = [photograph(tmp_path, f"p{seed}", seed) for seed in range(3)]
    assert found(check(train=samples[:2], test=samples[2:])) == []


def test_copies_inside_a_part_are_warnings(tmp_path):
    one, other = photograph(tmp_path, "one"), photograph(tmp_path, "other", compress_level=1)
    shutil.copy(one.image, tmp_path / "third.png")
    third = outlined(polygon(ring()), image=tmp_path / "third.png", image_id="third")
    assert found(check(train=[one, other, third])) == [
        ("same-file", "warning", "train: one: is the same file as third"),
        ("same-pixels", "warning", "train: one: has the same pixels as other, third"),
    ]


def test_copies_across_parts_are_errors(tmp_path):
    one, other = photograph(tmp_path, "one"), photograph(tmp_path, "other", compress_level=1)
    shutil.copy(one.image, tmp_path / "third.png")
    third = outlined(polygon(ring()), image=tmp_path / "third.png", image_id="third")
    assert found(check(train=[one], test=[third])) == [
        ("leak-file", "error", "train: one: is the same file as test: third")
    ]
    assert found(check(train=[one], test=[other])) == [
        ("leak-pixels", "error", "train: one: has the same pixels as test: other")
    ]


def test_the_same_photograph_in_two_parts_is_told_once(tmp_path):
    one = photograph(tmp_path, "one")
    assert found(check(train=[one], test=[one])) == [
        ("leak-file", "error", "train: one: is the same file as test: one")
    ]


def test_one_id_for_two_photographs(tmp_path):
    one = photograph(tmp_path / "a", "one", 1)
    other = photograph(tmp_path / "b", "one", 2)
    assert found(check(train=[one], test=[other])) == [("leak-id", "error", "train: one: has the same id as test: one")]


def test_patients_and_lesions_must_stay_in_one_part(tmp_path):
    a, b, c, d = (photograph(tmp_path, name, seed) for seed, name in enumerate("abcd"))
    metadata = {
        "a": PhotoInfo(patient_id="P1", lesion_id="L1"),
        "b": PhotoInfo(patient_id="P1", lesion_id="L2"),
        "c": PhotoInfo(patient_id="P2", lesion_id="L1"),
        "d": PhotoInfo(patient_id="P3"),
    }
    assert found(check(metadata, train=[a, d], test=[b, c])) == [
        ("leak-lesion", "error", "train: a: shows lesion L1, as test: c does"),
        ("leak-patient", "error", "train: a: is of patient P1, as test: b is"),
    ]
    assert found(check(metadata, train=[a, b, c], test=[d])) == []
    assert found(check({}, train=[a], test=[b])) == []


def test_a_large_group_is_told_in_one_line(tmp_path):
    samples = [photograph(tmp_path, f"p{i}") for i in range(6)]
    (finding,) = (f for f in check(train=samples).findings if f.kind in COPIES)
    assert finding.problem == "is the same file as p1, p2, p3 and 2 more"
    assert len(finding.others) == 5


def test_copies_whose_outlines_differ_are_noted(tmp_path):
    one = photograph(tmp_path, "one")
    other = outlined(polygon(ring(x=80)), image=one.image, image_id="other")
    report = check(train=[one, other])
    (note,) = (f for f in report.findings if f.kind == "labels-disagree")
    assert note.severity is Severity.NOTE
    assert note.problem == "its outlines and those of its copy other have a Jaccard index of 0.41"
    close = outlined(polygon(ring(x=62)), image=one.image, image_id="other")
    assert not [f for f in check(train=[one, close]).findings if f.kind == "labels-disagree"]


def test_two_parts_of_one_name_are_refused():
    part = Part("train", data(outlined()))
    with pytest.raises(SettingError, match=r"part 'train': is there 2 times; give every part its own name"):
        audit([part, part], settings=PLAIN)
