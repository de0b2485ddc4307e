"""Near-duplicates: the same photograph again, re-encoded, resized, turned, mirrored, re-coloured or cropped.

    signature (signatures)   once for each photograph, in any process
    -> candidates            descriptors of all photographs against windows of all others, in blocks
    -> alignment (alignment) of the best few for each photograph, coarse to fine, dropping the hopeless early
    -> agreement             of the fine texture where they overlap, which two different photographs never share

What was measured, and what cannot be found, is in docs/near_duplicates.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from dermask.audit import alignment
from dermask.audit.signatures import (
    CENTRE,
    DESCRIPTOR_SCALE,
    FIRST_WINDOW,
    INNER,
    SIDE,
    WHOLE,
    Signature,
    orientations,
    signature,
    windows_of,
)
from dermask.records import FloatArray

__all__ = ["SIDE", "THRESHOLD", "DuplicatePair", "Signature", "find_near_duplicates", "groups_of", "signature"]

THRESHOLD = 0.4
"""Similarity from which two photographs count as the same. Among the 1.6 million pairs of 1,768 training photographs of
ISIC 2017, all 15 with 0.35 and more show one lesion, photographed twice or saved twice; the two below that, with 0.33
and 0.32, do not (looked at one by one)."""

_T = TypeVar("_T")
OnProgress = Callable[[int, int], None]

_CANDIDATES = 12
"""Photographs whose windows look most like a whole photograph, that are laid on it."""
_WHOLE_CANDIDATES = 4
"""The same for whole photographs squeezed to squares, and for inner squares."""
_QUERY_BLOCK = 32
_WINDOW_BLOCK = 16_384
_PAIR_BLOCK = 64
_COARSE, _MIDDLE, _FINE = (24, 32), (56, 72), (96, 120)
"""Sides of template and source at the three levels; the source has more, because the template is a part of it."""
_COARSE_RADIUS, _MIDDLE_RADIUS, _FINE_RADIUS = 0.09, 0.05, 0.045
_COARSE_STEPS, _MIDDLE_STEPS, _FINE_STEPS = 5, 5, 3
_MIN_COARSE, _MIN_MIDDLE, _MIN_FINE = 0.6, 0.5, 0.3
"""Correlation under which a candidate is dropped after a level."""
_MAX_STRETCH = 1.6
"""Largest ratio of the two scales of a map; more is no photograph's change."""
_SOURCE_RADIUS = 0.8
"""Radius in a source by that in its template, which covers a part of it: between a full and a half covered one."""
_MIN_COMPARED = 0.3
"""Share of the smaller photograph that must have been compared."""


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two photographs that are the same.

    Attributes:
        first: Index of one, the smaller.
        second: Index of the other.
        similarity: Agreement of their fine texture, `THRESHOLD` to 1.
        transform: What was done to the first to get the second, in words: ``same``, ``mirrored, rotated by 90``
            (clockwise), ``cropped to 71 %``. Colours are not told.
    """

    first: int
    second: int
    similarity: float
    transform: str


class _Candidate(NamedTuple):
    """Template `template` laid on source `source` by windows of both and an orientation."""

    template: int
    source: int
    query: int
    window: int
    orientation: int


def find_near_duplicates(
    signatures: Sequence[Signature], *, threads: int | None = None, on_progress: OnProgress | None = None
) -> list[DuplicatePair]:
    """All pairs of photographs that are the same but for re-encoding, size, orientation, colours or a crop.

    Of photographs that are equal to the pixel only the first is compared with the rest, and the others are paired
    with it: use `groups_of` for the groups.

    Args:
        signatures: One for each photograph.
        threads: That compare candidates side by side; None takes one for each processor.
        on_progress: Called with (done, total) now and then.

    Returns:
        Pairs by `first`, then `second`; each once.
    """
    leaders, pairs = _equal(signatures)
    chosen = [signatures[index] for index in leaders if signatures[index].descriptors.any()]
    places = [index for index in leaders if signatures[index].descriptors.any()]
    report = on_progress or (lambda done, total: None)
    total = 2 * len(chosen)
    if len(chosen) > 1:
        coarse = _coarse_maps(chosen)
        candidates = _without_mirror_images(_candidates(chosen, lambda done: report(done, total)))
        found: dict[tuple[int, int], DuplicatePair] = {}
        blocks = _blocks(candidates, _PAIR_BLOCK * 8)
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:  # numpy lets go of the lock where the time goes
            for done, verified in pool.map(lambda entry: (entry[0], list(_verified(entry[1], chosen, coarse))), blocks):
                for pair in verified:
                    first, second = places[pair.first], places[pair.second]
                    best = found.get((first, second))
                    if best is None or pair.similarity > best.similarity:
                        found[first, second] = DuplicatePair(first, second, pair.similarity, pair.transform)
                report(len(chosen) + done * len(chosen) // len(candidates), total)
        pairs += found.values()
    report(total, total)
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def groups_of(pairs: Iterable[DuplicatePair], count: int) -> list[list[int]]:
    """Photographs that are the same, directly or through others.

    Args:
        pairs: As found.
        count: Number of photographs; every index is below it.

    Returns:
        Groups of two and more, each in ascending order, by their smallest index.
    """
    leader = list(range(count))

    def root(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for pair in pairs:
        first, second = sorted((root(pair.first), root(pair.second)))
        leader[second] = first
    groups: dict[int, list[int]] = {}
    for index in range(count):
        groups.setdefault(root(index), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _equal(signatures: Sequence[Signature]) -> tuple[list[int], list[DuplicatePair]]:
    """The first photograph of each set of equal ones, and the pairs of the others with it.

    Plain photographs have nothing but their colour to be told by, so this is all that is done for them.
    """
    first_of: dict[tuple[bytes, float, tuple[int, ...]], int] = {}
    pairs = []
    for index, one in enumerate(signatures):
        key = (one.thumbnail.tobytes(), round(one.aspect, 2), tuple(round(value) for value in one.colour))
        leader = first_of.setdefault(key, index)
        if leader != index:
            pairs.append(DuplicatePair(leader, index, 1.0, "same"))
    return sorted(first_of.values()), pairs


def _candidates(signatures: Sequence[Signature], report: Callable[[int], None]) -> list[_Candidate]:
    """For each photograph those that may be the same, with the windows by which they look alike."""
    counts = np.array([len(one.descriptors) - FIRST_WINDOW for one in signatures])
    starts = np.concatenate([[0], np.cumsum(counts)])
    windows = np.concatenate([one.descriptors[FIRST_WINDOW:] for one in signatures])
    whole = {kind: np.stack([one.descriptors[kind] for one in signatures]) for kind in (WHOLE, INNER, CENTRE)}
    own = np.arange(len(signatures) + 1)
    square = all(abs(one.aspect - 1) < 0.02 for one in signatures)  # the whole is then the centre square
    found: list[_Candidate] = []
    for low in range(0, len(signatures), _QUERY_BLOCK):
        block = slice(low, min(low + _QUERY_BLOCK, len(signatures)))
        found += _best(whole[CENTRE], block, windows, starts, _CANDIDATES, (CENTRE, FIRST_WINDOW))
        found += _best(whole[INNER], block, whole[INNER], own, _WHOLE_CANDIDATES, (INNER, INNER))
        if not square:
            found += _best(whole[WHOLE], block, whole[WHOLE], own, _WHOLE_CANDIDATES, (WHOLE, WHOLE))
        report(block.stop)
    return found


def _best(
    queries: np.ndarray,
    block: slice,
    windows: np.ndarray,
    starts: np.ndarray,
    count: int,
    kinds: tuple[int, int],
) -> Iterator[_Candidate]:
    """The `count` photographs whose windows are most like each query.

    Args:
        queries: (N, 33) int8, one for each photograph.
        block: Which of them to ask.
        windows: (V, 33) int8 of all photographs, one after the other.
        starts: (N + 1,) where each photograph's windows start.
        count: How many photographs to give.
        kinds: Index among the windows of a signature of the query, and of the first of `windows`.
    """
    asked = orientations(queries[block].astype(np.float32) / DESCRIPTOR_SCALE)  # (8, B, 33)
    scores = np.empty((asked.shape[1], len(queries)), np.float32)
    for low, high in _whole_photographs(starts):
        part = windows[starts[low] : starts[high]].astype(np.float32).T / DESCRIPTOR_SCALE
        products = (asked.reshape(-1, asked.shape[2]) @ part).reshape(8, len(scores), -1)
        scores[:, low:high] = np.maximum.reduceat(products.max(axis=0), starts[low:high] - starts[low], axis=1)
    scores[np.arange(len(scores)), np.arange(block.start, block.stop)] = -2  # itself
    nearest = np.argpartition(-scores, min(count, scores.shape[1] - 1), axis=1)[:, :count]
    for row, sources in enumerate(nearest):
        for source in sources:
            if scores[row, source] > 0:
                some = windows[starts[source] : starts[source + 1]].astype(np.float32)
                orientation, window = np.unravel_index((asked[:, row] @ some.T).argmax(), (8, len(some)))
                yield _Candidate(block.start + row, int(source), kinds[0], kinds[1] + int(window), int(orientation))


def _whole_photographs(starts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of photographs with about `_WINDOW_BLOCK` windows each."""
    low = 0
    while low < len(starts) - 1:
        high = max(int(np.searchsorted(starts, starts[low] + _WINDOW_BLOCK, side="right")) - 1, low + 1)
        yield low, high
        low = high


