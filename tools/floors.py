"""The floating-point work of each preset, and the least time it takes here.

uv run python tools/floors.py --threads 1
"""

from __future__ import annotations

import argparse

import torch

from dermask.config import MODEL_PRESETS, override
from dermask.models.build import build_model
from dermask.models.floor import PARTS, count_flops, matrix_rate

SIZES = {"small": 256}
SIZE = 512


def main() -> None:
    """Print a table for Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--detections", type=int, default=1, help="lesions to outline")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rates = {name: matrix_rate(getattr(torch, name)) for name in ("float32", "bfloat16")}
    print(", ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in rates.items()), "\n")
    print("| preset | pixels |", " | ".join(PARTS), "| all, GFLOP |", " | ".join(f"{name}, ms" for name in rates), "|")
    print("| --- |" + " --- |" * (len(PARTS) + 2 + len(rates)))
    for name, settings in MODEL_PRESETS.items():
        side = SIZES.get(name, SIZE)
        model = build_model(override(settings, {"image.min_size": side, "image.max_size": side}), seed=0).eval()
        counts = count_flops(model, num_detections=options.detections)
        total = sum(counts.values())
        row = [name, str(side), *(f"{count / 1e9:.2f}" for count in counts.values()), f"{total / 1e9:.1f}"]
        print("|", " | ".join([*row, *(f"{1000 * total / rate:.0f}" for rate in rates.values())]), "|")


if __name__ == "__main__":
    main()
