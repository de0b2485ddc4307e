"""The split file: written, read back, chosen from, and refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_examples import JSON_VALUES, every_place, mutate, write_json

from dermask.data.checks import ReadProblem
from dermask.data.dataset import Dataset
from dermask.data.split_file import Split, data_fingerprint, read_split, write_split
from dermask.errors import LabelError
from dermask.records import ImageSize, Sample

PIXEL = np.zeros((1, 1, 3), np.uint8)


def photographs(names, size=(1, 1), skipped=()):
    errors = [ReadProblem(LabelError(line, "is wrong")) for line in skipped]
    samples = [Sample(name, PIXEL, ImageSize(*size)) for name in names]
    return Dataset(samples, name="mine", skipped=skipped, problems=errors)


def tree(**changes):
    whole = {
        "dermask_split": 1,
        "dermask": "0.1.0",
        "seed": 3,
        "fractions": {"train": 0.75, "val": 0.25},
        "part_of": "Training",
        "data": "abc",
        "groups": {"groups": 1, "photographs": 2, "largest": 2},
        "parts": {"train": ["a", "b", "c"], "val": ["d"]},
        "left_out": {"e": "near-duplicates of a in train and d in val"},
        "absent": ["c"],
    }
    return {key: value for key, value in (whole | changes).items() if value is not None}


FOLDS = {"folds": 2, "fractions": None, "parts": {"fold1": ["a"], "fold2": ["b", "c"]}, "left_out": {}}


@pytest.mark.parametrize("changes", [{}, FOLDS, {"left_out": {}, "absent": []}], ids=["parts", "folds", "bare"])
def test_a_file_read_and_written_is_the_same(tmp_path, changes):
    split = read_split(write_json(tmp_path / "split.json", tree(**changes)))
    write_split(split, tmp_path / "again.json")
    again = read_split(tmp_path / "again.json")
    assert again.to_json() == split.to_json() == (tmp_path / "again.json").read_text()
    assert json.loads(split.to_json()) == tree(**{"part_of": "Training", **changes}) | {"absent": sorted(split.absent)}
    assert again.parts == split.parts
    assert again.digest() == split.digest()


def test_one_more_photograph_is_one_more_line():
    short = Split({"train": ("a", "c"), "val": ("x",)}, fractions={"train": 0.5, "val": 0.5}).to_json().splitlines()
    long = Split({"train": ("c", "b", "a"), "val": ("x",)}, fractions={"train": 0.5, "val": 0.5}).to_json().splitlines()
    assert set(long) - set(short) == {'   "b",'}
    assert len(long) == len(short) + 1


def test_parts_are_chosen_in_the_data_sets_order():
    split = Split({"train": ("a", "b"), "val": ("c",)}, left_out={"d": "why"})
    dataset = photographs("dcba")
    assert [sample.image_id for sample in split.select(dataset, "train")] == ["b", "a"]
    assert [sample.image_id for sample in split.select(dataset)] == ["c", "b", "a"]
    assert [sample.image_id for sample in split.without(dataset, "train")] == ["c"]
    assert len(split.select(photographs("c"), "val")) == 1  # a subset that has the whole part
    assert split.named(dataset, "val").name == f"mine, val of a split ({split.digest()[:12]})"


@pytest.mark.parametrize(
    ("names", "part", "message"),
    [
        ("abc", "test", r"split: has no part 'test'; choose one of train, val"),
        ("ab", "val", r"1 photographs of part val are not in mine, such as 'c'; name the data that was split, or run"),
        ("a", None, r"2 photographs are not in mine, such as 'b'"),
        ("abcxy", "val", r"does not know 2 of the 5 photographs of mine, such as 'x'; run dermask data split again"),
        ("xyz", "val", r"knows none of the 3 photographs of mine, such as 'x'; name the data that was split"),
    ],
)
def test_data_that_do_not_fit_are_refused(names, part, message):
    with pytest.raises(LabelError, match=message):
        Split({"train": ("a", "b"), "val": ("c",)}).select(photographs(names), part)


def test_photographs_that_a_reader_left_out_as_bad_may_be_missing():
    split = Split({"train": ("a", "b"), "val": ("c",)})
    assert len(split.select(photographs("ac", skipped=["b"]), "train")) == 1
    with pytest.raises(LabelError, match=r"2 photographs of part train are not in mine"):
        split.select(photographs("c", skipped=["b"]), "train")


def test_other_sizes_are_noticed_and_an_other_order_is_not():
    made = photographs("ab", (3, 4))
    split = Split({"train": ("a",), "val": ("b",)}, data=data_fingerprint(made))
    assert split.is_of(photographs(("b", "a"), (3, 4)))
    assert not split.is_of(photographs("ab", (4, 3)))
    assert split.is_of(photographs("a", (9, 9)))  # a part of it: cannot be told
    assert Split({"train": ("a", "b")}).is_of(photographs("ab"))


def test_the_hash_is_of_the_parts_alone():
    first = Split({"train": ("a", "b"), "val": ("c",)}, seed=1, data="x")
    assert first.digest() == Split({"val": ("c",), "train": ("b", "a")}, seed=2).digest()
    assert first.digest() != Split({"train": ("a",), "val": ("b", "c")}, seed=1).digest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dermask_split": None}, r"split\.json: is not a split file of dermask; name a file that dermask data split"),
        ({"dermask_split": 2}, r"is a split file of version 2; this dermask knows version 1; use the dermask that"),
        ({"dermask_split": True}, r"of version True"),
        ({"paths": []}, r"has the unknown key 'paths'; make the file again with dermask data split"),
        ({"parts": None}, r"parts: None is not an object"),
        ({"parts": {}}, r"has no photograph in any part"),
        ({"parts": {"train": [], "val": []}}, r"has no photograph in any part"),
        ({"parts": {"train": ["a"], "val": ["b", "a"]}}, r"'a' is in two parts, train and val"),
        ({"parts": {"train": ["a", "a"], "val": ["b"]}}, r"train: 'a' appears twice"),
        ({"parts": {"train": [7], "val": ["b"]}}, r"train: 7 is not the id of a photograph"),
        ({"parts": {"train": "a", "val": ["b"]}}, r"train 'a' is not a list"),
        ({"parts": {"../a": ["a"]}}, r"part name '\.\./a' is not made of letters"),
        ({"fractions": None}, r"needs either fractions or folds"),
        ({"folds": 2}, r"needs either fractions or folds"),
        ({"fractions": {"train": 0.5, "val": 0.1}}, r"the shares add up to 0\.6, not 1"),
        ({"fractions": {"train": "all", "val": 0.1}}, r"share 'all' of part train"),
        ({"fractions": {"train": 1}}, r"fractions \{'train': 1\} are not those of its parts"),
        ({**FOLDS, "folds": 3}, r"folds 3 does not fit its parts \['fold1', 'fold2'\]"),
        ({"left_out": {"a": "why"}}, r"'a' is in a part and left out"),
        ({"left_out": {"f": 3}}, r"left_out: 3 is not the reason for 'f'"),
        ({"absent": ["z"]}, r"absent id 'z' is in no part"),
        ({"seed": 0.5}, r"seed 0\.5 is not a whole number"),
        ({"part_of": 3}, r"part_of 3 is not a text"),
        ({"groups": {"groups": "many"}}, r"groups: groups 'many' is not a whole number"),
    ],
)
def test_a_wrong_file_gets_one_line(tmp_path, changes, message):
    with pytest.raises(LabelError, match=message):
        read_split(write_json(tmp_path / "split.json", tree(**changes)))


@pytest.mark.parametrize(("text", "message"), [("", "is an empty file"), ("[1]", "is not a split file"), ("{", "ends")])
def test_what_is_no_such_file_gets_one_line(tmp_path, text, message):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(LabelError, match=message):
        read_split(path)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_broken_file_ends_in_one_line(tmp_path_factory, data):
    whole = tree()
    place = data.draw(st.sampled_from(every_place(whole)))
    how = data.draw(st.sampled_from(["set", "remove", "repeat"]))
    path = tmp_path_factory.mktemp("splits") / "split.json"
    write_json(path, mutate(whole, place, data.draw(JSON_VALUES), how))
    try:
        split = read_split(path)
    except LabelError as error:
        message = str(error)
    else:
        message = ""
        assert read_split_text(split, path) == split.to_json()
    assert message.isprintable()


def read_split_text(split: Split, path) -> str:
    write_split(split, path)
    return read_split(path).to_json()
