import numpy as np
import pytest
from label_examples import HEIGHT, WIDTH, write_mask, write_photograph
from PIL import Image

from dermask.data.dataset import Dataset
from dermask.data.isic import list_parts, read_folders, read_isic, read_isic_root
from dermask.data.isic_write import write_folders, write_isic
from dermask.errors import ImageError, LabelError
from dermask.records import Bitmask, ImageSize, Instance, MaskFile, Sample

YEARS = {
    "2016": ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth", "_Segmentation.png"),
    "2017": ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth", "_segmentation.png"),
    "2018": ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth", "_segmentation.png"),
}


def write_part(root, part="Training", year="2017", ids=("ISIC_0000001", "ISIC_0000002")):
    data, truth, ending = YEARS[year]
    for image_id in ids:
        write_photograph(root / data.format(part) / f"{image_id}.jpg")
        write_mask(root / truth.format(part) / f"{image_id}{ending}")
    return root / data.format(part)


def truth_of(root, part="Training"):
    return root / f"ISIC-2017_{part}_Part1_GroundTruth"


@pytest.mark.parametrize("year", YEARS)
def test_every_years_layout_is_read(tmp_path, year):
    folder = write_part(tmp_path, year=year)
    for dataset in (read_isic(folder), read_isic_root(tmp_path)):
        assert [sample.image_id for sample in dataset] == ["ISIC_0000001", "ISIC_0000002"]
        assert dataset.class_names == ("lesion",)
        assert dataset.name == folder.name
        assert dataset.load(0).masks.sum() == 8 * 14


def test_masks_stay_files_until_loaded(tmp_path):
    folder = write_part(tmp_path)
    dataset = read_isic(folder)
    assert isinstance(dataset[0].instances[0].outline, MaskFile)
    assert dataset[0].size == ImageSize(HEIGHT, WIDTH)
    mask = truth_of(tmp_path) / "ISIC_0000001_segmentation.png"
    mask.write_bytes(mask.read_bytes()[:60])
    assert len(dataset) == 2
    with pytest.raises(ImageError, match=r"ISIC_0000001_segmentation\.png"):
        dataset.load(0)


def test_superpixels_tables_and_hidden_files_are_no_photographs(tmp_path):
    folder = write_part(tmp_path)
    write_mask(folder / "ISIC_0000001_superpixels.png")
    write_mask(folder / ".ISIC_0000009.png")
    (folder / "ISIC-2017_Training_Data_metadata.csv").write_text("image_id,age\n")
    (truth_of(tmp_path) / "ATTRIBUTION.txt").write_text("CC-0")
    (tmp_path / "ISIC-2017_Training_Part3_GroundTruth.csv").write_text("")
    (tmp_path / "ISIC-2017_Training_Part2_GroundTruth").mkdir()
    assert len(read_isic_root(tmp_path)) == 2


@pytest.mark.parametrize("ending", ["_segmentation", "_Segmentation", "_SEGMENTATION", "_mask", ""])
def test_masks_of_a_plain_layout_may_end_as_they_like(tmp_path, ending):
    write_photograph(tmp_path / "images/ISIC_1.jpg")
    write_mask(tmp_path / f"masks/ISIC_1{ending}.png")
    dataset = read_folders(tmp_path / "images", tmp_path / "masks", source=tmp_path)
    assert dataset.load(0).masks.shape == (1, HEIGHT, WIDTH)
    assert dataset.name == tmp_path.name


def test_masks_in_the_photographs_folder_do_as_well(tmp_path):
    write_photograph(tmp_path / "a.jpg")
    write_mask(tmp_path / "a_segmentation.png")
    dataset = read_isic(tmp_path)
    assert [sample.image_id for sample in dataset] == ["a"]


