import json
import math
import time
from pathlib import Path
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
from dermask.data.coco import read_coco, write_coco
from dermask.data.dataset import Dataset
from dermask.errors import LabelError, OutputExistsError
from dermask.records import Bitmask, ImageSize, Instance, Polygons, Rle, Sample

SIZE = ImageSize(HEIGHT, WIDTH)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def rle_counts(mask: np.ndarray) -> list[int]:
    """Uncompressed COCO counts, slowly."""
    counts, current = [0], False
    for value in mask.T.ravel():
        if bool(value) != current:
            counts.append(0)
            current = bool(value)
        counts[-1] += 1
    return counts


# Reading


def test_a_photograph_without_annotations_has_no_instances(tmp_path):
    dataset = read_coco(write_coco_folder(tmp_path))
    assert dataset[2].instances == ()
    assert dataset.load(2).masks.shape == (0, HEIGHT, WIDTH)


def test_labels_follow_category_ids_in_order_and_the_original_ids_are_kept(tmp_path):
    dataset = read_coco(write_coco_folder(tmp_path))
    assert dataset.class_names == ("mole", "lesion")
    assert dataset.categories == {1: 2, 2: 5}
    assert [sample.source_id for sample in dataset] == [1, 7, 9]
    assert [sample.image_id for sample in dataset] == ["one", "two", "none"]
    assert [[one.label for one in sample.instances] for sample in dataset] == [[2], [1, 2], []]
    assert [one.annotation_id for sample in dataset for one in sample.instances] == [0, 1, 4]
    assert dataset.name == "labels"
    assert dataset.source == tmp_path / "labels.json"


def test_photographs_are_found_beside_the_file_in_images_and_in_the_given_folder(tmp_path):
    tree = coco_tree()
    for folder in ("a", "b/images", "c"):
        for name in ("one", "two", "none"):
            write_photograph(tmp_path / folder / f"{name}.png")
    for label_folder, images in [("a", None), ("b", None), (".", tmp_path / "c")]:
        path = write_json(tmp_path / label_folder / "labels.json", tree)
        assert len(read_coco(path, images)) == 3


def test_photographs_with_equal_stems_are_told_apart_by_their_names(tmp_path):
    tree = coco_tree()
    tree["images"][0]["file_name"] = "left/x.png"
    tree["images"][1]["file_name"] = "right\\x.png"  # as Windows tools write it
    write_photograph(tmp_path / "left/x.png")
    write_photograph(tmp_path / "right/x.png")
    dataset = read_coco(write_coco_folder(tmp_path, tree))
    assert [sample.image_id for sample in dataset] == ["left/x.png", "right/x.png", "none.png"]


def test_several_parts_are_one_object(tmp_path):
    tree = coco_tree()
    tree["annotations"][0]["segmentation"] = [square(2, 2, 4), square(20, 12, 6)]
    loaded = read_coco(write_coco_folder(tmp_path, tree)).load(0)
    assert loaded.masks.shape == (1, HEIGHT, WIDTH)
    assert loaded.masks.sum() == 4 * 4 + 6 * 6


def test_both_forms_of_run_lengths_give_the_same_mask(tmp_path):
    mask = np.zeros(SIZE, bool)
    mask[3:9, 5:14] = True
    mask[5:7, 7:9] = False  # a hole, which a polygon cannot say
    rle = masks.bitmask_to_rle(mask)
    for counts in (rle.counts.decode(), rle_counts(mask)):
        tree = coco_tree()
        tree["annotations"][0]["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": counts}
        dataset = read_coco(write_coco_folder(tmp_path, tree))
        assert isinstance(dataset[0].instances[0].outline, Rle)
        np.testing.assert_array_equal(dataset.load(0).masks[0], mask)


@pytest.mark.parametrize("flag", [1, True, 1.0])
def test_a_crowd_is_ignored_and_no_object(tmp_path, flag):
    tree = coco_tree()
    tree["annotations"][2]["iscrowd"] = flag
    loaded = read_coco(write_coco_folder(tmp_path, tree)).load(1)
    assert loaded.masks.shape[0] == 1
    assert loaded.ignored is not None
    assert loaded.ignored.sum() == 81


