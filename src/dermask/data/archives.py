"""The official archives of Task 1 of the ISIC challenges 2016, 2017 and 2018: addresses, sums, licences, overlaps.

Addresses, sizes, counts, licences and citations are those of the challenge's data page
(https://challenge.isic-archive.com/data/), read in November 2026 in a copy of its source, github.com/ImageMarkup/stade,
stade/core/templates/data/YEAR.html. The page has linked two buckets; both are tried.

The page gives no checksums. Those here were taken in November 2026 from loaders that other people published, MD5 for
2016 and 2017, SHA-256 for 2018 (torch-em and loaders that agree with it), and nobody has tried them here against the
server. So a sum that differs stops a download, says so, and can be accepted by naming it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from dermask.errors import SettingError

Year = Literal[2016, 2017, 2018]
Part = Literal["training", "validation", "test"]
Kind = Literal["photographs", "masks"]

YEARS: tuple[Year, ...] = (2016, 2017, 2018)
PARTS: tuple[Part, ...] = ("training", "validation", "test")
KINDS: tuple[Kind, ...] = ("photographs", "masks")

SERVERS = (
    "https://isic-archive.s3.amazonaws.com/challenges/{year}/{name}",
    "https://isic-challenge-data.s3.amazonaws.com/{year}/{name}",
)
"""Where the archives lie: what the data page links now, then what it linked before."""

SUMS_FROM = "published loaders of other people, November 2026; never tried against the server by us"
"""Where the checksums come from, for messages."""

DATA_PAGE = "https://challenge.isic-archive.com/data/"

_KIB, _MIB, _GIB = 2**10, 2**20, 2**30  # the page's KB, MB and GB: its 228MB archive has 239,231,159 bytes


@dataclass(frozen=True, slots=True)
class Archive:
    """One official archive.

    Attributes:
        year: Of the challenge.
        part: Training, validation or test photographs.
        kind: Whether it holds photographs or their masks.
        name: Its file name, which ends in ``.zip``.
        checksum_kind: How `checksum` was computed.
        checksum: Lower-case hexadecimal; see the module for how far it can be trusted.
        size: Bytes, to within a tenth; for 2018 exact.
        count: Photographs, or masks, that it should hold.
    """

    year: Year
    part: Part
    kind: Kind
    name: str
    checksum_kind: Literal["md5", "sha256"]
    checksum: str
    size: int
    count: int

    @property
    def folder(self) -> str:
        """The official folder, which is also the only folder at the top of the archive."""
        return self.name.removesuffix(".zip")

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it lies, the address to try first at the front."""
        return tuple(server.format(year=self.year, name=self.name) for server in SERVERS)

    @property
    def mask_ending(self) -> str:
        """What follows the photograph's id in the name of a mask."""
        return "_Segmentation.png" if self.year == 2016 else "_segmentation.png"


