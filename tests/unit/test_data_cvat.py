import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_examples import (
    HEIGHT,
    JSON_VALUES,
    WIDTH,
    coco_tree,
    every_place,
    mutate,
    square,
    write_coco_folder,
    write_json,
    write_photograph,
)

from dermask import masks
from dermask.data.coco import read_coco
from dermask.data.cvat import cvat_notes, is_cvat, read_cvat, write_cvat
from dermask.data.dataset import Dataset
from dermask.errors import InputError, LabelError, OutputExistsError
from dermask.records import Bitmask, ImageSize, Instance, Polygons, Sample

SIZE = ImageSize(HEIGHT, WIDTH)


def cvat_tree() -> dict[str, Any]:
    """A rectangle, a brush mask and a polygon, as Datumaro writes them for CVAT."""
    tree = coco_tree()
    rectangle, mask, polygon = tree["annotations"]
    rectangle |= {"segmentation": [], "bbox": [4.0, 6.0, 10.0, 5.0], "attributes": {"occluded": False, "rotation": 0.0}}
    runs = [2 * HEIGHT + 3, 5, HEIGHT - 5, 5]
    runs.append(HEIGHT * WIDTH - sum(runs))
    mask |= {"segmentation": {"counts": runs, "size": [HEIGHT, WIDTH]}, "iscrowd": 1, "attributes": {"occluded": False}}
    polygon |= {"segmentation": [square(20, 10, 4), square(26, 16, 4)], "attributes": {"occluded": True, "track_id": 3}}
    tree["licenses"] = [{"name": "", "id": 0, "url": ""}]
    keys = ("contributor", "date_created", "description", "url", "version", "year")
    tree["info"] = dict.fromkeys(keys, "")
    for entry in tree["images"]:
        entry |= {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
    return tree


def with_rectangle(**values: Any) -> dict[str, Any]:
    tree = cvat_tree()
    tree["annotations"][0] |= values
    return tree


def datumaro_imports(tree: dict[str, Any]) -> dict[str, list[tuple[str, int, str]]]:
    """Shapes by photograph, after the checks of cvat-ai/datumaro, plugins/data_formats/coco/base.py, for "instances".

    Each shape is its label, its group and its kind.
    """
    labels = {}
    for category in tree["categories"]:
        assert type(category["id"]) is int
        assert isinstance(category["name"], str)
        labels[category["id"]] = category["name"]
    images = {}
    for entry in tree["images"]:
        assert type(entry["id"]) is int
        assert type(entry["height"]) is int
        assert type(entry["width"]) is int
        images[entry["id"]] = entry
    shapes: dict[str, list[tuple[str, int, str]]] = {entry["file_name"]: [] for entry in tree["images"]}
    for annotation in tree["annotations"]:
        image = images[annotation["image_id"]]
        assert type(annotation["iscrowd"]) is int
        assert type(annotation["id"]) is int
        assert annotation["id"], "group 0 is no group"
        assert annotation["category_id"], "0 is no label"
        head = (labels[annotation["category_id"]], annotation["id"])
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            assert segmentation["size"] == [image["height"], image["width"]], "Mask does not match image size"
            assert sum(segmentation["counts"]) == image["height"] * image["width"]
            kinds = ["mask"]
        else:
            for ring in segmentation:
                assert len(ring) % 2 == 0
                assert len(ring) >= 6
            kinds = ["polygon"] * len(segmentation) or ["bbox"]
        shapes[image["file_name"]] += [(*head, kind) for kind in kinds]
    return shapes


# Telling


def test_cvats_files_are_told_from_plain_coco():
    assert is_cvat(cvat_tree())
    assert not is_cvat(coco_tree())
    for value in ([], {}, None, {"images": [], "annotations": 3, "categories": []}):
        assert not is_cvat(value)


def test_either_mark_is_enough():
    tree = cvat_tree()
    del tree["licenses"]
    assert is_cvat(tree)  # by `occluded`
    tree = cvat_tree()
    tree["annotations"] = []
    assert is_cvat(tree)  # by the empty licence
    assert not is_cvat(tree | {"licenses": [{"name": "CC-0", "id": 1, "url": "x"}]})


# Reading


def test_rectangles_masks_and_groups_are_lesions(tmp_path):
    dataset = read_cvat(write_coco_folder(tmp_path, cvat_tree()))
    assert dataset.class_names == ("mole", "lesion")
    assert dataset.skipped == ()
    assert [sample.image_id for sample in dataset] == ["one", "two", "none"]
    outline = dataset[0].instances[0].outline
    assert isinstance(outline, Polygons)
    assert outline.parts[0].tolist() == [[4, 6], [14, 6], [14, 11], [4, 11]]
    loaded = dataset.load(1)
    assert loaded.ignored is None
    assert loaded.masks.sum(axis=(1, 2)).tolist() == [10, 32]
    assert dataset[2].instances == ()


def test_plain_coco_would_not_take_the_rectangle_and_would_ignore_the_mask(tmp_path):
    path = write_coco_folder(tmp_path, cvat_tree())
    with pytest.raises(LabelError, match="segmentation is an empty list"):
        read_coco(path)


def test_what_is_read_otherwise_than_in_plain_coco_is_said():
    assert cvat_notes(cvat_tree()) == (
        "1 rectangle: read as outlines of four corners",
        "1 mask, read as a lesion: CVAT's iscrowd 1 says that it is a mask, not that it is a crowd",
    )
    assert cvat_notes(coco_tree()) == ()
    assert cvat_notes([]) == ()


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        pytest.param(0, [[4, 6], [14, 6], [14, 11], [4, 11]], id="upright"),
        pytest.param(90, [[11.5, 3.5], [11.5, 13.5], [6.5, 13.5], [6.5, 3.5]], id="a quarter clockwise"),
        pytest.param(180, [[14, 11], [4, 11], [4, 6], [14, 6]], id="half"),
    ],
)
def test_a_rectangle_turns_clockwise_about_its_centre(tmp_path, rotation, expected):
    tree = with_rectangle(attributes={"rotation": rotation})
    dataset = read_cvat(write_coco_folder(tmp_path, tree))
    ring = dataset[0].instances[0].outline.parts[0]
    start = int(np.argmin(np.abs(ring - expected[0]).sum(axis=1)))
    ring = np.roll(ring, -start, axis=0)
    if not np.allclose(ring[1], expected[1], rtol=0, atol=1e-9):  # clipping may turn the walk round
        ring = np.roll(ring[::-1], 1, axis=0)
    np.testing.assert_allclose(ring, expected, rtol=0, atol=1e-9)


