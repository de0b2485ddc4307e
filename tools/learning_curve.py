"""How good a model gets from how many outlined photographs, as the table and the plot in docs/learning_curve.md.

    uv run python tools/learning_curve.py --data isic2017 --part Training --val-part Validation \
      --trunk trunk.safetensors -o runs/curve --plot docs/images/learning_curve.svg

The photographs of --part are cut into two halves by a hash of their ids. On the first a model is trained, once: it
stands for one that comes trained, and knows none of the second half. Of the second half the first 10, 20, ...
photographs, each set within the next, train three networks for the same steps: from random weights, from ImageNet's
trunk, and from the model of the first half. Each is judged once, at its end, on --val-part; nothing is chosen by that.
Called again it goes on after the runs that are there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dermask import files, open_dataset
from dermask.config import RunSettings, override, preset
from dermask.data.dataset import Dataset
from dermask.evaluation.evaluate import Terms, evaluate
from dermask.inference.torch_detector import TorchDetector
from dermask.models.build import build_model
from dermask.models.weights import load_weights
from dermask.training.loop import train
from dermask.training.run_folder import last_checkpoint

SIZES = (10, 20, 50, 100, 200, 500, 1000)
STARTS = ("scratch", "imagenet", "trained")
_TITLES = {"scratch": "from random weights", "imagenet": "from ImageNet", "trained": "from a trained model"}
_COLOURS = {"scratch": "#999", "imagenet": "#1f77b4", "trained": "#d62728"}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 340, 56, 46, 20
_LOWEST = 0.3  # Jaccard index at the plot's foot
# As the packaged model is trained, docs/recipes.md.
_RECIPE: dict[str, object] = {
    "model.image.min_size": 256,
    "model.image.max_size": 256,
    "train.epochs": 1,  # one long one: judged at its end alone
    "train.cache_images": True,
    "train.weight_decay": 0.05,
    "augment.scale_range": (0.4, 1.6),
    "augment.colour": 0.9,
    "augment.mosaic": 0.15,
    "augment.blur": 0.15,
    "augment.hair": 0.2,
}
# A trained network is moved with care: a lower rate, and the statistics of its norm kept.
_MOVED: dict[str, object] = {"train.learning_rate": 2e-4, "train.freeze_norm": True}


@dataclass(frozen=True, slots=True)
class Run:
    """One network to train: where it starts, on what, for how long."""

    name: str
    start: str
    photographs: Dataset
    steps: int
    seed: int


class Point(NamedTuple):
    """What a run reached: Jaccard index with its 95 % interval, and mask AP50."""

    jaccard: float
    low: float
    high: float
    ap50: float


def main() -> None:
    """Train what is not there yet, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", default="Training")
    parser.add_argument("--val-part", default="Validation")
    parser.add_argument("--trunk", type=Path, required=True, help="ImageNet's weights of the trunk")
    parser.add_argument("--steps", type=int, default=200, help="of 8 photographs, at least, for each run")
    parser.add_argument("--passes", type=int, default=4, help="over its photographs, at least, for each run")
    parser.add_argument("--first-steps", type=int, default=900, help="for the model of the first half")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--plot", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    first, second = halves(open_dataset(options.data, part=options.part))
    judged_on = open_dataset(options.data, part=options.val_part)
    base = options.output / "first_half"
    done = reach(Run("first_half", "imagenet", first, options.first_steps, options.seed), judged_on, options, base)
    print(f"the trained model: {len(first)} photographs, {options.first_steps} steps, {told(done)} as it is\n")
    sizes = sorted({min(size, len(second)) for size in options.sizes})
    points: dict[str, list[tuple[int, Point]]] = {start: [] for start in STARTS}
    print("| outlined photographs | " + " | ".join(_TITLES.values()) + " |\n| --- | --- | --- | --- |")
    for size in sizes:
        for start in STARTS:
            steps = max(options.steps, -(-options.passes * size // 8))
            run = Run(f"{start}_{size}_{options.seed}", start, second[:size], steps, options.seed)
            points[start].append((size, reach(run, judged_on, options, base)))
        print(f"| {size} | " + " | ".join(told(points[start][-1][1]) for start in STARTS) + " |", flush=True)
    files.write_text(options.plot, draw(points, done))


def halves(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """Two halves that do not depend on the order of the photographs, each in an order of its own."""
    keys = [hashlib.sha256(sample.image_id.encode()).hexdigest() for sample in dataset]
    order = sorted(range(len(dataset)), key=keys.__getitem__)
    middle = len(order) // 2
    return dataset.select(order[:middle]), dataset.select(order[middle:])


def reach(run: Run, judged_on: Dataset, options: argparse.Namespace, base: Path) -> Point:
    """What the run reaches, trained now or before."""
    folder = options.output / run.name
    record = folder / "reached.json"
    if record.is_file():
        return Point(**json.loads(record.read_text(encoding="utf-8")))
    moved = run.start == "trained"
    changes: dict[str, Any] = {
        **_RECIPE,
        **(_MOVED if moved else {"train.freeze_norm": False}),
        "train.steps_per_epoch": run.steps,
        "train.seed": run.seed,
        "model.class_names": list(run.photographs.class_names),
    }
    settings = override(RunSettings(model=preset("small")), changes)
    model = build_model(settings.model, seed=run.seed)
    if run.start != "scratch":
        load_weights(model, last_checkpoint(base) if moved else options.trunk)
    train(model, settings, run.photographs, judged_on, folder, resume=True, device="cpu", from_weights=moved)
    detector = TorchDetector.from_checkpoint(last_checkpoint(folder))
    found = [detector.predict([sample.image])[0] for sample in judged_on]
    figures = evaluate(found, judged_on, terms=Terms(look=False))
    interval = figures.intervals["isic.jaccard"]
    point = Point(figures.figures.jaccard, interval.low, interval.high, figures.coco.mask.ap50)
    files.write_text(record, json.dumps(point._asdict()) + "\n")
    return point


def told(point: Point) -> str:
    """`0.781 (0.755 to 0.804)`."""
    return f"{point.jaccard:.3f} ({point.low:.3f} to {point.high:.3f})"


def draw(points: dict[str, list[tuple[int, Point]]], done: Point) -> str:
    """Lines with the intervals as bars over a logarithmic axis, and the trained model as it is as a dashed one."""
    sizes = [size for size, _ in points[STARTS[0]]]
    span = max(math.log(sizes[-1] / sizes[0]), 1e-9)

    def x(size: int) -> float:
        return _LEFT + 20 + (_WIDTH - _LEFT - 50) * math.log(size / sizes[0]) / span

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (max(value, _LOWEST) - _LOWEST) / (0.9 - _LOWEST))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
    ]
    for tenth in range(round(10 * _LOWEST), 10):
        at = y(tenth / 10)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - 12}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#555">{tenth / 10:.1f}</text>')
    foot = _HEIGHT - _BOTTOM + 18
    parts += [f'<text x="{x(size):.1f}" y="{foot}" text-anchor="middle" fill="#555">{size}</text>' for size in sizes]
    across = f"M{_LEFT} {y(done.jaccard):.1f}H{_WIDTH - 12}"
    parts.append(f'<path d="{across}" stroke="{_COLOURS["trained"]}" stroke-dasharray="5 4"/>')
    for number, start in enumerate(STARTS):
        parts += _draw_line(points[start], _COLOURS[start], x, y, shift=4 * (number - 1))
        left, top = _WIDTH - 180, _HEIGHT - _BOTTOM - 56 + 18 * number
        parts.append(f'<path d="M{left} {top}h22" stroke="{_COLOURS[start]}" stroke-width="2.5"/>')
        parts.append(f'<text x="{left + 28}" y="{top + 4}" fill="#333">{_TITLES[start]}</text>')
    parts.append(
        f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 8}" text-anchor="middle" fill="#333">outlined photographs; '
        "up: Jaccard index on validation, bars: 95 %</text>"
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _draw_line(points: Sequence[tuple[int, Point]], colour: str, x: Any, y: Any, *, shift: int) -> list[str]:
    line = " ".join(f"{x(size) + shift:.1f},{y(point.jaccard):.1f}" for size, point in points)
    bars = [
        f'<path d="M{x(size) + shift:.1f} {y(point.low):.1f}V{y(point.high):.1f}" stroke="{colour}" opacity="0.6"/>'
        for size, point in points
    ]
    dots = [
        f'<circle cx="{x(size) + shift:.1f}" cy="{y(point.jaccard):.1f}" r="3.5" fill="{colour}"/>'
        for size, point in points
    ]
    return [f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>', *bars, *dots]


if __name__ == "__main__":
    main()
