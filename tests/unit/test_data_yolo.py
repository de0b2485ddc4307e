import numpy as np
import pytest
from label_examples import HEIGHT, WIDTH, write_photograph

from dermask import masks
from dermask.data.dataset import Dataset
from dermask.data.formats import list_part_names, open_dataset
from dermask.data.yolo import is_yolo, read_yolo, yolo_instances, yolo_parts
from dermask.data.yolo_write import write_yolo, write_yolo_parts
from dermask.errors import LabelError, OutputExistsError
from dermask.records import Bitmask, ImageSize, Instance, Polygons, Rle, Sample

SIZE = ImageSize(HEIGHT, WIDTH)
TRIANGLE = "0 0.25 0.25 0.75 0.25 0.75 0.75\n"


def write_data(root, yaml="train: images/train\nnames: [lesion, mole]\n", part="train", texts=(TRIANGLE, "")):
    for name, text in zip(("one", "two"), texts, strict=True):
        write_photograph(root / "images" / part / f"{name}.png")
        if text is not None:
            path = root / "labels" / part / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if yaml is not None:
        (root / "data.yaml").write_text(yaml)
    return root


def outlines(dataset):
    return {sample.image_id: len(sample.instances) for sample in dataset}


@pytest.mark.parametrize("text", ["", "\n\n", None])
def test_an_empty_or_missing_text_is_a_photograph_without_a_lesion(tmp_path, text):
    dataset = read_yolo(write_data(tmp_path, texts=(TRIANGLE, text)))
    assert outlines(dataset) == {"one": 1, "two": 0}
    assert dataset.class_names == ("lesion", "mole")
    assert dataset.categories == {1: 0, 2: 1}


def test_coordinates_are_shares_of_width_and_height(tmp_path):
    [one, _] = read_yolo(write_data(tmp_path))
    [instance] = one.instances
    assert (instance.label, instance.annotation_id) == (1, 1)
    assert instance.outline.parts[0].tolist() == [[8, 6], [24, 6], [24, 18]]


@pytest.mark.parametrize(
    "yaml",
    [
        "path: /somewhere/else\ntrain: ../images/train\nnc: 2\nnames: ['lesion', 'mole']\n",  # Roboflow
        "path: ./\ntrain: train.txt\nnames:\n  0: lesion\n  1: mole\n",  # CVAT
        "train: [images/train]\nnames:\n- lesion\n- mole\n",
        "train: images\\train\nval:\ntest: # none\nnames: {1: mole, 0: lesion}\n",
    ],
)
def test_every_programs_data_file_is_read(tmp_path, yaml):
    write_data(tmp_path, yaml)
    (tmp_path / "train.txt").write_text("./images/train/one.png\ndata/images/train/two.png\n\n")
    for path in (tmp_path, tmp_path / "data.yaml"):
        dataset = open_dataset(path)
        assert outlines(dataset) == {"one": 1, "two": 0}
        assert dataset.class_names == ("lesion", "mole")


def test_parts_are_asked_for_by_name(tmp_path):
    write_data(tmp_path, "train: images/train\nvalidation: images/valid\nnames: [lesion]\n")
    write_data(tmp_path, None, part="valid", texts=("", TRIANGLE))
    assert list_part_names(tmp_path) == list_part_names(tmp_path / "data.yaml") == ("train", "val")
    for part in ("val", "Validation", "valid"):
        assert outlines(open_dataset(tmp_path, part=part)) == {"one": 0, "two": 1}
    with pytest.raises(LabelError, match=r"data\.yaml: has the parts train, val; name one with --part"):
        open_dataset(tmp_path)
    with pytest.raises(LabelError, match=r"has no part 'test'; choose one of train, val"):
        open_dataset(tmp_path, part="test")


def test_folders_with_a_list_of_classes_need_no_yaml(tmp_path):
    write_data(tmp_path, None)
    assert not is_yolo(tmp_path)
    with pytest.raises(LabelError, match=r"has no data\.yaml, and no classes\.txt beside images/ and labels/; add one"):
        read_yolo(tmp_path)
    (tmp_path / "classes.txt").write_text("lesion\nmole\n")
    assert is_yolo(tmp_path)
    assert yolo_parts(tmp_path) == ("train",)
    assert outlines(open_dataset(tmp_path)) == {"one": 1, "two": 0}


