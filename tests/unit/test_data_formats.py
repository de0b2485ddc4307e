import pytest
from label_examples import coco_tree, via_tree, write_coco_folder, write_json, write_mask, write_photograph

from dermask.data.formats import open_dataset
from dermask.data.split_file import Split, write_split
from dermask.errors import LabelError


def write_isic(root, part="Training"):
    write_photograph(root / f"ISIC-2017_{part}_Data" / "ISIC_1.jpg")
    write_mask(root / f"ISIC-2017_{part}_Part1_GroundTruth" / "ISIC_1_segmentation.png")


def write_plain(root):
    write_photograph(root / "images" / "ISIC_1.jpg")
    write_mask(root / "masks" / "ISIC_1_segmentation.png")


@pytest.mark.parametrize("tree", [coco_tree(), via_tree()], ids=["COCO", "VGG"])
def test_a_label_file_is_known_by_its_content(tmp_path, tree):
    write_coco_folder(tmp_path / "photos")
    path = write_json(tmp_path / "anything.txt", tree)
    assert len(open_dataset(path, images=tmp_path / "photos")) == 3
    assert len(open_dataset(str(path), images=tmp_path / "photos")) == 3


def test_a_folder_with_one_label_file_is_that_file(tmp_path):
    write_coco_folder(tmp_path).rename(tmp_path / "mine.json")
    assert open_dataset(tmp_path).name == "mine"
    write_json(tmp_path / "more.json", {})
    with pytest.raises(LabelError, match=r"holds 2 JSON files: mine\.json, more\.json; name the one to read"):
        open_dataset(tmp_path)


def test_labels_json_goes_before_masks_and_other_files(tmp_path):
    for name in ("one", "two", "none"):
        write_photograph(tmp_path / "images" / f"{name}.png")
        write_mask(tmp_path / "masks" / f"{name}_segmentation.png")
    write_json(tmp_path / "results.json", [])
    assert len(open_dataset(tmp_path)[0].instances) == 1
    write_json(tmp_path / "labels.json", coco_tree())
    dataset = open_dataset(tmp_path)
    assert dataset.source == tmp_path / "labels.json"
    assert dataset.class_names == ("mole", "lesion")
    assert {sample.image_id: len(sample.instances) for sample in dataset} == {"one": 1, "two": 2, "none": 0}
    with pytest.raises(LabelError, match=r"labels\.json: a label file has no parts"):
        open_dataset(tmp_path, part="val")


def test_isic_roots_data_folders_and_plain_folders_are_known(tmp_path, monkeypatch):
    write_isic(tmp_path / "isic")
    write_plain(tmp_path / "plain")
    assert len(open_dataset(tmp_path / "isic")) == 1
    assert len(open_dataset(tmp_path / "isic", part="train")) == 1
    assert len(open_dataset(tmp_path / "isic" / "ISIC-2017_Training_Data")) == 1
    assert len(open_dataset(tmp_path / "plain")) == 1
    monkeypatch.chdir(tmp_path / "isic" / "ISIC-2017_Training_Data")
    dataset = open_dataset(".")
    assert dataset.name == "ISIC-2017_Training_Data"
    assert dataset.load(0).masks.shape[0] == 1


def test_a_linked_data_folder_keeps_its_name(tmp_path):
    write_isic(tmp_path / "disk")
    (tmp_path / "mine").symlink_to(tmp_path / "disk" / "ISIC-2017_Training_Data")
    assert len(open_dataset(tmp_path / "mine")) == 1


def test_skip_bad_reaches_every_reader(tmp_path):
    tree = coco_tree()
    tree["images"][0]["file_name"] = "gone.png"
    assert len(open_dataset(write_coco_folder(tmp_path / "coco", tree), skip_bad=True).skipped) == 1
    write_isic(tmp_path / "isic")
    write_plain(tmp_path / "plain")
    for folder in (tmp_path / "isic" / "ISIC-2017_Training_Data", tmp_path / "plain" / "images"):
        write_photograph(folder / "extra.png")
    assert len(open_dataset(tmp_path / "isic", skip_bad=True).skipped) == 1
    assert len(open_dataset(tmp_path / "plain", skip_bad=True).skipped) == 1


def test_options_that_do_not_apply_are_refused(tmp_path):
    write_isic(tmp_path / "isic")
    write_plain(tmp_path / "plain")
    path = write_coco_folder(tmp_path / "coco")
    with pytest.raises(LabelError, match=r"a label file has no parts, and part 'val' was asked for; leave it out"):
        open_dataset(path, part="val")
    with pytest.raises(LabelError, match=r"plain: .*has no part 'val'; leave --part out"):
        open_dataset(tmp_path / "plain", part="val")
    with pytest.raises(LabelError, match=r"isic: .*its own photographs; leave --images out"):
        open_dataset(tmp_path / "isic", images=tmp_path)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], r"is an empty list; export the labels again"),
        ({}, r"is an empty object"),
        ([{"image_id": 1, "score": 0.5}], r"holds detections with scores, not labels; name the label file"),
        ({"rows": [], "name": "a.jpg"}, r"has the keys \['rows', 'name'\]; expected VGG .* or COCO JSON"),
        (3, r"holds a single value; expected VGG"),
        ([1], r"holds a list; expected VGG"),
        (None, r"holds null; expected VGG"),
    ],
)
def test_other_json_is_refused(tmp_path, tree, message):
    with pytest.raises(LabelError, match=r"other\.json: " + message):
        open_dataset(write_json(tmp_path / "other.json", tree))


def test_photographs_alone_are_no_data_set(tmp_path):
    with pytest.raises(LabelError, match="holds neither photographs nor labels; name the label file of a tool"):
        open_dataset(tmp_path)
    write_photograph(tmp_path / "a.jpg")
    with pytest.raises(LabelError, match="holds 1 photographs and no labels; name the label file of a tool, or put"):
        open_dataset(tmp_path)


def test_hidden_files_are_no_labels(tmp_path):
    path = write_coco_folder(tmp_path)
    path.rename(tmp_path / "mine.json")
    (tmp_path / "._mine.json").write_bytes(b"\0\5\x16\7 what macOS leaves on other file systems")
    assert len(open_dataset(tmp_path)) == 3


def test_a_split_of_one_folder_does_not_divide_the_parts_of_a_root(tmp_path):
    for part in ("Training", "Validation"):
        write_photograph(tmp_path / f"ISIC-2017_{part}_Data" / f"{part}.jpg")
        write_mask(tmp_path / f"ISIC-2017_{part}_Part1_GroundTruth" / f"{part}_segmentation.png")
    split = tmp_path / "split.json"
    write_split(Split({"train": ("Training",), "val": ()}, 0, {"train": 0.5, "val": 0.5}), split)
    message = r"has the parts Training, Validation, and .*split\.json was made of data without parts; name the data"
    with pytest.raises(LabelError, match=message):
        open_dataset(tmp_path, split=split, part="train")
    assert len(open_dataset(tmp_path / "ISIC-2017_Training_Data", split=split, part="train")) == 1


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(LabelError, match=r"gone: no such file; check the path"):
        open_dataset(tmp_path / "gone")
