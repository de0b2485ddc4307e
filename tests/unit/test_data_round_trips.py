"""Every format of the table, over random data sets: what it holds comes back, and what it does not is said."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dermask import masks
from dermask.data.conversion import MIN_IOU, compare, mask_iou, read_back
from dermask.data.dataset import Dataset
from dermask.data.formats import FORMATS, Format, Holds, find_format, open_dataset, write_dataset
from dermask.errors import LabelError, OutputExistsError, SettingError
from dermask.images import write_png
from dermask.records import Bitmask, BoolArray, ImageSize, Instance, Polygons, Sample

SIZE = ImageSize(48, 64)
READ_FORMATS = [kind for kind in FORMATS if kind.reader is not None]
every_format = pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.key)
every_read_format = pytest.mark.parametrize("kind", READ_FORMATS, ids=lambda kind: kind.key)


def disc(cy: float, cx: float, radius: float) -> BoolArray:
    ys, xs = np.mgrid[: SIZE.height, : SIZE.width] + 0.5
    return (ys - cy) ** 2 + (xs - cx) ** 2 <= radius**2


def ring_of(cy: float, cx: float, radius: float, points: int) -> np.ndarray:
    turn = np.arange(points) * (2 * np.pi / points)
    ring = np.stack([cx + radius * np.cos(turn), cy + radius * np.sin(turn)], axis=1)
    # Without the sine's rounding error: an edge that lies 1e-15 beside the middle of a column of pixels takes the whole
    # column in or leaves it out, which no text of a number can hold.
    return np.clip(ring.round(12), 0, [SIZE.width, SIZE.height])


@st.composite
def outlines(draw, holds: Holds, cell: int):
    """One lesion in its own quarter of the photograph, so that none overlap; some reach the border, some are tiny."""
    top, left = divmod(cell, 2)
    cy = top * 24 + draw(st.floats(4, 20))
    cx = left * 32 + draw(st.floats(4, 28))
    radius = draw(st.floats(2.5, 11))
    quarter = np.zeros(SIZE, np.bool_)
    quarter[top * 24 : top * 24 + 24, left * 32 : left * 32 + 32] = True
    kind = draw(st.sampled_from(["polygon", "mask", *["parts"] * holds.parts, *["hole"] * holds.holes]))
    if kind == "polygon":
        ring = ring_of(cy, cx, radius, draw(st.integers(3, 24)))
        ring = np.clip(ring, [left * 32, top * 24], [left * 32 + 32, top * 24 + 24])
        outline = Polygons((ring,))
        return outline if masks.outline_bitmask(outline, SIZE).sum() >= 12 else Bitmask(disc(cy, cx, 4) & quarter)
    mask = disc(cy, cx, radius) & quarter
    if kind == "parts":
        mask |= disc(top * 24 + 2, left * 32 + 2, 2) & quarter
    to_border = min(cy - top * 24, top * 24 + 24 - cy, cx - left * 32, left * 32 + 32 - cx)
    if kind == "hole" and radius > 6 and to_border > radius / 3 + 1:  # a hole that breaks out can cut off a part
        mask &= ~disc(cy, cx, radius / 3)
    return Bitmask(mask)


@st.composite
def data_sets(draw, folder: Path, holds: Holds):
    """Up to four photographs with up to four lesions of up to three classes, as far as the format holds them."""
    names = draw(st.lists(st.sampled_from(["lesion", "mole", "nævus", "a: b #1", "no"]), min_size=1, max_size=3,
                          unique=True)) if holds.classes else ["lesion"]  # fmt: skip
    names = tuple(sorted(name.replace(":", "") for name in names))
    samples = []
    for number in range(draw(st.integers(1, 4))):
        cells = draw(st.lists(st.integers(0, 3), max_size=4 if holds.lesions else 1, unique=True,
                              min_size=0 if holds.negatives else 1))  # fmt: skip
        instances = [Instance(draw(st.integers(1, len(names))), draw(outlines(holds, cell))) for cell in cells]
        path = folder / f"ISIC_{number:07}.png"
        write_png(path, np.full((*SIZE, 3), 200, np.uint8))
        samples.append(Sample(path.stem, path, None, tuple(instances)))
    if all(not sample.instances for sample in samples):
        samples[0] = Sample(samples[0].image_id, samples[0].image, None, (Instance(1, Bitmask(disc(12, 12, 6))),))
    return Dataset(samples, names, name="drawn")


def target(folder: Path, kind: Format) -> Path:
    return folder / ("written" if kind.is_folder else "written.json")


@every_read_format
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_a_format_holds_comes_back(kind: Format, data) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs = folder / "photographs"
        photographs.mkdir()
        before = data.draw(data_sets(photographs, kind.holds))
        losses = write_dataset(before, target(folder, kind), kind.key)
        after = read_back(before, target(folder, kind), kind.key)
        assert after is not None
        used = {before.class_names[one.label - 1] for sample in before for one in sample.instances}
        assert used <= set(after.class_names) <= set(before.class_names)
        by_id = {sample.image_id: index for index, sample in enumerate(after)}
        assert by_id.keys() == {sample.image_id for sample in before}
        for index, sample in enumerate(before):
            one, other = before.load(index), after.load(by_id[sample.image_id])
            assert np.array_equal(one.image, other.image)
            assert len(one.labels) == len(other.labels)
            for mask, label in zip(one.masks, one.labels, strict=True):
                same_class = [
                    mask_iou(mask, found)
                    for found, number in zip(other.masks, other.labels, strict=True)
                    if after.class_names[number - 1] == before.class_names[label - 1]
                ]
                assert max(same_class) >= MIN_IOU
        assert compare(before, after, kind.holds).least_iou >= MIN_IOU
        assert not [line for line in losses if re.search(r"left out|joined into|filled", line)]


def hard_data_set(folder: Path) -> Dataset:
    """One photograph for each thing that some format cannot hold."""
    for name in ("two", "overlap", "parts", "hole", "none", "crowd"):
        write_png(folder / f"{name}.png", np.full((*SIZE, 3), 200, np.uint8))
    samples = {
        "two": (Instance(1, Bitmask(disc(12, 12, 6))), Instance(2, Bitmask(disc(36, 48, 8)))),
        "overlap": (Instance(1, Bitmask(disc(20, 20, 9))), Instance(1, Bitmask(disc(20, 30, 8)))),
        "parts": (Instance(1, Bitmask(disc(12, 12, 6) | disc(36, 48, 8))),),
        "hole": (Instance(1, Bitmask(disc(24, 32, 16) & ~disc(24, 32, 7))),),
        "none": (),
        "crowd": (Instance(1, Bitmask(disc(12, 12, 6))), Instance(1, Bitmask(disc(36, 48, 8)), is_crowd=True)),
    }
    return Dataset(
        [Sample(name, folder / f"{name}.png", SIZE, instances) for name, instances in samples.items()],
        ("lesion", "mole"),
        name="hard",
    )


SAID = {
    "classes": r"class",
    "lesions": r"several lesions|joined",
    "overlaps": r"overlap",
    "parts": r"several parts|parts",
    "holes": r"hole",
    "negatives": r"without a lesion|without an outline|no place for",
    "crowds": r"crowd",
}


@every_format
def test_what_a_format_cannot_hold_is_said_and_nothing_else_is_lost(tmp_path: Path, kind: Format) -> None:
    before = hard_data_set(tmp_path)
    losses = write_dataset(before, target(tmp_path, kind), kind.key)
    for name, is_held in kind.holds._asdict().items():
        if name == "overlaps" and not kind.holds.lesions:
            continue  # joined lesions have lost that with the rest
        if not is_held:
            assert [line for line in losses if re.search(SAID[name], line)], (name, losses)
    after = read_back(before, target(tmp_path, kind), kind.key)
    if after is not None:
        comparison = compare(before, after, kind.holds)
        assert comparison.differences() == []
        assert comparison.compared == (6 if kind.holds.negatives else 5)


@every_format
def test_nothing_is_overwritten_unasked(tmp_path: Path, kind: Format) -> None:
    before = hard_data_set(tmp_path)
    path = target(tmp_path, kind)
    write_dataset(before, path, kind.key)
    with pytest.raises(OutputExistsError, match=r"written.*already; choose another name or allow overwriting"):
        write_dataset(before, path, kind.key)
    write_dataset(before, path, kind.key, overwrite=True)
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {*(f"{sample.image_id}.png" for sample in before), path.name}  # no temporary file is left


@every_format
def test_a_failure_leaves_nothing_behind(tmp_path: Path, kind: Format) -> None:
    before = hard_data_set(tmp_path)
    broken = Dataset([*before, Sample("gone", tmp_path / "gone.png")], before.class_names, name="broken")
    names = {entry.name for entry in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"gone\.png"):
        write_dataset(broken, target(tmp_path, kind), kind.key)
    assert {entry.name for entry in tmp_path.iterdir()} == names


@every_read_format
def test_photographs_in_memory_are_saved(tmp_path: Path, kind: Format) -> None:
    pixels = np.full((*SIZE, 3), (220, 180, 160), np.uint8)
    before = Dataset([Sample("drawn", pixels, None, (Instance(1, Bitmask(disc(20, 30, 10))),))])
    write_dataset(before, target(tmp_path, kind), kind.key)
    after = open_dataset(target(tmp_path, kind))
    assert np.array_equal(after.load(0).image, pixels)
    assert mask_iou(after.load(0).masks[0], disc(20, 30, 10)) >= MIN_IOU


@every_format
def test_progress_reaches_the_end(tmp_path: Path, kind: Format) -> None:
    before = hard_data_set(tmp_path)
    seen: list[tuple[int, int]] = []
    write_dataset(before, target(tmp_path, kind), kind.key, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6, 6)


def test_an_empty_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="empty: has no photographs"):
        write_dataset(Dataset([], name="empty"), tmp_path / "out", "yolo")


def test_keys_are_distinct_and_an_unknown_one_lists_them() -> None:
    keys = [kind.key for kind in FORMATS]
    assert len(set(keys)) == len(keys)
    with pytest.raises(SettingError, match=r"format 'voc': is unknown; choose one of coco, .*colour-masks"):
        find_format("voc")


def test_the_comparison_sees_what_differs(tmp_path: Path) -> None:
    before = hard_data_set(tmp_path)
    same = compare(before, before)
    assert same.is_same
    assert (same.least_iou, same.outlines) == (1.0, (7, 7))
    shifted = [
        Sample(one.image_id, one.image, SIZE, tuple(
            Instance(3 - i.label, Bitmask(np.roll(masks.outline_bitmask(i.outline, SIZE), 2, axis=1))) for i in
            one.instances)) for one in before
    ]  # fmt: skip
    other = compare(before, Dataset([*shifted[1:-1]], ("lesion", "naevus")))
    lines = " | ".join(other.differences())
    assert "6 photographs were written and 4 read back" in lines
    assert "classes lesion, mole read back as lesion, naevus" in lines
    assert "an outline keeps" in lines
    assert "4 outlines changed class" in lines
