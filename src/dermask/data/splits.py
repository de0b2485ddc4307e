"""Split a data set into disjoint parts, the same ones on every machine.

A photograph's place is decided by a hash of the seed and its `image_id` alone, so the split depends neither on the
order of the label file nor on its format, and adding photographs does not shuffle the others.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dermask.errors import SettingError

if TYPE_CHECKING:
    from dermask.data.dataset import Dataset


def split_by_seed(dataset: Dataset, parts: Sequence[int] | Sequence[float], *, seed: int) -> list[Dataset]:
    """Disjoint parts of a data set; within a part the photographs keep their order.

    Args:
        dataset: What to split.
        parts: All ints: photographs of each part. Else fractions of the whole, each in (0, 1]. What the parts do
            not ask for stays out; fractions that sum to 1 leave nothing out.
        seed: Another seed, another split.

    Raises:
        SettingError: More is asked for than there is, or a part would get no photograph.
    """
    counts = _part_counts(parts, len(dataset))
    ranked = sorted(range(len(dataset)), key=lambda index: _rank(dataset[index].image_id, seed))
    result = []
    start = 0
    for count in counts:
        result.append(dataset.select(sorted(ranked[start : start + count])))
        start += count
    return result


def _rank(image_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{image_id}".encode(errors="surrogatepass")).digest()


def _part_counts(parts: Sequence[int] | Sequence[float], total: int) -> list[int]:
    shown = f"parts {list(parts)}"
    if not parts:
        raise SettingError(shown, "is empty", "name a count or a fraction for each part, such as 0.8, 0.2")
    if not all(math.isfinite(part) and part > 0 for part in parts):
        raise SettingError(shown, "has a part that is not above 0", "leave that part out")
    if all(isinstance(part, int) for part in parts):
        counts = [int(part) for part in parts]
        if sum(counts) > total:
            raise SettingError(shown, f"asks for {sum(counts)} photographs of {total}", "ask for fewer")
        return counts
    if sum(parts) > 1 + 1e-9:
        raise SettingError(
            shown, f"sums to {sum(parts):g}", "give counts as whole numbers, or fractions up to 1 in all"
        )
    counts = _largest_remainders([part * total for part in parts])
    if 0 in counts:
        empty = parts[counts.index(0)]
        raise SettingError(shown, f"{empty:g} of {total} photographs is none", "ask for a larger part")
    return counts


def _largest_remainders(shares: Sequence[float]) -> list[int]:
    """Whole numbers with the rounded sum of `shares`, each less than 1 away from its share."""
    counts = [math.floor(share + 1e-9) for share in shares]  # 0.7 * 10 is 7, not 6.999...
    missing = round(sum(shares)) - sum(counts)
    by_remainder = sorted(range(len(shares)), key=lambda part: counts[part] - shares[part])
    for part in by_remainder[:missing]:
        counts[part] += 1
    return counts
