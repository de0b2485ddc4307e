import json

import pytest
from label_examples import coco_tree, write_coco_folder, write_mask, write_photograph

from dermask.cli.data_convert import _KEYS
from dermask.cli.main import run
from dermask.data.dataset import Dataset
from dermask.data.formats import FORMATS, list_part_names, open_dataset


@pytest.fixture
def labels(tmp_path):
    return write_coco_folder(tmp_path / "data")


def convert(*arguments):
    return run(["data", "convert", *map(str, arguments)])


def test_the_help_lists_every_format():
    assert _KEYS.split(", ") == [kind.key for kind in FORMATS]


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.key)
def test_every_format_is_written_read_back_and_named(tmp_path, labels, kind, capsys):
    target = tmp_path / ("out" if kind.is_folder else "out.json")
    assert convert(labels, "--to", kind.key, "-o", target) == 0
    output = capsys.readouterr()
    assert output.out == f"{target}\n"
    assert f"3 photographs, 3 outlines as {kind.name}" in output.err
    if kind.reader is not None:
        assert "3 photographs compared, least IoU 1.0000" in output.err
    assert ("lost: " in output.err) == ("all there;" not in output.err) or kind.reader is None


def test_losses_and_the_comparison_are_there_for_machines(tmp_path, labels, capsys):
    assert convert(labels, "--to", "folders", "-o", tmp_path / "out", "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["format"], tree["photographs"], tree["outlines"]) == ("folders", 3, 3)
    assert tree["lost"] == [
        "1 photograph with several lesions: joined into one mask",
        "class names mole, lesion: a mask has none, and reads back as lesion",
    ]
    [check] = tree["read_back"]
    assert check["same"]
    assert check["least_iou"] == 1.0


def test_what_stands_there_is_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "out.json").write_text("mine")
    assert convert(tmp_path / "gone.json", "--to", "coco", "-o", tmp_path / "out.json") == 1
    assert "out.json: already exists; choose another -o, or pass --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out.json").read_text() == "mine"


def test_an_older_conversion_is_replaced_when_asked(tmp_path, labels):
    assert convert(labels, "--to", "yolo", "-o", tmp_path / "out") == 0
    assert convert(labels, "--to", "yolo", "-o", tmp_path / "out") == 1
    assert convert(labels, "--to", "yolo", "-o", tmp_path / "out", "--overwrite") == 0


def test_an_unknown_format_lists_the_known_ones(tmp_path, labels, capsys):
    assert convert(labels, "--to", "voc", "-o", tmp_path / "out") == 2
    assert "--to voc: is unknown; choose one of coco, makesense-coco," in capsys.readouterr().err


def test_labels_never_take_the_place_of_a_photograph(tmp_path, labels, capsys):
    photograph = next((tmp_path / "data").rglob("*.png"))
    before = photograph.read_bytes()
    assert convert(labels, "--to", "coco", "-o", photograph, "--overwrite") == 2
    assert "COCO JSON is one file, so its name must end in .json" in capsys.readouterr().err
    assert photograph.read_bytes() == before
    assert convert(labels, "--to", "yolo", "-o", tmp_path / "yolo.json") == 2
    assert "YOLO segmentation text is a folder; leave .json out of its name" in capsys.readouterr().err


@pytest.mark.parametrize(("key", "name"), [("coco", "out.json"), ("label-studio", "out.json"), ("labelme", "out")])
def test_photographs_that_lie_elsewhere_are_named(tmp_path, labels, capsys, key, name):
    folder = next((tmp_path / "data").rglob("*.png")).parent
    other = tmp_path / "other"
    assert convert(labels, "--to", key, "-o", other / name) == 0
    assert f"the photographs stay where they are: read it with --images {folder}\n" in capsys.readouterr().err
    assert len(open_dataset(other / name, images=folder)) == 3
    assert convert(labels, "--to", "coco", "-o", tmp_path / "above.json") == 0
    assert "--images" not in capsys.readouterr().err
    assert len(open_dataset(tmp_path / "above.json")) == 3