def _without_mirror_images(candidates: list[_Candidate]) -> list[_Candidate]:
    """Each way to lay two photographs on each other once: whole on whole needs no second look from the other side."""
    kept: dict[tuple[int, ...], _Candidate] = {}
    for one in candidates:
        first, second = sorted((one.template, one.source))
        alike = one.query == one.window
        kept.setdefault((first, second, one.query, 0 if alike else 1 + (one.template < one.source)), one)
    return list(kept.values())


def _coarse_maps(signatures: Sequence[Signature]) -> tuple[alignment.Maps, alignment.Maps]:
    """All photographs prepared once as templates and as sources of the first level, where most candidates end."""
    prepared: tuple[list[alignment.Maps], list[alignment.Maps]] = ([], [])
    for _, block in _blocks(signatures, _PAIR_BLOCK):
        thumbnails = np.stack([one.thumbnail for one in block])
        for role, scale in enumerate((1.0, _SOURCE_RADIUS)):
            prepared[role].append(alignment.prepare(thumbnails, _COARSE[role], radius=_COARSE_RADIUS * scale))
    templates, sources = (
        alignment.Maps(*(np.concatenate(layer) for layer in zip(*maps, strict=True))) for maps in prepared
    )
    return templates, sources


def _coarsely_aligned(
    candidates: Sequence[_Candidate], start: FloatArray, coarse: tuple[alignment.Maps, alignment.Maps]
) -> tuple[np.ndarray, FloatArray]:
    """The first level: the candidates that reach `_MIN_COARSE`, and their better maps."""
    kept, maps = [], []
    for _, rows in _blocks(range(len(candidates)), _PAIR_BLOCK):
        places = np.array([(candidates[row].template, candidates[row].source) for row in rows])
        templates, sources = (
            alignment.Maps(*(layer[places[:, role]].astype(np.float32) for layer in coarse[role])) for role in (0, 1)
        )
        found = alignment.align(templates, sources, start[list(rows)], steps=_COARSE_STEPS)
        passed = found.correlation >= _MIN_COARSE
        kept.append(np.asarray(rows)[passed])
        maps.append(found.maps[passed])
    return np.concatenate(kept), np.concatenate(maps)


