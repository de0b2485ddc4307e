import json
from copy import deepcopy
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
    via_region,
    via_tree,
    write_coco_folder,
    write_json,
    write_photograph,
)

from dermask.data.coco import read_coco
from dermask.data.dataset import Dataset
from dermask.data.via import is_via, read_via
from dermask.data.via_write import write_via
from dermask.errors import ImageError, InputError, LabelError, OutputExistsError
from dermask.records import Instance, Polygons, Sample


def write(folder, tree=None):
    write_coco_folder(folder)
    return write_json(folder / "vgg.json", via_tree() if tree is None else tree)


def with_region(region: Any) -> dict[str, Any]:
    tree = via_tree()
    tree["two.png"]["regions"]["1"] = region
    return tree


def with_shape(**values: Any) -> dict[str, Any]:
    tree = via_tree()
    tree["two.png"]["regions"]["1"]["shape_attributes"] = values
    return tree


def with_attributes(value: Any) -> dict[str, Any]:
    tree = via_tree()
    tree["two.png"]["regions"]["1"]["region_attributes"] = value
    return tree


def as_version_2(tree: dict[str, Any]) -> dict[str, Any]:
    tree = deepcopy(tree)
    for entry in tree.values():
        entry["regions"] = list(entry["regions"].values())
    return {f"{key}{entry['size']}": entry for key, entry in tree.items()}


@pytest.mark.parametrize("regions", [{}, [], None])
def test_a_photograph_without_regions_has_no_lesion(tmp_path, regions):
    tree = via_tree()
    tree["none.png"]["regions"] = regions
    assert read_via(write(tmp_path, tree))[2].instances == ()


def test_regions_missing_altogether_mean_no_lesion(tmp_path):
    tree = via_tree()
    del tree["none.png"]["regions"]
    assert len(read_via(write(tmp_path, tree))) == 3


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda tree: tree, id="version 1 and makesense.ai"),
        pytest.param(as_version_2, id="version 2"),
        pytest.param(lambda tree: {"_via_settings": {}, "_via_img_metadata": as_version_2(tree)}, id="project"),
    ],
)
def test_every_version_says_the_same_as_coco(tmp_path, form):
    dataset = read_via(write(tmp_path, form(via_tree())))
    reference = read_coco(write_coco_folder(tmp_path, coco_tree()))
    assert [sample.image_id for sample in dataset] == [sample.image_id for sample in reference]
    assert dataset.class_names == ("lesion", "mole")  # by name; the COCO file has them by id, the other way round
    for index in range(3):
        here, there = dataset.load(index), reference.load(index)
        np.testing.assert_array_equal(here.masks, there.masks)
        assert [dataset.class_names[label - 1] for label in here.labels] == [
            reference.class_names[label - 1] for label in there.labels
        ]


def test_the_repeated_first_point_is_dropped(tmp_path):
    outline = read_via(write(tmp_path))[0].instances[0].outline
    assert outline.parts[0].tolist() == [[4, 4], [12, 4], [12, 12], [4, 12]]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"label": "mole"}, "mole"),
        ({"label": " mole "}, "mole"),
        ({"tissue": "mole"}, "mole"),
        ({"quality": "good", "class": "mole"}, "mole"),
        ({"label": {"lesion": False, "mole": True}}, "mole"),
    ],
)
def test_the_class_is_found_among_the_attributes(tmp_path, attributes, expected):
    dataset = read_via(write(tmp_path, with_attributes(attributes)))
    assert dataset.class_names[dataset[1].instances[1].label - 1] == expected


def test_a_file_without_any_attribute_has_the_one_class_lesion(tmp_path):
    tree = via_tree()
    for entry in tree.values():
        for region in entry["regions"].values():
            region["region_attributes"] = {}
    dataset = read_via(write(tmp_path, tree))
    assert dataset.class_names == ("lesion",)
    assert [len(sample.instances) for sample in dataset] == [1, 2, 0]


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ({"name": "circle", "cx": 15, "cy": 12, "r": 8}, np.pi * 64),
        ({"name": "ellipse", "cx": 15, "cy": 12, "rx": 10, "ry": 5}, np.pi * 50),
        ({"name": "ellipse", "cx": 15, "cy": 12, "rx": 10, "ry": 5, "theta": np.pi / 2}, np.pi * 50),
    ],
)
def test_circles_and_ellipses_are_outlines(tmp_path, shape, area):
    loaded = read_via(write(tmp_path, with_shape(**shape))).load(1)
    assert loaded.masks[1].sum() == pytest.approx(area, rel=0.05)
    rows, columns = np.nonzero(loaded.masks[1])
    if shape["name"] == "ellipse":
        assert (np.ptp(rows) > np.ptp(columns)) == ("theta" in shape)


