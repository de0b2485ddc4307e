import base64
import io
import json
import tempfile
import xml.etree.ElementTree as ET
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_examples import HEIGHT, JSON_VALUES, WIDTH, draw_mask, every_place, mutate, write_json, write_photograph
from PIL import Image

from dermask.data.brush_rle import encode_brush
from dermask.data.dataset import Dataset
from dermask.data.label_studio import is_label_studio, label_studio_dataset, read_label_studio
from dermask.data.label_studio_write import labelling_configuration, write_label_studio, write_label_studio_tasks
from dermask.errors import LabelError, OutputExistsError
from dermask.masks import outline_bitmask
from dermask.records import Bitmask, ImageSize, Instance, Polygons, Sample

SIZE = ImageSize(HEIGHT, WIDTH)


def percent(points: list[tuple[float, float]]) -> list[list[float]]:
    return [[x * 100 / WIDTH, y * 100 / HEIGHT] for x, y in points]


def corners(x: float, y: float, side: float) -> list[tuple[float, float]]:
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


def result(tool: str, label: str | None = "lesion", region_id: str = "r1", **value: Any) -> dict[str, Any]:
    labels = {} if label is None else {f"{tool}labels": [label]}
    head = {"id": region_id, "type": f"{tool}labels", "from_name": "label", "to_name": "image"}
    frame = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return head | frame | {"value": value | labels}


def polygon(x: float, y: float, side: float, label: str | None = "lesion", region_id: str = "r1") -> dict[str, Any]:
    return result("polygon", label, region_id, points=percent(corners(x, y, side)), closed=True)


def task(number: int, image: str, *results: dict[str, Any]) -> dict[str, Any]:
    annotation = {"id": number, "result": list(results), "was_cancelled": False, "ground_truth": False}
    return {"id": number, "data": {"image": image}, "annotations": [annotation], "predictions": []}


def tree_of(*results: dict[str, Any]) -> list[dict[str, Any]]:
    """Two photographs, the first with these regions, the second without a lesion."""
    return [
        task(1, "/data/upload/3/0a1b2c3d-one.png", *(results or (polygon(4, 4, 8),))),
        task(2, "/data/upload/3/99999999-none.png"),
    ]


def read(folder: Path, tree: Any = None, **options: Any) -> Dataset:
    for name in ("one", "two", "none"):
        if not (folder / f"{name}.png").exists():
            write_photograph(folder / f"{name}.png")
    return read_label_studio(write_json(folder / "export.json", tree_of() if tree is None else tree), **options)