def test_an_outline_up_to_one_pixel_past_the_border_is_clipped(tmp_path):
    tree = coco_tree()
    tree["annotations"][0]["segmentation"] = [[-0.5, -1, WIDTH + 0.9, -1, WIDTH + 1, HEIGHT + 1, -1, HEIGHT]]
    dataset = read_coco(write_coco_folder(tmp_path, tree))
    outline = dataset[0].instances[0].outline
    assert isinstance(outline, Polygons)
    np.testing.assert_array_equal(outline.parts[0], [[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]])
    assert dataset.load(0).masks.all()


def test_a_repeated_first_point_is_dropped(tmp_path):
    tree = coco_tree()
    tree["annotations"][0]["segmentation"] = [[*square(4, 4, 8), 4, 4]]
    outline = read_coco(write_coco_folder(tmp_path, tree))[0].instances[0].outline
    assert isinstance(outline, Polygons)
    assert outline.parts[0].shape == (4, 2)


def test_sizes_may_be_missing_but_are_known_afterwards(tmp_path):
    tree = coco_tree()
    for image in tree["images"]:
        del image["height"], image["width"]
    assert read_coco(write_coco_folder(tmp_path, tree))[0].size == SIZE


# Bad input: what to change in the good file, and the line that comes out.

ANNOTATION = r"labels\.json: annotation 1 \(image two\.png\): "
IMAGE = r"labels\.json: image 7 \(two\.png\): "
SKIP = r".*--skip-bad$"


def annotation(**values: Any) -> dict[str, Any]:
    return {"part": "annotations", **values}


def image(**values: Any) -> dict[str, Any]:
    return {"part": "images", **values}


DROP = object()