def test_a_small_turn_is_clockwise_as_seen(tmp_path):
    tree = with_rectangle(attributes={"rotation": 20})
    mask = read_cvat(write_coco_folder(tmp_path, tree)).load(0).masks[0]
    rows, columns = np.nonzero(mask)
    assert np.corrcoef(rows, columns)[0, 1] > 0.3  # its right end has gone down


def test_a_turned_corner_outside_the_photograph_is_cut_off(tmp_path):
    tree = with_rectangle(bbox=[0, 0, 20, 8], attributes={"rotation": 45})
    mask = read_cvat(write_coco_folder(tmp_path, tree)).load(0).masks[0]
    assert 0.6 * 160 < mask.sum() < 160


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bbox": [4, 6, 0, 5]}, r"bbox \[4, 6, 0, 5\] has width 0"),
        ({"bbox": [4, 6, 5]}, r"bbox \[4, 6, 5\] has 3 numbers"),
        ({"bbox": "x"}, r"bbox 'x' is not a list of numbers"),
        ({"bbox": [4, 6, 90, 5]}, r"outline reaches 62 px past the right border"),
        ({"bbox": [90, 90, 4, 4], "attributes": {"rotation": 45}}, r"segmentation is an empty list"),
        ({"attributes": {"rotation": "much"}}, r"segmentation is an empty list"),
        ({"category_id": 0}, r"category_id 0 does not exist"),
    ],
)
def test_bad_rectangles_are_named(tmp_path, values, message):
    path = write_coco_folder(tmp_path, with_rectangle(**values))
    with pytest.raises(LabelError, match=r"labels\.json: annotation 0 \(image one\.png\): " + message):
        read_cvat(path)
    assert [sample.image_id for sample in read_cvat(path, skip_bad=True)] == ["two", "none"]


@pytest.fixture(scope="module")
def cvat_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cvat")
    write_coco_folder(folder)
    return folder


@settings(deadline=None, max_examples=150)
@given(data=st.data(), skip_bad=st.booleans())
def test_mutated_files_give_a_data_set_or_a_label_error(cvat_folder, data, skip_bad):
    tree: Any = cvat_tree()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(every_place(tree)))
        tree = mutate(tree, place, data.draw(JSON_VALUES), data.draw(st.sampled_from(["set", "remove", "repeat"])))
    assert is_cvat(tree) in (True, False)
    assert isinstance(cvat_notes(tree), tuple)
    try:
        dataset = read_cvat(write_json(cvat_folder / "mutated.json", tree), skip_bad=skip_bad)
    except LabelError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
        return
    for index in range(len(dataset)):
        assert dataset.load(index).masks.shape[1:] == (HEIGHT, WIDTH)


# Writing


