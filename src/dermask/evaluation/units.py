"""What is drawn together when uncertainty is estimated: patients, else lesions, else photographs.

Photographs of one patient or of one lesion resemble each other. Whatever such bonds tie together, directly or over
others, is one unit: a lesion's photographs stay one unit where the table names the patient of some of them only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

from dermask.data.dataset import Dataset
from dermask.data.grouping import connected, find_bonds
from dermask.evaluation.bootstrap import Unit
from dermask.records import PhotoInfo

_KINDS = ("patient", "lesion")  # the wider one first: one patient's lesions are alike too


class PhotoUnits(NamedTuple):
    """The units of a data set.

    Attributes:
        names: N names, equal for photographs of one unit: ``patient P1``, ``lesion L1``, or the photograph's own id.
        kind: What they are: one kind, or all that occur, such as ``patient or photograph``.
    """

    names: tuple[str, ...]
    kind: Unit


def photo_units(dataset: Dataset, metadata: Mapping[str, PhotoInfo]) -> PhotoUnits:
    """The unit of each photograph.

    Args:
        dataset: N photographs.
        metadata: What is known of each photograph, by id; a patient and a lesion of the same id are not the same.

    Returns:
        Names that depend on ids alone, not on the order of photographs; a unit that holds several patients, or
        lesions without a patient, has the name of the first in alphabetical order.
    """
    names, kinds = [""] * len(dataset), set()
    for members in connected(find_bonds(dataset, None, metadata), len(dataset)):
        ids = [dataset[index].image_id for index in members]
        infos = [metadata.get(image_id, PhotoInfo()) for image_id in ids]
        kind, name = _name(ids, infos)
        kinds.add(kind)
        for index in members:
            names[index] = name
    *others, last = [kind for kind in (*_KINDS, "photograph") if kind in kinds] or ["photograph"]
    return PhotoUnits(tuple(names), cast(Unit, f"{', '.join(others)} or {last}" if others else last))


def unit_name(dataset: Dataset, metadata: Mapping[str, PhotoInfo]) -> Unit:
    """What the units of a data set are, as `PhotoUnits.kind`."""
    return photo_units(dataset, metadata).kind


def _name(ids: list[str], infos: list[PhotoInfo]) -> tuple[str, str]:
    """Kind and name of the unit of some photographs."""
    for kind, field in zip(_KINDS, ("patient_id", "lesion_id"), strict=True):
        known = [name for info in infos if (name := getattr(info, field)) is not None]
        if known:
            return kind, f"{kind} {min(known)}"
    image_id = ids[0]
    is_like_another = image_id.startswith(tuple(f"{kind} " for kind in _KINDS))
    return "photograph", f"photograph {image_id}" if is_like_another else image_id
