"""How fast detectors are, beside each other: in turns in one process, with the agreement of what they find.

What else a machine does falls on all that take turns, so a ratio says more than a time; processor time is disturbed
less than the clock's, but counts all threads.

Shapes: R rounds, P photographs.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dermask import masks
from dermask.inference.detector import Detector, OverlappingDetector, Photograph, Prepared
from dermask.inference.outputs import Kind
from dermask.inference.photographs import collect_photographs
from dermask.inference.predict import PredictOptions, predict_photographs
from dermask.inference.preparing import prepare
from dermask.records import Detections

Item = Photograph | Prepared
Progress = Callable[[int, int], None]


class Spread(NamedTuple):
    """A median, and between what nine in ten lie."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Spread:
        """Of all values of an array, which must not be empty."""
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        return cls(float(median), float(low), float(high))


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """What one detector took.

    Attributes:
        wall: (R, P) seconds of the clock.
        processor: (R, P) seconds of processor time, all threads together.
    """

    wall: NDArray[np.float64]
    processor: NDArray[np.float64]

    def times_as_fast(self, reference: Times) -> Spread:
        """The reference's time by this one's in the same round on the same photograph, by the clock."""
        return Spread.of(reference.wall / self.wall)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far what two detectors find is the same.

    Attributes:
        photographs: Compared.
        detections: Of the first, scoring at least a half.
        other_number: Photographs on which the second has another number of those.
        box: Largest difference of a side of the best box, pixels of the photograph; photographs that only one finds
            anything in are left out, here and below.
        score: Largest difference of the best score.
        mask_iou: Least IoU of the best masks.
    """

    photographs: int
    detections: int
    other_number: int
    box: float
    score: float
    mask_iou: float

    def __str__(self) -> str:
        return (
            f"boxes within {self.box:.2g} px, scores within {self.score:.1g}, mask IoU at least {self.mask_iou:.3f}, "
            f"another number of lesions on {self.other_number} of {self.photographs}"
        )


def time_in_turns(
    detectors: Mapping[str, Detector],
    photographs: Sequence[Item],
    *,
    rounds: int,
    on_progress: Progress = lambda done, total: None,
) -> dict[str, Times]:
    """Time detectors on the same photographs, one at a time; a first round, in which they settle, is left out.

    Args:
        detectors: By name; who goes first changes from round to round.
        photographs: P files, or photographs prepared for all of them, to time the network alone.
        rounds: R, at least 1.
        on_progress: Told how many photographs are through, and of how many.
    """
    wall, processor = np.zeros((2, len(detectors), rounds + 1, len(photographs)))
    for number in range(rounds + 1):
        order = list(enumerate(detectors.values()))[:: 1 if number % 2 else -1]
        for column, photograph in enumerate(photographs):
            for row, detector in order:
                started = time.perf_counter(), time.process_time()
                detector.predict([photograph])  # type: ignore[list-item]
                wall[row, number, column] = time.perf_counter() - started[0]
                processor[row, number, column] = time.process_time() - started[1]
            on_progress(number * len(photographs) + column + 1, (rounds + 1) * len(photographs))
    return {name: Times(wall[row, 1:], processor[row, 1:]) for row, name in enumerate(detectors)}


def agreement(first: Detector, second: Detector, photographs: Sequence[Item]) -> Agreement:
    """Compare what two detectors find in the same photographs."""
    found = 0
    other_number = 0
    box, score, mask_iou = 0.0, 0.0, 1.0
    for photograph in photographs:
        one, other = (detector.predict([photograph])[0] for detector in (first, second))  # type: ignore[list-item]
        found += len(one.above(0.5))
        other_number += len(one.above(0.5)) != len(other.above(0.5))
        if len(one) and len(other):
            box = max(box, float(np.abs(one.boxes[0] - other.boxes[0]).max()))
            score = max(score, abs(float(one.scores[0] - other.scores[0])))
            mask_iou = min(mask_iou, mask_iou_of_best(one, other))
    return Agreement(len(photographs), found, other_number, box, score, mask_iou)


def mask_iou_of_best(one: Detections, other: Detections) -> float:
    """IoU of the best-scoring masks of a photograph; 1 where neither finds any."""
    a, b = (masks.detections_bitmask(found, "primary", score_thresh=0.5) for found in (one, other))
    either = int(np.count_nonzero(a | b))
    return np.count_nonzero(a & b) / either if either else 1.0


def time_folder(detector: OverlappingDetector, photographs: Sequence[Path], save: tuple[Kind, ...]) -> Spread:
    """How many times as long outlining a folder takes as the network alone on the same photographs, three times.

    Network and folder take turns; the network gets photographs in the batches that the folder's are handed over in.
    """
    prepared = [prepare(path, detector.image_settings) for path in photographs]
    at_once = PredictOptions().batch_size
    ratios = []
    for _ in range(3):
        started = time.perf_counter()
        for start in range(0, len(prepared), at_once):
            detector.predict(prepared[start : start + at_once])  # type: ignore[arg-type]
        network = time.perf_counter() - started
        with TemporaryDirectory(prefix="dermask-") as folder:
            output = Path(folder) / "results"
            found = collect_photographs(photographs, output=output)
            started = time.perf_counter()
            predict_photographs(detector, found, output, PredictOptions(save=save), model_id="timed")
            ratios.append((time.perf_counter() - started) / network)
    return Spread.of(np.array(ratios))


_START = """
import sys, time
before = time.perf_counter(), time.process_time()
import dermask
threads = int(sys.argv[3]) or None
dermask.load(sys.argv[1], engine=sys.argv[2], threads=threads, num_photographs=1).predict([sys.argv[4]])
print(time.perf_counter() - before[0], time.process_time() - before[1])
"""


def time_start(
    model: Path, engine: str, photograph: Path, *, threads: int | None, runs: int = 3
) -> tuple[float, float]:
    """Seconds of the clock and of the processor from a bare interpreter to the first result, medians over processes."""
    times = []
    for _ in range(runs):
        command = [sys.executable, "-c", _START, str(model), engine, str(threads or 0), str(photograph)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
        times.append([float(value) for value in answer.stdout.split()])
    wall, processor = np.median(times, axis=0)
    return float(wall), float(processor)