ARCHIVES: tuple[Archive, ...] = (
    Archive(
        2016,
        "training",
        "photographs",
        "ISBI2016_ISIC_Part1_Training_Data.zip",
        "md5",
        "2029f387e62dcc062b1370b1efc1f7fb",
        602 * _MIB,
        900,
    ),
    Archive(
        2016,
        "training",
        "masks",
        "ISBI2016_ISIC_Part1_Training_GroundTruth.zip",
        "md5",
        "fbd77134298f3511479a37bac93109c7",
        6 * _MIB,
        900,
    ),
    Archive(
        2016,
        "test",
        "photographs",
        "ISBI2016_ISIC_Part1_Test_Data.zip",
        "md5",
        "efebcaeaae751007401a40a60d391f93",
        232 * _MIB,
        379,
    ),
    Archive(
        2016,
        "test",
        "masks",
        "ISBI2016_ISIC_Part1_Test_GroundTruth.zip",
        "md5",
        "492a7711a2e19b96114cab6c96bd1ad5",
        2 * _MIB,
        379,
    ),
    Archive(
        2017,
        "training",
        "photographs",
        "ISIC-2017_Training_Data.zip",
        "md5",
        "a14a7e622c67a358797ae59abb8a0b0c",
        int(5.8 * _GIB),
        2000,
    ),
    Archive(
        2017,
        "training",
        "masks",
        "ISIC-2017_Training_Part1_GroundTruth.zip",
        "md5",
        "77fdbeb6fbec4139937224416b250f4c",
        9 * _MIB,
        2000,
    ),
    Archive(
        2017,
        "validation",
        "photographs",
        "ISIC-2017_Validation_Data.zip",
        "md5",
        "8d6419d942112f709894c0d82f6c9038",
        878 * _MIB,
        150,
    ),
    Archive(
        2017,
        "validation",
        "masks",
        "ISIC-2017_Validation_Part1_GroundTruth.zip",
        "md5",
        "64d3e68fa2deeb8a5e89aa8dec2efd44",
        559 * _KIB,
        150,
    ),
    Archive(
        2017,
        "test",
        "photographs",
        "ISIC-2017_Test_v2_Data.zip",
        "md5",
        "5f6a0b5e1f2972bd1f5ea02680489f09",
        int(5.4 * _GIB),
        600,
    ),
    Archive(
        2017,
        "test",
        "masks",
        "ISIC-2017_Test_v2_Part1_GroundTruth.zip",
        "md5",
        "b1742de6bd257faca3b2b21a4aa3b781",
        18 * _MIB,
        600,
    ),
    Archive(
        2018,
        "training",
        "photographs",
        "ISIC2018_Task1-2_Training_Input.zip",
        "sha256",
        "80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f",
        11_165_358_566,
        2594,
    ),
    Archive(
        2018,
        "training",
        "masks",
        "ISIC2018_Task1_Training_GroundTruth.zip",
        "sha256",
        "99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c",
        27_402_895,
        2594,
    ),
    Archive(
        2018,
        "validation",
        "photographs",
        "ISIC2018_Task1-2_Validation_Input.zip",
        "sha256",
        "0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797",
        239_231_159,
        100,
    ),
    Archive(
        2018,
        "validation",
        "masks",
        "ISIC2018_Task1_Validation_GroundTruth.zip",
        "sha256",
        "f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285",
        759_706,
        100,
    ),
    Archive(
        2018,
        "test",
        "photographs",
        "ISIC2018_Task1-2_Test_Input.zip",
        "sha256",
        "e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d",
        2_370_457_338,
        1000,
    ),
    Archive(
        2018,
        "test",
        "masks",
        "ISIC2018_Task1_Test_GroundTruth.zip",
        "sha256",
        "2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82",
        9_680_101,
        1000,
    ),
)
"""Photographs before masks, so that the long download comes first; parts in the order of `PARTS`."""


def select(year: int, parts: Collection[str] = (), kinds: Collection[str] = ()) -> tuple[Archive, ...]:
    """The archives of a year, of the parts and kinds asked for; all where none is named.

    Raises:
        SettingError: No such year or kind, or the year has no such part; says what there is.
    """
    of_year = [archive for archive in ARCHIVES if archive.year == year]
    if not of_year:
        raise SettingError(f"ISIC {year}", "is not known", "choose one of 2016, 2017, 2018")
    _check(f"ISIC {year}: part", parts, [part for part in PARTS if any(part == one.part for one in of_year)])
    _check(f"ISIC {year}: kind", kinds, KINDS)
    return tuple(one for one in of_year if (not parts or one.part in parts) and (not kinds or one.kind in kinds))


