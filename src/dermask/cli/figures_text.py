"""The figures of an evaluation as aligned text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.evaluation.record import Evaluation

_BOUNDARY_TITLES = {
    "boundary_iou": "boundary IoU",
    "average_distance": "average distance",
    "distance_95": "95 % distance",
    "boundary_f_0005": "boundary F, 0.5 %",
    "boundary_f_001": "boundary F, 1 %",
    "boundary_f_002": "boundary F, 2 %",
}
_IN_PIXELS = ("average_distance", "distance_95")


def figures_table(evaluation: Evaluation) -> str:
    """All figures with their intervals, and the rules they were made by."""
    counts = evaluation.counts
    lines = [
        f"{evaluation.dataset_name or 'data set'}: {plural(counts.photographs, 'photograph')}, "
        f"{plural(counts.lesions, 'lesion')}; nothing found in {counts.without_detection:,}",
        describe_intervals(evaluation),
    ]
    for part in (_isic, _boundary, _coco, _lesions, _calibration, _subgroups):
        lines += ["", *part(evaluation)]
    return "\n".join(lines)


def describe_intervals(evaluation: Evaluation) -> str:
    """How the intervals were made, or why there are none."""
    from dermask.evaluation.bootstrap import MIN_UNITS

    resampling = evaluation.resampling
    units = plural(resampling.num_units, resampling.unit)
    if not resampling.allows_claims:
        return f"no intervals, and no claim about other photographs: {units}, fewer than {MIN_UNITS}"
    return (
        f"in brackets: {resampling.level:.0%} intervals, from {resampling.num_resamples:,} resamples of {units} "
        f"(seed {resampling.seed}); without brackets: none, or no spread in this sample"
    )


def describe_rule(evaluation: Evaluation) -> str:
    """Which detections made the one mask of each photograph."""
    if evaluation.rule == "primary":
        return "its best-scoring lesion (primary)"
    return f"all lesions that score at least {evaluation.score_thresh:g} (union)"


def spread_table(evaluations: Sequence[Evaluation], names: Sequence[str]) -> str:
    """Several runs of one recipe side by side: each figure's mean, standard deviation, least and largest."""
    from dermask.evaluation.compared_figures import FIGURES
    from dermask.evaluation.comparison import SeedSpread

    lines = [f"spread of {plural(len(names), 'run')}: {', '.join(names)}"]
    lines.append(f"  {'':<34} mean        sd     least   largest")
    values = [evaluation.by_name() for evaluation in evaluations]
    for name, figure in FIGURES.items():
        spread = SeedSpread(name, tuple(one[name] for one in values))
        numbers = (spread.mean, spread.deviation or 0.0, min(spread.runs), max(spread.runs))
        lines.append(f"  {figure.title:<33}" + "".join(f"{_number(number):>10}" for number in numbers))
    return "\n".join(lines)


def _isic(evaluation: Evaluation) -> Iterator[str]:
    yield f"ISIC challenge figures, mean over photographs; mask of a photograph: {describe_rule(evaluation)}"
    for name in evaluation.figures.__dataclass_fields__:
        yield _line(evaluation, f"isic.{name}", name.replace("_", " "), getattr(evaluation.figures, name))
    if evaluation.pooled is not None:
        yield "pooled over all pixels, NOT comparable with the challenge's figures: large photographs and lesions"
        yield "weigh more, and a missed small lesion hardly shows"
        for name in evaluation.pooled.__dataclass_fields__:
            if name != "thresholded_jaccard":
                yield f"  {'pooled ' + name:<22} {_number(getattr(evaluation.pooled, name))}"


def _boundary(evaluation: Evaluation) -> Iterator[str]:
    yield "borders, mean over photographs; distances in pixels, F at a tolerance in shares of the diagonal"
    for name, title in _BOUNDARY_TITLES.items():
        digits = 2 if name in _IN_PIXELS else 4
        yield _line(evaluation, f"boundary.{name}", title, getattr(evaluation.boundary.figures, name), digits)
    means = evaluation.boundary
    if means.average_distance_mm is not None and means.distance_95_mm is not None:
        yield f"  in millimetres, {plural(means.num_with_scale, 'photograph')} of known scale"
        for name in _IN_PIXELS:
            value = getattr(means, f"{name}_mm")
            yield _line(evaluation, f"boundary.{name}_mm", f"{_BOUNDARY_TITLES[name]}, mm", value, 3)


