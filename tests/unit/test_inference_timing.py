"""Detectors beside each other: who takes turns how, what is compared, and what a folder costs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermask.config import ImageSettings
from dermask.inference.detector import PACKAGED_MODEL, Prepared
from dermask.inference.timing import Agreement, Spread, Times, agreement, time_folder, time_in_turns, time_start
from dermask.records import Detections, ImageSize

PHOTOGRAPH = np.full((40, 60, 3), 128, np.uint8)


class Fixed:
    """Finds the boxes it was made with, each call after a pause."""

    class_names = ("lesion",)
    image_settings = ImageSettings(min_size=32, max_size=32)
    num_at_once = 1

    def __init__(
        self, boxes=((4, 4, 24, 24),), scores=(0.9,), *, pause: float = 0.0, log: list[str] | None = None
    ) -> None:
        self.boxes, self.scores, self.pause, self.log = boxes, scores, pause, log
        self.name = ""

    def predict(self, images) -> list[Detections]:
        if self.log is not None:
            self.log.append(self.name)
        time.sleep(self.pause)
        count = len(self.boxes)
        return [
            Detections(
                boxes=np.array(self.boxes, np.float32).reshape(count, 4),
                scores=np.array(self.scores, np.float32),
                labels=np.ones(count, np.int64),
                mask_probs=np.ones((count, 4, 4), np.float32),
                size=image.original_size if isinstance(image, Prepared) else ImageSize(40, 60),
                class_names=self.class_names,
            )
            for image in images
        ]


def named(log: list[str], *names: str) -> dict[str, Fixed]:
    detectors = {name: Fixed(log=log) for name in names}
    for name, detector in detectors.items():
        detector.name = name
    return detectors


def test_detectors_take_turns_and_change_who_goes_first():
    log: list[str] = []
    times = time_in_turns(named(log, "a", "b"), [PHOTOGRAPH], rounds=2)
    assert log == ["b", "a", "a", "b", "b", "a"]
    assert times["a"].wall.shape == times["a"].processor.shape == (2, 1)


def test_progress_counts_every_photograph_of_every_round():
    told = []
    time_in_turns(named([], "a"), [PHOTOGRAPH] * 2, rounds=1, on_progress=lambda *done: told.append(done))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_slower_one_is_told():
    times = time_in_turns({"slow": Fixed(pause=0.02), "fast": Fixed()}, [PHOTOGRAPH], rounds=3)
    assert times["fast"].times_as_fast(times["slow"]).median > 2
    assert times["slow"].times_as_fast(times["slow"]) == (1, 1, 1)
    assert times["slow"].wall.min() >= 0.02


def test_a_ratio_is_of_the_same_round_and_photograph():
    one, other = Times(np.array([[1.0, 4.0]]), np.ones((1, 2))), Times(np.array([[2.0, 8.0]]), np.ones((1, 2)))
    assert one.times_as_fast(other) == (2, 2, 2)


def test_a_spread_holds_nine_in_ten():
    assert Spread.of(np.arange(101.0)) == (50, 5, 95)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Fixed((), ()), Fixed((), ()), Agreement(2, 0, 0, 0.0, 0.0, 1.0)),
        (Fixed(), Fixed(), Agreement(2, 2, 0, 0.0, 0.0, 1.0)),
        (Fixed(), Fixed((), ()), Agreement(2, 2, 2, 0.0, 0.0, 1.0)),
        (Fixed(scores=(0.75,)), Fixed(scores=(0.25,)), Agreement(2, 2, 2, 0.0, 0.5, 1.0)),
        (Fixed(((4, 4, 24, 24),)), Fixed(((4, 4, 24, 34),)), Agreement(2, 2, 0, 10.0, 0.0, 2 / 3)),
    ],
)
def test_agreement(first: Fixed, second: Fixed, expected: Agreement):
    found = agreement(first, second, [PHOTOGRAPH] * 2)
    assert found.mask_iou == pytest.approx(expected.mask_iou, abs=0.02)
    assert (found.photographs, found.detections, found.other_number, found.box) == (
        expected.photographs,
        expected.detections,
        expected.other_number,
        expected.box,
    )
    assert found.score == pytest.approx(expected.score)
    assert f"on {expected.other_number} of 2" in str(found)


def test_a_folder_is_timed_beside_the_network(tmp_path: Path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(PHOTOGRAPH).save(path)
    spread = time_folder(Fixed(pause=0.01), paths, ("mask", "csv"))
    assert 0.5 < spread.low <= spread.median <= spread.high
    assert sorted(tmp_path.iterdir()) == paths


def test_the_start_is_timed_in_a_process_of_its_own(tmp_path: Path):
    Image.fromarray(PHOTOGRAPH).save(tmp_path / "photo.png")
    wall, processor = time_start(PACKAGED_MODEL, "onnxruntime", tmp_path / "photo.png", threads=1, runs=1)
    assert processor > 0
    assert 0.05 < wall < 60