BAD = {
    # annotations
    "empty outline": (annotation(segmentation=[]), ANNOTATION + r"segmentation is an empty list; draw the outline"),
    "no outline": (annotation(segmentation=DROP), ANNOTATION + r"has no segmentation; draw an outline"),
    "outline is text": (annotation(segmentation="x"), ANNOTATION + r"segmentation 'x' is neither polygons nor RLE"),
    "flat outline": (annotation(segmentation=[1, 2, 3]), ANNOTATION + r"segmentation\[0\] 1 is not a list of numbers"),
    "two points": (
        annotation(segmentation=[[1, 2, 3, 4]]),
        ANNOTATION + r"outline \[\[1\.0, 2\.0\], \[3\.0, 4\.0\]\] has 2 points; it needs 3 or more; draw it again",
    ),
    "two points and back": (annotation(segmentation=[[1, 2, 3, 4, 1, 2]]), ANNOTATION + r"outline .* has 2 points"),
    "odd numbers": (annotation(segmentation=[[1, 2, 3, 4, 5]]), ANNOTATION + r"segmentation\[0\] has 5 numbers"),
    "points on a line": (
        annotation(segmentation=[[1, 1, 2, 2, 3, 3, 7, 7]]),
        ANNOTATION + r"outline has area 0: its 4 points lie on one line",
    ),
    "thinner than a pixel": (
        annotation(segmentation=[[1.05, 1.05, 1.06, 1.05, 1.05, 1.06]]),
        ANNOTATION + r"outline has area 0: no pixel lies in it",
    ),
    "bad second part": (annotation(segmentation=[square(1, 1, 4), [1, 2]]), ANNOTATION + r"outline .* has 1 point;"),
    "past the border": (
        annotation(segmentation=[square(20, 3, 15.5)]),
        ANNOTATION + r"outline reaches 3\.5 px past the right border of the 32x24 photograph; check",
    ),
    "negative coordinate": (
        annotation(segmentation=[square(3, -2, 4)]),
        ANNOTATION + r"outline reaches 2 px past",
    ),
    "not a number": (annotation(segmentation=[[1, 2, "3", 4, 5, 6]]), ANNOTATION + r"segmentation\[0\] holds '3'"),
    "true as a number": (annotation(segmentation=[[True, 2, 3, 4, 5, 6]]), ANNOTATION + r".*holds True"),
    "NaN": (annotation(segmentation=[[math.nan, 2, 3, 4, 5, 6]]), ANNOTATION + r".*holds nan, which is not finite"),
    "infinity": (annotation(segmentation=[[1, 2, 3, math.inf, 5, 6]]), ANNOTATION + r".*holds inf, which is not fin"),
    "absurd coordinate": (annotation(segmentation=[[1, 2, 3, 10**400, 5, 6]]), ANNOTATION + r".*no photograph reaches"),
    "zero-area box": (
        annotation(bbox=[3, 4, 0, 9]),
        ANNOTATION + r"bbox \[3, 4, 0, 9\] has width 0; it must",
    ),
    "negative box": (annotation(bbox=[3, 4, 2, -9]), ANNOTATION + r"bbox .* has height -9"),
    "box of three": (annotation(bbox=[3, 4, 2]), ANNOTATION + r"bbox \[3, 4, 2\] has 3 numbers"),
    "box is text": (annotation(bbox="big"), ANNOTATION + r"bbox 'big' is not a list of numbers"),
    "missing category": (annotation(category_id=DROP), ANNOTATION + r"has no category_id; choose a label"),
    "null category": (annotation(category_id=None), ANNOTATION + r"has no category_id; choose a label"),
    "unknown category": (annotation(category_id=3), ANNOTATION + r"category_id 3 does not exist; use one of 2, 5"),
    "negative category": (annotation(category_id=-2), ANNOTATION + r"category_id -2 is negative"),
    "category is a name": (annotation(category_id="mole"), ANNOTATION + r"category_id 'mole' is not a whole number"),
    "negative id": (annotation(id=-1), r"annotations\[1\] \(image two\.png\): id -1 is negative; number ids from 0"),
    "absurd id": (annotation(id=10**300), r"annotations\[1\] \(image two\.png\): id 1000.* is larger than 2\^53"),
    "fractional id": (annotation(id=1.5), r"annotations\[1\] .*id 1\.5 is not a whole number"),
    "no id": (annotation(id=DROP), r"annotations\[1\] .*has no id"),
    "duplicate id": (annotation(id=0), r"annotation 0 \(image two\.png\): id 0 is used twice; give every"),
    "crowd of two": (annotation(iscrowd=2), ANNOTATION + r"iscrowd 2 is neither 0 nor 1"),
    "crowd is a list": (annotation(iscrowd=[]), ANNOTATION + r"iscrowd \[\] is neither 0 nor 1"),
    "unknown image": (annotation(image_id=8), r"annotations\[1\]: image_id 8 does not exist; list that photograph"),
    "negative image": (annotation(image_id=-7), r"annotations\[1\]: image_id -7 is negative"),
    "RLE of another size": (
        annotation(segmentation={"size": [5, 5], "counts": [0, 25]}),
        ANNOTATION + r"RLE size \[5, 5\] is not the photograph's height and width \[24, 32\]",
    ),
    "RLE without size": (annotation(segmentation={"counts": "a"}), ANNOTATION + r"RLE size None is not a list"),
    "RLE without counts": (annotation(segmentation={"size": [24, 32]}), ANNOTATION + r"has no counts"),
    "RLE too short": (
        annotation(segmentation={"size": [24, 32], "counts": [5, 5]}),
        ANNOTATION + r"RLE counts sum to 10 pixels; the photograph has 768",
    ),
    "RLE with a negative run": (
        annotation(segmentation={"size": [24, 32], "counts": [800, -32]}),
        ANNOTATION + r"RLE counts hold -32",
    ),
    "RLE all background": (
        annotation(segmentation={"size": [24, 32], "counts": [768]}),
        ANNOTATION + r"outline has area 0: its RLE holds no pixel",
    ),
    "RLE of garbage": (
        annotation(segmentation={"size": [24, 32], "counts": "\u20ac!~"}),
        ANNOTATION + r"RLE counts .* are not COCO's compressed run lengths; export",
    ),
    "RLE cut off": (
        annotation(segmentation={"size": [24, 32], "counts": "o"}),
        ANNOTATION + r"RLE counts .* are",
    ),
    # photographs
    "missing photograph": (
        image(file_name="gone.png"),
        r"image 7 \(gone\.png\): photograph 'gone\.png' is not in .*; name the photographs' folder with --images",
    ),
    "leaving the folder": (
        image(file_name="../../etc/passwd"),
        r"image 7 \(\.\./\.\./etc/passwd\): file_name '\.\./\.\./etc/passwd' leaves its folder through '\.\.'",
    ),
    "leaving by backslash": (image(file_name="..\\x.png"), r"leaves its folder through"),
    "absolute": (image(file_name="/etc/passwd"), r"file_name '/etc/passwd' is an absolute path; write it relative to"),
    "absurdly long name": (image(file_name="x" * 5000), r"photograph 'xxx.*\.\.\..*xxx' is not in"),
    "null byte": (image(file_name="a\0b"), r"image 7 \(a\\x00b\): file_name 'a\\x00b' holds a NUL character"),
    "lone surrogate": (image(file_name="a\ud800b"), r"image 7 \(a\\ud800b\): "),
    "name over two lines": (image(file_name="a\nb"), r"image 7 \(a\\nb\): photograph 'a\\nb' is not in"),
    "name is a number": (image(file_name=3), r"image 7: file_name 3 is not a name"),
    "empty name": (image(file_name=""), r"image 7: file_name '' is not a name"),
    "no name": (image(file_name=DROP), r"image 7: has no file_name"),
    "not an image": (
        image(file_name="labels.json", height=DROP),
        r"image 7 \(labels\.json\): photograph labels\.json: ",
    ),
    "other size": (image(width=48), IMAGE + r"size 48x24 is not the photograph's, 32x24; label the photograph at its"),
    "turned": (image(width=24, height=32), IMAGE + r"size 24x32 .*32x24 \(turned by its EXIF orientation\?\)"),
    "absurd size": (image(width=10**30), IMAGE + r"size 1000.*x24 is not the photograph's"),
    "zero size": (image(height=0), IMAGE + r"height 0 is not a whole number above 0"),
    "size is text": (image(height="24"), IMAGE + r"height '24' is not a whole number above 0"),
    "negative image id": (image(id=-7), r"images\[1\]: id -7 is negative"),
    "image id is text": (image(id="7"), r"images\[1\]: id '7' is not a whole number"),
    "duplicate image id": (image(id=1), r"images\[1\]: id 1 of 'two\.png' is used twice; give every photograph"),
    "photograph listed twice": (image(file_name="one.png"), r"image 7 \(one\.png\): the same photograph is image 1"),
}


