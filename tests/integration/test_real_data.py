"""The readers on real photographs: official ISIC folders, full-frame ones, and makesense.ai's exports."""

from __future__ import annotations

import numpy as np
import pytest

from dermask.data.coco import read_coco, write_coco
from dermask.data.formats import open_dataset
from dermask.data.splits import split_by_seed
from dermask.errors import LabelError

EXPORTS = {
    "train200": ("ISIC-2017_Training_Data", 200),
    "test14": ("ISIC-2017_Test_v2_Data", 14),
}


def find_export(real_data, name, kind):
    files = sorted((real_data / "makesense").glob(f"labels_lesion-{name}_*.json"))
    (path,) = [path for path in files if path.stem.endswith("_vgg") == (kind == "vgg")]
    return path


def open_export(real_data, name, kind):
    return open_dataset(find_export(real_data, name, kind), images=real_data / "isic2017" / EXPORTS[name][0])


@pytest.mark.parametrize(("part", "count"), [("train", 1768), ("val", 120), ("test", 264)])
def test_official_folders_open_and_load(real_data, part, count):
    dataset = open_dataset(real_data / "isic2017", part=part)
    assert len(dataset) == count
    for index in range(0, count, count // 10):
        loaded = dataset.load(index)
        assert loaded.image.shape == (384, 384, 3)
        assert loaded.masks.shape == (1, 384, 384)


def test_the_official_root_asks_for_a_part(real_data):
    with pytest.raises(LabelError, match=r"has the parts Training, Validation, Test_v2; name one with --part"):
        open_dataset(real_data / "isic2017")


def test_full_frame_photographs_open_and_load(real_data):
    dataset = open_dataset(real_data / "isic_native")
    assert len(dataset) == 16
    for index, sample in enumerate(dataset):
        loaded = dataset.load(index)
        assert sample.size == loaded.image.shape[:2]
        assert loaded.masks.shape == (1, *loaded.image.shape[:2])
    assert max(sample.size.width for sample in dataset if sample.size) == 1504


@pytest.mark.parametrize("name", EXPORTS)
def test_both_exports_hold_the_same_outlines(real_data, name):
    coco, vgg = open_export(real_data, name, "coco"), open_export(real_data, name, "vgg")
    assert len(coco) == len(vgg) == EXPORTS[name][1]
    assert coco.class_names == vgg.class_names == ("lesion",)
    assert coco[0].instances[0].annotation_id == 0
    for index in range(0, len(coco), 7):
        here, there = coco.load(index), vgg.load(index)
        assert here.image_id == there.image_id
        np.testing.assert_array_equal(here.masks, there.masks)


def test_hand_drawn_outlines_follow_the_official_masks(real_data):
    official = open_dataset(real_data / "isic2017", part="test")
    positions = {sample.image_id: index for index, sample in enumerate(official)}
    drawn = open_export(real_data, "test14", "coco")
    for index, sample in enumerate(drawn):
        mask, truth = drawn.load(index).masks[0], official.load(positions[sample.image_id]).masks[0]
        assert (mask & truth).sum() > 0.85 * (mask | truth).sum()


def test_photographs_are_asked_for_where_they_are_not_beside_the_labels(real_data):
    with pytest.raises(LabelError, match=r"ISIC_0013226\.jpg.* --images \(and 13 more problems\), or leave it out"):
        open_dataset(find_export(real_data, "test14", "coco"))


def test_the_seed_experiments_split_is_the_same_for_both_exports(real_data):
    parts = []
    for kind in ("coco", "vgg"):
        dataset = open_export(real_data, "train200", kind)
        parts.append([[sample.image_id for sample in part] for part in split_by_seed(dataset, (160, 40), seed=0)])
    assert parts[0] == parts[1]
    assert [len(part) for part in parts[0]] == [160, 40]


def test_official_masks_survive_as_coco(real_data, tmp_path):
    dataset = open_dataset(real_data / "isic2017", part="val").select(range(0, 120, 10))
    write_coco(dataset, tmp_path / "val.json")
    again = read_coco(tmp_path / "val.json", real_data / "isic2017" / "ISIC-2017_Validation_Data")
    for index in range(len(dataset)):
        before, after = dataset.load(index).masks[0], again.load(index).masks[0]
        assert (before & after).sum() >= 0.99 * (before | after).sum()