REGION = r"vgg\.json: two\.png: region 1: "
POLYGON = {"name": "polygon", "all_points_x": [1, 5, 5], "all_points_y": [1, 1, 5]}

BAD = {
    "region is a number": (with_region(3), REGION + "3 is not an object"),
    "no shape": (with_region({"region_attributes": {"label": "a"}}), REGION + r"shape_attributes: None is not an obj"),
    "rectangle": (
        with_shape(name="rect", x=1, y=1, width=3, height=3),
        REGION + r"shape 'rect' is a box, not an outline; draw",
    ),
    "nameless shape": (with_shape(), REGION + r"shape None is not an outline"),
    "two points": (
        with_shape(name="polygon", all_points_x=[1, 5, 1], all_points_y=[1, 1, 1]),
        REGION + r"outline .* has 2 points; it needs 3 or more",
    ),
    "no points": (with_shape(name="polygon", all_points_x=[], all_points_y=[]), REGION + r"outline \[\] has 0 points"),
    "x without y": (with_shape(**POLYGON | {"all_points_y": [1]}), REGION + r"3 x and 1 y coordinates; draw"),
    "y missing": (with_shape(name="polygon", all_points_x=[1, 2, 3]), REGION + r"all_points_y None is not a list"),
    "NaN": (with_shape(**POLYGON | {"all_points_x": [1, float("nan"), 2]}), REGION + r"all_points_x holds nan"),
    "past the border": (with_shape(**POLYGON | {"all_points_x": [1, 90, 2]}), REGION + r"outline reaches 58 px past"),
    "on a line": (with_shape(**POLYGON | {"all_points_y": [2, 2, 2]}), REGION + r"outline has area 0"),
    "circle without radius": (with_shape(name="circle", cx=3, cy=3), REGION + r"circle holds None"),
    "circle of radius 0": (with_shape(name="circle", cx=3, cy=3, r=0), REGION + r"outline"),
    "no label": (with_region(via_region(1, 1, 4, None)), REGION + r"has no label, and others have; choose one of"),
    "nothing ticked": (with_attributes({"label": {"mole": False}}), REGION + r"has no label"),
    "two ticked": (with_attributes({"label": {"a": True, "b": True}}), REGION + r"'label' has 2 options ticked; tick"),
    "label is a number": (with_attributes({"label": 3}), REGION + r"label 3 is not a name"),
    "class left open": (with_attributes({"a": "x", "b": "y"}), REGION + r"attributes a, b leave the class open; call"),
    "attributes are text": (with_attributes("lesion"), REGION + r"region_attributes: 'lesion' is not an object"),
    "regions are text": (
        via_tree() | {"two.png": via_tree()["two.png"] | {"regions": "x"}},
        r"regions 'x' are neither",
    ),
    "record is a list": (via_tree() | {"two.png": []}, r"vgg\.json: 'two\.png': \[\] is not an object"),
    "no file name": (via_tree() | {"two.png": {"regions": {}}}, r"'two\.png': has no filename"),
    "missing photograph": (
        via_tree() | {"two.png": via_tree()["two.png"] | {"filename": "gone.png"}},
        r"gone\.png: photograph 'gone\.png' is not in .* --images",
    ),
    "leaving the folder": (
        via_tree() | {"two.png": via_tree()["two.png"] | {"filename": "../two.png"}},
        r"file_name '\.\./two\.png' leaves its folder",
    ),
    "a web address": (
        via_tree() | {"two.png": via_tree()["two.png"] | {"filename": "https://example.org/a.png"}},
        r"photograph 'https://example\.org/a\.png' is not in",
    ),
    "photograph twice": (via_tree() | {"again": via_tree()["two.png"]}, r"two\.png: the photograph has two records"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_it_and_skipping_goes_on_without(tmp_path, case):
    tree, message = BAD[case]
    path = write(tmp_path, tree)
    with pytest.raises(LabelError, match=message) as caught:
        read_via(path)
    assert "\n" not in str(caught.value)
    dataset = read_via(path, skip_bad=True)
    assert [sample.image_id for sample in dataset] == ["one", "none"]
    assert len(dataset.skipped) == 1


@pytest.mark.parametrize("tree", [{}, {"_via_img_metadata": {}}])
def test_an_empty_file_is_refused(tmp_path, tree):
    with pytest.raises(LabelError, match=r"vgg\.json: has no photographs; label at least one"):
        read_via(write(tmp_path, tree))


@pytest.fixture(scope="module")
def via_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("via")
    write_coco_folder(folder)
    return folder


@settings(deadline=None, max_examples=150)
@given(data=st.data(), skip_bad=st.booleans())
def test_mutated_files_give_a_data_set_or_a_label_error(via_folder, data, skip_bad):
    tree: Any = via_tree()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(every_place(tree)))
        tree = mutate(tree, place, data.draw(JSON_VALUES), data.draw(st.sampled_from(["set", "remove"])))
    path = write_json(via_folder / "mutated.json", tree)
    try:
        dataset = read_via(path, skip_bad=skip_bad)
    except LabelError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
        return
    for index in range(len(dataset)):
        assert dataset.load(index).masks.shape[1:] == (HEIGHT, WIDTH)


def test_a_coco_tree_is_not_taken_for_a_vgg_one():
    assert is_via(via_tree())
    assert is_via({"_via_img_metadata": 3})
    assert not is_via(coco_tree())
    assert not is_via([])
    assert not is_via({})


# Projects that list their classes, and version 3


def project(attributes: Any, tree: dict[str, Any] | None = None) -> dict[str, Any]:
    records = as_version_2(via_tree() if tree is None else tree)
    return {"_via_settings": {}, "_via_img_metadata": records, "_via_attributes": attributes}


def dropdown(*options: str, kind: str = "dropdown") -> dict[str, Any]:
    return {"region": {"label": {"type": kind, "options": dict.fromkeys(options, "")}}, "file": {}}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param(dropdown("mole", "naevus", "lesion"), ("mole", "naevus", "lesion"), id="options in their order"),
        pytest.param(dropdown("mole", "lesion", kind="radio"), ("mole", "lesion"), id="radio"),
        pytest.param(dropdown("mole"), ("lesion", "mole"), id="an option is missing"),
        pytest.param(dropdown("mole", "lesion", kind="text"), ("lesion", "mole"), id="text"),
        pytest.param(dropdown("mole", "mole ", "lesion"), ("lesion", "mole"), id="option twice"),
        pytest.param(dropdown("mole", "", "lesion"), ("lesion", "mole"), id="empty option"),
        pytest.param({}, ("lesion", "mole"), id="no attributes"),
        pytest.param({"region": [1]}, ("lesion", "mole"), id="broken attributes"),
        pytest.param({"region": {"label": None}}, ("lesion", "mole"), id="broken attribute"),
        pytest.param({"region": {"label": {"type": "radio"}}}, ("lesion", "mole"), id="no options"),
        pytest.param(
            {"region": dropdown("mole", "lesion")["region"] | {"other": {}}}, ("lesion", "mole"), id="two attributes"
        ),
    ],
)
def test_a_project_lists_its_classes(tmp_path, attributes, expected):
    assert read_via(write(tmp_path, project(attributes))).class_names == expected


