"""Our figures equal those of the ISIC challenges' own scorer, per photograph and on average.

The scorer, isic-challenge-scoring from PyPI, needs Python 3.13 and scikit-learn, so it gets an environment of its own,
which uv makes once and keeps in pytest's cache. It reads the mask folders that we read, from the same disk.

Without Python 3.13 or the package the test skips, unless `DERMASK_REQUIRE_SCORER=1` says that both must be there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from dermask.cli.judged import open_judged
from dermask.data.dataset import Dataset
from dermask.data.formats import open_dataset
from dermask.errors import InputError
from dermask.evaluation.isic_challenge import mean_figures
from dermask.evaluation.photo_masks import TruthMasks, challenge_figures
from dermask.records import Instance, MaskFile, Sample

pytestmark = pytest.mark.slow

SCORER = "isic-challenge-scoring==5.8.0"
# Ours to theirs.
NAMES = {
    "jaccard": "jaccard",
    "thresholded_jaccard": "threshold_jaccard",
    "dice": "dice",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
}
# Calls the scorer's functions as its command does, for pairs of folders: each photograph alone, then all of them.
SCRIPT = """
import json, pathlib, sys
from isic_challenge_scoring.load_image import iter_image_pairs
from isic_challenge_scoring.segmentation import SegmentationScore
from isic_challenge_scoring.types import ScoreError

def score(truths, predictions):
    try:
        photos = {
            pair.image_id: SegmentationScore([pair]).macro_average.to_dict()
            for pair in iter_image_pairs(truths, predictions)
        }
        return photos | {"the mean": SegmentationScore.from_dir(truths, predictions).macro_average.to_dict()}
    except ScoreError as error:
        return str(error)

folders = list(map(pathlib.Path, sys.argv[1:]))
print(json.dumps([score(truths, predictions) for truths, predictions in zip(folders[::2], folders[1::2])]))
"""


@pytest.fixture(scope="session")
def scorer(request: pytest.FixtureRequest) -> Path:
    """The `bin` folder of an environment with the scorer."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        _give_up("no uv to make an environment with")
    folder = request.config.cache.mkdir("isic-challenge-scoring") / SCORER.rpartition("==")[2]
    command = folder / "bin" / "isic-challenge-scoring"
    if not _works([str(command), "--help"]):
        python = _find_python(uv)
        if python is None:
            _give_up("no Python 3.13 for isic-challenge-scoring")
        made = _run([uv, "venv", "--clear", "--python", python, str(folder)])
        if made.returncode == 0:
            made = _run([uv, "pip", "install", "--python", str(folder / "bin" / "python"), SCORER])
        if made.returncode != 0:
            _give_up(f"{SCORER} cannot be installed: {made.stderr.strip().splitlines()[-1:]}")
    return folder / "bin"


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("DERMASK_REQUIRE_SCORER") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def _find_python(uv: str) -> str | None:
    """A Python that the scorer runs on: what uv finds, else what pyenv holds without having it on the path."""
    for command in ([uv, "python", "find", "--no-project", "3.13"], ["pyenv", "prefix", "3.13"]):
        if shutil.which(command[0]) is None:
            continue
        found = _run(command)
        lines = found.stdout.split("\n") if found.returncode == 0 else []
        for path in (Path(line) for line in lines if line):
            python = path / "bin" / "python" if path.is_dir() else path
            if _works([str(python), "-c", "import sys; sys.exit(sys.version_info < (3, 13))"]):
                return str(python)
    return None


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # Not the environment that the tests run in: VIRTUAL_ENV would speak for it.
    environment = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


def _works(command: list[str]) -> bool:
    return Path(command[0]).is_file() and _run(command).returncode == 0


