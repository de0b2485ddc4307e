import base64
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_examples import HEIGHT, JSON_VALUES, WIDTH, draw_mask, every_place, mutate, write_json, write_photograph
from PIL import Image

from dermask.data.dataset import Dataset
from dermask.data.labelme import is_labelme, is_labelme_folder, labelme_dataset, read_labelme, read_labelme_folder
from dermask.data.labelme_write import write_labelme
from dermask.errors import InputError, LabelError, OutputExistsError
from dermask.masks import outline_bitmask
from dermask.records import Bitmask, ImageSize, Instance, Polygons, Sample

SIZE = ImageSize(HEIGHT, WIDTH)


def shape(points: Any, label: Any = "lesion", kind: Any = "polygon", **values: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | values


def square(x: float, y: float, side: float, label: Any = "lesion", **values: Any) -> dict[str, Any]:
    return shape([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], label, **values)


def png(mask: Any, value: int = 1) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(mask, np.uint8) * value).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def tree_of(*shapes: dict[str, Any], image: str = "one.png", **values: Any) -> dict[str, Any]:
    head = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None}
    return head | {"imageHeight": HEIGHT, "imageWidth": WIDTH} | values


def write(folder: Path, tree: Any = None, name: str = "one") -> Path:
    write_photograph(folder / f"{name}.png")
    tree = tree_of(square(4, 4, 8), image=f"{name}.png") if tree is None else tree
    return write_json(folder / f"{name}.json", tree)


def test_no_shapes_mean_no_lesion(tmp_path):
    dataset = read_labelme(write(tmp_path, tree_of()))
    assert [(sample.image_id, sample.instances) for sample in dataset] == [("one", ())]
    assert dataset.class_names == ("lesion",)


def test_polygons_are_read_as_they_are(tmp_path):
    dataset = read_labelme(write(tmp_path))
    assert dataset[0].instances[0].outline.parts[0].tolist() == [[4, 4], [12, 4], [12, 12], [4, 12]]
    assert dataset[0].size == SIZE


@pytest.mark.parametrize(
    ("entry", "box", "area"),
    [
        pytest.param(shape([[4, 6], [16, 11]], kind="rectangle"), (4, 6, 16, 11), 60, id="rectangle"),
        pytest.param(shape([[16, 11], [4, 6]], kind="rectangle"), (4, 6, 16, 11), 60, id="rectangle drawn backwards"),
        pytest.param(shape([[16, 12], [16, 4]], kind="circle"), (8, 4, 24, 20), np.pi * 64, id="circle"),
        pytest.param(
            shape([[10, 2], [18, 10], [10, 18], [2, 10]], kind="oriented_rectangle"), (2, 2, 18, 18), 128, id="oriented"
        ),
        pytest.param(square(4, 4, 8) | {"shape_type": None}, (4, 4, 12, 12), 64, id="an old file"),
        pytest.param(
            shape([[3, 2], [6, 4]], kind="mask", mask=png([[1, 1, 0, 1]] * 3)), (3, 2, 7, 5), 9, id="mask of 0 and 1"
        ),
        pytest.param(
            shape([[3.7, 2.2], [6.9, 4]], kind="mask", mask=png([[1, 1, 0, 1]] * 3, 255)), (3, 2, 7, 5), 9, id="mask"
        ),
    ],
)
def test_every_shape_with_an_inside_is_an_outline(tmp_path, entry, box, area):
    mask = read_labelme(write(tmp_path, tree_of(entry))).load(0).masks[0]
    rows, columns = np.nonzero(mask)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == pytest.approx(box, abs=1)
    assert mask.sum() == pytest.approx(area, rel=0.07)


