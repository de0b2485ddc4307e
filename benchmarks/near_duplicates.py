"""Measures what share of transformed photographs is found again, and how often different photographs are confused.

    uv run python benchmarks/near_duplicates.py ../shared/isic2017 --parts Validation Test_v2 --sheet pairs.png

Each photograph is copied once, with one of the transformations in turn, so that all originals and all copies stand in
one search, as in an audit. Found pairs of two originals go to the sheet, to be judged by eye: some are photographs of
one lesion. The baselines are 64-bit perceptual and difference hashes, turned eight ways as the search is.
"""

from __future__ import annotations

import argparse
import io
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dermask.audit.near_duplicates import SIDE, DuplicatePair, find_near_duplicates, signature
from dermask.images import read_image

Transform = Callable[[Image.Image, np.random.Generator], Image.Image]
_HASH_LIMIT = 6  # bits of 64 that may differ


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Saved as a JPEG and read again."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def resized(image: Image.Image, factor: float) -> Image.Image:
    """Both sides times `factor`."""
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def turned(image: Image.Image, which: int) -> Image.Image:
    """One of the eight orientations."""
    image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if which >= 4 else image
    return image.rotate(90 * (which % 4), expand=True)


def recoloured(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Other white balance, brightness, gamma, contrast and saturation."""
    pixels = np.asarray(image) / 255 * rng.uniform(0.8, 1.2, 3)
    pixels = np.clip(pixels * rng.uniform(0.75, 1.25), 0, 1) ** rng.uniform(0.65, 1.5)
    pixels = (pixels - 0.5) * rng.uniform(0.7, 1.25) + 0.5
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.4, 1.6)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def cropped(image: Image.Image, area: float, rng: np.random.Generator) -> Image.Image:
    """A part of about `area`, anywhere, of a slightly different shape."""
    width = min(np.sqrt(area) * np.exp(rng.uniform(-0.12, 0.12)), 1)
    across, down = round(image.width * width), round(image.height * min(area / width, 1))
    left, top = rng.integers(image.width - across + 1), rng.integers(image.height - down + 1)
    return image.crop((left, top, left + across, top + down))


def rotated(image: Image.Image, degrees: float) -> Image.Image:
    """Turned by a small angle, without the empty corners."""
    slope = np.tan(np.radians(abs(degrees)))
    margin = int(np.ceil(max(image.size) * slope / 2 / (1 + slope) * 1.05))
    turned_image = image.rotate(degrees, Image.Resampling.BICUBIC)
    return turned_image.crop((margin, margin, image.width - margin, image.height - margin))


def framed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With a black, grey or white frame."""
    margin = round(image.width * rng.uniform(0.04, 0.1))
    level = int(rng.choice([0, 128, 255]))
    canvas = Image.new("RGB", (image.width + 2 * margin, image.height + 2 * margin), (level, level, level))
    canvas.paste(image, (margin, margin))
    return canvas


def vignetted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With the black outside of a dermatoscope drawn over it."""
    y, x = np.mgrid[-1 : 1 : image.height * 1j, -1 : 1 : image.width * 1j]
    light = 1 / (1 + np.exp((np.hypot(x, y) - rng.uniform(1, 1.2)) * 30))
    return Image.fromarray((np.asarray(image) * light[..., None]).astype(np.uint8))


def lettered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With a ruler and letters drawn over it."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    y = image.height * rng.uniform(0.85, 0.95)
    draw.line((0, y, image.width, y), fill=(255, 255, 255), width=2)
    for x in range(0, image.width, max(image.width // 25, 2)):
        draw.line((x, y, x, y - image.height / 30), fill=(255, 255, 255), width=2)
    draw.text((image.width * 0.1, image.height * 0.03), "2011-05-03  x20", fill=(255, 255, 0))
    return image


TRANSFORMS: dict[str, Transform] = {
    "JPEG quality 30": lambda image, rng: jpeg(image, 30),
    "resized to 0.25": lambda image, rng: resized(image, 0.25),
    "resized to 4": lambda image, rng: resized(image, 4),
    "turned or mirrored": lambda image, rng: turned(image, int(rng.integers(1, 8))),
    "rotated 2 to 5 degrees": lambda image, rng: rotated(image, rng.uniform(2, 5)),
    "rotated 5 to 10 degrees": lambda image, rng: rotated(image, rng.uniform(5, 10)),
    "re-coloured": recoloured,
    "grey": lambda image, rng: image.convert("L").convert("RGB"),
    "cropped to 80-95 %": lambda image, rng: cropped(image, rng.uniform(0.8, 0.95), rng),
    "cropped to 60-80 %": lambda image, rng: cropped(image, rng.uniform(0.6, 0.8), rng),
    "cropped to 50-60 %": lambda image, rng: cropped(image, rng.uniform(0.5, 0.6), rng),
    "cropped to 40-50 %": lambda image, rng: cropped(image, rng.uniform(0.4, 0.5), rng),
    "plain frame": framed,
    "dark corners": vignetted,
    "ruler and letters": lettered,
    "all of it": lambda image, rng: jpeg(
        resized(
            recoloured(turned(cropped(image, rng.uniform(0.5, 0.8), rng), int(rng.integers(8))), rng),
            rng.uniform(0.5, 1.5),
        ),
        int(rng.integers(40, 90)),
    ),
}
"""Crop, turn, re-colour, resize and JPEG in "all of it"."""


def difference_bits(image: Image.Image) -> np.ndarray:
    """dHash: whether each pixel is lighter than its left neighbour."""
    pixels = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return (np.diff(pixels, axis=1) > 0).ravel()


def perceptual_bits(image: Image.Image) -> np.ndarray:
    """pHash: whether low cosine frequencies are above their median."""
    pixels = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), dtype=np.float64)
    waves = np.cos(np.pi * np.arange(8)[:, None] * (np.arange(32) + 0.5) / 32)
    low = (waves @ pixels @ waves.T).ravel()
    return low > np.median(low[1:])


def hash_pairs(photographs: Sequence[Image.Image], bits: Callable[[Image.Image], np.ndarray]) -> set[tuple[int, int]]:
    """Pairs whose hashes differ by at most `_HASH_LIMIT` bits in one of eight orientations."""
    plain = np.stack([bits(image) for image in photographs]).astype(np.float32) * 2 - 1
    pairs: set[tuple[int, int]] = set()
    for which in range(8):
        other = np.stack([bits(turned(image, which)) for image in photographs]).astype(np.float32) * 2 - 1
        for first, second in np.argwhere((64 - plain @ other.T) / 2 <= _HASH_LIMIT):
            if first != second:
                pairs.add((min(int(first), int(second)), max(int(first), int(second))))
    return pairs


def draw_sheet(pairs: Sequence[DuplicatePair], photographs: Sequence[Image.Image], path: Path) -> None:
    """Pairs side by side, least similar first."""
    side, columns = 150, 3
    rows = (len(pairs) + columns - 1) // columns
    sheet = Image.new("RGB", (columns * (2 * side + 20), max(rows, 1) * (side + 16)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, pair in enumerate(sorted(pairs, key=lambda one: one.similarity)):
        x, y = place % columns * (2 * side + 20), place // columns * (side + 16)
        for column, index in enumerate((pair.first, pair.second)):
            sheet.paste(photographs[index].resize((side, side)), (x + column * side, y))
        draw.text((x, y + side), f"{pair.similarity:.2f} {pair.first},{pair.second} {pair.transform}", fill="black")
    sheet.save(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path("../shared/isic2017"))
    parser.add_argument("--parts", nargs="+", default=["Validation", "Test_v2"])
    parser.add_argument("--count", type=int, help="photographs, evenly over the parts; default all")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--sheet", type=Path, help="where to draw the found pairs of two originals")
    options = parser.parse_args(arguments)
    paths = [path for part in options.parts for path in sorted(options.data.glob(f"ISIC-2017_{part}_Data/*.jpg"))]
    paths = paths[:: max(1, len(paths) // (options.count or len(paths)))][: options.count]
    originals = [Image.fromarray(read_image(path, target_side=SIDE)) for path in paths]
    names = [list(TRANSFORMS)[index % len(TRANSFORMS)] for index in range(len(originals))]
    rng = np.random.default_rng(options.seed)
    copies = [TRANSFORMS[name](image, rng) for name, image in zip(names, originals, strict=True)]
    photographs = [*originals, *copies]
    count = len(originals)

    began = time.perf_counter()
    signatures = [signature(np.asarray(image)) for image in photographs]
    signed = time.perf_counter()
    pairs = find_near_duplicates(signatures)
    ended = time.perf_counter()
    found = {
        "ours": {(pair.first, pair.second) for pair in pairs},
        "pHash": hash_pairs(photographs, perceptual_bits),
        "dHash": hash_pairs(photographs, difference_bits),
    }
    print(f"| transformation | copies | {' | '.join(found)} |\n| --- | --- | --- | --- | --- |")
    for name in TRANSFORMS:
        places = [index for index in range(count) if names[index] == name]
        hits = [sum((index, index + count) in one for index in places) for one in found.values()]
        print(f"| {name} | {len(places)} | {' | '.join(map(str, hits))} |")
    others = [sum(first < count and second < count for first, second in one) for one in found.values()]
    print(f"| pairs of two originals | {count} photographs | {' | '.join(map(str, others))} |")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(photographs)} photographs: signatures {signed - began:.0f} s, search {ended - signed:.0f} s,", end=" ")
    print(f"peak memory {memory:.0f} MiB with all photographs held")
    if options.sheet:
        draw_sheet([pair for pair in pairs if pair.second < count], originals, options.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
