"""The split file: which photograph belongs to which part, by `image_id` alone.

It holds no paths and no outlines, so it goes with the data in any of its formats and can be published beside figures.
Once written, a photograph's part never changes; `splits.split_dataset` adds new photographs to it.

    {"dermask_split": 1, "dermask": "0.1.0", "seed": 0, "fractions": {"train": 0.7, "val": 0.15, "test": 0.15},
     "part_of": "Training", "data": "hash of ids and sizes", "groups": {"photographs": 9, "groups": 8, ...},
     "parts": {"train": ["ISIC_0000000", ...], ...}, "left_out": {"ISIC_0000009": "why"}, "absent": ["ISIC_0000003"]}

`folds` stands in place of `fractions` where the parts are folds. Ids are sorted, one a line, for readable differences.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dermask import files
from dermask.data.checks import as_list, as_record, as_whole, load_json, show
from dermask.data.dataset import Dataset
from dermask.errors import LabelError

VERSION = 1
MAX_FOLDS = 1000
_CURE = "make the file again with dermask data split"
_KEYS = {
    "dermask_split", "dermask", "seed", "fractions", "folds", "part_of", "data", "groups", "parts", "left_out", "absent"
}  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Photographs of each part, by `image_id`.

    Attributes:
        parts: Name of each part and its ids, sorted; no id stands in two.
        seed: It was drawn with.
        fractions: Share of each part in the whole, by name; None for folds.
        folds: How many folds the parts ``fold1``, ``fold2``, ... are; None for fractions.
        part_of: The part of an ISIC folder that the ids come from: ``Training``; None where it has no parts.
        data: `data_fingerprint` of the data set at the last run; empty where unknown.
        left_out: Ids that are in no part, with the reason of each.
        absent: Ids of `parts` that the data set did not have at the last run, remembered in case they come back.
        groups: Summary of what was kept together, for reading.
        dermask: Version that wrote the file.
        source: The file it was read from, for messages.
        warnings: What could not be kept when it was made, one line each; not in the file.
    """

    parts: Mapping[str, tuple[str, ...]]
    seed: int = 0
    fractions: Mapping[str, float] | None = None
    folds: int | None = None
    part_of: str | None = None
    data: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    groups: Mapping[str, int] = field(default_factory=dict)
    dermask: str = ""
    source: Path | None = None
    warnings: tuple[str, ...] = ()

    @cached_property
    def part_by_id(self) -> dict[str, str]:
        """The part of each id."""
        return {image_id: name for name, ids in self.parts.items() for image_id in ids}

    @property
    def item(self) -> str:
        """How messages name it."""
        return "split" if self.source is None else str(self.source)

    def shares(self) -> dict[str, float]:
        """The share of the whole that each part is meant to have, sum 1."""
        if self.fractions is not None:
            return dict(self.fractions)
        return {name: 1 / len(self.parts) for name in self.parts}

    def select(self, dataset: Dataset, part: str | None = None) -> Dataset:
        """The photographs of one part, in the data set's order.

        Args:
            dataset: The data that was split, in any format, or a subset of it that has the whole part.
            part: Name of a part; None for the photographs of all parts, without those left out.

        Raises:
            LabelError: There is no such part; the data set lacks photographs of it, and its reader did not leave them
                out as bad; or it has photographs that the file does not know.
        """
        if part is not None and part not in self.parts:
            raise LabelError(self.item, f"has no part {show(part)}", f"choose one of {', '.join(self.parts)}")
        self._check_known(dataset)
        wanted = {image_id for image_id, name in self.part_by_id.items() if part in (None, name)}
        chosen = [index for index, sample in enumerate(dataset) if sample.image_id in wanted]
        missing = wanted - {dataset[index].image_id for index in chosen} - self.absent
        # Each photograph that a reader left out as bad has a line there at least.
        if len(missing) > len(dataset.skipped):
            where = "" if part is None else f" of part {part}"
            raise LabelError(
                self.item,
                f"{len(missing)} photographs{where} are not in {dataset.name or 'the data set'}, such as "
                f"{show(min(missing))}",
                "name the data that was split, or run dermask data split again to go on without them",
            )
        return dataset.select(chosen)

    def without(self, dataset: Dataset, part: str) -> Dataset:
        """The photographs of every part but one: what a run with that fold for validation trains on.

        Raises:
            LabelError: As `select`.
        """
        whole = self.select(dataset)
        held_out = {sample.image_id for sample in self.select(dataset, part)}
        return whole.select(index for index, sample in enumerate(whole) if sample.image_id not in held_out)

    def named(self, dataset: Dataset, part: str) -> Dataset:
        """`dataset` under a name that says which part of which split it is, for figures that are kept."""
        file = "a split" if self.source is None else self.source.name
        name = f"{dataset.name or 'data'}, {part} of {file} ({self.digest()[:12]})"
        return Dataset(dataset, dataset.class_names, name, dataset.source, dataset.categories)

    def is_of(self, dataset: Dataset) -> bool:
        """Whether a data set that has all ids of the file also has photographs of the same sizes as at the last run.

        True where that cannot be told because the data set is a part, or has grown.
        """
        known = {*self.part_by_id, *self.left_out} - self.absent
        same_ids = known == {sample.image_id for sample in dataset}
        return not self.data or not same_ids or data_fingerprint(dataset) == self.data

    def to_json(self) -> str:
        """The file's text."""
        drawn = {"folds": self.folds} if self.fractions is None else {"fractions": dict(self.fractions)}
        tree = {
            "dermask_split": VERSION,
            "dermask": self.dermask,
            "seed": self.seed,
            **drawn,
            "part_of": self.part_of,
            "data": self.data,
            "groups": dict(self.groups),
            "parts": {name: sorted(ids) for name, ids in self.parts.items()},
            "left_out": dict(sorted(self.left_out.items())),
            "absent": sorted(self.absent),
        }
        return json.dumps(tree, indent=1) + "\n"

    def digest(self) -> str:
        """Hex SHA-256 of who is in which part; the same for the same parts, whatever else the file says."""
        tree = {name: sorted(ids) for name, ids in sorted(self.parts.items())}
        return hashlib.sha256(json.dumps(tree).encode()).hexdigest()

    def _check_known(self, dataset: Dataset) -> None:
        ids = {sample.image_id for sample in dataset}
        unknown = ids - self.part_by_id.keys() - self.left_out.keys()
        if not unknown:
            return
        name = dataset.name or "the data set"
        if unknown == ids:
            raise LabelError(
                self.item,
                f"knows none of the {len(ids)} photographs of {name}, such as {show(min(unknown))}",
                "name the data that was split",
            )
        raise LabelError(
            self.item,
            f"does not know {len(unknown)} of the {len(ids)} photographs of {name}, such as {show(min(unknown))}",
            "run dermask data split again to add them",
        )


