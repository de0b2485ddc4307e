"""Saved COCO results: every form of outline, matched to the photographs, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermask import masks
from dermask.data.dataset import Dataset
from dermask.errors import LabelError
from dermask.evaluation.evaluate import evaluate
from dermask.evaluation.results_file import read_coco_results
from dermask.records import Bitmask, ImageSize, Instance, Sample

SIZE = ImageSize(20, 30)
MASK = np.zeros(SIZE, np.bool_)
MASK[4:12, 5:17] = True
RING = [5, 4, 17, 4, 17, 12, 5, 12]
COMPRESSED = {"size": list(SIZE), "counts": masks.bitmask_to_rle(MASK).counts.decode()}


def dataset(class_names: tuple[str, ...] = ("lesion",), categories: dict[int, int] | None = None) -> Dataset:
    samples = [
        Sample(name, np.zeros((*SIZE, 3), np.uint8), SIZE, (Instance(1, Bitmask(MASK)),), source_id)
        for name, source_id in (("ISIC_0000001", 7), ("ISIC_0000002", 9))
    ]
    return Dataset(samples, class_names, "two photographs", None, categories)


def plain_counts() -> list[int]:
    flat = MASK.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    return np.diff([0, *changes, flat.size]).tolist()


def entry(**changes: Any) -> dict[str, Any]:
    record = {"image_id": 7, "category_id": 1, "score": 0.75, "segmentation": COMPRESSED} | changes
    return {name: value for name, value in record.items() if value is not None}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_an_empty_list_means_that_nothing_was_found(tmp_path: Path) -> None:
    found = read_coco_results(write(tmp_path / "r.json", []), dataset())
    assert [len(one) for one in found] == [0, 0]
    assert [one.image_id for one in found] == ["ISIC_0000001", "ISIC_0000002"]


@pytest.mark.parametrize(
    "outline",
    [
        pytest.param([RING], id="polygon"),
        pytest.param([RING[:6], [5, 4, 17, 12, 5, 12]], id="two rings"),
        pytest.param(COMPRESSED, id="compressed run lengths"),
        pytest.param({"size": list(SIZE), "counts": plain_counts()}, id="plain run lengths"),
    ],
)
def test_every_form_of_outline_gives_the_same_mask(outline: Any, tmp_path: Path) -> None:
    found = read_coco_results(write(tmp_path / "r.json", [entry(segmentation=outline)]), dataset())
    decoded = masks.rle_to_bitmask(found[0].masks[0])
    assert (decoded != MASK).sum() <= 12  # COCO's rasterisation of the shared diagonal may differ by its pixels
    if isinstance(outline, dict):
        np.testing.assert_array_equal(decoded, MASK)
        assert found[0].boxes.tolist() == [[5, 4, 17, 12]]


@pytest.mark.parametrize("image_id", [9, "ISIC_0000002"])
def test_photographs_are_found_by_id_or_name_and_ranked_by_score(image_id: int | str, tmp_path: Path) -> None:
    entries = [entry(image_id=image_id, score=score, bbox=[1, 2, score, 4]) for score in (0.25, 1, 0.5)]
    first, second = read_coco_results(write(tmp_path / "r.json", entries), dataset())
    assert len(first) == 0
    assert second.scores.tolist() == [1, 0.5, 0.25]
    np.testing.assert_allclose(second.boxes[:, 2], [2, 1.5, 1.25], rtol=0, atol=1e-6)  # float32


def test_perfect_results_score_1_without_torch(tmp_path: Path) -> None:
    entries = [entry(image_id=7), entry(image_id=9, segmentation={"size": list(SIZE), "counts": plain_counts()})]
    labels = dataset()
    evaluation = evaluate(read_coco_results(write(tmp_path / "r.json", entries), labels), labels)
    assert evaluation.figures.jaccard == 1
    assert evaluation.coco.mask.ap == pytest.approx(1)
    assert evaluation.coco.box.ap == pytest.approx(1)


def test_a_second_persons_labels_are_judged_like_a_models(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 1, "file_name": "photos/ISIC_0000002.jpg", "width": 30, "height": 20}],
        "categories": [{"id": 4, "name": "lesion"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "segmentation": [RING], "bbox": [5, 4, 12, 8]}],
    }
    first, second = read_coco_results(write(tmp_path / "labels.json", content), dataset())
    assert len(first) == 0
    assert second.scores.tolist() == [1]
    assert second.labels.tolist() == [1]


def test_categories_follow_the_label_files_ids(tmp_path: Path) -> None:
    labels = dataset(("naevus", "wart"), {1: 30, 2: 20})
    found = read_coco_results(write(tmp_path / "r.json", [entry(category_id=20), entry(category_id=30)]), labels)
    assert sorted(found[0].labels.tolist()) == [1, 2]


def test_where_there_is_one_class_its_number_does_not_matter(tmp_path: Path) -> None:
    found = read_coco_results(write(tmp_path / "r.json", [entry(category_id=1)]), dataset(categories={1: 0}))
    assert found[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "r.json: is an empty file"),
        ('[{"image_id": 7,', "JSON ends too early"),
        ({"info": {}}, "r.json: is neither a list of COCO results nor a COCO data set"),
        ([3], "r.json: result 0: 3 is not an object"),
        ([entry(image_id=8)], "result 0: image_id 8 is not a photograph of two photographs"),
        ([entry(image_id=8), entry(image_id="x")], "result 0: image_id 8 is not a photograph"),  # none of them is
        ([entry(), entry(image_id=True)], "result 1: image_id True is not a photograph"),
        ([entry(), entry(image_id=None)], "result 1: image_id None is not a photograph"),
        ([entry(score=None)], r"result 0 \(image ISIC_0000001\): score None is not a number from 0 to 1"),
        ([entry(score=1.5)], "score 1.5 is not a number from 0 to 1"),
        ([entry(category_id=1), entry(category_id=5)], "category_id 5 is not a class of the labels; use one of 1"),
        ([entry(category_id=None)], "has no category_id"),
        ([entry(segmentation=None)], "segmentation None is no outline"),
        ([entry(segmentation=[])], r"segmentation \[\] is no outline"),
        ([entry(segmentation=[[1, 2, 3, 4]])], "has 2 points; it needs 3 or more"),
        ([entry(segmentation=[[1, 2, 3]])], "segmentation has 3 coordinates in one ring"),
        ([entry(segmentation=COMPRESSED | {"size": [30, 20]})], r"size \[30, 20\], the photograph \[20, 30\]"),
        ([entry(segmentation=COMPRESSED | {"counts": "0"})], "do not add up to the 600 pixels"),
        ([entry(segmentation=COMPRESSED | {"counts": "~~é"})], "are not COCO's compressed run lengths"),
        (
            [entry(segmentation=COMPRESSED | {"counts": [600, 1]})],
            r"counts \[600, 1\] do not add up to the photograph's 600 pixels",
        ),
        ([entry(segmentation=COMPRESSED | {"counts": [601, -1]})], r"counts \[601, -1\] do not add up"),
        ([entry(segmentation=COMPRESSED | {"counts": []})], r"counts \[\] do not add up"),
        ([entry(bbox=[1, 2, 3])], r"bbox \[1, 2, 3\] is not \[x, y, width, height\]"),
        ([entry(bbox=[1, 2, -3, 4])], r"bbox \[1, 2, -3, 4\] is not \[x, y, width, height\]"),
        ({"images": [], "annotations": [entry()]}, r"image_id 7 \(not among its images\) is not a photograph"),
    ],
)
def test_what_is_wrong_is_named(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=message):
        read_coco_results(write(tmp_path / "r.json", content), dataset())


def test_results_of_further_photographs_are_left_out_and_counted(tmp_path: Path) -> None:
    entries = [entry(image_id=8, segmentation=None), entry(), entry(image_id="elsewhere", category_id=4)]
    notes: list[str] = []
    path = write(tmp_path / "r.json", entries)
    found = read_coco_results(path, dataset(("naevus", "wart")), note=notes.append)
    assert [len(one) for one in found] == [1, 0]
    assert notes == [f"{path}: left out 2 detections in photographs that are not of two photographs"]


def labels_file(*names: str) -> dict[str, Any]:
    """A data set with a lesion in each photograph, the last one excepted."""
    return {
        "images": [{"id": number, "file_name": f"{name}.jpg"} for number, name in enumerate(names)],
        "categories": [{"id": 4, "name": "lesion"}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 4, "segmentation": [RING]}
            for number in range(len(names) - 1)
        ],
    }


def test_labels_of_a_whole_data_set_are_read_for_a_part_of_it(tmp_path: Path) -> None:
    notes: list[str] = []
    path = write(tmp_path / "labels.json", labels_file("ISIC_0000001", "ISIC_0000003", "ISIC_0000002"))
    found = read_coco_results(path, dataset(), note=notes.append)
    assert [len(one) for one in found] == [1, 0]
    assert notes == [f"{path}: left out 1 detection in photographs that are not of two photographs"]


def test_labels_that_show_a_photograph_without_a_lesion_are_about_it(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.json", labels_file("ISIC_0000003", "ISIC_0000002"))
    assert [len(one) for one in read_coco_results(path, dataset())] == [0, 0]
    path = write(tmp_path / "labels.json", labels_file("ISIC_0000003", "ISIC_0000004"))
    with pytest.raises(LabelError, match=r"image_id 0 \(ISIC_0000003\.jpg\) is not a photograph of two photographs"):
        read_coco_results(path, dataset())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"r\.json: no such file"):
        read_coco_results(tmp_path / "r.json", dataset())
