"""Measures how often the hair and ruler detectors agree with a person, and with drawn scenes.

    uv run python benchmarks/artifacts.py ../shared/isic2017
    uv run python benchmarks/artifacts.py --scenes 400

`artifact_labels.csv` holds what a person saw: hair where at least one distinct hair of about a fifth of the photograph
or several shorter ones cross it, a ruler where at least three marks of a scale can be seen. Thresholds were chosen on
the photographs of the Training part alone; the Validation part states the error.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from dermask.data.artifacts import Artifacts, find_artifacts
from dermask.data.formats import open_dataset
from dermask.data.synthetic import SceneSettings, draw_scene
from dermask.records import ByteArray, ImageSize

LABELS = Path(__file__).with_name("artifact_labels.csv")
PARTS = ("Training", "Validation")
KINDS = ("hair", "ruler")


class Seen(NamedTuple):
    """One photograph: what is there, and what was found."""

    hair: bool
    ruler: bool
    found: Artifacts


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); from 0 to 1 for no trials."""
    if not trials:
        return 0.0, 1.0
    share, extra = successes / trials, z * z / trials
    middle = (share + extra / 2) / (1 + extra)
    reach = z / (1 + extra) * math.sqrt(share * (1 - share) / trials + extra / (4 * trials))
    return middle - reach, middle + reach


def labelled(root: Path, part: str) -> Iterator[Seen]:
    """The labelled photographs of one part of ISIC 2017."""
    dataset = open_dataset(root, part=part)
    places = {sample.image_id: index for index, sample in enumerate(dataset)}
    with LABELS.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["part"] == part:
                image = dataset.load(places[row["image_id"]]).image
                yield Seen(row["hair"] == "1", row["ruler"] == "1", find_artifacts(image))


def drawn(count: int) -> Iterator[Seen]:
    """Drawn scenes: a quarter bare, a quarter with hair of any colour, a quarter with a ruler, a quarter with both."""
    for seed in range(count):
        hair, ruler = bool(seed & 1), bool(seed & 2)
        settings = SceneSettings(hair=float(hair), ruler=float(ruler))
        image: ByteArray = draw_scene(seed, ImageSize(384, 384), settings=settings).image
        yield Seen(hair, ruler, find_artifacts(image))


def print_table(title: str, photographs: Iterable[Seen]) -> None:
    """Sensitivity and specificity of both detectors, with 95 % intervals."""
    seen = list(photographs)
    print(f"{title}, {len(seen)} photographs")
    for kind in KINDS:
        for name, wanted in (("sensitivity", True), ("specificity", False)):
            answers = [getattr(one.found, kind) == wanted for one in seen if getattr(one, kind) == wanted]
            low, high = wilson(sum(answers), len(answers))
            share = sum(answers) / max(1, len(answers))
            print(f"  {kind:<6} {name}  {share:.3f}  [{low:.3f}, {high:.3f}]  {sum(answers)} of {len(answers)}")


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?", help="folder of the ISIC 2017 photographs")
    parser.add_argument("--scenes", type=int, default=0, help="how many scenes to draw")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    started = time.process_time()
    if arguments.root is not None:
        for part in arguments.parts:
            print_table(part, labelled(arguments.root, part))
    if arguments.scenes:
        print_table("Drawn scenes", drawn(arguments.scenes))
    print(f"{time.process_time() - started:.1f} s of one CPU, reading and drawing included")


if __name__ == "__main__":
    main()
