"""Repairs keep the pixels, leave out what is unusable, and touch nothing that was there."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from audit_examples import (
    PLAIN,
    SIDE,
    audit_of,
    box_ring,
    data,
    ellipse,
    kinds,
    outlined,
    polygon,
    ring,
    save,
    skin,
    write_folder,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask import masks
from dermask.audit.audit import audit
from dermask.audit.findings import Part
from dermask.audit.fix import Repaired, photographs_folder, repair, repair_outline
from dermask.data.coco import read_coco, write_coco
from dermask.data.formats import open_dataset
from dermask.errors import InputError
from dermask.records import Bitmask, ImageSize, MaskFile, Polygons, Rle

SIZE = ImageSize(SIDE, SIDE)
FIGURE_OF_EIGHT = np.array([[30, 60], [90, 100], [90, 60], [30, 100]], float)


def repaired(*samples, names=("lesion",)) -> Repaired:
    dataset = data(*samples, names=names)
    return repair(Part("drawn", dataset), audit_of(*samples, names=names))


def test_good_data_stay_as_they_are():
    sample = outlined(polygon(ring()))
    result = repaired(sample)
    assert result.lines == ()
    assert result.dataset[0].instances == sample.instances


def test_a_crossing_is_undone_and_the_pixels_stay():
    before = polygon(FIGURE_OF_EIGHT)
    result = repaired(outlined(before))
    assert result.lines == ("drawn: one: outline 1: crossing undone",)
    after = result.dataset[0].instances[0].outline
    assert isinstance(after, Polygons)
    assert len(after.parts) == 2
    one, other = masks.outline_bitmask(before, SIZE), masks.outline_bitmask(after, SIZE)
    assert (one & other).sum() >= 0.99 * (one | other).sum()
    assert "self-crossing" not in kinds(audit_of(*result.dataset))


def test_a_crossing_that_leaves_a_hole_becomes_run_lengths():
    outer, inner = box_ring(30, 40, 80, 80), box_ring(50, 60, 40, 40)
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    outline, changes = repair_outline(polygon(keyhole), SIZE)
    assert changes == ["crossing undone"]
    assert isinstance(outline, Rle)
    assert (masks.outline_bitmask(outline, SIZE) == masks.outline_bitmask(polygon(keyhole), SIZE)).all()


def test_what_leaves_the_photograph_is_cut_off():
    result = repaired(outlined(polygon(ring(x=10))))
    assert result.lines == ("drawn: one: outline 1: cut at the border",)
    (part,) = result.dataset[0].instances[0].outline.parts
    assert part.min() >= 0
    assert part.max() <= SIDE


RINGS = st.lists(st.tuples(st.floats(-40, 200), st.floats(-40, 200)), min_size=3, max_size=9).map(np.array)


@given(RINGS)
@settings(max_examples=60, deadline=None)
def test_a_repair_keeps_the_pixels_of_any_ring(points):
    before = masks.outline_bitmask(polygon(points), SIZE)
    outline, changes = repair_outline(polygon(points), SIZE)
    after = masks.outline_bitmask(outline, SIZE)
    assert (before & after).sum() >= 0.99 * (before | after).sum()
    again, more = repair_outline(outline, SIZE)
    assert more == [] or not isinstance(again, Polygons) or (masks.outline_bitmask(again, SIZE) == after).mean() > 0.99
    assert changes or outline.parts[0] is points


def test_a_copy_of_an_outline_is_dropped_and_a_near_copy_is_not():
    copies = outlined(polygon(ring()), polygon(ring()), polygon(ring(a=31)), labels=(1, 1, 1))
    result = repaired(copies)
    assert result.lines == ("drawn: one: outline 2: dropped, the same as another outline of this photograph",)
    assert len(result.dataset[0].instances) == 2


def test_a_copy_of_another_class_stays():
    result = repaired(outlined(polygon(ring()), polygon(ring()), labels=(1, 2)), names=("mole", "scar"))
    assert len(result.dataset[0].instances) == 2


def test_class_names_take_the_most_frequent_spelling():
    samples = [outlined(polygon(ring()), image_id=f"p{i}", labels=(label,)) for i, label in enumerate([2, 1, 3, 3])]
    result = repaired(*samples, names=("scar", "Lesion", "lesion"))
    assert result.lines == ("drawn: class 'Lesion': now 'lesion'",)
    assert result.dataset.class_names == ("scar", "lesion")
    assert [sample.instances[0].label for sample in result.dataset] == [2, 1, 2, 2]


def test_what_is_unusable_goes_with_its_photograph(tmp_path):
    broken = tmp_path / "p.png"
    broken.write_bytes(b"nothing")
    result = repaired(
        outlined(polygon(ring()), image_id="good"),
        outlined(polygon(ring()), image=broken, image_id="broken"),
        outlined(polygon(ring()), polygon(ring()[:2]), image_id="degenerate"),
        outlined(polygon(ring(x=-100)), image_id="outside"),
    )
    assert [sample.image_id for sample in result.dataset] == ["good"]
    assert [line.split(": ")[1:3] for line in result.lines] == [
        ["broken", "left out"],
        ["degenerate", "left out"],
        ["outside", "left out"],
    ]


def test_nothing_left_is_an_error():
    with pytest.raises(InputError, match=r"drawn: no photograph is left after the repairs"):
        repaired(outlined(polygon(ring()[:2])))


def test_a_mask_of_zeros_and_ones_is_read_as_it_was_meant(tmp_path):
    path = save(tmp_path / "m.png", ellipse().astype(np.uint8))
    result = repaired(outlined(MaskFile(path)))
    assert result.lines == ("drawn: one: mask: values 0 and 1 read as skin and lesion",)
    assert (masks.outline_bitmask(result.dataset[0].instances[0].outline, SIZE) == ellipse()).all()
    many = save(tmp_path / "n.png", (ellipse() * np.arange(SIDE) % 100).astype(np.uint8))
    with pytest.raises(InputError, match=r"n\.png: has 61 values, none above 89 of 255; save it again"):
        repair_outline(MaskFile(many), SIZE)


def test_inverted_masks_are_left_to_a_person():
    inverted = outlined(Bitmask(~ellipse()))
    assert "inverted-mask" in kinds(audit_of(inverted))
    assert repaired(inverted).lines == ()


def test_a_repaired_file_passes_a_second_check(tmp_path):
    write_folder(tmp_path / "set", 3)
    save(tmp_path / "set" / "masks" / "p1_segmentation.png", (ellipse() * 1).astype(np.uint8))
    (tmp_path / "set" / "images" / "p2.png").write_bytes(b"\x89PNG\r\n\x1a\n cut short")
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in (tmp_path / "set").rglob("*.png")}
    part = Part("set", open_dataset(tmp_path / "set", skip_bad=True))
    report = audit([part], settings=PLAIN, processes=1)
    assert report.has_errors
    result = repair(part, report)
    target = tmp_path / "new" / "repaired.json"
    write_coco(result.dataset, target)
    folder = photographs_folder(result.dataset, target)
    again = read_coco(target, folder)
    assert [sample.image_id for sample in again] == ["p0", "p1"]
    second = audit([Part("set", again)], settings=PLAIN, processes=1)
    assert not second.has_errors
    assert {path: hashlib.sha256(path.read_bytes()).digest() for path in before} == before
    assert any("p2" in line for line in result.lines)


def test_the_folder_of_the_photographs_is_named_where_it_is_needed(tmp_path):
    sample = outlined(image=save(tmp_path / "photos" / "p.png", skin()))
    assert photographs_folder(data(sample), tmp_path / "labels.json") is None
    assert photographs_folder(data(sample), tmp_path / "elsewhere" / "labels.json") == tmp_path / "photos"
