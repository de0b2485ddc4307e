"""Draw a model's outlines beside the labelled ones on one picture, as the docs show them.

    uv run python tools/prediction_sheet.py runs/seed --data labels.json --images photos/ -o docs/images/seed.webp

Solid: found. Dashed: labelled. Below each photograph its name and Jaccard index.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from dermask import images, load, open_dataset
from dermask.evaluation.evaluate import Terms, evaluate
from dermask.inference.contact_sheet import Tile, contact_sheet, spread
from dermask.inference.overlay import draw_overlay
from dermask.records import ImageSize


def main() -> None:
    """Predict, judge, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="A run's folder, a checkpoint, or `bundled`.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--part")
    parser.add_argument("--rule", choices=("primary", "union"), default="primary", help="The best lesion, or all.")
    parser.add_argument("--count", type=int, default=24, help="Photographs, evenly spread over the data set.")
    parser.add_argument("--columns", type=int, default=7)
    parser.add_argument("--side", type=int, default=168, help="Of each photograph, pixels.")
    parser.add_argument("--quality", type=int, default=70, help="Of the WebP.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()

    data = open_dataset(arguments.data, images=arguments.images, part=arguments.part)
    data = data.select(spread(len(data), arguments.count))
    detector = load(arguments.model)
    tiles = []
    for index, sample in enumerate(data):
        photograph = data.load(index)
        [found] = detector.predict([photograph.image])
        figures = evaluate([found], data.select([index]), terms=Terms(rule=arguments.rule, look=False)).figures
        height, width = photograph.image.shape[:2]
        scale = 2 * arguments.side / max(height, width)  # drawn at twice the size, so that lines come out fine
        size = ImageSize(round(height * scale), round(width * scale))
        truth = np.zeros((len(photograph.masks), *size), np.bool_)
        for large, mask in zip(truth, photograph.masks, strict=True):
            large[:] = Image.fromarray(mask).resize(size[::-1])
        drawn = found.above(0.5) if arguments.rule == "union" else found.select(np.arange(min(1, len(found))))
        shown = draw_overlay(images.resize(photograph.image, size), drawn, truth, show_labels=False)
        small = images.resize(shown, ImageSize(round(height * scale / 2), round(width * scale / 2)))
        tiles.append(Tile(small, f"{sample.image_id}  {figures.jaccard:.2f}"))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    sheet = contact_sheet(tiles, columns=arguments.columns, side=arguments.side)
    Image.fromarray(sheet).save(arguments.output, quality=arguments.quality, method=6)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