def changed(change: dict[str, Any]) -> dict[str, Any]:
    tree = coco_tree()
    record = tree[change["part"]][1]
    for key, value in change.items():
        if key != "part":
            record[key] = value
            if value is DROP:
                del record[key]
    return tree


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_it_and_skipping_goes_on_without(tmp_path, case):
    change, message = BAD[case]
    path = write_coco_folder(tmp_path, changed(change))
    with pytest.raises(LabelError, match=message) as caught:
        read_coco(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + 3 * len(str(tmp_path))
    assert str(caught.value).endswith("--skip-bad")

    dataset = read_coco(path, skip_bad=True)
    assert dataset.skipped
    assert "left out" in dataset.skipped[0]
    kept = [sample.image_id for sample in dataset]
    assert "none" in kept
    if "image_id" not in change:  # an annotation of nobody takes no photograph with it
        assert "two" not in kept


def test_one_broken_outline_takes_the_whole_photograph_with_it(tmp_path):
    # Kept without its broken lesion, the photograph would be learnt as bare skin.
    tree = coco_tree()
    tree["annotations"][0]["segmentation"] = []
    dataset = read_coco(write_coco_folder(tmp_path, tree), skip_bad=True)
    assert [sample.image_id for sample in dataset] == ["two", "none"]
    assert len(dataset.skipped) == 1
    assert dataset.skipped[0].endswith("; left out with its photograph")


def test_the_first_problem_is_raised_with_the_number_of_others(tmp_path):
    tree = coco_tree()
    for entry in tree["annotations"]:
        del entry["category_id"]
    path = write_coco_folder(tmp_path, tree)
    with pytest.raises(LabelError, match=r"\(and 2 more problems\), or leave its photograph out with --skip-bad$"):
        read_coco(path)


def test_nothing_left_is_an_error_even_when_skipping(tmp_path):
    tree = coco_tree()
    for entry in tree["images"]:
        entry["file_name"] = "gone.png"
    with pytest.raises(LabelError, match=r"no usable photograph; 3 problems, the first: .*gone\.png"):
        read_coco(write_coco_folder(tmp_path, tree), skip_bad=True)


def test_annotations_of_a_missing_photograph_add_no_lines(tmp_path):
    tree = coco_tree()
    tree["images"][1]["file_name"] = "gone.png"
    assert len(read_coco(write_coco_folder(tmp_path, tree), skip_bad=True).skipped) == 1


def test_of_a_repeated_image_id_neither_photograph_is_kept(tmp_path):
    tree = coco_tree()
    tree["images"][1]["id"] = 1
    dataset = read_coco(write_coco_folder(tmp_path, tree), skip_bad=True)
    assert [sample.image_id for sample in dataset] == ["none"]
    assert dataset.skipped[0].endswith("all with this id left out")


def with_(key: str, value: Any) -> Any:
    tree = coco_tree()
    tree[key] = value
    return tree


def without(key: str) -> Any:
    tree = coco_tree()
    del tree[key]
    return tree


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("tree", "message"),
    [
        pytest.param([], r"labels\.json: \[\] is not an object", id="empty list"),
        pytest.param(with_("images", []), r"images is an empty list; label at least one", id="no photographs"),
        pytest.param(with_("categories", []), r"categories is an empty list; name at least one", id="no classes"),
        pytest.param(without("images"), r"has no images", id="images missing"),
        pytest.param(without("annotations"), r"has no annotations", id="annotations missing"),
        pytest.param(without("categories"), r"has no categories", id="categories missing"),
        pytest.param(with_("images", {}), r"images \{\} is not a list", id="images is an object"),
        pytest.param(with_("annotations", None), r"annotations None is not a list", id="annotations is null"),
        pytest.param(with_("categories", [3]), r"categories\[0\]: 3 is not an object", id="category is a number"),
        pytest.param(with_("categories", [{"id": -1, "name": "a"}]), r"\[0\]: id -1 is negative", id="negative"),
        pytest.param(with_("categories", [{"id": 1}]), r"categories\[0\]: has no name", id="nameless"),
        pytest.param(
            with_("categories", [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
            r"categories\[1\]: id 1 is also that of 'a'; renumber",
            id="id twice",
        ),
        pytest.param(
            with_("categories", [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]),
            r"categories\[1\]: name 'a' appears twice",
            id="name twice",
        ),
    ],
)
def test_what_concerns_the_whole_file_cannot_be_skipped(tmp_path, tree, message, skip_bad):
    with pytest.raises(LabelError, match=message):
        read_coco(write_coco_folder(tmp_path, tree), skip_bad=skip_bad)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", r"is an empty file", id="empty"),
        pytest.param('{"images": [', r"JSON ends too early, at line 1 column 13; the file was cut off", id="truncated"),
        pytest.param('{"images": "abc', r"JSON ends too early", id="truncated in a text"),
        pytest.param("{'images': 1}", r"is not JSON: .* at line 1 column 2", id="not JSON"),
        pytest.param('{"images": [], "images": []}', r"key 'images' appears twice in one object", id="key twice"),
        pytest.param("[" * 100_000, r"is not usable JSON|JSON ends too early", id="absurdly deep"),
        pytest.param("9" * 10_000, r"is not usable JSON", id="absurdly large number"),
    ],
)
def test_a_file_that_is_not_whole_json_is_refused(tmp_path, text, message):
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(LabelError, match=r"labels\.json: " + f"(?:{message})"):
        read_coco(path, skip_bad=True)