def test_an_all_black_mask_is_a_photograph_without_a_lesion(tmp_path):
    folder = write_part(tmp_path)
    write_mask(truth_of(tmp_path) / "ISIC_0000001_segmentation.png", np.zeros((HEIGHT, WIDTH), bool))
    assert read_isic(folder).load(0).masks.shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("Training", "Training"),
        ("training", "Training"),
        ("train", "Training"),
        ("Validation", "Validation"),
        ("val", "Validation"),
        ("Test_v2", "Test_v2"),
        ("TEST_V2", "Test_v2"),
        ("test", "Test_v2"),
    ],
)
def test_parts_go_by_their_name_or_a_short_one(tmp_path, part, expected):
    for name in ("Test_v2", "Validation", "Training"):
        write_part(tmp_path, name)
    assert read_isic_root(tmp_path, part).name == f"ISIC-2017_{expected}_Data"
    assert list(list_parts(tmp_path)) == ["Training", "Validation", "Test_v2"]


def test_several_parts_need_a_choice(tmp_path):
    write_part(tmp_path)
    assert len(read_isic_root(tmp_path)) == 2
    write_part(tmp_path, "Test")
    with pytest.raises(LabelError, match=r"has the parts Training, Test; name one with --part"):
        read_isic_root(tmp_path)
    with pytest.raises(LabelError, match=r"has no part 'val'; choose one of Training, Test$"):
        read_isic_root(tmp_path, "val")
    assert read_isic_root(tmp_path, "test").name == "ISIC-2017_Test_Data"


def test_two_years_in_one_folder_need_the_folder_named(tmp_path):
    write_part(tmp_path, year="2018")
    folder = write_part(tmp_path, year="2017")
    with pytest.raises(LabelError, match=r"part Training stands in ISIC-2017_Training_Data and ISIC2018_Task1-2"):
        read_isic_root(tmp_path, "train")
    assert len(read_isic(folder)) == 2


def test_missing_ground_truth_is_named(tmp_path):
    write_photograph(tmp_path / "ISIC-2017_Test_v2_Data" / "a.jpg")
    with pytest.raises(LabelError, match=r"_Data: has no masks; put them .* ISIC-2017_Test_v2_Part1_GroundTruth$"):
        read_isic(tmp_path / "ISIC-2017_Test_v2_Data")


def lose_mask(folder, truth):
    (truth / "ISIC_0000002_segmentation.png").unlink()


def lose_photograph(folder, truth):
    (folder / "ISIC_0000002.jpg").unlink()


def repeat_photograph(folder, truth):
    write_photograph(folder / "ISIC_0000002.png")


def repeat_mask(folder, truth):
    write_mask(truth / "ISIC_0000002.png")


def shrink_mask(folder, truth):
    write_mask(truth / "ISIC_0000002_segmentation.png", np.ones((3, 4), bool))


def empty_photograph(folder, truth):
    (folder / "ISIC_0000002.jpg").write_bytes(b"")


def foreign_mask(folder, truth):
    (truth / "ISIC_0000002_segmentation.png").write_bytes(b"<html>")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose_mask, r"ISIC_0000002\.jpg: has no mask in .*GroundTruth; add ISIC_0000002_segmentation\.png, all black"),
        (lose_photograph, r"ISIC_0000002_segmentation\.png: has no photograph in .*_Data; add it or remove the mask"),
        (repeat_photograph, r"ISIC_0000002\.jpg: ISIC_0000002\.png has the same id 'ISIC_0000002'; rename or remove"),
        (repeat_mask, r"ISIC_0000002\.jpg: has two masks, ISIC_0000002\.png and ISIC_0000002_segmentation\.png"),
        (shrink_mask, r"ISIC_0000002\.jpg: mask ISIC_\w+\.png has 4x3 pixels, the photograph 32x24; replace"),
        (empty_photograph, r"ISIC_0000002\.jpg: photograph ISIC_0000002\.jpg: is empty"),
        (foreign_mask, r"ISIC_0000002\.jpg: mask ISIC_0000002_segmentation\.png: is a web page"),
    ],
)
def test_bad_input_is_one_line_and_skipping_goes_on_without(tmp_path, spoil, message):
    folder = write_part(tmp_path)
    spoil(folder, truth_of(tmp_path))
    with pytest.raises(LabelError, match=message + r".*--skip-bad$") as caught:
        read_isic(folder)
    assert "\n" not in str(caught.value)
    dataset = read_isic(folder, skip_bad=True)
    assert [sample.image_id for sample in dataset] == ["ISIC_0000001"]
    assert len(dataset.skipped) == 1
    assert dataset.skipped[0].endswith("left out")


