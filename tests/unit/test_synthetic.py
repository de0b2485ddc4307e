"""Drawn scenes: the same seed gives the same scene, and outlines are where the pigment is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dermask import images, masks
from dermask.data.coco import read_coco
from dermask.data.scene_artifacts import draw_bubbles, draw_hair, draw_ink, draw_ruler
from dermask.data.scene_camera import darken_corners, lay_sticker
from dermask.data.scene_texture import cell_net, smooth_noise, smooth_step
from dermask.data.synthetic import (
    MAX_LESIONS,
    SceneSettings,
    draw_scene,
    scene_id,
    synthetic_dataset,
    write_sheet,
    write_synthetic,
)
from dermask.errors import OutputExistsError, SettingError
from dermask.records import BoolArray, ImageSize

SMALL = ImageSize(96, 112)
BARE = SceneSettings(
    hair=0, ruler=0, bubbles=0, ink=0, patch=0, aperture=0, corners=0, freckles=0, pores=0, vessels=0
)  # fmt: skip
CROWDED = SceneSettings(
    hair=1, ruler=1, bubbles=1, ink=1, patch=1, aperture=1, corners=1, freckles=1, pores=1, vessels=1
)  # fmt: skip


def is_one_piece(mask: BoolArray) -> bool:
    picture = Image.fromarray(np.pad(mask, 1).astype(np.uint8) * 255).copy()
    rows, columns = np.nonzero(np.pad(mask, 1))
    start = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    ImageDraw.floodfill(picture, (int(columns[start]), int(rows[start])), 100)
    # A corner that hangs on by a diagonal is not an island.
    return int((np.asarray(picture) == 255).sum()) <= 0.01 * mask.sum()


@pytest.mark.parametrize("scenes", [BARE, SceneSettings(), CROWDED], ids=["bare", "usual", "crowded"])
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**64),
    height=st.integers(32, 120),
    width=st.integers(32, 120),
    count=st.integers(0, MAX_LESIONS) | st.none(),
)
def test_every_scene_keeps_its_promises(
    scenes: SceneSettings, seed: int, height: int, width: int, count: int | None
) -> None:
    scene = draw_scene(seed, ImageSize(height, width), num_lesions=count, settings=scenes)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    assert scene.masks.shape == (len(scene.labels), height, width)
    assert scene.masks.dtype == np.bool_
    assert scene.labels.dtype == np.int64
    assert set(scene.labels.tolist()) <= {1}
    assert len(scene.labels) == count or (count is None and len(scene.labels) <= MAX_LESIONS)
    assert scene.masks.sum(axis=0).max(initial=0) <= 1, "lesions overlap"
    assert scene.masks.any(axis=(1, 2)).all(), "a lesion without a pixel"


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), count=st.integers(1, MAX_LESIONS))
def test_lesions_are_one_piece_of_the_promised_area(seed: int, count: int) -> None:
    for mask in draw_scene(seed, SMALL, num_lesions=count, settings=BARE).masks:
        assert 0.025 <= mask.mean() <= 0.62  # 3% to 60% of the frame, give or take the pixels of the border
        assert is_one_piece(mask)


@pytest.mark.parametrize("count", range(MAX_LESIONS + 1))
def test_every_number_of_lesions_can_be_asked_for(count: int) -> None:
    assert len(draw_scene(11, SMALL, num_lesions=count).masks) == count


def test_the_usual_mix_holds_every_number_of_lesions() -> None:
    counts = {len(draw_scene(seed, ImageSize(32, 32)).masks) for seed in range(80)}
    assert counts == {0, 1, 2, 3, 4}


def test_the_same_seed_draws_the_same_scene() -> None:
    first, again, other = (draw_scene(seed, SMALL) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert (first.image != other.image).any()


@pytest.mark.parametrize("seed", range(8))
def test_the_mask_is_where_the_picture_changes(seed: int) -> None:
    """The same seed without lesions draws the same skin, so the difference of the two pictures is the lesions."""
    with_lesions = draw_scene(seed, ImageSize(128, 128), num_lesions=2, settings=BARE)
    without = draw_scene(seed, ImageSize(128, 128), num_lesions=0, settings=BARE)
    change = np.abs(with_lesions.image.astype(int) - without.image.astype(int)).sum(axis=2)
    truth = with_lesions.masks.any(axis=0)
    inside = np.median(change[truth])
    assert inside > 20
    changed = change > 0.35 * inside
    assert (changed & truth).sum() / (changed | truth).sum() > 0.75
    assert np.median(change[~truth]) < 0.1 * inside


def test_what_hides_skin_belongs_to_no_lesion() -> None:
    tube = SceneSettings(lesion_counts=(0, 1), areas=(0.55, 0.6), aperture=1, hair=0)
    scene = draw_scene(3, SMALL, settings=tube)
    black = scene.image.max(axis=2) < 12
    corners = np.zeros(SMALL, dtype=bool)
    corners[:6, :6] = corners[-6:, -6:] = True
    assert black[corners].all()
    assert not (scene.masks & corners).any()


GOLDEN_COLOUR = (168.67, 117.31, 120.7)
GOLDEN_AREAS = (5322, 1289)


def test_golden_scene() -> None:
    """Renew by printing the same numbers; tolerances leave room for another machine's rounding."""
    scene = draw_scene(0, ImageSize(160, 200), num_lesions=2)
    np.testing.assert_allclose(scene.image.mean(axis=(0, 1)), GOLDEN_COLOUR, atol=0.5)
    np.testing.assert_allclose(scene.masks.sum(axis=(1, 2)), GOLDEN_AREAS, rtol=0.005)