def test_a_missing_file_a_folder_and_a_binary_file_are_refused(tmp_path):
    with pytest.raises(LabelError, match=r"gone\.json: no such file"):
        read_coco(tmp_path / "gone.json")
    with pytest.raises(LabelError, match="cannot be read as text"):
        read_coco(tmp_path)
    with pytest.raises(LabelError, match="cannot be read as text"):
        read_coco(write_photograph(tmp_path / "a.png"))


def test_a_missing_folder_of_photographs_is_named(tmp_path):
    with pytest.raises(LabelError, match=r"gone: is not a folder; name the folder of the photographs"):
        read_coco(write_coco_folder(tmp_path), tmp_path / "gone")


@pytest.fixture(scope="module")
def coco_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    write_coco_folder(folder)
    return folder


@settings(deadline=None, max_examples=250)
@given(data=st.data(), skip_bad=st.booleans())
def test_mutated_files_give_a_data_set_or_a_label_error(coco_folder, data, skip_bad):
    tree = coco_tree()
    rle = {"size": [HEIGHT, WIDTH], "counts": [10, 5, HEIGHT * WIDTH - 15]}
    tree["annotations"][1]["segmentation"] = data.draw(
        st.sampled_from([tree["annotations"][1]["segmentation"], rle, rle | {"counts": ":5lg0"}])
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(every_place(tree)))
        tree = mutate(tree, place, data.draw(JSON_VALUES), data.draw(st.sampled_from(["set", "remove", "repeat"])))
    path = write_json(coco_folder / "mutated.json", tree)
    try:
        dataset = read_coco(path, skip_bad=skip_bad)
    except LabelError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
        return
    for index in range(len(dataset)):
        assert dataset.load(index).masks.any(axis=(1, 2)).all()