def test_what_cvats_file_is_taken_for_is_said(tmp_path, labels, capsys):
    tree = coco_tree()
    tree["annotations"][0] |= {"segmentation": [], "attributes": {"occluded": False}}
    assert convert(write_coco_folder(tmp_path / "cvat", tree), "--to", "coco", "-o", tmp_path / "out.json") == 0
    assert "cvat/labels.json: 1 rectangle: read as outlines of four corners" in capsys.readouterr().err
    assert convert(labels, "--to", "coco", "-o", tmp_path / "plain.json") == 0
    assert "rectangle" not in capsys.readouterr().err


def test_bad_labels_stop_it_or_are_left_out(tmp_path, capsys):
    tree = coco_tree()
    tree["images"][0]["file_name"] = "gone.png"
    labels = write_coco_folder(tmp_path / "data", tree)
    assert convert(labels, "--to", "via2", "-o", tmp_path / "out.json") == 1
    assert not (tmp_path / "out.json").exists()
    assert convert(labels, "--to", "via2", "-o", tmp_path / "out.json", "--skip-bad") == 0
    assert "skipped: " in capsys.readouterr().err


def write_split(path, parts):
    tree = {"dermask_split": 1, "dermask": "0", "seed": 0, "fractions": {name: 1 / len(parts) for name in parts},
            "part_of": None, "data": "", "groups": {}, "parts": parts, "left_out": {}, "absent": []}  # fmt: skip
    path.write_text(json.dumps(tree))
    return path


def test_a_split_becomes_the_parts_of_yolo(tmp_path, labels, capsys):
    split = write_split(tmp_path / "split.json", {"train": ["none", "one"], "val": ["two"]})
    assert convert(labels, "--split", split, "--to", "yolo", "-o", tmp_path / "out") == 0
    assert "lost" not in capsys.readouterr().err
    assert list_part_names(tmp_path / "out") == ("train", "val")
    assert [sample.image_id for sample in open_dataset(tmp_path / "out", part="val")] == ["two"]
    assert convert(labels, "--split", split, "--part", "val", "--to", "coco", "-o", tmp_path / "val.json") == 0
    assert [one.image_id for one in open_dataset(tmp_path / "val.json")] == ["two"]
    assert [one.image_id for one in open_dataset(labels, split=split, part="val")] == ["two"]
    assert len(open_dataset(labels, split=split)) == 3


def test_all_parts_of_a_challenge_become_parts_of_yolo(tmp_path, capsys):
    for part, image_id in (("Training", "ISIC_1"), ("Validation", "ISIC_2"), ("Test_v2", "ISIC_3")):
        write_photograph(tmp_path / "isic" / f"ISIC-2017_{part}_Data" / f"{image_id}.jpg")
        write_mask(tmp_path / "isic" / f"ISIC-2017_{part}_Part1_GroundTruth" / f"{image_id}_segmentation.png")
    assert convert(tmp_path / "isic", "--to", "yolo", "-o", tmp_path / "out", "--json") == 0
    assert [check["same"] for check in json.loads(capsys.readouterr().out)["read_back"]] == [True] * 3
    assert list_part_names(tmp_path / "out") == ("train", "val", "test")
    copied = tmp_path / "out" / "images" / "train" / "ISIC_1.jpg"
    assert copied.read_bytes() == (tmp_path / "isic" / "ISIC-2017_Training_Data" / "ISIC_1.jpg").read_bytes()
    assert convert(tmp_path / "isic", "--to", "coco", "-o", tmp_path / "out.json") == 1


def test_a_difference_that_no_loss_explains_is_told(tmp_path, labels, capsys, monkeypatch):
    monkeypatch.setattr(
        "dermask.data.conversion.read_back", lambda dataset, path, key: Dataset([], dataset.class_names)
    )
    assert convert(labels, "--to", "coco", "-o", tmp_path / "out.json") == 0
    assert "read back: 3 photographs were written and 0 read back" in capsys.readouterr().err