def test_a_larger_data_set_begins_with_the_smaller_one() -> None:
    few, more = (synthetic_dataset(count, seed=4, size=SMALL) for count in (2, 3))
    assert [sample.image_id for sample in more][:2] == [sample.image_id for sample in few]
    for index in range(2):
        np.testing.assert_array_equal(few.load(index).image, more.load(index).image)
        np.testing.assert_array_equal(few.load(index).masks, more.load(index).masks)
    other = synthetic_dataset(1, seed=5, size=SMALL)
    assert (other.load(0).image != few.load(0).image).any()
    assert len(synthetic_dataset(0, seed=4, size=SMALL)) == 0


def test_written_scenes_are_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    drawn = synthetic_dataset(4, seed=2, size=SMALL)
    read = read_coco(write_synthetic(folder, 4, 2, SMALL))
    assert len(read) == 4
    for index, sample in enumerate(drawn):
        loaded, original = read.load(index), drawn.load(index)
        assert loaded.masks.shape == original.masks.shape
        for mask, exact in zip(loaded.masks, original.masks, strict=True):
            assert (mask & exact).sum() >= 0.98 * (mask | exact).sum()  # COCO polygons are kept from IoU 0.99
        assert np.abs(loaded.image.astype(int) - original.image).mean() < 4  # JPEG
        union = images.decode_mask(folder / "masks" / f"{sample.image_id}_segmentation.png")
        np.testing.assert_array_equal(union, np.logical_or.reduce(original.masks))
        assert masks.mask_boxes(loaded.masks).shape == (len(loaded.labels), 4)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="not an empty folder"):
        write_synthetic(tmp_path, 1, 0, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_progress_is_told_scene_by_scene(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    synthetic_dataset(2, size=SMALL, on_scene=lambda done, total: heard.append((done, total)))
    write_synthetic(tmp_path, 3, 0, SMALL, on_scene=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]


def test_drawing_that_is_stopped_leaves_whole_files(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic(tmp_path, 3, 0, SMALL, on_scene=stop)
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    ids = [scene_id(0, index) for index in range(2)]
    assert names == {f"{name}.jpg" for name in ids} | {f"{name}_segmentation.png" for name in ids}
    for path in tmp_path.glob("*/*"):
        assert images.read_image(path).shape == (*SMALL, 3)


def test_the_sheet_is_a_webp_of_all_scenes(tmp_path: Path) -> None:
    write_sheet(tmp_path / "sheet.webp", rows=2, columns=3, side=32)
    assert images.read_image(tmp_path / "sheet.webp").shape == (2 * 38 + 6, 3 * 38 + 6, 3)


@pytest.mark.parametrize("draw", [draw_hair, draw_ruler, draw_bubbles, draw_ink])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (96, 96), (900, 40)])
def test_drawing_gives_a_new_photograph_of_the_same_size(draw, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    image = np.full((*size, 3), 190, dtype=np.uint8)
    image.setflags(write=False)
    drawn = draw(image, np.random.default_rng(1))
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert drawn.flags.writeable
    assert (image == 190).all()
    np.testing.assert_array_equal(drawn, draw(image, np.random.default_rng(1)))


@pytest.mark.parametrize("draw", [draw_hair, draw_ruler])
def test_hair_and_rulers_leave_most_of_the_photograph(draw) -> None:  # type: ignore[no-untyped-def]
    image = np.full((200, 200, 3), 190, dtype=np.uint8)
    for seed in range(20):
        changed = (draw(image, np.random.default_rng(seed)) != image).any(axis=2).mean()
        assert 0 <= changed < 0.5


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (96, 96), (900, 40)])
def test_a_sticker_covers_only_what_it_may(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 190, dtype=np.uint8)
    image.setflags(write=False)
    everything, nothing = np.ones(size, np.bool_), np.zeros(size, np.bool_)
    np.testing.assert_array_equal(lay_sticker(image, everything, np.random.default_rng(1)), image)
    shares = []
    for seed in range(30):
        drawn = lay_sticker(image, nothing, np.random.default_rng(seed))
        assert drawn.shape == image.shape
        assert drawn.dtype == np.uint8
        np.testing.assert_array_equal(drawn, lay_sticker(image, nothing, np.random.default_rng(seed)))
        shares.append((drawn != image).any(axis=2).mean())
    assert max(shares) > (0.9 if size[0] == size[1] else 0.01)


