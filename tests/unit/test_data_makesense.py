import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_examples import (
    FAMILY,
    HEIGHT,
    WIDTH,
    coco_tree,
    square,
    via_tree,
    write_coco_folder,
    write_json,
    write_photograph,
)

from dermask import masks
from dermask.data.coco import read_coco
from dermask.data.dataset import Dataset
from dermask.data.makesense import read_makesense, write_makesense_coco, write_makesense_vgg
from dermask.data.via import read_via
from dermask.data.via_write import write_via
from dermask.errors import InputError, OutputExistsError
from dermask.records import Bitmask, ImageSize, Instance, Polygons, Sample

SIZE = ImageSize(HEIGHT, WIDTH)
NO_IMPORT = "makesense.ai exports VGG JSON and cannot import it: give it a COCO file to go on there"


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return 1.0 if not (a | b).any() else float((a & b).sum() / (a | b).sum())


def ring(*values: float) -> np.ndarray:
    return np.array(values, float).reshape(-1, 2)


def photograph(size: ImageSize = SIZE) -> np.ndarray:
    return np.zeros((*size, 3), np.uint8)


def one(*instances: Instance, **others: Any) -> Dataset:
    return Dataset([Sample("a", photograph(), SIZE, instances)], **others)


def holed() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[3:20, 4:28] = True
    mask[8:14, 10:20] = False
    return mask


class Imported:
    """What makesense.ai makes of a COCO file, by the rules of SkalskiP/make-sense, COCOImporter.ts `applyLabels`.

    Only photographs that were dropped onto the page count; outlines are kept by their bare names.
    """

    def __init__(self, text: str, dropped: list[str]) -> None:
        tree = json.loads(text)
        missing = [key for key in ("images", "annotations", "categories") if key not in tree]
        assert not missing, f"Uploaded file does not contain all required keys: {missing}"
        label_names = {entry["id"]: entry["name"] for entry in tree["categories"]}
        id_of = {entry["file_name"]: entry["id"] for entry in tree["images"]}  # of equal names the last
        name_of = {id_of[name]: name for name in dropped if name in id_of}
        self.labels = [label_names[key] for key in sorted(label_names)]  # Object.values goes by number
        self.polygons: dict[str, list[tuple[str, list[list[float]]]]] = {name: [] for name in dropped}
        for annotation in tree["annotations"]:
            if annotation["image_id"] not in name_of or annotation.get("iscrowd") == 1:
                continue
            label = label_names[annotation["category_id"]]  # one not listed stops the import
            _, _, width, height = annotation["bbox"]  # read where rectangles are labelled
            assert width > 0
            assert height > 0
            assert isinstance(annotation["segmentation"], list), "segmentation.map is not a function"
            for segment in annotation["segmentation"]:
                assert len(segment) >= 6
                assert len(segment) % 2 == 0, "the last pair would have no y"
                points = [segment[k : k + 2] for k in range(0, len(segment), 2)]
                self.polygons[name_of[annotation["image_id"]]].append((label, points))


def imported(path: Path) -> Imported:
    tree = json.loads(path.read_text())
    return Imported(path.read_text(), [entry["file_name"] for entry in tree["images"]])


# What makesense.ai imports


def test_what_is_written_imports_with_every_photograph_class_and_outline(tmp_path):
    dataset = read_coco(write_coco_folder(tmp_path))
    losses = write_makesense_coco(dataset, tmp_path / "out.json")
    assert losses == ("category ids: numbered from 1, as makesense.ai does",)  # 2 and 5 before
    result = imported(tmp_path / "out.json")
    assert result.labels == ["mole", "lesion"]
    assert [label for label, _ in result.polygons["two.png"]] == ["mole", "lesion"]
    assert result.polygons["one.png"] == [("lesion", [[4, 4], [12, 4], [12, 12], [4, 12]])]
    assert result.polygons["none.png"] == []


def test_ids_count_from_1_and_nothing_is_a_crowd_or_run_lengths(tmp_path):
    write_makesense_coco(one(Instance(1, Bitmask(holed()))), tmp_path / "out.json")
    tree = json.loads((tmp_path / "out.json").read_text())
    assert [entry["id"] for key in ("images", "categories", "annotations") for entry in tree[key]] == [1, 1, 1]
    assert tree["annotations"][0]["iscrowd"] == 0
    assert len(tree["annotations"][0]["segmentation"]) == 1


