"""Masks of any program as predictions: found by name, binary above 128, never resized; one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermask import masks
from dermask.data.dataset import Dataset
from dermask.errors import ImageError, InputError
from dermask.evaluation.mask_folder import MaskFolder, holds_masks, list_masks, open_mask_folder
from dermask.images import encode_png
from dermask.records import ImageSize, Sample

SIZE = ImageSize(20, 30)
MASK = np.zeros(SIZE, np.uint8)
MASK[4:12, 5:17] = 255
PNG = encode_png(MASK)
IDS = ("ISIC_0000001", "ISIC_0000002")


def dataset(*image_ids: str, size: ImageSize = SIZE, class_names: tuple[str, ...] = ("lesion",)) -> Dataset:
    samples = [Sample(image_id, np.zeros((*size, 3), np.uint8), size) for image_id in image_ids]
    return Dataset(samples, class_names, "test photographs")


def write(folder: Path, *names: str, pixels: np.ndarray = MASK) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    return folder


def names_of(found: MaskFolder) -> list[str]:
    return [path.name for path in found.files]


def test_a_data_set_without_photographs_has_no_predictions(tmp_path: Path) -> None:
    found = open_mask_folder(write(tmp_path, "ISIC_0000001.png"), dataset())
    assert len(found) == 0
    assert list(found) == []


@pytest.mark.parametrize(
    "name",
    [
        "ISIC_0000001_segmentation.png",
        "ISIC_0000001_Segmentation.png",
        "ISIC_0000001.png",
        "isic_0000001.PNG",
        "ISIC_0000001_mask.png",
        "ISIC_0000001_pred.png",
        "ISIC_0000001-output.bmp",
        "ISIC_0000001.seg.tif",
        "pred_ISIC_0000001.png",
        "unet-fold 3 ISIC_0000001 final.png",
        "0000001.png",
        "mask0000001x.png",
    ],
)
def test_a_mask_is_found_by_the_id_in_its_name(name: str, tmp_path: Path) -> None:
    write(tmp_path, name, "ISIC_0000002_segmentation.png")
    assert names_of(open_mask_folder(tmp_path, dataset(*IDS))) == [name, "ISIC_0000002_segmentation.png"]


def test_an_id_that_begins_like_another_gets_its_own_mask(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "a_1.png", "a_10_mask.png", "ab.png")
    found = open_mask_folder(tmp_path, dataset("a_1", "a", "a_10", "ab"))
    assert names_of(found) == ["a_1.png", "a.png", "a_10_mask.png", "ab.png"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.from_regex(r"[a-c](_?[a-c0-1]){0,3}", fullmatch=True), min_size=1, max_size=6, unique=True))
def test_masks_that_are_called_as_their_photographs_are_always_found(tmp_path_factory, image_ids: list[str]) -> None:
    folder = tmp_path_factory.mktemp("masks")
    for image_id in image_ids:
        (folder / f"{image_id}.png").write_bytes(PNG)
    assert names_of(open_mask_folder(folder, dataset(*image_ids))) == [f"{image_id}.png" for image_id in image_ids]


def test_a_longer_number_is_another_photograph(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no mask for 1 of 2 photographs of test photographs, the first ISIC_0000"):
        open_mask_folder(write(tmp_path, "ISIC_00000010.png", "ISIC_0000002.png"), dataset(*IDS))


def test_other_files_are_left_out_and_other_masks_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "ISIC_0000001.png", "ISIC_0000001_superpixels.png", ".ISIC_0000001.png", "ISIC_0000009.png")
    (tmp_path / "ATTRIBUTION.txt").write_text("CC-0")
    (tmp_path / "ISIC_0000001.jpg").mkdir()
    lines: list[str] = []
    found = open_mask_folder(tmp_path, dataset("ISIC_0000001"), note=lines.append)
    assert names_of(found) == ["ISIC_0000001.png"]
    assert found.left_out == 1
    assert lines == [f"{tmp_path}: left out 1 image that is of no photograph of test photographs"]


def test_what_predict_writes_is_found_below(tmp_path: Path) -> None:
    write(tmp_path, "masks/ISIC_0000001_segmentation.png", "overlays/ISIC_0000001_overlay.png")
    found = open_mask_folder(tmp_path, dataset("ISIC_0000001"))
    assert found.folder == tmp_path / "masks"
    assert holds_masks(tmp_path)
    (tmp_path / "none" / "masks").mkdir(parents=True)
    assert not holds_masks(tmp_path / "none")


def test_one_mask_is_one_detection_with_score_1_and_an_empty_mask_none(tmp_path: Path) -> None:
    write(tmp_path, "ISIC_0000001.png")
    write(tmp_path, "ISIC_0000002.png", pixels=np.zeros(SIZE, np.uint8))
    one, none = open_mask_folder(tmp_path, dataset(*IDS))
    np.testing.assert_array_equal(masks.rle_to_bitmask(one.masks[0]), MASK > 0)
    assert one.boxes.tolist() == [[5, 4, 17, 12]]
    assert one.scores.tolist() == [1]
    assert one.labels.tolist() == [1]
    assert (one.image_id, one.size) == ("ISIC_0000001", SIZE)
    assert (len(none), none.masks, none.boxes.shape, none.image_id) == (0, (), (0, 4), "ISIC_0000002")


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16"])
def test_every_form_of_the_same_grey_is_the_same_mask(mode: str, tmp_path: Path) -> None:
    if mode == "I;16":
        Image.fromarray(MASK.astype(np.uint16) * 257).save(tmp_path / "a.png")
    else:
        Image.fromarray(MASK).convert(mode).save(tmp_path / "a.png")
    [found] = open_mask_folder(tmp_path, dataset("a"))
    np.testing.assert_array_equal(masks.rle_to_bitmask(found.masks[0]), MASK > 0)


def test_lesion_is_above_128(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    lines: list[str] = []
    folder = open_mask_folder(
        write(tmp_path, "a.png", pixels=levels), dataset("a", size=ImageSize(16, 16)), note=lines.append
    )
    [found] = folder
    np.testing.assert_array_equal(masks.rle_to_bitmask(found.masks[0]), levels >= 129)
    assert lines == [
        f"{tmp_path}: 1 mask with more than two grey levels, the first a.png: taken as a map of probabilities, lesion "
        "above 128"
    ]


@pytest.mark.parametrize("level", [1, 128])
def test_a_mask_saved_too_dark_is_empty_and_told(level: int, tmp_path: Path) -> None:
    lines: list[str] = []
    write(tmp_path, "a.png", "b.png", pixels=(MASK > 0) * np.uint8(level))
    found = list(open_mask_folder(tmp_path, dataset("a", "b"), note=lines.append))
    assert [len(one) for one in found] == [0, 0]
    [line] = lines
    assert "2 masks with no level above 128 and yet not black, the first a.png: nothing found there" in line
    assert line.endswith("save lesion as 255")


@pytest.mark.parametrize("levels", [(0, 255), (0, 129), (0,), (255,)])
def test_two_levels_or_fewer_need_no_word(levels: tuple[int, ...], tmp_path: Path) -> None:
    pixels = np.resize(np.array(levels, np.uint8), SIZE)
    lines: list[str] = []
    [found] = open_mask_folder(write(tmp_path, "a.png", pixels=pixels), dataset("a"), note=lines.append)
    assert len(found) == int(max(levels) > 128)
    assert lines == []


@pytest.mark.parametrize("as_palette", [False, True])
def test_colours_are_refused(as_palette: bool, tmp_path: Path) -> None:
    picture = Image.fromarray(np.stack([MASK, MASK * 0, MASK * 0], axis=-1))
    (picture.convert("P", palette=Image.Palette.ADAPTIVE) if as_palette else picture).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png: is a picture in colours, not a mask; save one channel, 255 for le"):
        list(open_mask_folder(tmp_path, dataset("a")))


def test_a_large_mask_equals_the_small_one_repeated(tmp_path: Path) -> None:
    large = np.tile(MASK, (40, 3))  # more rows than are looked at together
    folder = write(tmp_path, "a.png", pixels=large // 255 * 200)
    [found] = open_mask_folder(folder, dataset("a", size=ImageSize(800, 90)))
    np.testing.assert_array_equal(masks.rle_to_bitmask(found.masks[0]), large > 0)


def test_no_images_at_all_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("masks follow")
    with pytest.raises(InputError, match=r"holds no mask images; put ID_segmentation\.png there, one for each"):
        open_mask_folder(tmp_path, dataset(*IDS))


def test_masks_of_other_photographs_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"none of its 2 images is called after a photograph of test photographs; name them as ISIC_0000001_seg",
    ):
        open_mask_folder(write(tmp_path, "a.png", "b.png"), dataset(*IDS))


def test_all_missing_masks_are_counted_and_the_first_named(tmp_path: Path) -> None:
    image_ids = [f"ISIC_{number:07d}" for number in range(5)]
    with pytest.raises(InputError) as caught:
        open_mask_folder(write(tmp_path, "ISIC_0000000.png", "ISIC_0000003.png"), dataset(*image_ids))
    assert str(caught.value) == (
        f"{tmp_path}: has no mask for 3 of 5 photographs of test photographs, the first ISIC_0000001; "
        "add them, all black where nothing was found"
    )


def test_two_masks_for_one_photograph_are_both_named(tmp_path: Path) -> None:
    write(tmp_path, "ISIC_0000001.png", "ISIC_0000001_mask.png", "ISIC_0000002.png")
    message = r"has two masks for ISIC_0000001, ISIC_0000001\.png and ISIC_0000001_mask\.png; remove one"
    with pytest.raises(InputError, match=message):
        open_mask_folder(tmp_path, dataset(*IDS))


def test_a_name_that_means_two_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is called after two photographs, ISIC_0000001 and ISIC_0000002; rename it"):
        open_mask_folder(write(tmp_path, "of ISIC_0000001 and ISIC_0000002.png"), dataset(*IDS))


def test_another_size_is_one_line_with_the_number_of_further_ones(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    write(tmp_path, "b.png", "c.png", pixels=np.zeros((10, 15), np.uint8))
    with pytest.raises(InputError) as caught:
        open_mask_folder(tmp_path, dataset("a", "b", "c"))
    assert str(caught.value) == (
        f"{tmp_path / 'b.png'}: is 15 x 10 pixels, the photograph 30 x 20, and 1 more differs; "
        "save masks at the photograph's own size; nothing is resized here"
    )


def test_a_mask_of_a_photograph_that_lies_on_its_side_says_so(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    labels = Dataset([Sample("a", tmp_path / "a.jpg")])
    with pytest.raises(InputError, match="is 30 x 20 pixels, the photograph 20 x 30; turn the mask as the photograph"):
        open_mask_folder(write(tmp_path / "theirs", "a.png"), labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.png: is empty \(0 bytes\)"),
        (b"GIF89a", r"a\.png: is a GIF image; convert it"),
        (b"\x89PNG\r\n\x1a\n\0\0", r"a\.png: is a PNG file that is damaged or cut short"),
    ],
)
def test_what_is_no_image_is_named_before_anything_is_judged(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        open_mask_folder(tmp_path, dataset("a"))


def test_a_mask_that_is_cut_short_is_named_when_it_is_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    whole = (write(tmp_path, "a.png", pixels=noise) / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    folder = open_mask_folder(tmp_path, dataset("a"))
    with pytest.raises(ImageError, match=r"a\.png: is a PNG file that is damaged or cut short"):
        list(folder)


def test_masks_know_no_classes(tmp_path: Path) -> None:
    labels = dataset("a", class_names=("naevus", "wart"))
    with pytest.raises(InputError, match="masks do not say a lesion's class, and test photographs has 2; save COCO re"):
        open_mask_folder(write(tmp_path, "a.png"), labels)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: cannot be read: No such file"):
        list_masks(tmp_path / "none")


def test_the_hash_follows_what_counts(tmp_path: Path) -> None:
    labels = dataset(*IDS)
    write(tmp_path, *(f"{image_id}.png" for image_id in IDS))
    before = open_mask_folder(tmp_path, labels).sha256()
    write(tmp_path, "ISIC_0000009.png")
    assert open_mask_folder(tmp_path, labels).sha256() == before
    write(tmp_path, "ISIC_0000002.png", pixels=255 - MASK)
    assert open_mask_folder(tmp_path, labels).sha256() != before