@pytest.mark.parametrize(("share", "off_centre", "lit"), [(0.6, (0, 0), (32, 48)), (0.4, (0.3, -0.4), (50, 20))])
def test_corners_are_dark_and_the_circle_keeps_its_light(share, off_centre, lit) -> None:  # type: ignore[no-untyped-def]
    image = np.full((64, 96, 3), 190, dtype=np.uint8)
    drawn = darken_corners(image, share, off_centre=off_centre)
    assert (image == 190).all()
    assert (drawn[lit] == 190).all()
    assert (drawn[0, -1] < 10).all()
    half = np.hypot(64, 96) / 2
    area = np.pi * (share * half) ** 2
    assert (drawn[..., 0] > 100).sum() <= 1.02 * area
    assert (darken_corners(image, 2.0) == 190).all()


def test_the_number_of_hairs_can_be_asked_for() -> None:
    image = np.full((100, 100, 3), 190, dtype=np.uint8)
    np.testing.assert_array_equal(draw_hair(image, np.random.default_rng(0), count=0), image)
    few, many = ((draw_hair(image, np.random.default_rng(0), count=n) != image).sum() for n in (2, 40))
    assert 0 < few < many


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hair": 1.5}, "hair: 1.5 is not a probability"),
        ({"lesion_counts": (0.5, 0.2)}, "sum to 1"),
        ({"areas": (0.5, 0.2)}, "from small to large"),
        ({"tones": (0.0, 9.0)}, "from light to dark"),
    ],
    ids=["probability", "counts", "areas", "tones"],
)
def test_settings_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        SceneSettings(**values)  # type: ignore[arg-type]


def test_impossible_scenes_are_refused() -> None:
    with pytest.raises(SettingError, match="20x96 is under 32 pixels"):
        draw_scene(0, ImageSize(96, 20))
    with pytest.raises(SettingError, match="5 is not from 0 to 4"):
        draw_scene(0, SMALL, num_lesions=5)
    with pytest.raises(SettingError, match="-1 is negative"):
        draw_scene(-1, SMALL)
    with pytest.raises(SettingError, match="-1 is negative"):
        synthetic_dataset(1, seed=-1, size=SMALL)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(1, 90))
def test_textures_fill_any_size(height: int, width: int, cell: float) -> None:
    size = ImageSize(height, width)
    hills = smooth_noise(np.random.default_rng(0), size, cell)
    net = cell_net(np.random.default_rng(0), size, max(3.0, cell))
    for field in (hills, net, smooth_step(hills, 1.0, -1.0)):
        assert field.shape == size
        assert field.dtype == np.float32
        assert np.isfinite(field).all()
    assert net.min() >= 0
    assert net.max() <= 1


def test_a_soft_step_can_be_turned_round() -> None:
    field = np.linspace(-1, 2, 31, dtype=np.float32)[None]
    np.testing.assert_allclose(smooth_step(field, 0.0, 1.0) + smooth_step(field, 1.0, 0.0), 1.0, atol=1e-6)