def test_a_group_of_one_label_is_one_object(tmp_path):
    dataset = read_labelme(
        write(
            tmp_path,
            tree_of(
                square(2, 2, 5, group_id=1),
                square(20, 2, 5, group_id=1),
                square(2, 12, 5, "mole", group_id=1),
                square(20, 12, 5),
                shape([[10, 2], [12, 4]], kind="mask", mask=png([[1] * 3] * 3), group_id=1),
            ),
        )
    )
    loaded = dataset.load(0)
    assert [int(mask.sum()) for mask in loaded.masks] == [59, 25, 25]
    assert [dataset.class_names[label - 1] for label in loaded.labels] == ["lesion", "mole", "lesion"]


def test_regions_to_ignore_are_crowds(tmp_path):
    dataset = read_labelme(write(tmp_path, tree_of(square(2, 2, 5, "mole"), square(20, 2, 5, "__ignore__"))))
    assert dataset.class_names == ("mole",)
    assert [one.is_crowd for one in dataset[0].instances] == [False, True]
    assert dataset.load(0).ignored.sum() == 25


def test_a_folder_is_one_data_set(tmp_path):
    write(tmp_path)
    write(tmp_path, tree_of(image="none.png"), "none")
    write(tmp_path / "arm", tree_of(square(2, 2, 5, "mole"), image="two.png"), "two")
    write(tmp_path / ".hidden", {}, "gone")
    dataset = read_labelme_folder(tmp_path)
    assert [sample.image_id for sample in dataset] == ["none", "one", "two"]
    assert dataset.class_names == ("lesion", "mole")
    assert dataset.skipped == ()


def test_equal_names_in_sub_folders_stay_apart(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert [sample.image_id for sample in read_labelme_folder(tmp_path)] == ["a/one.png", "b/one.png"]


def test_photographs_without_a_json_stay_out_and_are_named(tmp_path):
    write(tmp_path)
    for name in ("three", "two"):
        write_photograph(tmp_path / f"{name}.png")
    dataset = read_labelme_folder(tmp_path)
    assert len(dataset) == 1
    line = f"{tmp_path}: photograph 'three.png' has no JSON, and so with 1 more; left out as unlabelled"
    assert dataset.skipped == (line,)
    assert [problem.photograph.name for problem in dataset.problems] == ["three.png", "two.png"]


def test_other_json_files_stay_out_and_are_named(tmp_path):
    write(tmp_path)
    write_json(tmp_path / "settings.json", {"a": 1})
    dataset = read_labelme_folder(tmp_path)
    assert len(dataset) == 1
    assert "is JSON, but not labelme's" in dataset.skipped[0]


@pytest.mark.parametrize(
    ("image_path", "place"),
    [
        ("one.png", "json/one.png"),
        ("arm\\one.png", "json/arm/one.png"),
        ("../photos/arm/one.png", "json/images/arm/one.png"),
        ("..\\photos\\one.png", "json/one.png"),
        ("D:\\photos\\one.png", "json/one.png"),
        ("/home/me/one.png", "json/one.png"),
    ],
)
def test_a_photograph_is_found_by_its_path(tmp_path, image_path, place):
    write_photograph(tmp_path / place)
    path = write_json(tmp_path / "json" / "one.json", tree_of(image=image_path))
    assert read_labelme(path)[0].image == tmp_path / place


def test_no_path_leaves_the_folder(tmp_path):
    write_photograph(tmp_path / "secret.png")
    (tmp_path / "json").mkdir()
    path = write_json(tmp_path / "json" / "one.json", tree_of(image="../secret.png"))
    with pytest.raises(
        LabelError, match=r"photograph 'secret\.png' is not in .*json or .*images; name the photographs'"
    ):
        read_labelme(path)


def test_a_folder_of_photographs_may_be_given(tmp_path):
    write_photograph(tmp_path / "photos/arm/one.png")
    write_photograph(tmp_path / "photos/two.png")
    for place, image in (("arm/one.json", "one.png"), ("leg/two.json", "../../photos/two.png")):
        (tmp_path / "json" / place).parent.mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / "json" / place, tree_of(image=image))
    dataset = read_labelme_folder(tmp_path / "json", tmp_path / "photos")
    assert [sample.image for sample in dataset] == [tmp_path / "photos/arm/one.png", tmp_path / "photos/two.png"]