def test_empty_folders_hold_no_data_set(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(LabelError, match="no usable photograph"):
        read_folders(tmp_path / "images", tmp_path / "masks", source=tmp_path)


def oriented(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 200, np.uint8)).save(path, exif=exif)
    return path


def test_written_folders_hold_the_photographs_bytes_and_plain_masks(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:12, 6:20] = True
    path = oriented(tmp_path / "in" / "a.jpg", 1)
    dataset = Dataset(
        [Sample("a", path, None, (Instance(1, Bitmask(mask)),)), Sample("b", np.zeros((9, 7, 3), np.uint8))]
    )
    assert write_isic(dataset, tmp_path / "isic") == ()
    assert write_folders(dataset, tmp_path / "plain") == ()
    data, truth = tmp_path / "isic" / "ISIC_Training_Data", tmp_path / "isic" / "ISIC_Training_Part1_GroundTruth"
    assert (data / "a.jpg").read_bytes() == path.read_bytes()
    assert (data / "b.png").is_file()
    with Image.open(truth / "a_segmentation.png") as written:
        assert (written.mode, written.size) == ("L", (WIDTH, HEIGHT))
        assert np.array_equal(np.asarray(written), mask * np.uint8(255))
    assert read_isic_root(tmp_path / "isic").load(1).masks.shape == (0, 9, 7)
    assert (tmp_path / "plain" / "masks" / "b_segmentation.png").is_file()


def test_masks_of_turned_photographs_are_upright_and_told(tmp_path):
    path = oriented(tmp_path / "in" / "a.jpg", 6)
    upright = np.zeros((WIDTH, HEIGHT), bool)
    upright[2:9, 3:15] = True
    dataset = Dataset([Sample("a", path, None, (Instance(1, Bitmask(upright)),))])
    [loss] = write_folders(dataset, tmp_path / "out")
    assert loss.startswith("1 photograph with an EXIF orientation: the masks are upright")
    again = read_folders(tmp_path / "out" / "images", tmp_path / "out" / "masks", source=tmp_path)
    assert np.array_equal(again.load(0).masks[0], upright)


def test_what_one_mask_cannot_say_is_told(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:12, 6:20] = True
    instances = (Instance(1, Bitmask(mask)), Instance(2, Bitmask(~mask)), Instance(1, Bitmask(mask), is_crowd=True))
    dataset = Dataset([Sample("a_superpixels", np.zeros((HEIGHT, WIDTH, 3), np.uint8), None, instances)], ("mole", "x"))
    assert write_isic(dataset, tmp_path / "out") == (
        "1 photograph renamed: folders need plain, distinct file names",
        "1 photograph with several lesions: joined into one mask",
        "class names mole, x: a mask has none, and reads back as lesion",
        "1 crowd region: left out, and so shown as bare skin",
    )
    assert read_isic_root(tmp_path / "out").load(0).masks.all()


def test_photographs_without_an_image_suffix_become_png(tmp_path):
    oriented(tmp_path / "a.jpg", 1).rename(tmp_path / "a")
    losses = write_folders(Dataset([Sample("a", tmp_path / "a")]), tmp_path / "out")
    assert losses == ("1 photograph written as PNG: the file's name did not say that it is an image",)
    assert len(read_folders(tmp_path / "out" / "images", tmp_path / "out" / "masks", source=tmp_path)) == 1


def test_a_mask_drawn_on_a_photograph_as_stored_is_to_be_turned(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    image = Image.new("RGB", (32, 24))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "images" / "a.jpg", exif=exif)
    Image.new("L", (32, 24), 255).save(tmp_path / "masks" / "a_segmentation.png")
    message = r"has 32x24 pixels, the photograph 24x32; turn the mask as the photograph's EXIF orientation says"
    with pytest.raises(LabelError, match=message):
        read_folders(tmp_path / "images", tmp_path / "masks", source=tmp_path)