def _check(item: str, wanted: Collection[str], known: Collection[str]) -> None:
    for name in wanted:
        if name not in known:
            raise SettingError(f"{item} {name!r}", "is not among its archives", f"choose from {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Licence:
    """On what terms a year's data may be used, as far as the data page says.

    Attributes:
        year: Of the challenge.
        name: Short name of the licence.
        url: Its text.
        remark: What else the page says about it; may be empty.
        citations: What the page asks to cite, one entry each.
    """

    year: Year
    name: str
    url: str
    remark: str
    citations: tuple[str, ...]

    @property
    def source(self) -> str:
        """The page that says so."""
        return f"{DATA_PAGE}#{self.year}"


_CC0_URL = "https://creativecommons.org/publicdomain/zero/1.0/"

LICENCES: dict[int, Licence] = {
    2016: Licence(
        2016,
        "CC-0",
        _CC0_URL,
        "",
        (
            "Gutman, David; Codella, Noel C. F.; Celebi, Emre; Helba, Brian; Marchetti, Michael; Mishra, Nabin; "
            'Halpern, Allan. "Skin Lesion Analysis toward Melanoma Detection: A Challenge at the International '
            "Symposium on Biomedical Imaging (ISBI) 2016, hosted by the International Skin Imaging Collaboration "
            '(ISIC)". eprint arXiv:1605.01397. 2016.',
        ),
    ),
    2017: Licence(
        2017,
        "CC-0",
        _CC0_URL,
        "",
        (
            "Codella N, Gutman D, Celebi ME, Helba B, Marchetti MA, Dusza S, Kalloo A, Liopyris K, Mishra N, Kittler "
            'H, Halpern A. "Skin Lesion Analysis Toward Melanoma Detection: A Challenge at the 2017 International '
            "Symposium on Biomedical Imaging (ISBI), Hosted by the International Skin Imaging Collaboration "
            '(ISIC)". arXiv: 1710.05006 [cs.CV]',
        ),
    ),
    2018: Licence(
        2018,
        "CC-0",
        _CC0_URL,
        "The page's table gives CC-0 to Tasks 1 and 2 and CC-BY-NC 4.0 "
        "(https://creativecommons.org/licenses/by-nc/4.0/) to Task 3; its text asks that the 2018 training data as a "
        "whole be attributed as CC-BY-NC demands. Where the two leave a doubt, keep to CC-BY-NC 4.0.",
        (
            "HAM10000 Dataset: (c) by ViDIR Group, Department of Dermatology, Medical University of Vienna; "
            "https://doi.org/10.1038/sdata.2018.161",
            "MSK Dataset: (c) Anonymous; https://arxiv.org/abs/1710.05006; https://arxiv.org/abs/1902.03368",
            "Noel Codella, Veronica Rotemberg, Philipp Tschandl, M. Emre Celebi, Stephen Dusza, David Gutman, Brian "
            "Helba, Aadi Kalloo, Konstantinos Liopyris, Michael Marchetti, Harald Kittler, Allan Halpern: "
            '"Skin Lesion Analysis Toward Melanoma Detection 2018: A Challenge Hosted by the International Skin '
            'Imaging Collaboration (ISIC)", 2018; https://arxiv.org/abs/1902.03368',
            "Tschandl, P., Rosendahl, C. & Kittler, H. The HAM10000 dataset, a large collection of multi-source "
            "dermatoscopic images of common pigmented skin lesions. Sci. Data 5, 180161 "
            "doi:10.1038/sdata.2018.161 (2018).",
        ),
    ),
}
"""The terms of each year."""


def licence_text(years: Collection[int]) -> str:
    """What is known of the terms of these years, as the text that is shown and kept beside the data."""
    lines = []
    for year in sorted(years):
        licence = LICENCES[year]
        lines += [
            f"ISIC {year}, Task 1: {licence.name} ({licence.url})",
            f"Source: {licence.source}, by a copy of the page read in November 2026.",
        ]
        lines += [licence.remark] if licence.remark else []
        lines += ["Cite:", *(f"  {citation}" for citation in licence.citations), ""]
    return "\n".join([*lines, "The page decides, not this summary; research use only."])


@dataclass(frozen=True, slots=True)
class KnownOverlap:
    """Photographs that two years share by their ids, counted on the official lists.

    Attributes:
        years: The years that it concerns.
        text: What is shared, one sentence without full stop.
    """

    years: frozenset[int]
    text: str


KNOWN_OVERLAPS: tuple[KnownOverlap, ...] = (
    KnownOverlap(
        frozenset({2016, 2018}), "339 of the 379 test photographs of 2016 stand in the training photographs of 2018"
    ),
    KnownOverlap(
        frozenset({2017, 2018}), "529 of the 600 test photographs of 2017 stand in the training photographs of 2018"
    ),
    KnownOverlap(frozenset({2016, 2017, 2018}), "every training photograph of 2018 stands in 2016 or 2017"),
)
"""A model trained on 2018 has seen most of the earlier test photographs: judged on them, it looks better than it is."""


def known_overlaps(year: int) -> tuple[str, ...]:
    """What is known of the photographs that `year` shares with other years."""
    return tuple(overlap.text for overlap in KNOWN_OVERLAPS if year in overlap.years)