def square_mask(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_an_annotation_without_a_region_is_a_photograph_without_a_lesion(tmp_path):
    dataset = read(tmp_path, [task(2, "none.png")])
    assert len(dataset) == 1
    assert dataset[0].instances == ()
    assert dataset.class_names == ("lesion",)


def test_polygons_are_read_in_percent(tmp_path):
    dataset = read(tmp_path)
    assert [sample.image_id for sample in dataset] == ["one", "none"]
    assert [sample.source_id for sample in dataset] == [1, 2]
    np.testing.assert_allclose(dataset[0].instances[0].outline.parts[0], corners(4, 4, 8))
    np.testing.assert_array_equal(dataset.load(0).masks[0], square_mask(4, 4, 8))
    assert dataset[0].instances[0].annotation_id == "r1"


def test_labels_follow_the_sorted_names(tmp_path):
    dataset = read(tmp_path, tree_of(polygon(4, 4, 8, "mole", "a"), polygon(14, 4, 8, "lesion", "b")))
    assert dataset.class_names == ("lesion", "mole")
    assert [one.label for one in dataset[0].instances] == [2, 1]


def test_regions_without_any_label_are_lesions(tmp_path):
    dataset = read(tmp_path, tree_of(polygon(4, 4, 8, None)))
    assert dataset.class_names == ("lesion",)


def test_a_shape_and_its_label_may_be_two_results(tmp_path):
    shape = polygon(4, 4, 8, None) | {"type": "polygon"}
    label = deepcopy(shape) | {"type": "labels"}
    label["value"]["labels"] = ["mole"]
    note = {"id": "r1", "type": "choices", "value": {"choices": ["blurred"]}}
    relation = {"type": "relation", "from_id": "r1", "to_id": "r1", "direction": "right"}
    dataset = read(tmp_path, tree_of(shape, label, note, relation))
    assert dataset.class_names == ("mole",)
    assert len(dataset[0].instances) == 1


def png_url(mask: np.ndarray) -> str:
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[..., 3] = mask * 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


RECTANGLE = {"x": 4 * 100 / WIDTH, "y": 6 * 100 / HEIGHT, "width": 12 * 100 / WIDTH, "height": 5 * 100 / HEIGHT}
ELLIPSE = {"x": 50, "y": 50, "radiusX": 10 * 100 / WIDTH, "radiusY": 5 * 100 / HEIGHT}


@pytest.mark.parametrize(
    ("region", "box", "area"),
    [
        pytest.param(result("rectangle", **RECTANGLE), (4, 6, 16, 11), 60, id="rectangle"),
        # Turned by 90 degrees clockwise around its corner: to the left and down of it.
        pytest.param(
            result("rectangle", **RECTANGLE | {"x": 50, "rotation": 90}), (11, 6, 16, 18), 60, id="turned rectangle"
        ),
        pytest.param(result("ellipse", **ELLIPSE), (6, 7, 26, 17), np.pi * 50, id="ellipse"),
        pytest.param(result("ellipse", **ELLIPSE | {"rotation": 90}), (11, 2, 21, 22), np.pi * 50, id="turned ellipse"),
        pytest.param(
            result("brush", format="rle", rle=encode_brush(square_mask(3, 2, 7))), (3, 2, 10, 9), 49, id="brush"
        ),
        pytest.param(result("bitmask", imageDataURL=png_url(square_mask(3, 2, 7))), (3, 2, 10, 9), 49, id="bitmask"),
    ],
)
def test_every_shape_with_an_inside_is_an_outline(tmp_path, region, box, area):
    mask = read(tmp_path, tree_of(region)).load(0).masks[0]
    rows, columns = np.nonzero(mask)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert max(abs(np.subtract(found, box))) <= 1  # a curve's last pixel
    assert mask.sum() == pytest.approx(area, rel=0.06)


def annotation(side: float, **values: Any) -> dict[str, Any]:
    return {"result": [polygon(2, 2, side)]} | values


@pytest.mark.parametrize(
    ("annotations", "side"),
    [
        pytest.param([annotation(4), annotation(8)], 8, id="the last in the file where no time is known"),
        pytest.param(
            [annotation(8, updated_at="2024-05-02T10:00:00Z"), annotation(4, updated_at="2024-05-01T10:00:00Z")],
            8,
            id="the last changed",
        ),
        pytest.param([annotation(8), annotation(4, was_cancelled=True)], 8, id="never a cancelled one"),
        pytest.param([annotation(8, ground_truth=True), annotation(4)], 8, id="ground truth before others"),
    ],
)
def test_of_several_annotations_one_counts(tmp_path, annotations, side):
    tree = [{"id": 1, "data": {"image": "one.png"}, "annotations": annotations}]
    assert read(tmp_path, tree).load(0).masks.sum() == side * side


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param({"annotations": []}, id="no annotation"),
        pytest.param({"annotations": [annotation(4, was_cancelled=True)]}, id="only a cancelled one"),
        pytest.param({"annotations": [], "predictions": [annotation(4)]}, id="predictions"),
        pytest.param({}, id="a task to import"),
    ],
)
def test_a_task_without_an_annotation_stays_out_and_is_named(tmp_path, rest):
    dataset = read(tmp_path, [*tree_of(), {"id": 5, "data": {"image": "two.png"}} | rest])
    assert [sample.image_id for sample in dataset] == ["one", "none"]
    assert dataset.skipped == (
        f"{tmp_path / 'export.json'}: photograph 'two.png' has no annotation; left out as unlabelled",
    )
    assert [problem.photograph for problem in dataset.problems] == [tmp_path / "two.png"]


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("one.png", "one.png"),
        ("/data/upload/12/0a1b2c3d-one.png", "one.png"),
        ("/data/upload/12/0a1b2c3d-one.png", "0a1b2c3d-one.png"),
        ("/data/local-files/?d=photos/arm/one.png", "arm/one.png"),
        ("/data/local-files/?d=photos%2Farm%2Fone%20b.png", "one b.png"),
        ("/data/upload/12/0a1b2c3d-arm_links_1.png", "arm links (1).png"),
        ("s3://bucket/skin/one.png", "skin/one.png"),
        ("https://example.com/a/one%20b.png?X-Amz-Signature=1", "one b.png"),
        ("C:\\photos\\arm\\one.png", "arm/one.png"),
        ("100% [one]?#.png", "100% [one]?#.png"),
        ("../../etc/one.png", "one.png"),
    ],
)
def test_a_photograph_is_found_by_its_address(tmp_path, address, place):
    photographs = tmp_path / "photographs"
    write_photograph(photographs / place)
    path = write_json(tmp_path / "export.json", [task(1, address, polygon(2, 2, 8))])
    assert read_label_studio(path, photographs)[0].image == photographs / place


