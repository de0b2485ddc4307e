"""What kind of photograph it is: traits by which the figures of an evaluation are told apart.

Two come from the labels (size of the lesion, whether it reaches the border), one from a table beside the photographs
(diagnosis), three from a look at the photograph (skin tone, hair, ruler). None is used to judge an outline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image

from dermask import images, masks
from dermask.data.artifacts import WORKING_SIDE, find_artifacts
from dermask.data.skin_tone import ITA_BINS, skin_tone
from dermask.errors import InputError
from dermask.evaluation.photo_masks import TruthMasks, area
from dermask.records import BoolArray, ByteArray, ImageSize, PhotoInfo, Sample

YES, NO = "yes", "no"
NO_LESION = "none"
"""Size of the lesion of a photograph without one."""
NOT_MEASURABLE = "not measurable"
"""Skin tone of a photograph with too little bare skin, or skin without colour."""
SIZE_LIMITS: tuple[tuple[str, float], ...] = (("small", 0.10), ("medium", 0.30), ("large", 1.0))
"""Name of each size and the share of the photograph up to which it goes; a limit belongs to the larger size.

The first two limits cut the training photographs of ISIC 2017 into thirds: 34 % lie below 10 %, 67 % below 30 %.
"""


@dataclass(frozen=True, slots=True)
class PhotoTraits:
    """The traits of one photograph; None where one is not known or makes no sense.

    Attributes:
        lesion_size: A name of `SIZE_LIMITS`, or `NO_LESION`.
        touches_border: Whether a lesion reaches the edge of the photograph, ``yes`` or ``no``; None without a lesion.
        diagnosis: As the table beside the photographs names it.
        skin_tone: A bin of `ITA_BINS`, or `NOT_MEASURABLE`; None if the photograph was not looked at.
        hair: ``yes`` or ``no``; None if it was not looked at.
        ruler: The same.
    """

    lesion_size: str | None = None
    touches_border: str | None = None
    diagnosis: str | None = None
    skin_tone: str | None = None
    hair: str | None = None
    ruler: str | None = None


@dataclass(frozen=True, slots=True)
class Trait:
    """How a trait is told, for tables and pages.

    Attributes:
        title: Its name, a few words.
        meaning: What its values mean, a sentence or two.
        values: In the order they are shown; empty where a table names them.
        note: How far it is to be trusted.
    """

    title: str
    meaning: str
    values: tuple[str, ...] = ()
    note: str = ""


class Looked(NamedTuple):
    """What a look at the photograph tells; as in `PhotoTraits`."""

    skin_tone: str | None = None
    hair: str | None = None
    ruler: str | None = None


TRAITS: Mapping[str, Trait] = MappingProxyType(
    {
        "lesion_size": Trait(
            "Lesion size",
            "Share of the photograph that all labelled lesions cover together: small below 10 %, medium below 30 %, "
            "large from 30 %.",
            (NO_LESION, *(name for name, _ in SIZE_LIMITS)),
            "The limits are about the thirds of the training photographs of ISIC 2017. A share, not a size on the "
            "skin: it depends on how near the camera was and how the photograph was cropped.",
        ),
        "touches_border": Trait(
            "Lesion touches the border",
            "Whether the labelled lesions have a pixel at the edge of the photograph.",
            (NO, YES),
            "In photographs that were cropped, the crop may have cut the lesion.",
        ),
        "diagnosis": Trait(
            "Diagnosis",
            "As the table beside the photographs names it; dermask makes none.",
            (),
            "Tables differ in which diagnoses they know and in how these were found.",
        ),
        "skin_tone": Trait(
            "Skin tone",
            "Bin of the individual typology angle (ITA) of the skin around the lesions, darkest first.",
            (*(name for name, _ in ITA_BINS), NOT_MEASURABLE),
            "A proxy: it follows the light and the camera's white balance as well as the skin, and is not the "
            "Fitzpatrick type.",
        ),
        "hair": Trait(
            "Hair",
            "Whether dark hairs cross the photograph noticeably, by a simple detector.",
            (NO, YES),
            "On 120 validation photographs of ISIC 2017, labelled by eye, it found hair in 43 of 47 (91 %, 95 % "
            "interval 80 to 97 %) and none in 62 of 73 (85 %, 75 to 91 %). Fine or light hair is often missed.",
        ),
        "ruler": Trait(
            "Ruler",
            "Whether a scale with a base line and regular marks is in the photograph, by a simple detector.",
            (NO, YES),
            "On 120 validation photographs of ISIC 2017, labelled by eye, it found a ruler in 61 of 64 (95 %, 95 % "
            "interval 87 to 98 %) and none in 56 of 56 (100 %, 94 to 100 %). Marks without a base line are missed.",
        ),
    }
)
"""Every trait by its name in `PhotoTraits`, in the order they are shown."""


def traits_of(sample: Sample, truth: TruthMasks, *, info: PhotoInfo | None = None, look: bool = True) -> PhotoTraits:
    """The traits of one photograph.

    Args:
        sample: The photograph.
        truth: Its labels; crowd regions tell nothing of a lesion.
        info: What a table beside the photographs says of it.
        look: Whether to read the photograph for skin tone, hair and ruler. One that cannot be read has none of them.
    """
    union = truth.union()
    pixels = area(union)
    lesions = masks.rle_to_bitmask(union)
    looked = look_at(sample, lesions) if look else Looked()
    return PhotoTraits(
        lesion_size=lesion_size(pixels / max(1, lesions.size)),
        touches_border=_yes_no(_touches_border(lesions)) if pixels else None,
        diagnosis=(info.diagnosis or None) if info is not None else None,
        skin_tone=looked.skin_tone,
        hair=looked.hair,
        ruler=looked.ruler,
    )


def lesion_size(share: float) -> str:
    """The name of a lesion's size from the share of the photograph that it covers, in [0, 1]."""
    if share <= 0:
        return NO_LESION
    return next((name for name, limit in SIZE_LIMITS if share < limit), SIZE_LIMITS[-1][0])


