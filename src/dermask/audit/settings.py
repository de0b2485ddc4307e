"""Thresholds of the audit, each with its unit and its reason: the only home of these defaults.

Where a default rests on a measurement, it was made on the training and validation photographs of ISIC 2017 cropped to
384 x 384; `docs/audit.md` has the figures.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from dermask.errors import SettingError

_SHARES = {
    "tiny_share",
    "full_share",
    "duplicate_iou",
    "nested_share",
    "speck_share",
    "specks_share",
    "few_specks_share",
    "hole_share",
    "soft_share",
    "inverted_border",
    "unaligned_overlap",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """What counts as wrong.

    Raises:
        SettingError: A value is negative or not finite, or a share is above 1.
    """

    small_side: int = 128
    """Photographs with a shorter side below this many pixels are noted: a lesion that fills a quarter of one is then
    some 30 pixels wide, about the size of the masks that a network predicts."""

    blank_contrast: float = 4.0
    """Photographs whose brightness has a standard deviation below this (of 255 levels) are blank. Flat skin without a
    lesion has 6 and more; a lens cap or an empty canvas has noise of 1 to 3."""

    grey_levels: float = 2.0
    """Photographs whose channels differ by at most this on average (of 255 levels) have no colour. JPEG's rounding
    makes about 1; the palest skin keeps 10 between red and blue."""

    tiny_pixels: int = 25
    """Outlines below this many pixels are tiny: 5 x 5, below which no border can be told."""

    tiny_share: float = 0.0005
    """Outlines below this share of the photograph are tiny: 74 pixels of 384 x 384. The smallest of 1,888 true lesions
    has 0.0046, nine times as much."""

    full_share: float = 0.99
    """Outlines above this share of the photograph cover it all; a lesion that large leaves no skin to compare with."""

    duplicate_iou: float = 0.9
    """Outlines of one photograph are the same from this Jaccard index on. Two people who outline the same lesion agree
    to about 0.85, so that 0.9 is a copy rather than a second opinion."""

    nested_share: float = 0.95
    """An outline is inside another if this share of it is."""

    border_tolerance: float = 1.0
    """Pixels that an outline may pass the border; the readers clip as much without a word."""

    speck_share: float = 0.02
    """A part below this share of the outline's largest part is a speck; larger parts may be lesions."""

    specks_share: float = 0.01
    """Specks that together have this share of the largest part are a warning."""

    few_specks_share: float = 0.001
    """Specks that together have this share of the largest part are a note; fewer change no figure."""

    many_specks: int = 8
    """So many specks are a warning whatever their area: a mask that was converted badly."""

    speck_pixels: int = 2
    """Parts and holes of up to this many pixels are not counted: resizing a mask leaves such crumbs by itself."""

    hole_share: float = 0.002
    """Holes are noted when together they have this share of the mask; smaller ones change no figure."""

    soft_share: float = 0.01
    """Masks with this share of pixels between 16 and 239 (of 255) are soft. Resizing a sharp mask softens its border:
    under 0.5 % of the pixels of a photograph."""

    few_points: int = 8
    """Outlines with fewer corners than this, above `few_points_side` pixels, are noted as loose: a circle drawn with
    8 points misses a tenth of its area."""

    few_points_side: float = 48.0
    """Pixels; the square root of an outline's area above which few points make it loose."""

    inverted_border: float = 0.5
    """A mask that covers this share of the photograph's border, and is brighter than what it leaves out, is inverted.
    Of 1,888 true
    masks 33 cover as much, and one of them is brighter than what it leaves out: it covers the whole photograph."""

    inverted_darkness: float = 0.01
    """Brightness (0 to 1) by which the mask must be brighter than what it leaves out to count as inverted."""

    unaligned_contrast: float = 1.0
    """Masks are searched a better place when the colours inside and around them differ by less than this (squared
    distance of the means in variances). Nine in ten true masks are above, and cost nothing more."""

    unaligned_best: float = 1.5
    """A better place must have this contrast: every pale lesion finds a slightly darker place somewhere. Without this
    limit 25 of 1,888 true masks are marked, with it 5; of masks moved by a quarter of the photograph it leaves 85 of
    97 in a hundred."""

    unaligned_gain: float = 4.0
    """A better place must have this many times the contrast."""

    unaligned_overlap: float = 0.5
    """A better place must overlap the mask by less than this Jaccard index: loose outlines stay unmarked."""

    disagreement: float = 0.7
    """Two copies of a photograph whose masks have a Jaccard index below this disagree; official second outlines of the
    same lesion agree to 0.85 on average."""

    near_duplicates: bool = True
    """Whether photographs are compared with each other by their looks."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or value < 0:
                raise SettingError(f"audit.{field.name}", f"{value} is not 0 or more", "give a number from 0")
            if field.name in _SHARES and value > 1:
                raise SettingError(f"audit.{field.name}", f"{value} is above 1", "give a share between 0 and 1")

    def to_dict(self) -> dict[str, float | int | str | bool]:
        """Every threshold by name, for reports."""
        return asdict(self)