@pytest.mark.parametrize("address", ["../secret.png", "/data/local-files/?d=../secret.png", "s3://b/%2e%2e/secret.png"])
def test_no_address_leaves_the_folder_of_the_photographs(tmp_path, address):
    write_photograph(tmp_path / "secret.png")
    (tmp_path / "photographs").mkdir()
    path = write_json(tmp_path / "export.json", [task(1, address)])
    with pytest.raises(LabelError, match=r"photograph 'secret\.png' is not in .*photographs; name the photographs'"):
        read_label_studio(path, tmp_path / "photographs")


def test_two_photographs_that_label_studio_calls_the_same_are_not_guessed_between(tmp_path):
    for name in ("arm (1).png", "arm 1.png", "arm_1 .png"):
        write_photograph(tmp_path / name)
    with pytest.raises(LabelError, match=r"photograph 'arm_1\.png' is not in"):
        read(tmp_path, [task(1, "/data/upload/12/0a1b2c3d-arm_1.png")])


def test_a_long_address_takes_no_time(tmp_path):
    with pytest.raises(LabelError, match="is not in"):
        read(tmp_path, [task(1, "a/" * 100_000 + "x.png")])


def test_the_photograph_may_have_any_key(tmp_path):
    tree = tree_of()
    tree[0]["data"] = {"patient": "7", "photo": "/data/upload/1/0a1b2c3d-one.png"}
    assert read(tmp_path, tree)[0].image_id == "one"


def test_json_min_says_the_same(tmp_path):
    def record(number: int, image: str, regions: list[Any] | None, annotation_id: int | None = 1) -> dict[str, Any]:
        times = {"created_at": "2024-05-01T10:00:00Z", "updated_at": f"2024-05-0{number}T10:00:00Z", "lead_time": 3.5}
        head = {"image": image, "id": number, "annotator": 1, "annotation_id": annotation_id}
        return head | ({} if regions is None else {"label": regions}) | times

    region = polygon(4, 4, 8, "mole")
    value = region["value"] | {"original_width": WIDTH, "original_height": HEIGHT}
    older = {"image": "one.png", "id": 1, "annotator": 2, "annotation_id": 9, "updated_at": "2020-01-01", "label": []}
    tree = [record(1, "one.png", [value]), record(2, "none.png", None), record(3, "two.png", None, None), older]
    dataset = read(tmp_path, tree)
    assert [(sample.image_id, len(sample.instances)) for sample in dataset] == [("one", 1), ("none", 0)]
    assert dataset.class_names == ("mole",)
    np.testing.assert_array_equal(dataset.load(0).masks[0], square_mask(4, 4, 8))
    assert "'two.png' has no annotation" in dataset.skipped[0]


def with_frame(**values: Any) -> dict[str, Any]:
    return polygon(4, 4, 8) | values