ONE = r"one\.json: "
BAD = {
    "no photograph": (tree_of(image="gone.png"), ONE + r"photograph 'gone\.png' is not in"),
    "only pixels": (
        tree_of(image="gone.png", imageData="AA"),
        "--images, or save the photograph that the JSON holds as a file beside it",
    ),
    "size": (tree_of(imageWidth=99), ONE + f"size 99x{HEIGHT} is not the photograph's"),
    "size is text": (tree_of(imageWidth="x"), ONE + "imageWidth 'x' is not a whole number above 0"),
    "no label": (tree_of(square(4, 4, 8, "")), ONE + "shape 0: label '' is not a name"),
    "line": (tree_of(shape([[1, 1], [9, 9]], kind="line")), ONE + "shape 0: shape_type 'line' is not an outline"),
    "two points": (tree_of(shape([[1, 1], [9, 9]])), ONE + "shape 0: outline .* has 2 points"),
    "circle": (tree_of(shape([[1, 1]], kind="circle")), ONE + "shape 0: a circle has 2 points, this 1"),
    "no pairs": (tree_of(shape([[1, 1, 1]])), ONE + "shape 0: points .* are not pairs"),
    "outside": (tree_of(square(4, 4, 8), square(30, 4, 9)), ONE + "shape 1: outline reaches 7 px past the right"),
    "group": (tree_of(square(4, 4, 8, group_id="a")), ONE + "shape 0: group_id 'a' is not a whole number"),
    "part of a group": (
        tree_of(square(4, 4, 8, group_id=1), square(30, 4, 9, group_id=1)),
        ONE + "shape 1: outline reaches 7 px",
    ),
    "mask outside": (
        tree_of(shape([[30, 2], [40, 4]], kind="mask", mask=png([[1]]))),
        "shape 0: its mask covers 30, 2 to 40, 4",
    ),
    "mask of another size": (
        tree_of(shape([[3, 2], [6, 4]], kind="mask", mask=png([[1, 1]]))),
        "shape 0: its mask has 2x1 pixels, its two points span 4x3",
    ),
    "mask without pixels": (
        tree_of(shape([[3, 2], [4, 2]], kind="mask", mask=png([[0, 0]]))),
        "shape 0: outline has area 0: its mask holds no pixel",
    ),
    "mask is no base64": (tree_of(shape([[3, 2], [4, 2]], kind="mask", mask="!")), "its mask is not base64"),
    "mask is no ASCII": (tree_of(shape([[3, 2], [4, 2]], kind="mask", mask="\u00e9")), "its mask is not base64"),
    "mask is no PNG": (
        tree_of(shape([[3, 2], [4, 2]], kind="mask", mask="QUJD")),
        "its mask is not an image that dermask knows",
    ),
    "mask of many pixels": (
        tree_of(shape([[3, 2], [4, 2]], kind="mask", mask=png(np.ones((100, 100))))),
        r"its mask has 100 x 100 pixels",
    ),
    "no mask": (tree_of(shape([[3, 2], [4, 2]], kind="mask")), "shape 0: has no mask"),
    "shapes": (tree_of() | {"shapes": 5}, ONE + "shapes 5 is not a list"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(tmp_path, case):
    tree, message = BAD[case]
    with pytest.raises(LabelError, match=message) as caught:
        read_labelme(write(tmp_path, tree))
    assert "\n" not in str(caught.value)


def test_two_files_of_one_photograph_are_a_problem_and_both_stay_out(tmp_path):
    write(tmp_path)
    write_json(tmp_path / "one (copy).json", tree_of())
    write(tmp_path, tree_of(image="two.png"), "two")
    with pytest.raises(LabelError, match=r"the photograph is also that of one \(copy\)\.json; delete one"):
        read_labelme_folder(tmp_path)
    assert [sample.image_id for sample in read_labelme_folder(tmp_path, skip_bad=True)] == ["two"]


def test_a_broken_file_of_a_folder_can_be_skipped(tmp_path):
    write(tmp_path)
    (tmp_path / "two.json").write_text('{"shapes": [')
    with pytest.raises(LabelError, match=r"two\.json: JSON ends too early"):
        read_labelme_folder(tmp_path)
    assert len(read_labelme_folder(tmp_path, skip_bad=True)) == 1


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        pytest.param({}, False, id="an empty folder"),
        pytest.param({"labels.json": {"images": [], "annotations": []}}, False, id="COCO"),
        pytest.param({"one.json": tree_of()}, True, id="labelme"),
        pytest.param({"arm/one.json": tree_of()}, True, id="in a sub-folder"),
        pytest.param({"arm/one.json": tree_of(), "labels.json": {"images": []}}, False, id="below another file"),
        pytest.param({"one.json": tree_of(*[square(1, 1, 2)] * 2000)}, True, id="more shapes than are looked at"),
    ],
)
def test_a_folder_is_told_by_the_heads_of_its_files(tmp_path, contents, expected):
    for name, tree in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_json(tmp_path / name, tree)
    assert is_labelme_folder(tmp_path) is expected