def test_parts_may_stand_above_images_and_labels(tmp_path):
    write_photograph(tmp_path / "valid" / "images" / "one.png")
    (tmp_path / "valid" / "labels").mkdir()
    (tmp_path / "valid" / "labels" / "one.txt").write_text(TRIANGLE)
    (tmp_path / "classes.txt").write_text("lesion\n")
    assert outlines(open_dataset(tmp_path, part="val")) == {"one": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", r"line 1: is a box, not an outline; export the labels for segmentation"),
        ("0 0.1 0.1 0.5 0.1 0.5 0.5 0.93", r"has 7 numbers behind the class, an odd count; .*without a score"),
        ("0 0.1 0.1", r"has 1 point; it needs 3 or more"),
        ("0", r"has 0 points; it needs 3 or more"),
        ("7 0.1 0.1 0.5 0.1 0.5 0.5", r"class '7' has no name; there are 2, from 0; add it to the names"),
        ("-1 0.1 0.1 0.5 0.1 0.5 0.5", r"class '-1' is not a whole number from 0"),
        ("lesion 0.1 0.1 0.5 0.1 0.5 0.5", r"class 'lesion' is not a whole number"),
        ("0 0.1 nan 0.5 0.1 0.5 0.5", r"'nan' is not a number"),
        ("0 0.1 1_0 0.5 0.1 0.5 0.5", r"'1_0' is not a number"),
        ("0 8 6 24 6 24 18", r"coordinate 24 is not a share of the photograph, 0 to 1; divide x by the width"),
        ("0 0.1 0.1 1e999 0.1 0.5 0.5", r"coordinate 1e999 is not a share"),
        ("0 0.1 0.1 1.5 0.1 0.5 0.5", r"outline reaches 16 px past the right border"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3", r"outline has area 0"),
    ],
)
def test_lines_that_are_no_outline_name_their_place(line, message):
    with pytest.raises(LabelError, match=message):
        yolo_instances(line, SIZE, 2, "labels/one.txt")


def test_bridged_rings_come_apart_and_holes_are_holes():
    two = "0 0 0 .25 0 .25 .25 0 .25 0 0 .5 .5 .75 .5 .75 .75 .5 .75 .5 .5 0 0\n"
    hole = "0 0 0 1 0 1 1 0 1 0 0 .25 .25 .25 .75 .75 .75 .75 .25 .25 .25 0 0\n"
    [parts] = yolo_instances(two, SIZE, 1, "x")
    assert isinstance(parts.outline, Polygons)
    assert len(parts.outline.parts) == 2
    [ring] = yolo_instances(hole, SIZE, 1, "x")
    assert isinstance(ring.outline, Rle)
    assert masks.outline_bitmask(ring.outline, SIZE).sum() == HEIGHT * WIDTH * 3 // 4


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: /data/images\nnames: [lesion]", r"train: '/data/images' is an absolute path; write it relative to"),
        ("train: a/../../images\nnames: [lesion]", r"train: 'a/../../images' leaves its folder through '\.\.'"),
        ("train: images/gone\nnames: [lesion]", r"part train: 'images/gone' is not in .*; correct the path"),
        ("train: " + "x" * 300 + "\nnames: [lesion]", r"cannot be looked up; correct the path"),
        ("train: images/train\nnames: [lesion, lesion]", r"class name 'lesion' appears twice"),
        ("train: images/train\nnames: ['']", r"class 0 has an empty name"),
        ("train: images/train\nnames: []", r"names 0 classes; name 1 to 10,000"),
        ("train: images/train\nnames: {1: lesion}", r"names are numbered \['1'\], not from 0 on"),
        ("train: images/train\nnames: lesion", r"has no table of class names"),
        ("train:\nnames: [lesion]", r"names no photographs; add 'train: images/train'"),
    ],
)
def test_a_wrong_data_file_is_refused(tmp_path, yaml, message):
    with pytest.raises(LabelError, match=message):
        read_yolo(write_data(tmp_path, yaml) / "data.yaml")


def test_counted_classes_are_called_as_ultralytics_calls_them(tmp_path):
    assert read_yolo(write_data(tmp_path, "train: images/train\nnc: 2\n")).class_names == ("class_0", "class_1")