# Writing


def blob(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:height, :width] + 0.5
    angle = np.arctan2(ys - height / 2, xs - width / 2)
    radius = (
        0.36 * min(height, width) * (1 + sum(0.12 / k * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5)))
    )
    mask = np.hypot(ys - height / 2, xs - width / 2) < radius
    if seed % 3 == 1:  # a hole
        mask &= np.hypot(ys - height / 2, xs - width / 2) > 0.15 * min(height, width)
    if seed % 4 == 2:  # a second part
        mask[:3, :5] = True
    return mask


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), height=st.integers(12, 90), width=st.integers(12, 90), kind=st.integers(0, 2))
def test_write_then_read_keeps_outlines(tmp_path_factory, seed, height, width, kind):
    folder = tmp_path_factory.mktemp("round")
    mask, size = blob(seed, height, width), ImageSize(height, width)
    outline = (Bitmask(mask), masks.bitmask_to_rle(mask), masks.bitmask_to_polygons(mask))[kind]
    instances = (Instance(2, outline), Instance(1, Bitmask(~mask), is_crowd=True))
    samples = [
        Sample("a", np.zeros((height, width, 3), np.uint8), size, instances, source_id=12),
        Sample("b", np.zeros((height, width, 3), np.uint8), None),
    ]
    dataset = Dataset(samples, ("mole", "lesion"), categories={1: 3, 2: 30})
    write_coco(dataset, folder / "out.json")
    again = read_coco(folder / "out.json")
    assert again.class_names == dataset.class_names
    assert again.categories == dataset.categories
    assert [sample.image_id for sample in again] == ["a", "b"]
    before, after = dataset.load(0), again.load(0)
    np.testing.assert_array_equal(after.labels, before.labels)
    assert iou(before.masks[0], after.masks[0]) >= 0.99
    assert before.ignored is not None
    np.testing.assert_array_equal(after.ignored, before.ignored)
    assert after.image.shape == before.image.shape
    assert len(again[1].instances) == 0


def test_writing_keeps_polygons_and_ids_as_they_were(tmp_path):
    dataset = read_coco(write_coco_folder(tmp_path))
    write_coco(dataset, tmp_path / "copy.json")
    copy = json.loads((tmp_path / "copy.json").read_text())
    original = coco_tree()
    assert copy["images"] == [
        {key: image[key] for key in ("id", "file_name", "width", "height")} for image in original["images"]
    ]
    assert copy["annotations"] == original["annotations"]
    assert copy["categories"] == sorted(original["categories"], key=lambda category: category["id"])


def test_a_data_set_without_lesions_survives_writing(tmp_path):
    dataset = read_coco(write_coco_folder(tmp_path)).select([2])
    write_coco(dataset, tmp_path / "none.json")
    assert [len(sample.instances) for sample in read_coco(tmp_path / "none.json")] == [0]