def their_answers(scorer: Path, folders: list[tuple[Path, Path]]) -> list[Any]:
    """What the scorer makes of pairs of folders: figures by photograph and "the mean", or its complaint."""
    done = _run([str(scorer / "python"), "-c", SCRIPT, *(str(folder) for pair in folders for folder in pair)])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def our_figures(predictions: Path, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Ours in the same form and under their names."""
    [theirs] = open_judged(predictions, dataset)
    photos = {
        sample.image_id: challenge_figures(TruthMasks.from_sample(sample, dataset.size(index)), prediction)
        for index, (sample, prediction) in enumerate(zip(dataset, theirs.predictions, strict=True))
    }
    photos["the mean"] = mean_figures(list(photos.values()))
    return {
        image_id: {NAMES[name]: value for name, value in asdict(figures).items()}
        for image_id, figures in photos.items()
    }


def assert_equal(ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]]) -> None:
    assert sorted(ours) == sorted(theirs)
    for image_id, figures in ours.items():
        assert figures == pytest.approx(theirs[image_id], rel=0, abs=1e-9), image_id


def write_mask(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def hard_cases() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Truth and prediction of every kind that a rule is about, at sizes from one pixel up."""
    rng = np.random.default_rng(7)
    for height, width in ((1, 1), (1, 7), (5, 3), (64, 48), (301, 200)):
        empty, full = np.zeros((height, width), np.uint8), np.full((height, width), 255, np.uint8)
        noise = rng.integers(0, 256, (height, width), np.uint8)
        near = rng.choice(np.array([0, 127, 128, 129, 255], np.uint8), (height, width))
        blob = empty.copy()
        blob[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = 255
        yield from [(empty, empty), (empty, full), (full, empty), (full, full)]
        yield from [(blob, empty), (empty, blob), (blob, full), (full, blob), (blob, blob), (blob, np.roll(blob, 1, 0))]
        yield from [
            (blob, noise),
            (blob, near),
            (blob, full // 255),
            (blob, full // 255 * 128),
            (blob, full // 255 * 129),
        ]
    hundred = np.zeros((1, 100), np.uint8)
    for found in (64, 65, 66):  # on either side of the threshold of 0.65, and on it
        pred = hundred.copy()
        pred[0, :found] = 255
        yield np.full_like(hundred, 255), pred


def test_hard_cases_score_as_in_the_challenge(scorer: Path, tmp_path: Path) -> None:
    samples = []
    for number, (truth, pred) in enumerate(hard_cases()):
        image_id = f"ISIC_{number:07d}"
        mask = tmp_path / "truths" / f"{image_id}_segmentation.png"
        write_mask(mask, truth)
        write_mask(
            tmp_path / "predictions" / f"{image_id}_{('segmentation', 'Segmentation', 'mask')[number % 3]}.png", pred
        )
        samples.append(
            Sample(image_id, np.zeros((*truth.shape, 3), np.uint8), instances=(Instance(1, MaskFile(mask)),))
        )
    folders = (tmp_path / "truths", tmp_path / "predictions")
    ours = our_figures(folders[1], Dataset(samples))
    assert {0.0, 1.0, 0.65} <= {figures["threshold_jaccard"] for figures in ours.values()}
    assert_equal(ours, their_answers(scorer, [folders])[0])
    printed = _run([str(scorer / "isic-challenge-scoring"), "-o", "json", "segmentation", *map(str, folders)])
    assert ours["the mean"] == pytest.approx(json.loads(printed.stdout)["macro_average"], rel=0, abs=1e-9)


def test_real_outlines_score_as_in_the_challenge(scorer: Path, real_data: Path, tmp_path: Path) -> None:
    whole = open_dataset(real_data / "isic2017", part="Test_v2")
    dataset = whole.select(range(0, len(whole), max(1, len(whole) // 30)))[:30]
    assert len(dataset) == 30
    rng = np.random.default_rng(3)
    for number, sample in enumerate(dataset):
        [instance] = sample.instances
        assert isinstance(instance.outline, MaskFile)
        truth_file = tmp_path / "truths" / instance.outline.path.name
        truth_file.parent.mkdir(exist_ok=True)
        shutil.copyfile(instance.outline.path, truth_file)
        pred = np.array(Image.open(instance.outline.path))
        pred = np.roll(pred, tuple(rng.integers(-40, 41, 2)), (0, 1))
        for _ in range(number % 4):  # a border that shrinks step by step
            pred = np.minimum.reduce([np.roll(pred, step, axis) for axis in (0, 1) for step in (-2, 2)])
        write_mask(tmp_path / "predictions" / f"{sample.image_id}.png", pred * np.uint8(number % 10 > 0))
    ours = our_figures(tmp_path / "predictions", dataset)
    assert 0.2 < ours["the mean"]["jaccard"] < 0.9
    assert_equal(ours, their_answers(scorer, [(tmp_path / "truths", tmp_path / "predictions")])[0])


def test_what_the_scorer_refuses_is_refused(scorer: Path, tmp_path: Path) -> None:
    empty = np.zeros((8, 8), np.uint8)
    red = np.dstack([np.full((8, 8), level, np.uint8) for level in (255, 0, 0)])
    cases = [  # what lies there for the second photograph, their complaint, ours
        ({}, "No matching submission", "has no mask for 1 of 2 photographs"),
        ({"ISIC_0000001.png": empty, "1_0000001.png": empty}, "Multiple matching submissions", "has two masks for"),
        ({"ISIC_0000001.png": empty[:, :7]}, "has dimensions (8, 7)", "is 7 x 8 pixels, the photograph 8 x 8"),
        ({"ISIC_0000001.png": red}, "is not single-channel", "is a picture in colours"),
    ]
    dataset = Dataset([Sample(f"ISIC_000000{number}", np.zeros((8, 8, 3), np.uint8)) for number in range(2)])
    for number in range(2):
        write_mask(tmp_path / "truths" / f"ISIC_000000{number}_segmentation.png", empty)
    folders = []
    for number, (files, _, ours) in enumerate(cases):
        folders.append((tmp_path / "truths", tmp_path / f"predictions{number}"))
        for name, pixels in ({"ISIC_0000000.png": empty} | files).items():
            write_mask(folders[-1][1] / name, pixels)
        with pytest.raises(InputError, match=ours):
            list(open_judged(folders[-1][1], dataset)[0].predictions)
    for answer, (_, theirs, _) in zip(their_answers(scorer, folders), cases, strict=True):
        assert theirs in answer
