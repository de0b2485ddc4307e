"""The error of the hair and ruler detectors on real photographs is the one that is stated beside figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scripts import load_script

from dermask.data.formats import open_dataset
from dermask.evaluation.traits import TRAITS

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def benchmark():
    return load_script("benchmarks/artifacts.py")


def test_wilsons_interval_is_that_of_the_textbook(benchmark):
    assert benchmark.wilson(0, 0) == (0, 1)
    assert benchmark.wilson(43, 47) == pytest.approx((0.8007, 0.9664), abs=1e-4)
    assert benchmark.wilson(56, 56) == pytest.approx((0.9358, 1), abs=1e-4)


def test_labels_name_photographs_that_are_there_once_and_no_part_twice(benchmark, real_data):
    import csv

    with benchmark.LABELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["image_id"] for row in rows}) == len(rows) == 280
    for part in benchmark.PARTS:
        here = {sample.image_id for sample in open_dataset(real_data / "isic2017", part=part)}
        labelled = [row for row in rows if row["part"] == part]
        assert {row["image_id"] for row in labelled} <= here
        assert {row[kind] for row in labelled for kind in benchmark.KINDS} == {"0", "1"}


def test_the_stated_error_is_the_measured_one(benchmark, real_data):
    """To within one photograph, which another JPEG decoder may move across a threshold."""
    seen = list(benchmark.labelled(real_data / "isic2017", "Validation"))
    documentation = " ".join((REPOSITORY / "docs" / "subgroups.md").read_text().split())
    for kind in benchmark.KINDS:
        stated = [int(number) for pair in re.findall(r"(\d+) of (\d+)", TRAITS[kind].note) for number in pair]
        there = [one for one in seen if getattr(one, kind)]
        absent = [one for one in seen if not getattr(one, kind)]
        hits = sum(getattr(one.found, kind) for one in there)
        passes = sum(not getattr(one.found, kind) for one in absent)
        assert (stated[1], stated[3]) == (len(there), len(absent))
        assert abs(stated[0] - hits) <= 1
        assert abs(stated[2] - passes) <= 1
        for share in (f"{stated[0]} of {stated[1]}", f"{stated[2]} of {stated[3]}"):
            assert share in documentation