def test_options_that_nobody_chose_are_no_classes(tmp_path):
    tree = via_tree()
    for entry in tree.values():
        for region in entry["regions"].values():
            region["region_attributes"] = {}
    assert read_via(write(tmp_path, project(dropdown("human", "bird"), tree))).class_names == ("lesion",)
    assert read_via(write(tmp_path, project(dropdown("mole"), tree))).class_names == ("mole",)


def test_version_3_is_named(tmp_path):
    tree = {"project": {}, "config": {}, "attribute": {}, "file": {}, "view": {}, "metadata": {}}
    assert is_via(tree)
    with pytest.raises(
        LabelError, match=r"vgg\.json: is a project of VGG Image Annotator 3, another format than VIA 2"
    ):
        read_via(write(tmp_path, tree))


# Writing


def written(dataset: Dataset, folder: Path, version: Any) -> dict[str, Any]:
    write_via(dataset, folder / "out.json", version=version)
    return json.loads((folder / "out.json").read_text())


def test_every_version_has_the_tools_own_keys_and_shapes(tmp_path):
    dataset = read_via(write(tmp_path))
    size = (tmp_path / "one.png").stat().st_size
    for version, form, closed in [("1", dict, True), ("2", list, False), ("project", list, False)]:
        tree = written(dataset, tmp_path / version, version)
        records = tree["_via_img_metadata"] if version == "project" else tree
        record = records[f"one.png{size}"]
        assert record["filename"] == "one.png"
        assert record["size"] == size
        assert isinstance(record["regions"], form)
        region = record["regions"]["0"] if version == "1" else record["regions"][0]
        ends = [4] if closed else []
        assert region["shape_attributes"] == {
            "name": "polygon",
            "all_points_x": [4, 12, 12, 4, *ends],
            "all_points_y": [4, 4, 12, 12, *ends],
        }
        assert region["region_attributes"] == {"label": "lesion"}
        assert read_via(tmp_path / version / "out.json", tmp_path).class_names == ("lesion", "mole")


