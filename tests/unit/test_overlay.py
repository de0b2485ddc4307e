"""Overlays: the outline lies where the mask's border is, nothing hides the lesion, any photograph will do."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dermask import masks
from dermask.inference.contact_sheet import contact_sheet, outlined_tile, spread
from dermask.inference.overlay import (
    CLASS_COLOURS,
    TRUTH_COLOUR,
    draw_overlay,
    mask_rings,
    scale_detections,
)
from dermask.records import ByteArray, Detections, FloatArray, ImageSize

SIZE = ImageSize(120, 160)


def blob(resolution: int = 28) -> FloatArray:
    centre = (resolution - 1) / 2
    rows, columns = np.mgrid[:resolution, :resolution]
    distance = np.hypot(rows - centre, columns - centre) / resolution
    return (1 / (1 + np.exp((distance - 0.4) * 30))).astype(np.float32)


def detections(*boxes: tuple[float, ...], size: ImageSize = SIZE, labels: tuple[int, ...] = ()) -> Detections:
    count = len(boxes)
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.linspace(0.9, 0.6, count).astype(np.float32),
        labels=np.array(labels or [1] * count, np.int64),
        mask_probs=np.stack([blob()] * count) if count else np.zeros((0, 28, 28), np.float32),
        size=size,
        class_names=("lesion", "scar"),
    )


def skin(size: ImageSize = SIZE, tone: int = 150) -> ByteArray:
    return np.full((*size, 3), tone, np.uint8)


def near(image: ByteArray, colour: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    return (np.abs(image.astype(int) - colour) < tolerance).all(axis=2)


def test_nothing_found_leaves_the_photograph_as_it_is():
    image = skin()
    drawn = draw_overlay(image, Detections.empty(SIZE))
    assert np.array_equal(drawn, image)
    assert drawn is not image


def test_the_photograph_itself_is_not_changed():
    image = skin()
    draw_overlay(image, detections((40, 30, 120, 90)))
    assert np.array_equal(image, skin())


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((40, 30, 120, 90), id="inside"),
        pytest.param((40.3, 30.8, 101.7, 77.2), id="between pixels"),
        pytest.param((0, 0, 160, 120), id="the whole photograph"),
        pytest.param((100, 80, 160, 120), id="at the corner"),
        pytest.param((50, 50, 53, 52), id="three pixels wide"),
    ],
)
def test_the_outline_encloses_what_pasting_gives(box):
    drawing = Image.new("1", (SIZE.width * 8, SIZE.height * 8))
    for ring in mask_rings(np.array(box, np.float32), blob()):
        ImageDraw.Draw(drawing).polygon([(x * 8, y * 8) for x, y in ring.tolist()], fill=1)
    outlined = np.asarray(drawing).reshape(SIZE.height, 8, SIZE.width, 8).mean(axis=(1, 3))
    pasted = masks.paste_masks(np.array([box], np.float32), blob()[None], SIZE)[0]
    # A pixel belongs to the pasted mask if its centre is inside: the two differ only in pixels on the border.
    assert pasted[outlined > 0.99].all()
    assert not pasted[outlined < 0.01].any()


def test_a_full_mask_is_outlined_along_its_box():
    [ring] = mask_rings(np.array([10, 20, 50, 40], np.float32), np.ones((14, 14), np.float32))
    assert ring.min(axis=0) == pytest.approx([10, 20], abs=1e-6)
    assert ring.max(axis=0) == pytest.approx([50, 40], abs=1e-6)


def test_a_hole_gets_its_own_ring():
    probs = np.ones((28, 28), np.float32)
    probs[10:18, 10:18] = 0
    assert len(mask_rings(np.array([0, 0, 56, 56], np.float32), probs)) == 2


def test_a_mask_below_the_threshold_has_no_outline():
    assert mask_rings(np.array([0, 0, 9, 9], np.float32), np.full((28, 28), 0.2, np.float32)) == []


@pytest.mark.parametrize("tone", [pytest.param(35, id="dark skin"), pytest.param(235, id="light skin")])
def test_the_line_is_bright_within_a_dark_casing_on_any_skin(tone):
    drawn = draw_overlay(skin(tone=tone), detections((40, 30, 120, 90)), show_labels=False)
    luma = drawn @ np.array([0.299, 0.587, 0.114])
    row = luma[60, 30:60]  # crosses the left border
    assert row.max() - row.min() > 110
    assert near(drawn, CLASS_COLOURS[0]).any()


def test_nothing_is_drawn_on_the_lesion_itself():
    drawn = draw_overlay(skin(), detections((40, 30, 120, 90)))
    assert (drawn[45:75, 60:100] == 150).all()


def test_labels_avoid_lesions_and_each_other():
    found = detections((5, 30, 75, 110), (85, 30, 155, 110))
    plain, labelled = (draw_overlay(skin(), found, show_labels=show) for show in (False, True))
    changed = (plain != labelled).any(axis=2)
    covered = masks.paste_masks(found.boxes, found.mask_probs, SIZE).any(axis=0)
    assert changed.any()
    assert not (changed & covered).any()


def test_a_lesion_that_fills_the_frame_still_gets_its_label():
    found = detections((0, 0, 160, 120))
    assert not np.array_equal(draw_overlay(skin(), found), draw_overlay(skin(), found, show_labels=False))


def test_classes_have_their_own_colours():
    drawn = draw_overlay(skin(), detections((5, 30, 75, 110), (85, 30, 155, 110), labels=(1, 2)), show_labels=False)
    assert near(drawn[:, :80], CLASS_COLOURS[0]).any()
    assert near(drawn[:, 80:], CLASS_COLOURS[1]).any()
    assert not near(drawn[:, :80], CLASS_COLOURS[1]).any()


def test_truth_and_prediction_both_show_where_they_agree():
    size = ImageSize(480, 640)
    found = detections((160, 120, 480, 360), size=size)
    truth = masks.paste_masks(found.boxes, found.mask_probs, size)
    drawn = draw_overlay(skin(size), found, truth, show_labels=False)
    assert near(drawn, TRUTH_COLOUR).sum() > 20
    assert near(drawn, CLASS_COLOURS[0]).sum() > 20


def test_truth_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"truth has shape \(1, 10, 10\) for an image of 120 x 160 pixels"):
        draw_overlay(skin(), Detections.empty(SIZE), np.zeros((1, 10, 10), np.bool_))


def test_a_copy_of_another_size_gets_the_same_outline():
    found = detections((40, 30, 120, 90))
    assert np.allclose(scale_detections(found, ImageSize(60, 80)).boxes, [[20, 15, 60, 45]])
    small = draw_overlay(skin(ImageSize(60, 80)), found, show_labels=False)
    assert near(small, CLASS_COLOURS[0]).any()


def test_lines_grow_with_the_photograph():
    counts = []
    for factor in (8, 16):
        size = ImageSize(SIZE.height * factor, SIZE.width * factor)
        drawn = draw_overlay(skin(size), scale_detections(detections((40, 30, 120, 90)), size), show_labels=False)
        counts.append(near(drawn, CLASS_COLOURS[0]).mean())
    assert counts[1] == pytest.approx(counts[0], rel=0.35)  # the same share of the picture


@pytest.mark.parametrize(
    ("count", "wanted", "expected"),
    [(1, 6, [0]), (3, 6, [0, 1, 2]), (10, 2, [0, 9]), (100, 3, [0, 50, 99])],
)
def test_a_sheet_spreads_over_the_data_set(count, wanted, expected):
    assert list(spread(count, wanted)) == expected


def test_a_sheet_holds_its_tiles():
    tiles = [outlined_tile(skin(), masks.paste_masks(*pasted()), f"photo {n} " * 9, side=64) for n in range(5)]
    sheet = contact_sheet(tiles, columns=3, side=64)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] == 3 * (64 + 8) + 8
    assert near(sheet, TRUTH_COLOUR, 60).any()


def pasted() -> tuple[FloatArray, FloatArray, ImageSize]:
    found = detections((40, 30, 120, 90))
    return found.boxes, found.mask_probs, SIZE