def data_fingerprint(dataset: Dataset) -> str:
    """Hex SHA-256 of the ids and sizes of the photographs: the same for every format and order of the labels.

    Raises:
        ImageError: A photograph whose size the labels do not state cannot be read.
    """
    lines = sorted((sample.image_id, *dataset.size(index)) for index, sample in enumerate(dataset))
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def write_split(split: Split, path: Path) -> None:
    """Write a split file, replacing what stands there in one step.

    Raises:
        InputError: It cannot be written.
    """
    files.write_text(path, split.to_json())


def read_split(path: Path) -> Split:
    """Read a split file.

    Raises:
        LabelError: It is missing, no split file, of an unknown version, or contradicts itself; says what to do.
    """
    tree = load_json(Path(path))
    item = str(path)
    if not isinstance(tree, dict) or "dermask_split" not in tree:
        raise LabelError(item, "is not a split file of dermask", "name a file that dermask data split wrote")
    if as_whole(tree["dermask_split"]) != VERSION:
        raise LabelError(
            item,
            f"is a split file of version {show(tree['dermask_split'])}; this dermask knows version {VERSION}",
            "use the dermask that wrote it, or a newer one",
        )
    for key in tree.keys() - _KEYS:
        raise LabelError(item, f"has the unknown key {show(key)}", _CURE)
    parts = _read_parts(tree, item)
    fractions, folds = _read_kind(tree, parts, item)
    left_out = _read_left_out(tree, parts, item)
    absent = frozenset(_read_ids(tree, "absent", item)) if "absent" in tree else frozenset()
    known = {image_id for ids in parts.values() for image_id in ids}
    for image_id in sorted(absent - known):
        raise LabelError(item, f"absent id {show(image_id)} is in no part", _CURE)
    return Split(
        parts=parts,
        seed=_read_seed(tree, item),
        fractions=fractions,
        folds=folds,
        part_of=_read_text(tree, "part_of", item),
        data=_read_text(tree, "data", item) or "",
        left_out=left_out,
        absent=absent,
        groups=_read_groups(tree, item),
        dermask=_read_text(tree, "dermask", item) or "",
        source=Path(path),
    )