def test_a_project_is_whole(tmp_path):
    tree = written(read_via(write(tmp_path)), tmp_path, "project")
    assert set(tree) == {
        "_via_settings",
        "_via_img_metadata",
        "_via_attributes",
        "_via_data_format_version",
        "_via_image_id_list",
    }
    assert tree["_via_image_id_list"] == list(tree["_via_img_metadata"])
    assert set(tree["_via_settings"]) == {"ui", "core", "project"}
    assert tree["_via_attributes"]["region"]["label"]["options"] == {"lesion": "", "mole": ""}


def test_a_project_keeps_classes_and_their_order_and_an_export_says_that_it_does_not(tmp_path):
    outline = Polygons((np.array([[2, 2], [12, 2], [12, 12.0]]),))
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    instances = (Instance(3, outline), Instance(1, outline))
    dataset = Dataset([Sample("a", pixels, None, instances)], ("mole", "naevus", "lesion"))
    assert write_via(dataset, tmp_path / "p" / "out.json", version="project") == ()
    again = read_via(tmp_path / "p" / "out.json")
    assert again.class_names == dataset.class_names
    assert [one.label for one in again[0].instances] == [3, 1]
    assert write_via(dataset, tmp_path / "2" / "out.json") == (
        "class naevus not kept: no outline has it",
        "order of the classes: the file has no list of them, so they are read by name",
    )
    assert read_via(tmp_path / "2" / "out.json").class_names == ("lesion", "mole")


def test_a_photograph_listed_twice_is_refused(tmp_path):
    photograph = write_photograph(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"photograph 'x\.png': is listed twice; join its outlines"):
        write_via(Dataset([Sample("a", photograph), Sample("b", photograph)]), tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_another_version_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"version '3': is none of VIA's; choose one of 1, 2, project"):
        write_via(read_via(write(tmp_path)), tmp_path / "out.json", version="3")  # type: ignore[arg-type]


def test_a_photograph_that_is_gone_is_named_and_nothing_is_written(tmp_path):
    dataset = read_via(write(tmp_path))
    (tmp_path / "two.png").unlink()
    with pytest.raises(ImageError, match=r"two\.png: no such file"):
        write_via(dataset, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_nothing_is_overwritten_silently(tmp_path):
    dataset = read_via(write(tmp_path))
    write_via(dataset, tmp_path / "out.json")
    with pytest.raises(OutputExistsError, match=r"out\.json: is there already"):
        write_via(dataset, tmp_path / "out.json")
    write_via(dataset, tmp_path / "out.json", overwrite=True)