@pytest.mark.parametrize(("tree", "expected"), [([], False), ({}, False), ({"shapes": []}, False), (tree_of(), True)])
def test_a_file_is_told_by_its_keys(tree, expected):
    assert is_labelme(tree) is expected


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_anywhere_is_read_or_refused_in_one_line(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "labelme_damage"
    if not (folder / "one.png").exists():
        write_photograph(folder / "one.png")
    mask = shape([[3, 2], [6, 4]], kind="mask", mask=png([[1, 1, 0, 1]] * 3))
    tree = tree_of(square(4, 4, 8), mask, shape([[16, 12], [16, 4]], kind="circle"))
    place = data.draw(st.sampled_from(every_place(tree)))
    how = data.draw(st.sampled_from(["set", "remove", "repeat"]))
    try:
        labelme_dataset(mutate(tree, place, data.draw(JSON_VALUES), how), folder / "x.json")
    except LabelError as error:
        message = str(error)
    else:
        return
    assert "\n" not in message


@settings(max_examples=25, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["blob", "parts", "hole", "polygon", "polygons"]), max_size=3),
    labels=st.lists(st.integers(1, 2), min_size=3, max_size=3),
    crowd=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_written_then_read_keeps_outlines_classes_and_negatives(kinds, labels, crowd, seed):
    rng = np.random.default_rng(seed)
    instances = []
    for number, (kind, label) in enumerate(zip(kinds, labels, strict=False)):
        if kind.startswith("polygon"):
            count = 1 if kind == "polygon" else 2
            rings = [rng.uniform((5, 5 + 25 * k), (75, 25 + 25 * k), (6, 2)) for k in range(count)]
            outline = Polygons(tuple(rings))
        else:
            outline = Bitmask(draw_mask(seed % 1000, kind))
        instances.append(Instance(label, outline, is_crowd=number == crowd))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs = [write_photograph(folder / "photos" / f"{stem} %.png", 60, 80) for stem in ("a", "b")]
        before = Dataset(
            [Sample("a %", photographs[0], None, tuple(instances)), Sample("b %", photographs[1])], ("mole", "lesion")
        )
        target = folder / ("photos" if seed % 2 else "json")
        write_labelme(before, target)
        after = read_labelme_folder(target, folder / "photos")
        assert [sample.image_id for sample in after] == ["a %", "b %"]
        assert after[1].instances == ()
        assert len(after[0].instances) == len(instances)
        for one, other in zip(before[0].instances, after[0].instances, strict=True):
            assert one.is_crowd == other.is_crowd
            assert one.is_crowd or before.class_names[one.label - 1] == after.class_names[other.label - 1]
            mask, again = (outline_bitmask(each.outline, ImageSize(60, 80)) for each in (one, other))
            assert np.sum(mask & again) >= 0.99 * np.sum(mask | again)