def _verified(
    candidates: Sequence[_Candidate],
    signatures: Sequence[Signature],
    coarse: tuple[alignment.Maps, alignment.Maps],
) -> Iterator[DuplicatePair]:
    """The candidates that are the same photograph."""
    start = np.stack(
        [
            alignment.first_map(
                windows_of(signatures[one.template].aspect)[one.query],
                windows_of(signatures[one.source].aspect)[one.window],
                one.orientation,
            )
            for one in candidates
        ]
    )
    kept, maps = _coarsely_aligned(candidates, start, coarse)
    for sides, radius, steps, least in (
        (_MIDDLE, _MIDDLE_RADIUS, _MIDDLE_STEPS, _MIN_MIDDLE),
        (_FINE, _FINE_RADIUS, _FINE_STEPS, _MIN_FINE),
    ):
        kept, maps = _aligned(candidates, signatures, kept, maps, sides, radius, steps, least)
    for _, rows in _blocks(range(len(kept)), _PAIR_BLOCK):
        pairs = [candidates[kept[row]] for row in rows]
        templates = np.stack([signatures[one.template].thumbnail for one in pairs])
        sources = np.stack([signatures[one.source].thumbnail for one in pairs])
        bands, compared = alignment.agreement(templates, sources, maps[list(rows)])
        similarity = bands[:, 0]
        for row, one in enumerate(pairs):
            if similarity[row] >= THRESHOLD and compared[row] >= _MIN_COMPARED:
                pair = _pair(one, signatures, maps[rows[row]], float(similarity[row]))
                if pair is not None:
                    yield pair


