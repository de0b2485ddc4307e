"""Photographs that stand in several parts are counted by the ids of the files."""

from __future__ import annotations

from itertools import combinations

import pytest
from archive_server import IDS

from dermask.data.archives import ARCHIVES
from dermask.data.overlaps import count_overlaps, find_parts


def write(root, years=(2016, 2017, 2018), kinds=("photographs", "masks")):
    for archive in ARCHIVES:
        if archive.year in years and archive.kind in kinds:
            (root / archive.folder).mkdir(parents=True)
            for image_id in IDS[archive.year, archive.part]:
                ending = ".jpg" if archive.kind == "photographs" else archive.mask_ending
                (root / archive.folder / f"{image_id}{ending}").touch()
    return root


def test_no_folders_have_no_parts(tmp_path):
    assert find_parts([]) == find_parts([tmp_path]) == find_parts([tmp_path / "nowhere"]) == []
    assert count_overlaps([]) == []


@pytest.mark.parametrize("kinds", [["photographs"], ["masks"], ["photographs", "masks"]])
def test_parts_are_found_by_photographs_or_masks(tmp_path, kinds):
    parts = find_parts([write(tmp_path, kinds=kinds)])
    assert {(part.year, part.part): sorted(part.ids) for part in parts} == IDS


def test_superpixels_tables_and_hidden_files_are_no_photographs(tmp_path):
    write(tmp_path, [2017], ["photographs"])
    for name in ("ISIC_0000001_superpixels.png", "x.csv", "._ISIC_0000001.jpg"):
        (tmp_path / "ISIC-2017_Training_Data" / name).touch()
    assert find_parts([tmp_path])[0].ids == set(IDS[2017, "training"])


def test_of_two_folders_of_one_part_the_first_counts(tmp_path):
    write(tmp_path / "a", [2016])
    write(tmp_path / "b", [2016])
    (tmp_path / "b" / "ISBI2016_ISIC_Part1_Test_Data" / "ISIC_0000099.jpg").touch()
    parts = find_parts([tmp_path / "a", tmp_path / "b"])
    assert {part.folder.parent for part in parts} == {tmp_path / "a"}
    assert len(parts) == 2


def test_shared_photographs_are_counted_as_by_hand(tmp_path):
    overlaps = count_overlaps(find_parts([write(tmp_path)]))
    by_hand = {
        frozenset(pair): len({*IDS[pair[0]]} & {*IDS[pair[1]]})
        for pair in combinations(IDS, 2)
        if {*IDS[pair[0]]} & {*IDS[pair[1]]}
    }
    found = {
        frozenset({(one.first.year, one.first.part), (one.second.year, one.second.part)}): one.shared
        for one in overlaps
    }
    assert found == by_hand
    assert [one.shared for one in overlaps] == sorted(by_hand.values(), reverse=True)
    assert str(overlaps[0]) == "2 of the 3 test photographs of 2016 stand in the training photographs of 2018"
