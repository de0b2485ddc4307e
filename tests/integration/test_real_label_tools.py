"""Label tools' formats on real outlines: makesense.ai's exports and official masks, written and read again."""

from __future__ import annotations

import numpy as np
import pytest
from label_examples import FAMILY

from dermask.data.formats import open_dataset
from dermask.data.makesense import read_makesense


@pytest.mark.parametrize("key", FAMILY)
@pytest.mark.parametrize("export", ["labels_lesion-test14_*-30.json", "labels_lesion-test14_*_vgg.json"])
def test_exports_of_makesense_keep_every_point(real_data, tmp_path, key, export):
    write, read = FAMILY[key]
    photographs = real_data / "isic2017" / "ISIC-2017_Test_v2_Data"
    (path,) = (real_data / "makesense").glob(export)
    dataset = read_makesense(path, photographs)
    write(dataset, tmp_path / "out.json")
    again = read(tmp_path / "out.json", photographs)
    assert again.class_names == dataset.class_names
    assert len(again) == len(dataset) == 14
    for before, after in zip(dataset, again, strict=True):
        assert before.image_id == after.image_id
        for one, other in zip(before.instances, after.instances, strict=True):
            np.testing.assert_array_equal(one.outline.parts[0], other.outline.parts[0])


@pytest.mark.parametrize("key", FAMILY)
def test_official_masks_keep_their_pixels(real_data, tmp_path, key):
    write, read = FAMILY[key]
    dataset = open_dataset(real_data / "isic2017", part="Training")[:100:12]
    write(dataset, tmp_path / "out.json")
    again = read(tmp_path / "out.json", real_data / "isic2017" / "ISIC-2017_Training_Data")
    for index in range(len(dataset)):
        before, after = dataset.load(index).masks.any(axis=0), again.load(index).masks.any(axis=0)
        assert (before & after).sum() >= 0.99 * (before | after).sum()