def check_fractions(fractions: Mapping[str, Any]) -> str | None:
    """What is wrong with the shares of the parts; None if nothing is."""
    for name, share in fractions.items():
        if not is_part_name(name):
            return f"part name {show(name)} is not made of letters, digits, - and _"
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            return f"share {show(share)} of part {name} is not above 0 and at most 1"
    if not fractions or not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        return f"the shares add up to {sum(fractions.values()):g}, not 1"
    return None


def is_part_name(name: str) -> bool:
    """Whether a name is fit for options, folders and tables: 1 to 40 letters, digits, - and _."""
    return 0 < len(name) <= 40 and name.isascii() and all(letter.isalnum() or letter in "-_" for letter in name)


def fold_name(number: int) -> str:
    """The name of the part that is fold `number`, from 1."""
    return f"fold{number}"


def _read_parts(tree: Mapping[str, Any], item: str) -> dict[str, tuple[str, ...]]:
    record = as_record(tree.get("parts"), f"{item}: parts")
    if not any(record.values()):
        raise LabelError(item, "has no photograph in any part", _CURE)
    part_by_id: dict[str, str] = {}
    parts = {}
    for name in record:
        if not is_part_name(name):
            raise LabelError(item, f"part name {show(name)} is not made of letters, digits, - and _", _CURE)
        parts[name] = tuple(sorted(_read_ids(record, name, item)))
        for image_id in parts[name]:
            if image_id in part_by_id:
                both = f"{part_by_id[image_id]} and {name}"
                raise LabelError(item, f"{show(image_id)} is in two parts, {both}", _CURE)
            part_by_id[image_id] = name
    return parts


def _read_ids(record: Mapping[str, Any], key: str, item: str) -> list[str]:
    seen: set[str] = set()
    for image_id in as_list(record, key, item):
        if not isinstance(image_id, str) or not image_id:
            raise LabelError(item, f"{key}: {show(image_id)} is not the id of a photograph", _CURE)
        if image_id in seen:
            raise LabelError(item, f"{key}: {show(image_id)} appears twice", _CURE)
        seen.add(image_id)
    return list(seen)


def _read_kind(
    tree: Mapping[str, Any], parts: Mapping[str, object], item: str
) -> tuple[dict[str, float] | None, int | None]:
    if ("folds" in tree) == ("fractions" in tree):
        raise LabelError(item, "needs either fractions or folds", _CURE)
    if "folds" in tree:
        folds = as_whole(tree["folds"])
        if folds is None or not 2 <= folds <= MAX_FOLDS or set(parts) != {fold_name(k + 1) for k in range(folds)}:
            raise LabelError(item, f"folds {show(tree['folds'])} does not fit its parts {show(list(parts))}", _CURE)
        return None, folds
    fractions = as_record(tree["fractions"], f"{item}: fractions")
    problem = check_fractions(fractions)
    if problem or set(fractions) != set(parts):
        raise LabelError(item, problem or f"fractions {show(fractions)} are not those of its parts", _CURE)
    return {name: float(share) for name, share in fractions.items()}, None


def _read_left_out(tree: Mapping[str, Any], parts: Mapping[str, tuple[str, ...]], item: str) -> dict[str, str]:
    left_out = as_record(tree.get("left_out", {}), f"{item}: left_out")
    known = {image_id for ids in parts.values() for image_id in ids}
    for image_id, reason in left_out.items():
        if not isinstance(reason, str):
            raise LabelError(item, f"left_out: {show(reason)} is not the reason for {show(image_id)}", _CURE)
        if image_id in known:
            raise LabelError(item, f"{show(image_id)} is in a part and left out", _CURE)
    return left_out


def _read_groups(tree: Mapping[str, Any], item: str) -> dict[str, int]:
    groups = as_record(tree.get("groups", {}), f"{item}: groups")
    for name, count in groups.items():
        if as_whole(count) is None:
            raise LabelError(item, f"groups: {name} {show(count)} is not a whole number", _CURE)
    return {name: int(count) for name, count in groups.items()}


def _read_seed(tree: Mapping[str, Any], item: str) -> int:
    seed = as_whole(tree.get("seed"))
    if seed is None:
        raise LabelError(item, f"seed {show(tree.get('seed'))} is not a whole number", _CURE)
    return seed


def _read_text(tree: Mapping[str, Any], key: str, item: str) -> str | None:
    value = tree.get(key)
    if value is not None and not isinstance(value, str):
        raise LabelError(item, f"{key} {show(value)} is not a text", _CURE)
    return value
