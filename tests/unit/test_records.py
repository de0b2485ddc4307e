from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dermask.records import Detections, ImageSize, Sample

SIZE = ImageSize(height=40, width=60)


def detections(count: int = 3) -> Detections:
    return Detections(
        boxes=np.arange(count * 4, dtype=np.float32).reshape(count, 4),
        scores=np.linspace(0.9, 0.1, count, dtype=np.float32),
        labels=np.arange(count, dtype=np.int64) % 2 + 1,
        mask_probs=np.zeros((count, 7, 7), np.float32),
        size=SIZE,
        class_names=("lesion", "scar"),
        image_id="a",
        source_id=12,
    )


def test_empty_detections_are_ordinary() -> None:
    empty = Detections.empty(SIZE, image_id="a", resolution=14)
    assert len(empty) == 0
    assert list(empty) == []
    assert empty.boxes.shape == (0, 4)
    assert empty.mask_probs.shape == (0, 14, 14)
    assert len(empty.above(0.5)) == 0
    assert len(empty.select(np.zeros(0, np.bool_))) == 0


def test_iteration_names_the_class_of_each_lesion() -> None:
    lesions = list(detections(3))
    assert [lesion.class_name for lesion in lesions] == ["lesion", "scar", "lesion"]
    assert [type(lesions[0].score), type(lesions[0].label)] == [float, int]
    np.testing.assert_array_equal(lesions[1].box, [4, 5, 6, 7])


@pytest.mark.parametrize("keep", [np.array([2, 0]), np.array([True, False, True])])
def test_select_by_index_keeps_the_order_and_by_mask_the_original_one(keep: np.ndarray) -> None:
    chosen = detections(3).select(keep)
    expected = [2, 0] if keep.dtype != np.bool_ else [0, 2]
    np.testing.assert_array_equal(chosen.boxes[:, 0], np.array(expected) * 4)
    assert (chosen.image_id, chosen.source_id, chosen.size) == ("a", 12, SIZE)


def test_above_includes_the_threshold() -> None:
    assert len(detections(3).above(0.5)) == 2  # scores 0.9, 0.5, 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("boxes", np.zeros((2, 4), np.float32)),
        ("boxes", np.zeros((3, 5), np.float32)),
        ("labels", np.zeros(4, np.int64)),
        ("mask_probs", np.zeros((2, 7, 7), np.float32)),
        ("mask_probs", np.zeros((3, 7, 8), np.float32)),
        ("mask_probs", np.zeros((3, 7), np.float32)),
    ],
)
def test_shapes_that_do_not_fit_are_named(name: str, value: np.ndarray) -> None:
    with pytest.raises(ValueError, match=rf"Detections\.{name} has shape .* for 3 scores"):
        dataclasses.replace(detections(3), **{name: value})


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        detections().image_id = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sample("a", np.zeros((1, 1, 3), np.uint8)).image_id = "b"  # type: ignore[misc]
