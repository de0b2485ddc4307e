import numpy as np
import pytest
from label_examples import HEIGHT, WIDTH, write_photograph
from PIL import Image

from dermask import masks
from dermask.data.colour_masks import VOID, is_colour_masks, parse_label_map, read_colour_masks, voc_colour
from dermask.data.colour_masks_write import write_colour_masks
from dermask.data.dataset import Dataset
from dermask.data.formats import open_dataset
from dermask.errors import LabelError
from dermask.records import Bitmask, Instance, Sample

LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nlesion:10,20,30::\nmole:200,0,0::\n"
LESION, MOLE = (10, 20, 30), (200, 0, 0)


def paint(path, regions, *, mode="RGB"):
    """An image of (colour or number, rows, columns); palette images get VOC's colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas = np.zeros((HEIGHT, WIDTH, 3) if mode == "RGB" else (HEIGHT, WIDTH), np.uint8)
    for colour, rows, columns in regions:
        canvas[slice(*rows), slice(*columns)] = colour
    image = Image.fromarray(canvas)
    if mode == "P":
        image = Image.frombytes("P", (WIDTH, HEIGHT), canvas.tobytes())
        image.putpalette([value for number in range(256) for value in voc_colour(number)])
    image.save(path)


def write_data(root, regions=((LESION, (2, 8), (2, 8)),), *, label_map=LABEL_MAP, mode="RGB", name="one"):
    write_photograph(root / "JPEGImages" / f"{name}.jpg")
    paint(root / "SegmentationClass" / f"{name}.png", regions, mode=mode)
    if label_map is not None:
        (root / "labelmap.txt").write_text(label_map)
    return root


def found(dataset, index=0):
    return [
        (dataset.class_names[one.label - 1], one.is_crowd,
         int(masks.outline_bitmask(one.outline, dataset.size(index)).sum()))
        for one in dataset[index].instances
    ]  # fmt: skip


def test_vocs_colour_map_is_known():
    assert [voc_colour(number) for number in (0, 1, 2, 15, 20)] == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128), (0, 64, 128)
    ]  # fmt: skip
    assert VOID == (224, 224, 192)
    assert len({voc_colour(number) for number in range(5000)}) == 5000


def test_a_black_mask_is_a_photograph_without_a_lesion(tmp_path):
    assert found(read_colour_masks(write_data(tmp_path, ()))) == []


def test_each_connected_region_of_a_class_is_an_object(tmp_path):
    regions = [(LESION, (2, 8), (2, 8)), (MOLE, (8, 10), (2, 8)), (LESION, (15, 18), (20, 30)), (VOID, (0, 1), (0, 9))]
    dataset = open_dataset(write_data(tmp_path, regions))
    assert dataset.class_names == ("lesion", "mole")
    assert found(dataset) == [("lesion", False, 36), ("lesion", False, 30), ("mole", False, 12), ("lesion", True, 9)]
    assert dataset.load(0).ignored.sum() == 9


def test_object_masks_join_parts_and_part_touching_objects(tmp_path):
    write_data(tmp_path, [(LESION, (2, 8), (2, 20)), (LESION, (15, 18), (20, 30)), (MOLE, (20, 22), (0, 4))])
    paint(tmp_path / "SegmentationObject" / "one.png",
          [((1, 0, 0), (2, 8), (2, 10)), ((2, 0, 0), (2, 8), (10, 20)), ((1, 0, 0), (15, 18), (20, 30))])  # fmt: skip
    # The mole stands in no object, and counts by its region.
    assert found(read_colour_masks(tmp_path)) == [("lesion", False, 78), ("lesion", False, 60), ("mole", False, 8)]


@pytest.mark.parametrize("mode", ["P", "L"])
def test_numbers_count_classes_where_there_is_no_label_map(tmp_path, mode):
    write_data(
        tmp_path, [(1, (2, 8), (2, 8)), (3, (10, 12), (2, 8)), (255, (20, 21), (0, 5))], label_map=None, mode=mode
    )
    dataset = read_colour_masks(tmp_path)
    assert dataset.class_names == ("class 1", "class 2", "class 3")
    assert found(dataset) == [("class 1", False, 36), ("class 3", False, 12), ("class 1", True, 5)]
    (tmp_path / "class_names.txt").write_text("__ignore__\n_background_\nlesion\nmole\nnaevus\n")  # labelme2voc's
    assert read_colour_masks(tmp_path).class_names == ("lesion", "mole", "naevus")


def test_a_grey_colour_of_vocs_map_is_its_class(tmp_path):
    assert voc_colour(7) == (128, 128, 128)
    dataset = read_colour_masks(write_data(tmp_path, [(7, (2, 8), (2, 8))], label_map=None, mode="P"))
    assert found(dataset) == [("class 7", False, 36)]


def test_parts_come_from_the_lists(tmp_path):
    write_data(tmp_path)
    write_data(tmp_path, name="two")
    write_photograph(tmp_path / "JPEGImages" / "unlabelled.jpg")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("one\n")
    (lists / "val.txt").write_text("two\n")
    assert len(open_dataset(tmp_path)) == 2
    assert [sample.image_id for sample in open_dataset(tmp_path, part="Val")] == ["two"]
    with pytest.raises(LabelError, match=r"has no part 'test'; choose one of train, val"):
        open_dataset(tmp_path, part="test")


def test_photographs_may_lie_elsewhere(tmp_path):
    write_data(tmp_path / "masks only")
    (tmp_path / "masks only" / "JPEGImages").rename(tmp_path / "photos")
    with pytest.raises(LabelError, match=r"has no photographs; put them into JPEGImages, or name their --images"):
        open_dataset(tmp_path / "masks only")
    assert len(open_dataset(tmp_path / "masks only", images=tmp_path / "photos")) == 1


def test_masks_beside_images_are_colour_masks_with_a_label_map(tmp_path):
    write_data(tmp_path)
    (tmp_path / "JPEGImages").rename(tmp_path / "images")
    (tmp_path / "SegmentationClass").rename(tmp_path / "masks")
    assert is_colour_masks(tmp_path)
    assert found(open_dataset(tmp_path)) == [("lesion", False, 36)]
    (tmp_path / "labelmap.txt").unlink()
    assert not is_colour_masks(tmp_path)


@pytest.mark.parametrize(
    ("regions", "mode", "label_map", "message"),
    [
        ([((1, 2, 3), (2, 8), (2, 8))], "RGB", LABEL_MAP, r"mask has the colour 1,2,3, which no class has; add it to"),
        ([(9, (2, 8), (2, 8))], "L", LABEL_MAP, r"mask has the value 9, which no class has"),
        ([(255, (2, 8), (2, 8))], "L", None, r"mask is black and white, without a class; call the folder masks/"),
    ],
)
def test_a_colour_without_a_class_is_a_problem(tmp_path, regions, mode, label_map, message):
    with pytest.raises(LabelError, match=message):
        read_colour_masks(write_data(tmp_path, regions, mode=mode, label_map=label_map))


def test_pairs_that_do_not_match_are_problems(tmp_path):
    write_data(tmp_path)
    write_photograph(tmp_path / "JPEGImages" / "two.jpg")
    write_data(tmp_path, name="three")
    write_photograph(tmp_path / "JPEGImages" / "three.jpg", 10, 10)
    with pytest.raises(LabelError, match=r"three: mask three\.png has 32x24 pixels, the photograph 10x10.*and 1 more"):
        read_colour_masks(tmp_path)
    dataset = read_colour_masks(tmp_path, skip_bad=True)
    assert (len(dataset), len(dataset.skipped)) == (1, 2)


def test_noise_is_no_set_of_lesions(tmp_path):
    write_photograph(tmp_path / "images" / "one.png", 200, 200)
    noise = np.zeros((200, 200, 3), np.uint8)
    noise[::2, ::2] = LESION
    (tmp_path / "SegmentationClass").mkdir()
    Image.fromarray(noise).save(tmp_path / "SegmentationClass" / "one.png")
    (tmp_path / "labelmap.txt").write_text(LABEL_MAP)
    with pytest.raises(LabelError, match=r"mask has 10,000 separate regions; clean it, and save masks as PNG"):
        read_colour_masks(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"names no class; add a line such as 'lesion:128,0,0::'"),
        ("background:0,0,0::", r"names no class"),
        ("lesion", r"line 1: 'lesion' is not 'name:red,green,blue::'"),
        ("lesion:1,2::", r"line 1: colour '1,2' is not three numbers from 0 to 255"),
        ("lesion:1,2,256::", r"colour '1,2,256' is not three numbers"),
        ("a:1,1,1::\nb:1,1,1::", r"line 2: colour 1,1,1 appears twice"),
        ("a:1,1,1::\na:2,1,1::", r"line 2: class name 'a' appears twice"),
    ],
)
def test_a_wrong_label_map_is_refused(text, message):
    with pytest.raises(LabelError, match=message):
        parse_label_map(text, "labelmap.txt")


@pytest.mark.parametrize("name", ["a:b", "background", "Void", " a", "a\nb"])
def test_class_names_that_a_label_map_cannot_hold_are_refused(tmp_path, name):
    mask = np.ones((HEIGHT, WIDTH), bool)
    sample = Sample("a", np.zeros((HEIGHT, WIDTH, 3), np.uint8), None, (Instance(1, Bitmask(mask)),))
    with pytest.raises(LabelError, match=r"class name .*rename the class"):
        write_colour_masks(Dataset([sample], (name,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_of_outlines_that_overlap_the_smaller_keeps_its_pixels(tmp_path):
    large, small = np.zeros((2, HEIGHT, WIDTH), bool)
    large[2:20, 2:30] = True
    small[5:9, 5:9] = True
    instances = (Instance(1, Bitmask(small)), Instance(2, Bitmask(large)), Instance(1, Bitmask(small)))
    sample = Sample("a", np.zeros((HEIGHT, WIDTH, 3), np.uint8), None, instances)
    losses = write_colour_masks(Dataset([sample], ("mole", "lesion")), tmp_path / "out")
    assert losses == (
        "1 photograph with outlines that overlap: the smaller keeps the shared pixels",
        "1 outline covered by others: left out",
    )
    assert sorted(found(read_colour_masks(tmp_path / "out"))) == [
        ("lesion", False, 18 * 28 - 16), ("mole", False, 16)
    ]  # fmt: skip
