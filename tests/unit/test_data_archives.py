"""The table of official archives is whole, and its sums are those that were published."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from dermask.data.archives import (
    ARCHIVES,
    KINDS,
    LICENCES,
    PARTS,
    YEARS,
    known_overlaps,
    licence_text,
    select,
)
from dermask.data.http_answers import check_url
from dermask.data.isic import is_data_folder, list_parts
from dermask.errors import SettingError

# As published by the loaders that the module names, written down a second time: a slip of the hand shows here.
GOLDEN = """
ISBI2016_ISIC_Part1_Training_Data.zip 2029f387e62dcc062b1370b1efc1f7fb
ISBI2016_ISIC_Part1_Training_GroundTruth.zip fbd77134298f3511479a37bac93109c7
ISBI2016_ISIC_Part1_Test_Data.zip efebcaeaae751007401a40a60d391f93
ISBI2016_ISIC_Part1_Test_GroundTruth.zip 492a7711a2e19b96114cab6c96bd1ad5
ISIC-2017_Training_Data.zip a14a7e622c67a358797ae59abb8a0b0c
ISIC-2017_Training_Part1_GroundTruth.zip 77fdbeb6fbec4139937224416b250f4c
ISIC-2017_Validation_Data.zip 8d6419d942112f709894c0d82f6c9038
ISIC-2017_Validation_Part1_GroundTruth.zip 64d3e68fa2deeb8a5e89aa8dec2efd44
ISIC-2017_Test_v2_Data.zip 5f6a0b5e1f2972bd1f5ea02680489f09
ISIC-2017_Test_v2_Part1_GroundTruth.zip b1742de6bd257faca3b2b21a4aa3b781
ISIC2018_Task1-2_Training_Input.zip 80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f
ISIC2018_Task1_Training_GroundTruth.zip 99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c
ISIC2018_Task1-2_Validation_Input.zip 0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797
ISIC2018_Task1_Validation_GroundTruth.zip f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285
ISIC2018_Task1-2_Test_Input.zip e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d
ISIC2018_Task1_Test_GroundTruth.zip 2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82
"""


def test_the_sums_are_the_published_ones():
    golden = dict(line.split() for line in GOLDEN.strip().splitlines())
    assert {archive.name: archive.checksum for archive in ARCHIVES} == golden


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name)
def test_each_archive_is_described_whole(archive):
    digits = {"md5": 32, "sha256": 64}[archive.checksum_kind]
    assert re.fullmatch(rf"[0-9a-f]{{{digits}}}", archive.checksum)
    assert archive.checksum_kind == ("sha256" if archive.year == 2018 else "md5")
    assert archive.name == f"{archive.folder}.zip"
    assert str(archive.year) in archive.name
    assert archive.part in archive.name.lower()
    assert ("GroundTruth" in archive.name) == (archive.kind == "masks")
    assert archive.size > 500_000
    assert 100 <= archive.count <= 2594
    assert len(archive.urls) == 2
    for url in archive.urls:
        check_url(url, archive.name)
        assert url.startswith("https://")
        assert url.endswith(f"/{archive.year}/{archive.name}")
    assert archive.mask_ending.lower() == "_segmentation.png"


def test_no_two_archives_share_a_name_or_a_sum():
    assert len({archive.name for archive in ARCHIVES}) == len({archive.checksum for archive in ARCHIVES}) == 16


def test_photographs_and_masks_come_in_pairs():
    pairs = Counter((archive.year, archive.part, archive.count) for archive in ARCHIVES)
    assert set(pairs.values()) == {2}
    assert {(year, part) for year, part, _ in pairs} == {(year, part) for year in YEARS for part in PARTS} - {
        (2016, "validation")
    }


def test_the_reader_knows_every_folder(tmp_path: Path):
    for archive in ARCHIVES:
        folder = tmp_path / str(archive.year) / archive.folder
        folder.mkdir(parents=True)
        assert is_data_folder(folder) == (archive.kind == "photographs")
    assert list(list_parts(tmp_path / "2016")) == ["Training", "Test"]
    assert list(list_parts(tmp_path / "2017")) == ["Training", "Validation", "Test_v2"]
    assert list(list_parts(tmp_path / "2018")) == ["Training", "Validation", "Test"]


@pytest.mark.parametrize(
    ("parts", "kinds", "count"),
    [((), (), 6), (PARTS, KINDS, 6), (["test"], (), 2), (["test", "validation"], ["masks"], 2), ((), ["masks"], 3)],
)
def test_archives_are_chosen_by_part_and_kind(parts, kinds, count):
    chosen = select(2017, parts, kinds)
    assert len(chosen) == count
    assert all(one.year == 2017 and one.part in (parts or PARTS) and one.kind in (kinds or KINDS) for one in chosen)


def test_all_years_together_are_the_table():
    assert sum((select(year) for year in YEARS), ()) == ARCHIVES


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((2019,), r"ISIC 2019: is not known; choose one of 2016, 2017, 2018"),
        (
            (2016, ["validation"]),
            r"ISIC 2016: part 'validation': is not among its archives; choose from training, test$",
        ),
        ((2017, ["all"]), r"part 'all': is not among its archives; choose from training, validation, test$"),
        ((2017, [], ["labels"]), r"kind 'labels': is not among its archives; choose from photographs, masks$"),
    ],
)
def test_what_there_is_not_is_told(arguments, problem):
    with pytest.raises(SettingError, match=problem):
        select(*arguments)


@pytest.mark.parametrize("year", YEARS)
def test_the_terms_name_licence_source_and_citation(year):
    licence, text = LICENCES[year], licence_text([year])
    assert licence.year == year
    assert f"ISIC {year}, Task 1: CC-0" in text
    assert f"https://challenge.isic-archive.com/data/#{year}" in text
    assert all(citation in text for citation in licence.citations)
    assert ("CC-BY-NC 4.0" in text) == (year == 2018)
    assert "The page decides, not this summary" in text


def test_the_terms_of_several_years_come_in_order():
    text = licence_text({2018, 2016})
    assert text.index("ISIC 2016, Task 1") < text.index("ISIC 2018, Task 1")
    assert "ISIC 2017, Task 1" not in text


def test_known_overlaps_concern_the_year():
    assert any("339 of the 379" in text for text in known_overlaps(2016))
    assert not any("529 of the 600" in text for text in known_overlaps(2016))
    assert any("529 of the 600" in text for text in known_overlaps(2017))
    assert len(known_overlaps(2018)) == 3


def test_the_page_lists_every_archive_with_its_sum():
    page = (Path(__file__).resolve().parents[2] / "docs" / "download.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\S+\.zip) \|.*\| ([0-9a-f]{32,64}) \|$", page, re.MULTILINE))
    assert rows == {archive.name: archive.checksum for archive in ARCHIVES}
    for archive in ARCHIVES:
        line = next(line for line in page.splitlines() if line.startswith(f"| {archive.name} "))
        size = f"{archive.size / 2**30:.1f} GB" if archive.size >= 2**30 else f"{archive.size / 2**20:.0f} MB"
        assert f"| {archive.part} | {archive.kind} | {archive.count:,} | {size} |" in line