def look_at(sample: Sample, lesions: BoolArray) -> Looked:
    """Skin tone, hair and ruler of one photograph, on a copy of at most `WORKING_SIDE` pixels.

    Args:
        sample: The photograph.
        lesions: (H, W) bool, all lesions together.

    Returns:
        Nothing known for a photograph that cannot be read: judging saved predictions does not need the photographs.
    """
    try:
        image = _small_copy(sample)
    except InputError:
        return Looked()
    if not image.size or not lesions.size:
        return Looked()
    size = ImageSize(*image.shape[:2])
    tone = skin_tone(image, _shrink(lesions, size))
    found = find_artifacts(image)
    return Looked(NOT_MEASURABLE if tone is None else tone.bin, _yes_no(found.hair), _yes_no(found.ruler))


def _small_copy(sample: Sample) -> ByteArray:
    if isinstance(sample.image, np.ndarray):
        image = sample.image
    else:
        image = images.read_image(sample.image, target_side=WORKING_SIDE)
    height, width = image.shape[:2]
    if max(height, width) <= WORKING_SIDE:
        return image
    scale = WORKING_SIDE / max(height, width)
    return images.resize(image, ImageSize(max(1, round(height * scale)), max(1, round(width * scale))))


def _shrink(lesions: BoolArray, size: ImageSize) -> BoolArray:
    """(h, w) bool: the pixels of a small copy that lesions cover by half or more."""
    if lesions.shape == tuple(size):
        return lesions
    grey = Image.fromarray(lesions.astype(np.uint8) * np.uint8(255))
    return np.asarray(grey.resize((size.width, size.height), Image.Resampling.BOX)) >= 128


def _touches_border(lesions: BoolArray) -> bool:
    return bool(lesions[0].any() or lesions[-1].any() or lesions[:, 0].any() or lesions[:, -1].any())


def _yes_no(answer: bool) -> str:
    return YES if answer else NO
