"""What is wrong with the outlines of one photograph: their shape, their place, and each other.

Every outline is looked at as drawn (rings) and as pixels, so that polygons, run lengths and mask files are judged by
the same rules. Shapes: H, W the photograph; M its outlines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import shapely
from faster_coco_eval.core import mask as coco_mask
from numpy.typing import NDArray

from dermask import images, masks
from dermask.audit.findings import Finding, Place, Severity
from dermask.audit.settings import AuditSettings
from dermask.contours import signed_area
from dermask.errors import InputError
from dermask.records import BoolArray, ByteArray, ImageSize, Instance, MaskFile, Polygons, Rle, Sample
from dermask.regions import connected_regions, hole_areas

_REDRAW = "draw it again"
_LOOK = "look at it, and draw it again if it is wrong"
_MINOR_LOOP = 0.005
"""Share of an outline below which what a crossing swaps is hardly visible: a tiny loop where the pen turned back."""
_SOFT_LEVELS = (16, 239)


class Photograph(NamedTuple):
    """The photograph whose outlines are looked at.

    Attributes:
        place: Where it stands.
        sample: Its labels.
        size: Its height and width.
        class_names: Of its data set.
        settings: Thresholds.
    """

    place: Place
    sample: Sample
    size: ImageSize
    class_names: tuple[str, ...]
    settings: AuditSettings

    def finding(
        self,
        kind: str,
        severity: Severity,
        problem: str,
        cure: str,
        *,
        number: int | None = None,
        measure: float = 0.0,
    ) -> Finding:
        """A finding about the photograph, or about outline `number`, counted from 0."""
        item = f"{self.place.part}: {self.place.image_id}"
        annotation_id = None
        if number is not None:
            annotation_id = self.sample.instances[number].annotation_id
            item += f": {outline_name(self.sample, number)}"
        photograph = None if isinstance(self.sample.image, np.ndarray) else self.sample.image
        return Finding(
            kind, severity, item, problem, cure, self.place, annotation_id, photograph=photograph, measure=measure
        )


class Drawn(NamedTuple):
    """One outline with its pixels.

    Attributes:
        number: Which of the photograph's outlines, from 0.
        instance: The outline.
        rle: Its pixels, compressed.
        area: How many.
        touches_border: Whether one of them is at the photograph's border.
    """

    number: int
    instance: Instance
    rle: Rle
    area: int
    touches_border: bool


def outline_name(sample: Sample, number: int) -> str:
    """How messages call an outline: by its id in the label file, or by its count from 1."""
    annotation_id = sample.instances[number].annotation_id
    if isinstance(sample.instances[number].outline, MaskFile):
        return "mask"
    return f"outline {number + 1}" if annotation_id is None else f"annotation {annotation_id}"


def check_outlines(photograph: Photograph) -> tuple[list[Finding], list[Drawn], BoolArray]:
    """Judge every outline of a photograph, alone and against the others.

    Returns:
        Findings; the outlines that have pixels; and (H, W) bool, all of them but crowds together.
    """
    findings: list[Finding] = []
    drawn: list[Drawn] = []
    together = np.zeros(photograph.size, np.bool_)
    for number, instance in enumerate(photograph.sample.instances):
        findings += _check_rings(photograph, number, instance)
        try:
            mask = _pixels(photograph, number, instance, findings)
        except InputError as error:
            findings.append(_unusable(photograph, number, error))
            continue
        area = int(np.count_nonzero(mask))
        if not area:
            continue
        if not instance.is_crowd:
            together |= mask
            findings += _check_pixels(photograph, number, instance, mask, area)
        edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
        touches = not instance.is_crowd and any(edge.any() for edge in edges)
        drawn.append(Drawn(number, instance, masks.bitmask_to_rle(mask), area, touches))
    findings += _check_pairs(photograph, [one for one in drawn if not one.instance.is_crowd])
    return findings, drawn, together


# One outline as drawn


def _check_rings(photograph: Photograph, number: int, instance: Instance) -> Iterator[Finding]:
    if not isinstance(instance.outline, Polygons):
        return
    parts = instance.outline.parts
    for ring in parts:
        if not np.isfinite(ring).all() or len(ring) < 3 or not np.abs(signed_area(ring)) + _extent(ring):
            continue  # `_pixels` tells it
        yield from _check_border(photograph, number, ring)
        yield from _check_crossing(photograph, number, ring)
    if len(parts) == 1:
        yield from _check_corners(photograph, number, parts[0])


def _check_border(photograph: Photograph, number: int, ring: NDArray[np.float64]) -> Iterator[Finding]:
    height, width = photograph.size
    past = {
        "left": -ring[:, 0].min(),
        "top": -ring[:, 1].min(),
        "right": ring[:, 0].max() - width,
        "bottom": ring[:, 1].max() - height,
    }
    side, distance = max(past.items(), key=lambda entry: entry[1])
    if distance > photograph.settings.border_tolerance:
        yield photograph.finding(
            "out-of-border",
            Severity.ERROR,
            f"reaches {distance:.4g} px past the {side} border of the {width}x{height} photograph",
            "check that it belongs to this photograph, or draw it again",
            number=number,
            measure=float(distance),
        )


def _check_crossing(photograph: Photograph, number: int, ring: NDArray[np.float64]) -> Iterator[Finding]:
    polygon = shapely.Polygon(ring)
    if polygon.is_valid:
        return
    reason = shapely.is_valid_reason(polygon)
    where = re.fullmatch(r"Self-intersection\[(\S+) (\S+)\]", reason)
    if where is None:
        return  # a ring that touches itself in a point has a clear inside
    x, y = (float(value) for value in where.groups())
    whole = shapely.make_valid(polygon)
    filled = shapely.unary_union([shapely.Polygon(part.exterior) for part in polygon_parts(whole)])
    # Even-odd and non-zero filling agree except in loops; where the outline is a figure of eight, the smaller lobe.
    areas = sorted((part.area for part in polygon_parts(whole)), reverse=True)
    swapped = (filled.area - whole.area + sum(areas[1:])) / max(filled.area, 1e-9)
    minor = swapped < _MINOR_LOOP
    yield photograph.finding(
        "self-crossing",
        Severity.NOTE if minor else Severity.WARNING,
        f"crosses itself at x {x:.1f}, y {y:.1f}" + (" in a tiny loop" if minor else f" ({swapped:.1%} of its area)"),
        "draw it again, or repair it with --fix",
        number=number,
        measure=swapped,
    )


def polygon_parts(shape: shapely.Geometry) -> list[shapely.Polygon]:
    """The polygons of a geometry that `make_valid` gave, without its stray lines and points."""
    if isinstance(shape, shapely.Polygon):
        return [] if shape.is_empty else [shape]
    return [part for one in getattr(shape, "geoms", ()) for part in polygon_parts(one)]


def _check_corners(photograph: Photograph, number: int, ring: NDArray[np.float64]) -> Iterator[Finding]:
    settings = photograph.settings
    corners = len(_corners(ring))
    side = abs(signed_area(ring)) ** 0.5
    if side < settings.few_points_side or _is_box(ring):
        return
    if 3 <= corners < settings.few_points:
        yield photograph.finding(
            "few-points",
            Severity.NOTE,
            f"follows the lesion with {corners} points",
            "add points where it leaves the border of the lesion",
            number=number,
            measure=-float(corners),
        )


def _corners(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0])
    return np.asarray(ring[turns > 1e-6], np.float64)


def _is_box(ring: NDArray[np.float64]) -> bool:
    corners = _corners(ring)
    return len(corners) == 4 and len(set(corners[:, 0].round(3))) == 2 and len(set(corners[:, 1].round(3))) == 2


def _extent(ring: NDArray[np.float64]) -> float:
    return float(np.ptp(ring, axis=0).max())


# One outline as pixels


def _pixels(photograph: Photograph, number: int, instance: Instance, findings: list[Finding]) -> BoolArray:
    """(H, W) bool; an outline without a pixel is told on the way."""
    if isinstance(instance.outline, MaskFile):
        levels = images.decode_levels(instance.outline.path)
        if levels.shape == tuple(photograph.size):
            findings += _check_levels(photograph, number, levels)
            return levels > images.MASK_THRESH
    mask = masks.outline_bitmask(instance.outline, photograph.size)
    if not mask.any():
        problem = "has no pixel in the photograph"
        findings.append(
            photograph.finding("degenerate-outline", Severity.ERROR, problem, "draw it again", number=number)
        )
    return mask


def _check_levels(photograph: Photograph, number: int, levels: ByteArray) -> Iterator[Finding]:
    counts = np.bincount(levels.ravel(), minlength=256)
    largest = int(np.flatnonzero(counts).max())
    if largest == 0:
        yield photograph.finding(
            "empty-mask",
            Severity.NOTE,
            "is all black: a photograph without a lesion",
            "nothing to do if the photograph shows none; else draw its outline",
            number=number,
        )
    elif largest <= images.MASK_THRESH:
        yield photograph.finding(
            "dark-mask",
            Severity.ERROR,
            f"has no value above {largest} of 255; only those above {images.MASK_THRESH} count, so it reads as empty",
            "save it again with 0 for skin and 255 for the lesion",
            number=number,
            measure=float(counts[1:].sum()) / levels.size,
        )
    else:
        low, high = _SOFT_LEVELS
        share = float(counts[low : high + 1].sum()) / levels.size
        if share >= photograph.settings.soft_share:
            yield photograph.finding(
                "soft-mask",
                Severity.WARNING,
                f"{share:.1%} of its pixels are neither black nor white",
                "save it again with 0 and 255 alone, as PNG rather than JPEG",
                number=number,
                measure=share,
            )


def _check_pixels(
    photograph: Photograph, number: int, instance: Instance, mask: BoolArray, area: int
) -> Iterator[Finding]:
    settings = photograph.settings
    share = area / mask.size
    if share >= settings.full_share:
        problem = f"covers {share:.1%} of the photograph"
        yield photograph.finding("covers-all", Severity.WARNING, problem, _LOOK, number=number, measure=share)
        return
    if area < settings.tiny_pixels or share < settings.tiny_share:
        problem = f"has {area} pixels, {share:.2%} of the photograph"
        cure = "delete it if it was a slip, else draw it again"
        yield photograph.finding("tiny-outline", Severity.WARNING, problem, cure, number=number, measure=-float(area))
        return
    yield from _check_parts(photograph, number, mask)
    x1, y1, x2, y2 = masks.mask_box(mask).astype(int).tolist()
    if area == (x2 - x1) * (y2 - y1):
        yield photograph.finding(
            "box-only",
            Severity.WARNING,
            f"is a rectangle of {x2 - x1}x{y2 - y1} pixels",
            "draw the lesion's border; a box alone does not teach one",
            number=number,
            measure=float(area),
        )


def _check_parts(photograph: Photograph, number: int, mask: BoolArray) -> Iterator[Finding]:
    settings = photograph.settings
    areas = connected_regions(mask).areas
    others = areas[1:][areas[1:] > settings.speck_pixels]
    specks = others[others < settings.speck_share * areas[0]]
    share = float(specks.sum() / areas[0])
    if share >= settings.few_specks_share or len(specks) >= settings.many_specks:
        is_much = share >= settings.specks_share or len(specks) >= settings.many_specks
        severity = Severity.WARNING if is_much else Severity.NOTE
        count = f"{len(specks)} speck{'s' if len(specks) > 1 else ''}"
        problem = f"has {count} of {int(specks.min())} to {int(specks.max())} pixels beside its {int(areas[0])}"
        yield photograph.finding("specks", severity, problem, "erase them", number=number, measure=share)
    if len(others) > len(specks):
        large = others[: len(others) - len(specks)]
        problem = f"has {len(large) + 1} parts; the second has {large[0] / areas[0]:.0%} of the first one's area"
        cure = "give each lesion its own outline, if they are several"
        yield photograph.finding(
            "many-parts", Severity.NOTE, problem, cure, number=number, measure=float(large.sum() / areas[0])
        )
    holes = hole_areas(mask)
    holes = holes[holes > settings.speck_pixels]
    if len(holes) and holes.sum() >= settings.hole_share * areas.sum():
        count = f"{len(holes)} hole{'s' if len(holes) > 1 else ''}"
        problem = f"has {count}, {holes.sum() / areas.sum():.1%} of its area"
        cure = "fill them, unless skin shows there"
        yield photograph.finding(
            "holes", Severity.NOTE, problem, cure, number=number, measure=float(holes.sum() / areas.sum())
        )


def _unusable(photograph: Photograph, number: int, error: InputError) -> Finding:
    wrong_size = re.search(r"\d+ x \d+ where the photograph is", error.problem) is not None
    is_file = isinstance(photograph.sample.instances[number].outline, MaskFile)
    kind = "wrong-size" if wrong_size else "unreadable-mask" if is_file else "degenerate-outline"
    return photograph.finding(kind, Severity.ERROR, error.problem, error.cure or _REDRAW, number=number)


# Outlines against each other


def _check_pairs(photograph: Photograph, drawn: list[Drawn]) -> Iterator[Finding]:
    if len(drawn) < 2:
        return
    settings = photograph.settings
    runs = [{"counts": one.rle.counts, "size": list(one.rle.size)} for one in drawn]
    iou = np.asarray(coco_mask.iou(runs, runs, [0] * len(runs)))
    inside = np.asarray(coco_mask.iou(runs, runs, [1] * len(runs)))  # share of row i that lies in column j
    for i, one in enumerate(drawn):
        for j, other in enumerate(drawn):
            name = outline_name(photograph.sample, other.number)
            same_class = one.instance.label == other.instance.label
            if i > j and iou[i, j] >= settings.duplicate_iou:
                yield _duplicate(photograph, one, other, float(iou[i, j]), same_class=same_class)
            elif i != j and same_class and inside[i, j] >= settings.nested_share and iou[i, j] < settings.duplicate_iou:
                yield photograph.finding(
                    "nested-outline",
                    Severity.WARNING,
                    f"{inside[i, j]:.0%} of it lies inside {name}",
                    "keep one of the two, unless both are lesions",
                    number=one.number,
                    measure=float(inside[i, j]),
                )


def _duplicate(photograph: Photograph, one: Drawn, other: Drawn, iou: float, *, same_class: bool) -> Finding:
    name = outline_name(photograph.sample, other.number)
    if same_class:
        problem = f"is the same as {name} (Jaccard index {iou:.3f})"
        cure = "delete one of the two"
        return photograph.finding("duplicate-outline", Severity.WARNING, problem, cure, number=one.number, measure=iou)
    names = photograph.class_names
    mine, theirs = names[one.instance.label - 1], names[other.instance.label - 1]
    problem = f"is the same as {name} (Jaccard index {iou:.3f}), but {mine!r} where that is {theirs!r}"
    return photograph.finding(
        "disagreeing-classes", Severity.WARNING, problem, "decide for one class", number=one.number, measure=iou
    )
