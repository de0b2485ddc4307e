"""What must stay on one side of a split: near-duplicates, photographs of one lesion, photographs of one patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dermask.data.dataset import Dataset
from dermask.records import PhotoInfo


@dataclass(frozen=True, slots=True)
class Bond:
    """Photographs that belong together, for one reason.

    Attributes:
        kind: ``near-duplicates``, ``lesion`` or ``patient``.
        name: Id of the lesion or patient; for near-duplicates the first photograph.
        members: Indices into the data set, two or more, ascending.
    """

    kind: str
    name: str
    members: tuple[int, ...]

    def __str__(self) -> str:
        return f"near-duplicates of {self.name}" if self.kind == "near-duplicates" else f"{self.kind} {self.name}"


def find_bonds(
    dataset: Dataset, groups: Sequence[Sequence[int]] | None, metadata: Mapping[str, PhotoInfo] | None
) -> list[Bond]:
    """Every reason to keep photographs together, in an order that does not depend on the data set's.

    Args:
        dataset: The photographs.
        groups: Indices of near-duplicates, a sequence for each group.
        metadata: What is known of each photograph, by id.
    """
    ids = [sample.image_id for sample in dataset]
    bonds = []
    for group in groups or ():
        members = tuple(sorted(set(group)))
        bonds.append(Bond("near-duplicates", min(ids[index] for index in members), members))
    for kind, field in (("lesion", "lesion_id"), ("patient", "patient_id")):
        by_name: dict[str, list[int]] = defaultdict(list)
        for index, image_id in enumerate(ids):
            name = getattr((metadata or {}).get(image_id), field, None)
            if name is not None:
                by_name[name].append(index)
        bonds += [Bond(kind, name, tuple(members)) for name, members in by_name.items()]
    return sorted((bond for bond in bonds if len(bond.members) > 1), key=lambda bond: (bond.kind, bond.name))


def connected(bonds: Sequence[Bond], count: int, *, without: Collection[int] = ()) -> list[list[int]]:
    """The groups that bonds make of photographs 0 to `count` - 1, those without a bond alone in theirs.

    Args:
        bonds: What ties photographs together.
        count: Of photographs.
        without: Indices that tie nothing and are in no group.
    """
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    left_out = set(without)
    for bond in bonds:
        members = [index for index in bond.members if index not in left_out]
        for member in members[1:]:
            parent[root(member)] = root(members[0])
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(count):
        if index not in left_out:
            groups[root(index)].append(index)
    return list(groups.values())