def small_dataset(folder: Path) -> Dataset:
    ring = np.array([[4, 4], [12, 4], [12, 12], [4, 12]], float)
    instances = (Instance(1, Polygons((ring, ring + 10))), Instance(2, Polygons((ring,)), is_crowd=True))
    samples = [
        Sample("x", write_photograph(folder / "photos/arm/x.png"), None, instances),
        Sample("y", write_photograph(folder / "photos/leg/y.png")),
    ]
    return Dataset(samples, ("mole", "naevus"))


def test_files_have_the_form_that_labelme_reads(tmp_path):
    losses = write_labelme(small_dataset(tmp_path), tmp_path / "json")
    tree = json.loads((tmp_path / "json/arm/x.json").read_text())
    assert list(tree) == ["version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"]
    assert tree["imagePath"] == "../../photos/arm/x.png"
    assert ((tmp_path / "json/arm") / tree["imagePath"]).is_file()
    assert [(one["label"], one["group_id"], one["shape_type"]) for one in tree["shapes"]] == [
        ("mole", 1, "polygon"),
        ("mole", 1, "polygon"),
        ("__ignore__", None, "polygon"),
    ]
    assert losses == (
        "1 crowd region written as '__ignore__', without its class",
        "class naevus not kept: no outline has it",
    )


def test_jsons_come_beside_photographs_that_lie_in_the_folder(tmp_path):
    write_labelme(small_dataset(tmp_path), tmp_path / "photos")
    assert json.loads((tmp_path / "photos/leg/y.json").read_text())["imagePath"] == "y.png"
    assert len(read_labelme_folder(tmp_path / "photos")) == 2


def test_photographs_of_one_stem_get_two_files(tmp_path):
    samples = [Sample(name, write_photograph(tmp_path / name)) for name in ("x.png", "x.bmp")]
    losses = write_labelme(Dataset(samples), tmp_path)
    assert "1 JSON named with the photograph's suffix" in losses[0]
    assert sorted(sample.image.name for sample in read_labelme_folder(tmp_path)) == ["x.bmp", "x.png"]


def test_photographs_in_memory_are_saved_beside_their_json(tmp_path):
    image = np.full((*SIZE, 3), 200, np.uint8)
    write_labelme(Dataset([Sample("drawn", image)]), tmp_path / "json")
    np.testing.assert_array_equal(read_labelme_folder(tmp_path / "json").load(0).image, image)


def test_one_file_in_the_way_stops_all(tmp_path):
    (tmp_path / "json/leg").mkdir(parents=True)
    (tmp_path / "json/leg/y.json").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"leg/y\.json: is there already"):
        write_labelme(small_dataset(tmp_path), tmp_path / "json")
    assert [path.name for path in (tmp_path / "json").rglob("*") if path.is_file()] == ["y.json"]
    write_labelme(small_dataset(tmp_path), tmp_path / "json", overwrite=True)
    assert len(read_labelme_folder(tmp_path / "json", tmp_path / "photos")) == 2


@pytest.mark.parametrize("how", ["a photograph that is gone", "a disk that fails half way"])
def test_a_failure_leaves_everything_as_it_was(tmp_path, monkeypatch, how):
    dataset = small_dataset(tmp_path)
    (tmp_path / "json/arm").mkdir(parents=True)
    (tmp_path / "json/arm/x.json").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    if how == "a photograph that is gone":
        (tmp_path / "photos/leg/y.png").unlink()
        before.remove(tmp_path / "photos/leg/y.png")
    else:
        replace = Path.replace

        def failing(self, target):
            if Path(target) == tmp_path / "json/leg/y.json":
                raise OSError(28, "No space left on device")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(InputError, match=r"no such file|cannot be written: No space left on device"):
        write_labelme(dataset, tmp_path / "json", overwrite=True)
    assert (tmp_path / "json/arm/x.json").read_text() == "mine"
    assert sorted(tmp_path.rglob("*")) == before
