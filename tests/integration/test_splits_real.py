"""Splits of real photographs: shares kept, the official table found, the part remembered."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from dermask.cli.main import run
from dermask.data.formats import open_dataset
from dermask.data.metadata import find_metadata, read_metadata
from dermask.data.split_file import read_split
from dermask.data.splits import fold_dataset, split_dataset

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
TOLERANCE = 0.01
"""Of the share of a diagnosis: a random part of 265 photographs misses it by 0.023 (one standard deviation)."""


@pytest.fixture(scope="module")
def training(real_data):
    dataset = open_dataset(real_data / "isic2017", part="Training")
    path = find_metadata(dataset)
    assert path == real_data / "isic2017" / "index.csv"
    return dataset, read_metadata(path)


def test_parts_keep_the_shares_of_diagnoses(training):
    dataset, table = training
    kinds = {sample.image_id: table[sample.image_id].diagnosis for sample in dataset}
    whole = Counter(kinds.values())
    assert set(whole) == {"neither", "melanoma", "seborrheic_keratosis"}
    areas = [0.1] * len(dataset)  # sizes are the end-to-end test's, which decodes masks
    splits = [split_dataset(dataset, SHARES, seed=seed, metadata=table, areas=areas) for seed in range(3)]
    splits.append(fold_dataset(dataset, 5, metadata=table, areas=areas))
    for split in splits:
        for name, share in split.shares().items():
            part = split.parts[name]
            assert abs(len(part) - share * len(dataset)) < 2
            found = Counter(kinds[image_id] for image_id in part)
            for kind, count in whole.items():
                assert found[kind] / len(part) == pytest.approx(count / len(dataset), abs=TOLERANCE)


@pytest.mark.slow
def test_an_official_part_is_divided_with_its_table(real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = str(real_data / "isic2017")
    assert run(["data", "split", root, "--part", "Test_v2", "-o", "split.json", "--json", "--no-duplicates"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["all"]["photographs"] == 264
    assert tree["all"]["diagnosis"]["melanoma"] == 54
    for name, part in tree["parts"].items():
        for axis in ("diagnosis", "size"):
            for kind, count in tree["all"][axis].items():
                assert abs(part[axis].get(kind, 0) - SHARES[name] * count) < 2.5  # photographs
    split = read_split(Path("split.json"))
    assert split.part_of == "Test_v2"
    val = open_dataset(real_data / "isic2017", split=Path("split.json"), part="val")
    assert sorted(sample.image_id for sample in val) == sorted(split.parts["val"])
    folder = open_dataset(real_data / "isic2017" / "ISIC-2017_Test_v2_Data", split=Path("split.json"), part="val")
    assert len(folder) == len(val)
