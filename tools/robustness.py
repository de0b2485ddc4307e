"""How a model fares on changed, composed and lesion-free photographs: the tables and plots of docs/robustness.md.

    uv run python tools/robustness.py bundled --data ../shared/isic2017 --part Validation \\
        --leave-out tools/second_lesions.txt -o docs/images/robustness.svg

Three things, all from photographs that the model was not trained on: the Jaccard index against the strength of each of
`dermask.data.perturbations`, on every other photograph; photographs with two to five lesions as `dermask.data.composed`
makes them; and false alarms where there is nothing to find, on skin beside the lesions, on drawn skin and on what is no
skin at all. A count is of lesions that score at least --score-thresh. Photographs named in --leave-out show lesions
that nobody outlined: nothing is composed of them and none of their skin is taken for bare, but they are shown changed.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dermask import load, open_dataset
from dermask.data.composed import compose
from dermask.data.dataset import Dataset
from dermask.data.perturbations import PERTURBATIONS, Perturbation
from dermask.data.synthetic import draw_scene
from dermask.evaluation.bootstrap import mean_intervals
from dermask.evaluation.evaluate import Terms, evaluate
from dermask.evaluation.isic_challenge import photo_figures
from dermask.inference.detector import Detector
from dermask.masks import detections_bitmask
from dermask.records import ByteArray, ImageSize

_SEEDS_APART = 5000  # more than anybody draws
_PLOT_WIDTH, _PLOT_HEIGHT, _COLUMNS, _GAP = 250, 150, 3, 46


def main() -> None:
    """Print the tables, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="A run's folder, a checkpoint, an .onnx file, or `bundled`.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--part")
    parser.add_argument("--score-thresh", type=float, default=0.5)
    parser.add_argument("--every", type=int, default=2, help="photographs to change: every one, every other one, ...")
    parser.add_argument(
        "--count", type=int, default=120, help="photographs to compose, and of each kind without lesion"
    )
    parser.add_argument("--leave-out", type=Path, help="image ids, one a line, # before a remark")
    parser.add_argument("--seed", type=int, default=0, help="of what is composed and drawn")
    parser.add_argument("--threads", type=int)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the curves, as SVG")
    options = parser.parse_args()
    data = open_dataset(options.data, images=options.images, part=options.part)
    engine = "onnxruntime" if options.model == "bundled" else "auto"
    detector = load(options.model, device="cpu", threads=options.threads, engine=engine)
    left_out = read_ids(options.leave_out, data)
    curves = [(kind, curve(detector, data[:: options.every], kind)) for kind in PERTURBATIONS]
    print_curves(curves)
    print_composed(detector, compose(data, options.count, seed=options.seed, leave_out=left_out), options.score_thresh)
    print_false_alarms(detector, data, left_out, options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(draw(curves), encoding="utf-8")


def read_ids(path: Path | None, data: Dataset) -> frozenset[str]:
    """The image ids in a file, each of which the data must have."""
    if path is None:
        return frozenset()
    ids = frozenset(line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#")
    if unknown := ids - {sample.image_id for sample in data}:
        raise SystemExit(f"{path}: {min(unknown)} is not among the {len(data)} photographs")
    return ids


Point = tuple[float, float, float, float]  # strength, mean Jaccard index, and its 95 % interval


def curve(detector: Detector, data: Dataset, kind: Perturbation) -> list[Point]:
    """The mean Jaccard index of the best-scoring lesion at each strength."""
    values = np.zeros((len(data), len(kind.strengths)))
    for row in range(len(data)):
        sample = data.load(row)
        for column, strength in enumerate(kind.strengths):
            image, masks = kind.apply(sample.image, sample.masks, strength, seed=row)
            [found] = detector.predict([np.ascontiguousarray(image)])
            truth = masks.any(axis=0)
            values[row, column] = photo_figures(truth, detections_bitmask(found, "primary", score_thresh=0.5)).jaccard
    intervals = mean_intervals(values, np.arange(len(data)))
    means = values.mean(axis=0)
    return [
        (strength, float(mean), *((interval.low, interval.high) if interval else (float(mean), float(mean))))
        for strength, mean, interval in zip(kind.strengths, means, intervals, strict=True)
    ]


def print_curves(curves: Sequence[tuple[Perturbation, list[Point]]]) -> None:
    """One row for each kind."""
    print("| change | Jaccard index at each strength |\n| --- | --- |")
    for kind, points in curves:
        print(f"| {kind.title} | " + ", ".join(f"{strength:g}: {mean:.3f}" for strength, mean, *_ in points) + " |")


def print_composed(detector: Detector, data: Dataset, score_thresh: float) -> None:
    """Mask AP50, and how often as many lesions are found as there are."""
    found = [
        replace(detector.predict([sample.image])[0], image_id=sample.image_id)  # photographs in memory have no name
        for sample in data
    ]
    figures = evaluate(found, data, terms=Terms(look=False, num_resamples=100))
    right = [len(one.above(score_thresh)) == len(sample.instances) for one, sample in zip(found, data, strict=True)]
    lesions = sum(len(sample.instances) for sample in data)
    print(
        f"\n{len(data)} composed photographs with {lesions} lesions: mask AP50 {figures.coco.mask.ap50:.3f}, ", end=""
    )
    print(f"mask AP {figures.coco.mask.ap:.3f}, as many found as there are on {100 * np.mean(right):.1f} %")


def print_false_alarms(
    detector: Detector, data: Dataset, left_out: Collection[str], options: argparse.Namespace
) -> None:
    """Photographs of each hundred on which something is found."""
    seeds = range(_SEEDS_APART * options.seed, _SEEDS_APART * options.seed + options.count)
    kinds: dict[str, Iterator[ByteArray]] = {
        "skin beside lesions": bare_skin(data, left_out),
        "drawn skin": (draw_scene(seed, ImageSize(256, 320), num_lesions=0).image for seed in seeds),
        "no skin": no_skin(options.count),
    }
    print("\n| nothing to find on | pictures | with a false alarm, per 100 |\n| --- | --- | --- |")
    for name, pictures in kinds.items():
        alarms = [len(detector.predict([image])[0].above(options.score_thresh)) > 0 for image in pictures]
        print(f"| {name} | {len(alarms)} | {100 * np.mean(alarms):.1f} |")


def bare_skin(data: Dataset, left_out: Collection[str]) -> Iterator[ByteArray]:
    """The largest corner of each photograph that its lesions leave free, of at least a fifth of the side."""
    for index in range(len(data)):
        if data[index].image_id in left_out:
            continue
        sample = data.load(index)
        taken = sample.masks.any(axis=0)
        height, width = taken.shape
        for share in (0.5, 0.4, 0.3, 0.2):
            high, wide = round(height * share), round(width * share)
            corners = [np.s_[y, x] for y in (np.s_[:high], np.s_[-high:]) for x in (np.s_[:wide], np.s_[-wide:])]
            free = [corner for corner in corners if not taken[corner].any()]
            if free:
                yield np.ascontiguousarray(sample.image[free[0]])
                break


def no_skin(count: int) -> Iterator[ByteArray]:
    """Plain colours, gradients, noise and stripes by turns."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320] / 240
    for number in range(count):
        first, second = rng.integers(0, 256, (2, 3))
        angle, waves = rng.uniform(0, np.pi), rng.uniform(2, 40)
        along = (np.cos(angle) * x + np.sin(angle) * y)[..., None]
        share = (np.zeros_like(along), along - along.min(), rng.random((240, 320, 1)), np.sin(waves * along) > 0)[
            number % 4
        ]
        yield np.clip(first + (second - first) * np.clip(share, 0, 1), 0, 255).astype(np.uint8)


def draw(curves: Sequence[tuple[Perturbation, list[Point]]]) -> str:
    """Small plots beside each other as SVG: the mean as a line, its interval as a band."""
    rows = -(-len(curves) // _COLUMNS)
    width, height = _COLUMNS * (_PLOT_WIDTH + _GAP) + 10, rows * (_PLOT_HEIGHT + _GAP + 14)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, (kind, points) in enumerate(curves):
        left = 34 + number % _COLUMNS * (_PLOT_WIDTH + _GAP)
        top = 24 + number // _COLUMNS * (_PLOT_HEIGHT + _GAP + 14)
        parts += draw_one(kind, points, left, top)
    return "\n".join([*parts, "</svg>"]) + "\n"


def draw_one(kind: Perturbation, points: list[Point], left: float, top: float) -> list[str]:
    """One plot; strengths stand at even steps."""
    step = _PLOT_WIDTH / max(1, len(points) - 1)

    def place(index: int, value: float) -> str:
        return f"{left + index * step:.1f},{top + (1 - value) * _PLOT_HEIGHT:.1f}"

    parts = [f'<text x="{left}" y="{top - 9}" font-weight="bold" fill="#333">{kind.title}</text>']
    for tenth in (0, 5, 10):
        y = top + (1 - tenth / 10) * _PLOT_HEIGHT
        parts.append(f'<path d="M{left} {y:.1f}h{_PLOT_WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{tenth / 10:.1f}</text>')
    band = [place(index, point[3]) for index, point in enumerate(points)]
    band += [place(index, points[index][2]) for index in reversed(range(len(points)))]
    parts.append(f'<polygon points="{" ".join(band)}" fill="#0b6e99" opacity="0.18"/>')
    line = " ".join(place(index, point[1]) for index, point in enumerate(points))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#0b6e99" stroke-width="2"/>')
    for index, point in enumerate(points):
        x = left + index * step
        parts.append(
            f'<text x="{x:.1f}" y="{top + _PLOT_HEIGHT + 15}" text-anchor="middle" fill="#555">{point[0]:g}</text>'
        )
    return parts


if __name__ == "__main__":
    main()