def test_listed_photographs_stay_in_the_folder(tmp_path):
    write_data(tmp_path, "train: train.txt\nnames: [lesion]\n")
    (tmp_path / "train.txt").write_text("images/train/one.png\n../secret.png\nimages/train/gone.png\n")
    with pytest.raises(LabelError, match=r"train\.txt: line 2.*'\.\./secret\.png'.*leaves its folder.*and 1 more"):
        read_yolo(tmp_path)
    dataset = read_yolo(tmp_path, skip_bad=True)
    assert (len(dataset), len(dataset.skipped)) == (1, 2)


def test_a_listed_name_of_any_length_is_named_briefly(tmp_path):
    write_data(tmp_path, "train: train.txt\nnames: [lesion]\n")
    (tmp_path / "train.txt").write_text("images/train/one.png\n../" + "x" * 5000 + "\n" + "y" * 5000 + "\n")
    lines = read_yolo(tmp_path, skip_bad=True).skipped
    assert len(lines) == 2
    assert all(len(line) < 400 for line in lines)


def test_what_does_not_match_is_a_problem(tmp_path):
    write_data(tmp_path, texts=(TRIANGLE, "0 0.5 0.5 0.2 0.2\n"))
    (tmp_path / "labels" / "train" / "three.txt").write_text(TRIANGLE)
    with pytest.raises(LabelError, match=r"two\.txt: line 1: is a box.*and 1 more problem"):
        read_yolo(tmp_path)
    dataset = read_yolo(tmp_path, skip_bad=True)
    assert outlines(dataset) == {"one": 1}
    assert any("three.txt: has no photograph" in line for line in dataset.skipped)


def test_photographs_without_any_text_are_no_data_set(tmp_path):
    with pytest.raises(LabelError, match=r"no photograph has a label file; the first would be labels/train/one\.txt"):
        read_yolo(write_data(tmp_path, texts=(None, None)))


def drawn(ids, names=("lesion",)):
    mask = np.zeros(SIZE, bool)
    mask[4:16, 4:20] = True
    pixels = np.zeros((*SIZE, 3), np.uint8)
    return Dataset([Sample(image_id, pixels, None, (Instance(1, Bitmask(mask)),)) for image_id in ids], names)


def test_parts_are_written_side_by_side(tmp_path):
    losses = write_yolo_parts({"Training": drawn("ab"), "Validation": drawn("c")}, tmp_path / "y")
    assert losses == ()
    assert yolo_parts(tmp_path / "y") == ("train", "val")
    assert outlines(open_dataset(tmp_path / "y", part="val")) == {"c": 1}
    with pytest.raises(LabelError, match=r"'a'.*appears twice"):
        write_yolo_parts({"train": drawn("a"), "val": drawn("a")}, tmp_path / "twice")
    with pytest.raises(LabelError, match="the parts have different classes"):
        write_yolo_parts({"train": drawn("a"), "val": drawn("b", ("mole",))}, tmp_path / "classes")
    with pytest.raises(LabelError, match="part fold1: has no place in YOLO, which knows train, val and test"):
        write_yolo_parts({"fold1": drawn("a")}, tmp_path / "folds")
    assert {path.name for path in tmp_path.iterdir()} == {"y"}


def test_one_part_alone_says_that_yolo_needs_another(tmp_path):
    assert write_yolo(drawn("a"), tmp_path / "y") == (
        "data.yaml names no val part, which YOLO needs: give a --split, or add it",
    )


def test_odd_names_are_made_plain_and_told(tmp_path):
    losses = write_yolo(drawn(["a/one.png", "b/one.png", "c:d", "C:D"]), tmp_path / "y")
    assert "4 photographs renamed: folders need plain, distinct file names" in losses
    names = {path.name for path in (tmp_path / "y" / "images" / "train").iterdir()}
    assert names == {"a_one.png", "b_one.png", "c_d.png", "C_D_2.png"}
    assert len(read_yolo(tmp_path / "y")) == 4


def test_a_folder_with_something_else_is_never_replaced(tmp_path):
    write_yolo(drawn("a"), tmp_path / "y")
    (tmp_path / "y" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"holds 'notes\.txt', which this format does not write"):
        write_yolo(drawn("b"), tmp_path / "y", overwrite=True)
    (tmp_path / "y" / "notes.txt").unlink()
    with pytest.raises(OutputExistsError, match="holds the photographs that are being converted"):
        write_yolo(read_yolo(tmp_path / "y"), tmp_path / "y", overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputExistsError, match="is a file, and a folder would take its place"):
        write_yolo(drawn("b"), tmp_path / "file", overwrite=True)