ITEM = r"export\.json: task 1 \(one\.png\): region r1: "
BAD = {
    "no label": (
        tree_of(polygon(4, 4, 8), polygon(14, 4, 8, None, "r1b")),
        r"region r1b: has no label, and others have; choose one of lesion",
    ),
    "two labels": (
        tree_of(result("polygon", points=percent(corners(4, 4, 8)), labels=["mole"])),
        ITEM + "has 2 labels, 'lesion' and others; choose one",
    ),
    "turned": (tree_of(with_frame(image_rotation=90)), ITEM + "was drawn on the photograph turned by 90 degrees"),
    "another size": (
        tree_of(with_frame(original_width=64)),
        ITEM + f"was drawn on 64x{HEIGHT} pixels, the photograph has {WIDTH}x{HEIGHT}",
    ),
    "turned by EXIF": (
        tree_of(with_frame(original_width=HEIGHT, original_height=WIDTH)),
        r"turned by its EXIF orientation\?",
    ),
    "key point": (
        tree_of(result("keypoint", x=5, y=5, width=1)),
        ITEM + "is a key point, not an outline; draw a polygon or use the brush",
    ),
    "open": (
        tree_of(result("polygon", points=percent(corners(4, 4, 8)), closed=False)),
        ITEM + "the polygon was left open",
    ),
    "two points": (tree_of(result("polygon", points=[[1, 1], [5, 5]])), ITEM + "outline .* has 2 points"),
    "no pairs": (tree_of(result("polygon", points=[[1, 1, 1]])), ITEM + "points .* are not pairs"),
    "outside": (tree_of(polygon(30, 4, 9)), ITEM + "outline reaches 7 px past the right border"),
    "brush of another size": (
        tree_of(result("brush", rle=encode_brush(np.ones((3, 3), bool)))),
        ITEM + "brush outline: its rle has 36 values",
    ),
    "empty brush": (
        tree_of(result("brush", rle=encode_brush(np.zeros(SIZE, bool)))),
        ITEM + "outline has area 0: no pixel is drawn",
    ),
    "broken bitmask": (
        tree_of(result("bitmask", imageDataURL="data:image/png;base64,!")),
        ITEM + "imageDataURL .* holds no PNG",
    ),
    "not a PNG": (
        tree_of(result("bitmask", imageDataURL="data:image/png;base64,QUJD")),
        ITEM + ".*is not an image that dermask knows",
    ),
    "no photograph": ([task(1, "gone.png")], r"task 1: photograph 'gone\.png' is not in"),
    "inside the JSON": ([task(1, "data:image/png;base64,AA")], "the photograph is kept inside the JSON"),
    "several pictures": (
        [{"id": 1, "data": {"a": "one.png", "b": "two.png"}, "annotations": []}],
        "data holds a, b, which leaves open what the photograph is; call its address 'image'",
    ),
    "twice": ([task(1, "one.png"), task(2, "one.png")], "the photograph has two tasks"),
    "result is no list": (
        [{"id": 1, "data": {"image": "one.png"}, "annotations": [{"result": 5}]}],
        "result 5 of an annotation is not a list",
    ),
    "nothing labelled": (
        [{"id": 1, "data": {"image": "one.png"}, "annotations": []}],
        "no usable photograph.*has no annotation",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(tmp_path, case):
    tree, message = BAD[case]
    with pytest.raises(LabelError, match=message) as caught:
        read(tmp_path, tree)
    assert "\n" not in str(caught.value)


def test_skip_bad_leaves_out_the_photograph_of_a_bad_region(tmp_path):
    dataset = read(tmp_path, tree_of(polygon(4, 4, 8), polygon(30, 4, 9, region_id="bad")), skip_bad=True)
    assert [sample.image_id for sample in dataset] == ["none"]
    assert "region bad: outline reaches 7 px" in dataset.skipped[0]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ([], False),
        ({}, False),
        ([{"filename": "x", "regions": []}], False),
        ({"images": [], "annotations": []}, False),
        ([{"image_id": 1, "score": 0.5}], False),
        (tree_of(), True),
        (tree_of()[0], True),
        ({"data": {"rows": 5}}, False),
        ([{"data": {"image": "x.png"}}], True),
        ([{"image": "x", "annotation_id": 1, "annotator": 1}], True),
    ],
)
def test_the_format_is_told_by_its_shape(tree, expected):
    assert is_label_studio(tree) is expected


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_read_or_refused_in_one_line(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "label_studio_damage"
    for name in ("one", "none"):
        if not (folder / f"{name}.png").exists():
            write_photograph(folder / f"{name}.png")
    brush = result("brush", region_id="b", rle=encode_brush(square_mask(3, 2, 7)))
    tree = tree_of(polygon(4, 4, 8), brush, result("ellipse", region_id="e", **ELLIPSE))
    place = data.draw(st.sampled_from(every_place(tree)))
    how = data.draw(st.sampled_from(["set", "remove", "repeat"]))
    try:
        label_studio_dataset(mutate(tree, place, data.draw(JSON_VALUES), how), folder / "x.json")
    except LabelError as error:
        message = str(error)
    else:
        return
    assert "\n" not in message


@settings(max_examples=25, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["blob", "parts", "hole", "polygon", "polygons"]), max_size=3),
    labels=st.lists(st.integers(1, 2), min_size=3, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_written_then_read_keeps_outlines_classes_and_negatives(kinds, labels, seed):
    rng = np.random.default_rng(seed)
    instances = []
    for kind, label in zip(kinds, labels, strict=False):
        if kind.startswith("polygon"):
            count = 1 if kind == "polygon" else 2
            rings = [rng.uniform((5, 5 + 25 * k), (75, 25 + 25 * k), (6, 2)) for k in range(count)]
            instances.append(Instance(label, Polygons(tuple(rings))))
        else:
            instances.append(Instance(label, Bitmask(draw_mask(seed % 1000, kind))))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs = [write_photograph(folder / "photos" / f"{stem} %.png", 60, 80) for stem in ("a", "b")]
        before = Dataset(
            [Sample("a %", photographs[0], None, tuple(instances)), Sample("b %", photographs[1])], ("mole", "lesion")
        )
        write_label_studio(before, folder / "export.json")
        after = read_label_studio(folder / "export.json")
        assert [sample.image_id for sample in after] == ["a %", "b %"]
        assert after[1].instances == ()
        assert len(after[0].instances) == len(instances)
        for one, other in zip(before[0].instances, after[0].instances, strict=True):
            assert before.class_names[one.label - 1] == after.class_names[other.label - 1]
            mask, again = (outline_bitmask(each.outline, ImageSize(60, 80)) for each in (one, other))
            assert np.sum(mask & again) >= 0.99 * np.sum(mask | again)


def small_dataset(folder: Path) -> Dataset:
    hole = np.ones((10, 12), bool)
    hole[3:7, 3:8] = False
    mask = np.zeros(SIZE, bool)
    mask[4:14, 4:16] = hole
    ring = np.array(corners(18, 4, 8), float)
    instances = (
        Instance(1, Polygons((ring,))),
        Instance(1, Bitmask(mask)),
        Instance(1, Polygons((ring,)), is_crowd=True),
    )
    return Dataset(
        [Sample("one", write_photograph(folder / "one.png"), None, instances)], ("a & <b>", "unused"), "small"
    )


def test_what_is_lost_is_said(tmp_path):
    losses = write_label_studio(small_dataset(tmp_path), tmp_path / "export.json")
    assert [line.split(":")[0] for line in losses] == [
        "class unused not kept",
        "1 crowd region left out",
        "1 outline of several parts, with holes or of fine detail written as brush strokes",
    ]


def test_tasks_are_predictions_that_the_configuration_takes(tmp_path):
    dataset = small_dataset(tmp_path)
    path = tmp_path / "tasks.json"
    write_label_studio_tasks(dataset, path, image_url_prefix="s3://skin/", scores={"one": 0.75})
    (written,) = json.loads(path.read_text())
    assert written["data"] == {"image": "s3://skin/one.png"}
    (prediction,) = written["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("dermask", 0.75)
    view = ET.fromstring(labelling_configuration(dataset.class_names))
    assert view.find("Image").get("value") == "$image"
    tools = {tag.get("name"): tag for tag in view if tag.tag != "Image"}
    for region in prediction["result"]:
        tool = tools[region["from_name"]]
        assert tool.tag.lower() == region["type"]
        assert tool.get("toName") == region["to_name"] == view.find("Image").get("name")
        assert region["value"][region["type"]][0] in {label.get("value") for label in tool}
    with pytest.raises(LabelError, match=r"no usable photograph.*has no annotation"):
        read_label_studio(path)  # a prediction is no label


def test_nothing_is_overwritten_unasked(tmp_path):
    dataset = small_dataset(tmp_path)
    (tmp_path / "export.json").write_text("mine")
    for write in (write_label_studio, write_label_studio_tasks):
        with pytest.raises(OutputExistsError, match=r"export\.json: is there already"):
            write(dataset, tmp_path / "export.json")
    assert (tmp_path / "export.json").read_text() == "mine"
    write_label_studio(dataset, tmp_path / "export.json", overwrite=True)
    assert len(read_label_studio(tmp_path / "export.json")) == 1


def test_photographs_in_memory_are_saved_beside_the_json(tmp_path):
    image = np.full((*SIZE, 3), 200, np.uint8)
    write_label_studio(Dataset([Sample("drawn", image)]), tmp_path / "export.json")
    np.testing.assert_array_equal(read_label_studio(tmp_path / "export.json").load(0).image, image)
