"""The audit as a whole: clean data stays clean, reports are ordered and can be read by machines."""

from __future__ import annotations

import dataclasses
import json

import pytest
from audit_examples import PLAIN, audit_of, data, ellipse, kinds, outlined, polygon, ring, skin, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.audit.audit import audit
from dermask.audit.findings import Part, Severity
from dermask.audit.kinds import KINDS
from dermask.audit.settings import AuditSettings
from dermask.data.formats import open_dataset
from dermask.data.synthetic import synthetic_dataset
from dermask.errors import SettingError
from dermask.records import ImageSize, Sample


def test_nothing_at_all():
    report = audit([], processes=1)
    assert (report.findings, dict(report.parts), report.num_outlines) == ((), {}, 0)
    assert audit([Part("empty", data())], processes=1).findings[0].kind == "unused-class"


def test_drawn_lesions_are_clean(tmp_path):
    dataset = open_dataset(write_folder(tmp_path, 4))
    report = audit([Part("drawn", dataset)], settings=PLAIN, processes=1)
    assert report.findings == ()
    assert (report.parts, report.num_outlines) == ({"drawn": 4}, 4)


def test_synthetic_scenes_have_no_error_and_no_warning():
    dataset = synthetic_dataset(12, seed=0, size=ImageSize(128, 160))
    report = audit([Part("scenes", dataset)], settings=PLAIN, processes=1)
    assert [f.line() for f in report.findings if f.severity is not Severity.NOTE] == []


def test_what_is_common_is_one_note_for_a_part():
    cut = [outlined(polygon(ring(x=30)), image=skin(ellipse(x=30), i), image_id=f"cut{i}") for i in range(3)]
    bare = [Sample(f"bare{i}", skin(seed=i), None, ()) for i in range(2)]
    report = audit_of(*cut, *bare, outlined(polygon(ring())))
    notes = {f.kind: f for f in report.findings}
    assert set(notes) == {"touches-border", "no-lesion"}
    assert notes["touches-border"].problem == "3 of 6 photographs have an outline that reaches the border"
    assert [place.image_id for place in notes["touches-border"].others] == ["cut0", "cut1", "cut2"]
    assert notes["no-lesion"].problem == "2 of 6 photographs have no outline"


def test_findings_come_worst_first_and_as_json():
    report = audit_of(
        outlined(polygon(ring(points=5, a=40, b=30)), image=skin(ellipse(), 1), image_id="note"),
        outlined(polygon(ring()), polygon(ring()), image=skin(ellipse(), 2), image_id="warning"),
        outlined(polygon(ring()[:2]), image=skin(ellipse(), 3), image_id="error"),
    )
    ranks = [list(Severity).index(f.severity) for f in report.findings]
    assert ranks == sorted(ranks)
    assert set(ranks) == {0, 1, 2}
    tree = json.loads(report.to_json())
    assert tree["counts"] == {"error": 1, "warning": 1, "note": 1}
    assert {f["kind"] for f in tree["findings"]} <= KINDS.keys()
    assert tree["settings"]["duplicate_iou"] == 0.9
    assert report.has_errors
    assert [place.image_id for place in report.worst_photographs()] == ["error", "warning", "note"]


def test_progress_is_told_by_step():
    told = []
    audit_of(outlined(polygon(ring())), on_progress=lambda *step: told.append(step))
    assert told[0] == ("look", 1, 1)


def test_thresholds_are_obeyed():
    sample = outlined(polygon(ring(points=12)))
    part = [Part("p", data(sample))]
    strict = dataclasses.replace(PLAIN, few_points=20, few_points_side=10)
    assert kinds(audit(part, settings=PLAIN, processes=1)) == {}
    assert kinds(audit(part, settings=strict, processes=1)) == {"few-points": "note"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"duplicate_iou": 1.2}, r"audit\.duplicate_iou: 1\.2 is above 1; give a share between 0 and 1"),
        ({"tiny_pixels": -1}, r"audit\.tiny_pixels: -1 is not 0 or more"),
        ({"unaligned_gain": float("nan")}, r"audit\.unaligned_gain: nan is not 0 or more"),
    ],
)
def test_thresholds_out_of_range_are_refused(values, message):
    with pytest.raises(SettingError, match=message):
        AuditSettings(**values)


@given(st.integers(0, 2**32), st.permutations(range(3)))
@settings(max_examples=5, deadline=None)
def test_the_order_of_photographs_changes_no_finding(seed, order):
    samples = [
        outlined(polygon(ring(x=40 + seed % 7)), image_id="a"),
        outlined(polygon(ring(), ring(x=130, a=9, b=9)), image_id="b"),
        outlined(polygon(ring()[:2]), image_id="c"),
    ]
    straight, mixed = audit_of(*samples), audit_of(*(samples[i] for i in order))

    def single(report):
        return {(f.kind, f.item, f.problem) for f in report.findings if not f.others}

    assert single(straight) == single(mixed)