def test_an_outline_without_a_pixel_is_not_written(tmp_path):
    empty = Instance(1, Bitmask(np.zeros(SIZE, bool)))
    write_coco(Dataset([Sample("a", np.zeros((*SIZE, 3), np.uint8), SIZE, (empty,))]), tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["annotations"] == []


def test_a_hole_is_written_as_run_lengths_and_a_plain_mask_as_one_ring(tmp_path):
    photograph = np.zeros((60, 60, 3), np.uint8)
    plain, holed = blob(3, 60, 60), blob(1, 60, 60)
    instances = (Instance(1, Bitmask(plain)), Instance(1, Bitmask(holed)))
    write_coco(Dataset([Sample("a", photograph, None, instances)]), tmp_path / "out.json")
    first, second = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert len(first["segmentation"]) == 1
    assert second["segmentation"]["size"] == [60, 60]
    assert second["area"] == holed.sum()


def test_parts_without_holes_are_written_as_one_ring_each(tmp_path):
    mask = np.zeros((60, 60), bool)
    mask[5:20, 5:25] = mask[30:50, 20:55] = True
    write_coco(
        Dataset([Sample("a", np.zeros((60, 60, 3), np.uint8), None, (Instance(1, Bitmask(mask)),))]),
        tmp_path / "o.json",
    )
    (annotation,) = json.loads((tmp_path / "o.json").read_text())["annotations"]
    assert [len(ring) // 2 for ring in annotation["segmentation"]] == [4, 4]
    again = read_coco(tmp_path / "o.json")
    assert len(again[0].instances) == 1
    np.testing.assert_array_equal(again.load(0).masks[0], mask)


def test_a_mask_of_noise_stays_run_lengths(tmp_path):
    mask = np.zeros((60, 60), bool)
    mask[::4, ::4] = True  # 225 parts
    write_coco(
        Dataset([Sample("a", np.zeros((60, 60, 3), np.uint8), None, (Instance(1, Bitmask(mask)),))]),
        tmp_path / "o.json",
    )
    (annotation,) = json.loads((tmp_path / "o.json").read_text())["annotations"]
    assert annotation["segmentation"]["size"] == [60, 60]
    np.testing.assert_array_equal(read_coco(tmp_path / "o.json").load(0).masks[0], mask)


def test_a_ring_that_walks_to_its_hole_and_back_has_a_hole(tmp_path):
    tree = coco_tree()
    outer = [2, 2, 2, 20, 28, 20, 28, 2]
    tree["annotations"][0]["segmentation"] = [[*outer, 2, 2, 8, 8, 20, 8, 20, 14, 8, 14, 8, 8]]
    dataset = read_coco(write_coco_folder(tmp_path, tree))
    assert isinstance(dataset[0].instances[0].outline, Rle)
    assert dataset.load(0).masks.sum() == 26 * 18 - 12 * 6


def test_coco_loses_nothing(tmp_path):
    dataset = read_coco(write_coco_folder(tmp_path))
    assert write_coco(dataset, tmp_path / "copy.json") == ()


@pytest.mark.slow
def test_ten_thousand_photographs_are_read_in_seconds(tmp_path):
    photograph = write_photograph(tmp_path / "0.png")
    images = [{"id": k, "file_name": f"{k}.png", "width": WIDTH, "height": HEIGHT} for k in range(10_000)]
    turn = np.arange(120) * (2 * np.pi / 120)
    ring = np.stack([16 + 9 * np.cos(turn), 12 + 9 * np.sin(turn)], axis=1).ravel().tolist()
    annotations = [{"id": k, "image_id": k, "category_id": 1, "segmentation": [ring]} for k in range(10_000)]
    for k in range(1, 10_000):
        (tmp_path / f"{k}.png").hardlink_to(photograph)
    tree = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "lesion"}]}
    start = time.perf_counter()
    assert len(read_coco(write_json(tmp_path / "labels.json", tree))) == 10_000
    assert time.perf_counter() - start < 60  # a few seconds on a quiet machine; a quadratic step would take minutes


def test_photographs_elsewhere_are_named_from_their_common_folder(tmp_path):
    (tmp_path / "labels").mkdir()
    dataset = read_coco(write_coco_folder(tmp_path / "photos"))
    write_coco(dataset, tmp_path / "labels" / "out.json")
    names = [image["file_name"] for image in json.loads((tmp_path / "labels" / "out.json").read_text())["images"]]
    assert names == ["one.png", "two.png", "none.png"]
    assert len(read_coco(tmp_path / "labels" / "out.json", tmp_path / "photos")) == 3


def test_nothing_is_overwritten_silently(tmp_path):
    dataset = Dataset([Sample("a", np.zeros((*SIZE, 3), np.uint8))])
    write_coco(dataset, tmp_path / "out.json")
    with pytest.raises(OutputExistsError, match=r"out\.json: is there already"):
        write_coco(dataset, tmp_path / "out.json")
    (tmp_path / "out.json").unlink()
    with pytest.raises(OutputExistsError, match=r"a\.png: is there already"):
        write_coco(dataset, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
    write_coco(dataset, tmp_path / "out.json", overwrite=True)
    assert Path(tmp_path / "out.json").exists()