def written(dataset: Dataset, folder: Any) -> dict[str, Any]:
    write_cvat(dataset, folder / "out.json")
    return json.loads((folder / "out.json").read_text())


def holed() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[3:20, 4:28] = True
    mask[8:14, 10:20] = False
    return mask


def test_what_is_written_is_cvats_and_imports(tmp_path):
    dataset = read_cvat(write_coco_folder(tmp_path, cvat_tree()))
    tree = written(dataset, tmp_path)
    assert is_cvat(tree)
    assert datumaro_imports(tree) == {
        "one.png": [("lesion", 1, "polygon")],
        "two.png": [("mole", 2, "polygon"), ("lesion", 3, "polygon"), ("lesion", 3, "polygon")],
        "none.png": [],
    }
    again = read_cvat(tmp_path / "out.json")
    assert again.categories == dataset.categories
    assert [sample.source_id for sample in again] == [1, 7, 9]
    for index in range(3):
        np.testing.assert_array_equal(again.load(index).masks, dataset.load(index).masks)


def test_a_hole_is_a_mask_in_numbers_marked_as_cvat_marks_it(tmp_path):
    instances = (Instance(1, Bitmask(holed())), Instance(1, Bitmask(~holed())))
    dataset = Dataset([Sample("a", np.zeros((*SIZE, 3), np.uint8), SIZE, instances)])
    tree = written(dataset, tmp_path)
    assert datumaro_imports(tree) == {"images/a.png": [("lesion", 1, "mask"), ("lesion", 2, "mask")]}
    assert [one["iscrowd"] for one in tree["annotations"]] == [1, 1]
    again = read_cvat(tmp_path / "out.json").load(0)
    np.testing.assert_array_equal(again.masks, dataset.load(0).masks)


def test_ids_of_0_are_numbered_anew_and_crowds_left_out_which_is_said(tmp_path):
    outline = Polygons((np.array([[2, 2], [12, 2], [12, 12.0]]),))
    instances = (Instance(1, outline, annotation_id=0), Instance(2, outline, is_crowd=True, annotation_id=1))
    sample = Sample("a", np.zeros((*SIZE, 3), np.uint8), SIZE, instances, source_id=0)
    dataset = Dataset([sample], ("mole", "lesion"), categories={1: 0, 2: 4})
    assert write_cvat(dataset, tmp_path / "out.json") == (
        "1 crowd region: left out, CVAT would make lesions of them",
        "category ids: numbered from 1, CVAT takes 0 for a shape without a label",
    )
    tree = json.loads((tmp_path / "out.json").read_text())
    assert datumaro_imports(tree) == {"images/a.png": [("mole", 1, "polygon")]}
    assert [entry["id"] for entry in tree["images"]] == [1]
    assert [entry["name"] for entry in tree["categories"]] == ["mole", "lesion"]


def test_folders_stay_in_names_and_names_that_differ_by_suffix_alone_are_refused(tmp_path):
    paths = [write_photograph(tmp_path / name) for name in ("left/x.png", "right/x.png", "right/x.jpg")]
    dataset = Dataset([Sample(str(path), path) for path in paths])
    tree = written(dataset.select([0, 1]), tmp_path)
    assert [entry["file_name"] for entry in tree["images"]] == ["left/x.png", "right/x.png"]
    with pytest.raises(
        InputError, match=r"photograph 'right/x': 'right/x\.png' and 'right/x\.jpg' differ by their suf"
    ):
        write_cvat(dataset, tmp_path / "other.json")


def test_nothing_is_overwritten_silently(tmp_path):
    dataset = read_cvat(write_coco_folder(tmp_path, cvat_tree()))
    write_cvat(dataset, tmp_path / "out.json")
    with pytest.raises(OutputExistsError, match=r"out\.json: is there already"):
        write_cvat(dataset, tmp_path / "out.json")
    write_cvat(dataset, tmp_path / "out.json", overwrite=True)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_run_lengths_in_numbers_give_the_mask_back(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("runs")
    mask = np.random.default_rng(seed).random(SIZE) < 0.4
    mask[0, 0] = bool(seed % 2)
    write_cvat(
        Dataset([Sample("a", np.zeros((*SIZE, 3), np.uint8), SIZE, (Instance(1, Bitmask(mask)),))]), folder / "o"
    )
    (annotation,) = json.loads((folder / "o").read_text())["annotations"]
    runs = annotation["segmentation"]["counts"]
    assert all(run > 0 for run in runs[1:])
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    np.testing.assert_array_equal(flat.reshape(WIDTH, HEIGHT).T, mask)
    assert masks.bitmask_to_rle(mask) == read_cvat(folder / "o")[0].instances[0].outline