def test_photographs_of_several_folders_get_bare_names_and_that_is_said(tmp_path):
    paths = [write_photograph(tmp_path / folder / f"{folder}.png") for folder in ("left", "right")]
    dataset = Dataset([Sample(path.stem, path) for path in paths])
    losses = write_makesense_coco(dataset, tmp_path / "out.json")
    assert losses[0].startswith("2 folders of photographs: makesense.ai knows bare names only")
    assert list(imported(tmp_path / "out.json").polygons) == ["left.png", "right.png"]


@pytest.mark.parametrize("write", [write_makesense_coco, write_makesense_vgg])
def test_two_photographs_of_one_bare_name_are_refused(tmp_path, write):
    paths = [write_photograph(tmp_path / folder / "x.png") for folder in ("left", "right")]
    dataset = Dataset([Sample(str(path), path) for path in paths])
    with pytest.raises(InputError, match=r"photograph 'x\.png': 'left/x\.png' and 'right/x\.png' have the same bare"):
        write(dataset, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("write", [write_makesense_coco, write_makesense_vgg])
def test_what_rings_cannot_hold_is_said_in_one_line_each(tmp_path, write):
    parts = np.zeros(SIZE, bool)
    parts[2:8, 2:8] = parts[12:20, 16:28] = True
    pinhole = np.zeros(SIZE, bool)
    pinhole[2:22, 2:30] = True
    pinhole[10, 10] = False
    instances = (
        Instance(1, Bitmask(parts)),
        Instance(1, Bitmask(holed())),
        Instance(1, Bitmask(pinhole)),
        Instance(1, Bitmask(parts), is_crowd=True),
    )
    assert write(one(*instances), tmp_path / "out.json")[:4] == (
        "1 crowd region: left out, makesense.ai has none",
        "1 outline of several parts: each part became an object, makesense.ai has one ring an object",
        "1 outline with holes: joined to the ring by a line of no width, makesense.ai has no holes",
        "1 outline with holes below 1% of it: filled, makesense.ai has no holes",
    )
    assert len(read_makesense(tmp_path / "out.json")[0].instances) == 4


def test_specks_of_a_mask_do_not_become_lesions(tmp_path):
    mask = np.zeros((100, 100), bool)
    mask[20:80, 20:80] = True
    mask[5, 5] = mask[90, 7:9] = True
    sample = Sample("a", photograph(ImageSize(100, 100)), None, (Instance(1, Bitmask(mask)),))
    assert write_makesense_coco(Dataset([sample]), tmp_path / "out.json") == (
        "1 outline with specks below 0.5% of it: the specks are left out",
    )
    again = read_makesense(tmp_path / "out.json").load(0)
    assert again.masks.shape[0] == 1
    assert again.masks.sum() == 3600


@pytest.mark.parametrize("write", [write_makesense_coco, write_makesense_vgg, write_via])
def test_a_ring_without_a_pixel_is_not_written_for_it_could_not_be_read(tmp_path, write):
    thin = ring(1.05, 1.05, 1.06, 1.05, 1.05, 1.06)
    polygons = Polygons((ring(*square(3, 3, 9)), thin))
    mask = np.zeros(SIZE, bool)
    mask[2:14, 2:14] = mask[20, 20] = True
    write(one(Instance(1, polygons), Instance(1, Polygons((thin,))), Instance(1, Bitmask(mask))), tmp_path / "out.json")
    again = read_makesense(tmp_path / "out.json").load(0)
    assert again.masks[0].sum() == 81
    assert iou(again.masks[1:].any(axis=0), mask) >= 0.99


def test_many_small_parts_that_matter_all_stay(tmp_path):
    mask = np.zeros((60, 60), bool)
    mask[::6, ::6] = mask[1::6, ::6] = mask[::6, 1::6] = mask[1::6, 1::6] = True  # 100 parts of 4 pixels
    sample = Sample("a", photograph(ImageSize(60, 60)), None, (Instance(1, Bitmask(mask)),))
    write_makesense_coco(Dataset([sample]), tmp_path / "out.json")
    again = read_makesense(tmp_path / "out.json").load(0)
    assert again.masks.shape[0] == 100
    assert iou(again.masks.any(axis=0), mask) >= 0.99


@pytest.mark.parametrize("write", [write_makesense_coco, write_makesense_vgg, write_via])
def test_noise_is_refused_and_the_photograph_named(tmp_path, write):
    mask = np.random.default_rng(0).random((200, 200)) < 0.5
    sample = Sample("a", photograph(ImageSize(200, 200)), None, (Instance(1, Bitmask(mask)),))
    with pytest.raises(InputError, match=r"image a: a mask falls into more pieces .*; correct the mask, or write COCO"):
        write(Dataset([sample]), tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []


def test_a_hole_comes_back_as_a_hole(tmp_path):
    write_makesense_coco(one(Instance(1, Bitmask(holed()))), tmp_path / "out.json")
    again = read_makesense(tmp_path / "out.json")
    assert not isinstance(again[0].instances[0].outline, Polygons)
    assert iou(again.load(0).masks[0], holed()) >= 0.99


def test_an_island_in_a_hole_is_an_object_of_its_own(tmp_path):
    mask = holed()
    mask[10:12, 13:17] = True
    write_makesense_coco(one(Instance(1, Bitmask(mask))), tmp_path / "out.json")
    loaded = read_makesense(tmp_path / "out.json").load(0)
    assert sorted(loaded.masks.sum(axis=(1, 2)).tolist()) == [8, int(holed().sum())]
    np.testing.assert_array_equal(loaded.masks.any(axis=0), mask)


def test_polygons_stay_as_they_are_number_for_number(tmp_path):
    outline = Polygons((ring(1.25, 2.5, 20.75, 3, 11, 18.125),))
    assert write_makesense_coco(one(Instance(1, outline)), tmp_path / "out.json") == ()
    again = read_makesense(tmp_path / "out.json")[0].instances[0].outline
    assert isinstance(again, Polygons)
    np.testing.assert_array_equal(again.parts[0], outline.parts[0])


# The VGG form


def test_the_vgg_form_is_the_one_makesense_exports(tmp_path):
    write_coco_folder(tmp_path)
    dataset = read_via(write_json(tmp_path / "vgg.json", via_tree()))
    losses = write_makesense_vgg(dataset, tmp_path / "out.json")
    assert losses == (NO_IMPORT,)
    tree = json.loads((tmp_path / "out.json").read_text())
    expected = via_tree()
    for name, entry in expected.items():
        entry["size"] = (tmp_path / name).stat().st_size
        entry["base64_img_data"] = ""
    assert tree == expected


def test_the_vgg_form_says_that_it_has_no_list_of_classes(tmp_path):
    outline = Polygons((ring(*square(2, 2, 9)),))
    dataset = one(Instance(2, outline), Instance(3, outline), class_names=("unused", "mole", "lesion"))
    losses = write_makesense_vgg(dataset, tmp_path / "out.json")
    assert losses == (
        "class unused not kept: no outline has it",
        "order of the classes: the file has no list of them, so they are read by name",
        NO_IMPORT,
    )
    assert read_makesense(tmp_path / "out.json").class_names == ("lesion", "mole")


@pytest.mark.parametrize("write", [write_makesense_coco, write_makesense_vgg])
def test_nothing_is_overwritten_silently(tmp_path, write):
    dataset = one()
    write(dataset, tmp_path / "out.json")
    with pytest.raises(OutputExistsError, match=r"out\.json: is there already"):
        write(dataset, tmp_path / "out.json")
    (tmp_path / "out.json").unlink()
    with pytest.raises(OutputExistsError, match=r"a\.png: is there already"):
        write(dataset, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
    write(dataset, tmp_path / "out.json", overwrite=True)
    assert len(read_makesense(tmp_path / "out.json")) == 1


def test_read_makesense_takes_both_exports(tmp_path):
    coco = read_makesense(write_coco_folder(tmp_path))
    vgg = read_makesense(write_json(tmp_path / "vgg.json", via_tree()))
    assert coco.categories == {1: 2, 2: 5}
    assert coco_tree()["images"][0]["id"] == coco[0].source_id
    assert [sample.image_id for sample in coco] == [sample.image_id for sample in vgg]


# Every format of this family: write, then read


@st.composite
def star(draw: st.DrawFn, x: float, y: float, largest: float) -> np.ndarray:
    """A simple ring around (x, y): points at growing angles."""
    count = draw(st.integers(3, 14))
    radii = draw(st.lists(st.floats(0.35, 1.0), min_size=count, max_size=count))
    angles = np.arange(count) * (2 * np.pi / count) + draw(st.floats(0, 1))
    points = largest * np.array(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points + np.array([x, y])


@st.composite
def drawn_outlines(draw: st.DrawFn) -> tuple[Any, ImageSize]:
    """A polygon, several, a mask of several parts, or one with holes."""
    height, width = draw(st.integers(40, 110)), draw(st.integers(60, 150))
    size = ImageSize(height, width)
    left = draw(star(width / 4, height / 2, min(height, width / 2) * 0.45))
    right = draw(star(3 * width / 4, height / 2, min(height, width / 2) * 0.45))
    kind = draw(st.sampled_from(["polygon", "polygons", "mask", "parts", "holes"]))
    if kind == "polygon":
        return Polygons((left,)), size
    if kind == "polygons":
        return Polygons((left, right)), size
    mask = masks.outline_bitmask(Polygons((left,)), size)
    if kind == "parts":
        mask |= masks.outline_bitmask(Polygons((right,)), size)
    if kind == "holes":
        mask = ~np.zeros(size, bool)
        mask[[0, -1]] = mask[:, [0, -1]] = draw(st.booleans())
        mask &= ~masks.outline_bitmask(Polygons((left, right)), size)
    outline = Bitmask(mask) if draw(st.booleans()) else masks.bitmask_to_rle(mask)
    return outline, size


@pytest.mark.parametrize("key", FAMILY)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=drawn_outlines(), second=st.booleans())
def test_write_then_read_keeps_pixels_classes_and_negatives(tmp_path_factory, key, drawn, second):
    write, read = FAMILY[key]
    outline, size = drawn
    folder = tmp_path_factory.mktemp(key)
    instances = [Instance(1, outline)]
    if second:
        instances.append(Instance(2, Polygons((ring(*square(3, 3, 9)),))))
    samples = [Sample("a", photograph(size), size, tuple(instances)), Sample("none", photograph(size), size)]
    names = ("lesion", "mole") if second else ("lesion",)
    dataset = Dataset(samples, names)
    write(dataset, folder / "out.json")
    again = read(folder / "out.json")
    assert again.class_names == names
    assert [sample.image_id for sample in again] == ["a", "none"]
    assert again[1].instances == ()
    before, after = dataset.load(0), again.load(0)
    for label in range(1, len(names) + 1):
        drawn_before = before.masks[before.labels == label].any(axis=0)
        assert iou(drawn_before, after.masks[after.labels == label].any(axis=0)) >= 0.99


@pytest.mark.parametrize("key", FAMILY)
def test_reading_what_was_written_and_writing_it_again_changes_nothing(tmp_path, key):
    write, read = FAMILY[key]
    parts = np.zeros(SIZE, bool)
    parts[2:8, 2:8] = parts[12:20, 16:28] = True
    dataset = one(Instance(1, Bitmask(holed())), Instance(1, Bitmask(parts)))
    write(dataset, tmp_path / "first.json")
    first = read(tmp_path / "first.json")
    write(first, tmp_path / "second.json")
    second = read(tmp_path / "second.json")
    np.testing.assert_array_equal(first.load(0).masks, second.load(0).masks)
    assert first.class_names == second.class_names


@pytest.mark.parametrize("key", FAMILY)
def test_a_data_set_without_a_lesion_survives(tmp_path, key):
    write, read = FAMILY[key]
    write(one(), tmp_path / "out.json")
    again = read(tmp_path / "out.json")
    assert [len(sample.instances) for sample in again] == [0]
    assert again.class_names == ("lesion",)
