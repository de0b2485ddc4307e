"""What the readers leave out comes as findings of the right kind."""

from __future__ import annotations

import numpy as np
import pytest
from audit_examples import PLAIN, kinds
from label_examples import coco_tree, mutate, square, write_coco_folder, write_mask, write_photograph
from PIL import Image

from dermask.audit.audit import audit
from dermask.audit.findings import Part
from dermask.audit.kinds import KINDS
from dermask.audit.left_out import kind_of, left_out_finding
from dermask.data.dataset import ReadProblem
from dermask.data.formats import open_dataset
from dermask.errors import LabelError


def left_out(path) -> dict[str, str]:
    report = audit([Part("p", open_dataset(path, skip_bad=True))], settings=PLAIN, processes=1)
    return {kind: severity for kind, severity in kinds(report).items() if severity == "error"}


SEGMENTATION = ("annotations", 0, "segmentation")
COCO_CASES = {
    "out-of-border": (SEGMENTATION, [square(25, 4, 12)]),
    "degenerate-outline": (SEGMENTATION, [[1, 1, 2, 2]]),
    "wrong-size": (("images", 0, "width"), 40),
    "missing-photograph": (("images", 0, "file_name"), "gone.png"),
    "repeated-id": (("annotations", 1, "id"), 0),
    "bad-annotation": (("annotations", 0, "category_id"), 99),
    "bad-record": (("images", 0, "file_name"), 7),
}


@pytest.mark.parametrize("kind", COCO_CASES)
def test_what_the_coco_reader_leaves_out(tmp_path, kind):
    place, value = COCO_CASES[kind]
    path = write_coco_folder(tmp_path, mutate(coco_tree(), place, value, "set"))
    assert left_out(path) == {kind: "error"}


def test_a_good_file_leaves_nothing_out(tmp_path):
    assert left_out(write_coco_folder(tmp_path)) == {}


def test_a_turned_size(tmp_path):
    tree = mutate(mutate(coco_tree(), ("images", 0, "width"), 24, "set"), ("images", 0, "height"), 32, "set")
    assert left_out(write_coco_folder(tmp_path, tree)) == {"turned": "error"}


def test_what_the_folder_reader_leaves_out(tmp_path):
    for name in ("good", "bare", "empty", "other", "broken"):
        write_photograph(tmp_path / "images" / f"{name}.png")
    for name in ("good", "lonely", "empty", "other", "broken"):
        write_mask(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "images" / "empty.png").write_bytes(b"")
    (tmp_path / "masks" / "broken.png").write_bytes(b"nothing")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "masks" / "other.png")
    expected = {"no-mask", "no-photograph", "unreadable-photograph", "wrong-size", "unreadable-mask"}
    assert left_out(tmp_path) == dict.fromkeys(expected, "error")


def test_the_readers_words_are_kept():
    error = LabelError("train.json: annotation 3 (image one.png)", "has no category_id", "choose a label")
    finding = left_out_finding("Training", ReadProblem(error))
    assert finding.line() == "Training: train.json: annotation 3 (image one.png): has no category_id; choose a label"
    assert finding.kind == "bad-annotation"


@pytest.mark.parametrize("item", ["x", "annotation 1", "", "a" * 9999, "\0"])
def test_words_that_nobody_knows_still_have_a_kind(item):
    error = LabelError(item, "is something new")
    assert kind_of(error) in KINDS
    assert left_out_finding("p", ReadProblem(error)).photograph is None