def _coco(evaluation: Evaluation) -> Iterator[str]:
    coco = evaluation.coco
    yield f"COCO average precision, at most {coco.max_detections} detections per photograph"
    yield "                           AP    AP50    AP75      AR    AP of small, medium, large"
    for name, values in (("box", coco.box), ("mask", coco.mask)):
        sizes = "  ".join(_number(value) for value in (values.ap_small, values.ap_medium, values.ap_large))
        shown = "  ".join(f"{_number(value):>6}" for value in (values.ap, values.ap50, values.ap75, values.ar))
        yield f"  {name:<20}  {shown}    {sizes}"
        ends = {title: evaluation.intervals.get(f"coco.{name}.{title.lower()}") for title in ("AP", "AP50")}
        told = ", ".join(f"{title} [{end.low:.4f}, {end.high:.4f}]" for title, end in ends.items() if end)
        if told:
            yield f"  {'':<20}  {told}"
    yield f"  lesions by size: {_lesions_by_size(evaluation)}"
    if len(evaluation.class_names) > 1:
        yield "mask AP by class"
        for name, value in zip(evaluation.class_names, coco.mask.ap_by_label, strict=True):
            yield f"  {name:<20}  {_number(value):>6}"


def _lesions_by_size(evaluation: Evaluation) -> str:
    """How many labelled lesions the figures by size rest on."""
    from dermask.evaluation.bootstrap import MIN_UNITS

    counts = {size: getattr(evaluation.coco.mask, f"num_{size}") for size in ("small", "medium", "large")}
    return ", ".join(
        f"{count:,} {size}" + (" (too few for a claim)" if 0 < count < MIN_UNITS else "")
        for size, count in counts.items()
    )


def _lesions(evaluation: Evaluation) -> Iterator[str]:
    detection = evaluation.detection
    point, best = detection.chosen, detection.best
    yield (
        f"lesions found, at a score of {point.score_thresh:g} or more ({evaluation.threshold.origin}) and a mask IoU "
        f"of {detection.iou_thresh:g}"
    )
    yield _line(evaluation, "detection.precision", "precision", point.precision)
    yield _line(evaluation, "detection.recall", "recall", point.recall)
    yield _line(evaluation, "detection.f1", "F1", point.f1)
    yield _line(evaluation, "detection.false_alarms_per_photo", "false alarms a photo", point.false_alarms_per_photo)
    yield f"  {point.found:,} found, {point.missed:,} missed, {plural(point.false_alarms, 'false alarm')}"
    if not math.isnan(best.score_thresh):
        yield (
            f"  highest F1 {best.f1:.4f} at a score of {best.score_thresh:g}, chosen on these photographs: "
            "use it on others by --threshold-from"
        )


def _calibration(evaluation: Evaluation) -> Iterator[str]:
    yield "calibration, 0 is best: is a score of 0.8 right in 8 of 10?"
    for name, title, judged in (
        ("scores", "scores", evaluation.score_calibration),
        ("masks", "masks", evaluation.mask_calibration),
    ):
        if judged is None:
            yield "  mask probabilities: not in these predictions"
            continue
        yield _line(evaluation, f"calibration.{name}_brier", f"{title}: Brier score", judged.brier_score)
        yield f"  {title + ': expected error':<22} {_number(judged.expected_calibration_error)}"


def _subgroups(evaluation: Evaluation) -> Iterator[str]:
    from dermask.evaluation.traits import TRAITS

    yield "Jaccard index by kind of photograph"
    claims = evaluation.resampling.allows_claims
    spreads = {spread.trait: spread.describe() for spread in evaluation.spreads}
    trait = ""
    for group in evaluation.subgroups:
        if group.trait != trait:
            trait = group.trait
            told = f": {spreads[trait]}" if claims else ""
            yield f"  {TRAITS[trait].title}{told}"
        interval = group.intervals.get("isic.jaccard")
        without = ("too few for an interval" if group.is_small else "no spread") if claims else ""
        told = without if interval is None else f"[{interval.low:.4f}, {interval.high:.4f}]"
        value = _number(group.figures["isic.jaccard"])
        yield f"    {group.value:<18} {group.num_photographs:>6,}  {value}  {told}".rstrip()


def _line(evaluation: Evaluation, name: str, title: str, value: float, digits: int = 4) -> str:
    interval = evaluation.intervals.get(name)
    told = "" if interval is None else f"  [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
    return f"  {title:<22} {_number(value, digits)}{told}"


def _number(value: float, digits: int = 4) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
