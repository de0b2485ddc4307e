"""Accuracy against the number of proposals, as the plot and the table in docs/performance.md.

    uv run python tools/proposals_curve.py bundled --data isic2017 --part Validation -o docs/images/proposals.svg

Choose on validation photographs: this is a setting like any other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from dermask import load, open_dataset
from dermask.config import override
from dermask.evaluation.evaluate import Terms, as_masks, evaluate
from dermask.inference.detector import Detector
from dermask.inference.exported_detector import ExportedDetector
from dermask.inference.torch_detector import TorchDetector
from dermask.models.build import build_model
from dermask.models.weights import load_weights

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 320, 56, 44, 24


def main() -> None:
    """Predict once per count, judge, print the table, draw the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="A run's folder, a checkpoint, or `bundled`.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--part")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    data = open_dataset(arguments.data, images=arguments.images, part=arguments.part)
    model = on_torch(load(arguments.model)).model
    given = model.settings
    rows = []
    print("| proposals | Jaccard | mask AP | median ms a photograph |\n| --- | --- | --- | --- |")
    for count in COUNTS:
        settings = override(given, {"rpn.post_nms_topk": count, "rpn.pre_nms_topk": max(count, given.rpn.pre_nms_topk)})
        model.settings = settings
        model.rpn.settings = settings.rpn
        detector = TorchDetector(model)  # a new one each time, for it keeps a copy to predict with
        found, seconds = [], []
        for sample in data:
            started = time.perf_counter()
            [detections] = detector.predict([sample.image])
            seconds.append(time.perf_counter() - started)
            found.append(as_masks(detections))
        figures = evaluate(found, data, terms=Terms(look=False, num_resamples=100))
        rows.append((count, figures.figures.jaccard, figures.coco.mask.ap))
        print(
            f"| {count} | {rows[-1][1]:.4f} | {rows[-1][2]:.4f} | {1000 * statistics.median(seconds):.0f} |", flush=True
        )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(draw(rows, given.rpn.post_nms_topk), encoding="utf-8")


def on_torch(detector: Detector) -> TorchDetector:
    """The same weights on torch, whose settings can be changed; an exported graph has them built in."""
    if isinstance(detector, ExportedDetector):
        model = build_model(detector.settings)
        load_weights(model, detector.name)
        return TorchDetector(model)
    assert isinstance(detector, TorchDetector)
    return detector


def draw(rows: Sequence[tuple[int, float, float]], chosen: int) -> str:
    """The two curves over a logarithmic axis as SVG; the preset's own count is marked."""
    step = (_WIDTH - _LEFT - 24) / (len(rows) - 1)
    plot_height = _HEIGHT - _BOTTOM - _TOP

    def place(index: int, value: float) -> str:
        return f"{_LEFT + index * step:.1f},{_TOP + (1 - value) * plot_height:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
    ]
    for tenth in range(0, 11, 2):
        y = _TOP + (1 - tenth / 10) * plot_height
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 16}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{tenth / 10:.1f}</text>')
    for index, (count, *_) in enumerate(rows):
        x = _LEFT + index * step
        weight = ' font-weight="bold"' if count == chosen else ""
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" fill="#555"{weight}>{count}</text>'
        )
    for column, colour, name in ((1, "#0b6e99", "Jaccard"), (2, "#b3541e", "mask AP")):
        points = " ".join(place(index, row[column]) for index, row in enumerate(rows))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        y = float(place(len(rows) - 1, rows[-1][column]).split(",")[1]) - 8
        parts.append(f'<text x="{_WIDTH - 24}" y="{y:.1f}" text-anchor="end" fill="{colour}">{name}</text>')
    label = f"proposals per photograph (bold: the preset's {chosen})"
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle" fill="#333">{label}</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