def _aligned(
    candidates: Sequence[_Candidate],
    signatures: Sequence[Signature],
    kept: np.ndarray,
    maps: FloatArray,
    sides: tuple[int, int],
    radius: float,
    steps: int,
    least: float,
) -> tuple[np.ndarray, FloatArray]:
    """One level: the candidates that reach correlation `least`, and their better maps."""
    good, better = [kept[:0]], [maps[:0]]
    for _, rows in _blocks(range(len(kept)), _PAIR_BLOCK):
        chosen = list(rows)
        sources = np.stack([signatures[candidates[kept[row]].source].thumbnail for row in chosen])
        templates = np.stack([signatures[candidates[kept[row]].template].thumbnail for row in chosen])
        found = alignment.align(
            alignment.prepare(templates, sides[0], radius=radius),
            alignment.prepare(sources, sides[1], radius=radius * _SOURCE_RADIUS),
            maps[chosen],
            steps=steps,
        )
        passed = found.correlation >= least
        good.append(kept[chosen][passed])
        better.append(found.maps[passed])
    return np.concatenate(good), np.concatenate(better)


def _pair(
    one: _Candidate, signatures: Sequence[Signature], found: FloatArray, similarity: float
) -> DuplicatePair | None:
    """The pair in words, in ascending order; None where the map is no photograph's change."""
    whole = np.eye(3)
    whole[:2] = found
    first, second = one.template, one.source
    if abs(np.linalg.det(whole)) < 1e-3:
        return None
    if first > second:
        first, second, whole = second, first, np.asarray(np.linalg.inv(whole), dtype=np.float64)
    widths = np.diag([signatures[second].aspect, 1.0]), np.diag([1 / signatures[first].aspect, 1.0])
    turned = widths[0] @ whole[:2, :2] @ widths[1]
    scales = np.linalg.svd(turned, compute_uv=False)
    if scales[0] > _MAX_STRETCH * scales[1]:
        return None
    return DuplicatePair(first, second, min(similarity, 1.0), _in_words(whole, turned, float(scales[0] / scales[1])))


def _in_words(whole: np.ndarray, turned: np.ndarray, stretch: float) -> str:
    """What a map does.

    Args:
        whole: (3, 3) from the first to the second photograph in unit coordinates.
        turned: (2, 2) its turning part in square pixels, y down.
        stretch: Ratio of its two scales.
    """
    mirrored = np.linalg.det(turned) < 0
    upright = turned @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    angle = float(np.degrees(np.arctan2(upright[1, 0] - upright[0, 1], upright[0, 0] + upright[1, 1]))) % 360
    quarter = round(angle / 90) * 90
    degrees = quarter % 360 if abs(angle - quarter) < 1 else round(angle) % 360
    words = ["mirrored"] if mirrored else []
    if degrees:
        words.append(f"rotated by {degrees}")
    if stretch > 1.08:
        words.append("stretched")
    share = _shared(whole)
    if share < 0.97:
        words.append(f"cropped to {round(100 * share)} %")
    return ", ".join(words) or "same"


def _shared(whole: np.ndarray) -> float:
    """Area that both photographs show, as a share of the one that shows more around it."""
    centres = (np.arange(64) + 0.5) / 64
    x, y = np.meshgrid(centres, centres)
    reached = whole[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    inside = float(((reached >= 0) & (reached <= 1)).all(axis=0).mean())
    return min(inside, inside * abs(float(np.linalg.det(whole[:2, :2]))))


def _blocks(items: Sequence[_T], size: int) -> Iterator[tuple[int, Sequence[_T]]]:
    """Items by `size`, each with how many are done after it."""
    for low in range(0, len(items), size):
        yield min(low + size, len(items)), items[low : low + size]
