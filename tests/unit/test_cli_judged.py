"""What stands behind MODEL: each kind is told apart, its predictions come in the data set's order, in small batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermask.cli.judged import UNDERSTOOD, open_judged
from dermask.data.dataset import Dataset
from dermask.errors import InputError, WeightsError
from dermask.images import write_png
from dermask.inference import detector as detector_module
from dermask.inference.detector import PACKAGED_MODEL
from dermask.records import Detections, ImageSize, Sample

SIZE = ImageSize(20, 30)


def dataset(count: int = 2) -> Dataset:
    samples = [
        Sample(f"p{number}", np.full((*SIZE, 3), number, np.uint8), SIZE, source_id=number + 10)
        for number in range(count)
    ]
    return Dataset(samples, name="test photographs")


class Recorder:
    """A detector that finds nothing and remembers what it was asked."""

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self.path = path
        self.options = options
        self.class_names = ("lesion",)
        self.batches: list[list[int]] = []

    def predict(self, images: Sequence[np.ndarray]) -> list[Detections]:
        self.batches.append([int(image[0, 0, 0]) for image in images])
        return [Detections.empty(ImageSize(*image.shape[:2])) for image in images]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Every detector that was opened, instead of real ones."""
    detectors: list[Recorder] = []

    def load(path: Path, **options: Any) -> Recorder:
        detectors.append(Recorder(path, options))
        return detectors[-1]

    monkeypatch.setattr(detector_module, "load", load)
    return detectors


def write_run(folder: Path, *names: str, class_names: tuple[str, ...] = ("lesion",)) -> Path:
    metadata = {"config": {}, "class_names": class_names, "folder": folder.name}
    header = json.dumps({"__metadata__": {"dermask": json.dumps(metadata)}}).encode()
    (folder / "checkpoints").mkdir(parents=True)
    for name in names or ("best",):
        (folder / "checkpoints" / f"{name}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def write_masks(folder: Path, count: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        write_png(folder / f"p{number}_segmentation.png", np.ones(SIZE, np.bool_))
    return folder


def write_results(path: Path, score: float = 0.5) -> Path:
    entry = {"image_id": "p1", "category_id": 1, "score": score, "segmentation": [[5, 4, 17, 4, 17, 12, 5, 12]]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([entry]))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class TestModels:
    def test_a_data_set_without_photographs_asks_the_model_nothing(
        self, tmp_path: Path, opened: list[Recorder]
    ) -> None:
        [one] = open_judged(write_run(tmp_path / "first"), dataset(0))
        assert list(one.predictions) == []
        assert opened[0].batches == []

    def test_a_run_is_its_best_checkpoint(self, tmp_path: Path, opened: list[Recorder]) -> None:
        run = write_run(tmp_path / "first", "best", "last")
        [one] = open_judged(run, dataset(), device="cpu", batch_size=3, threads=1)
        file = run / "checkpoints" / "best.safetensors"
        assert (one.name, one.kind, one.path, one.file, one.sha256) == ("first", "model", run, file, sha256(file))
        assert one.class_names == ("lesion",)
        assert one.origin() == {
            "model": "first",
            "kind": "model",
            "file": "checkpoints/best.safetensors",  # without the places of this machine
            "sha256": sha256(file),
        }
        assert [(found.path, found.options) for found in opened] == [
            (file, {"device": "cpu", "batch_size": 3, "threads": 1, "engine": "auto"})
        ]

    def test_masks_are_tidied_as_asked(
        self, tmp_path: Path, opened: list[Recorder], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ring = np.ones((1, 9, 9), np.float32)
        ring[0, 4, 4] = 0
        box = np.array([[2, 2, 20, 18]], np.float32)
        one_ring = Detections(box, np.ones(1, np.float32), np.ones(1, np.int64), ring, SIZE)
        monkeypatch.setattr(Recorder, "predict", lambda _, images: [one_ring] * len(images))
        [plain] = open_judged(write_run(tmp_path / "first"), dataset())
        [tidied] = open_judged(tmp_path / "first", dataset(), tidying=("holes",))
        assert [found.mask_probs.sum() for found in plain.predictions] == [80, 80]
        assert [found.mask_probs.sum() for found in tidied.predictions] == [81, 81]
        assert [found.image_id for found in tidied.predictions] == ["p0", "p1"]
        assert "tidied" not in plain.origin()
        assert tidied.origin()["tidied"] == "holes"

    def test_a_checkpoint_is_called_after_its_run(self, tmp_path: Path, opened: list[Recorder]) -> None:
        run = write_run(tmp_path / "first", "last")
        [one] = open_judged(run / "checkpoints" / "last.safetensors", dataset())
        assert (one.name, one.path) == ("first-last", run / "checkpoints" / "last.safetensors")

    def test_an_exported_model_is_called_after_its_file(self, tmp_path: Path, opened: list[Recorder]) -> None:
        (tmp_path / "small.onnx").write_bytes(b"model")
        [one] = open_judged(tmp_path / "small.onnx", dataset())
        assert (one.name, one.kind, one.file) == ("small", "model", tmp_path / "small.onnx")

    @pytest.mark.parametrize(
        ("engine", "opened_with"), [(None, "onnxruntime"), ("auto", "auto"), ("openvino", "openvino")]
    )
    def test_an_exported_model_is_judged_on_one_engine_everywhere_unless_told(
        self, engine: Any, opened_with: str, tmp_path: Path, opened: list[Recorder]
    ) -> None:
        (tmp_path / "small.onnx").write_bytes(b"model")
        [_] = open_judged(tmp_path / "small.onnx", dataset(), engine=engine)
        assert opened[0].options["engine"] == opened_with

    @pytest.mark.parametrize("word", ["bundled", "packaged"])
    def test_a_word_means_the_packages_own_model(
        self, word: str, tmp_path: Path, opened: list[Recorder], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        [one] = open_judged(Path(word), dataset())
        assert (one.name, one.path, one.file) == ("bundled", PACKAGED_MODEL, PACKAGED_MODEL)
        write_run(tmp_path / word)  # what has that name goes first
        [one] = open_judged(Path(word), dataset())
        assert one.path == Path(word)

    @pytest.mark.parametrize(("batch_size", "sizes"), [(None, [8, 8, 1]), (3, [8, 8, 1]), (16, [16, 1])])
    def test_photographs_are_asked_for_a_few_at_a_time_when_they_are_wanted(
        self, batch_size: int | None, sizes: list[int], tmp_path: Path, opened: list[Recorder]
    ) -> None:
        labels = dataset(17)
        [one] = open_judged(write_run(tmp_path / "first"), labels, batch_size=batch_size)
        assert opened[0].batches == []
        found = iter(one.predictions)
        next(found)
        assert len(opened[0].batches) == 1
        rest = list(found)
        assert [len(batch) for batch in opened[0].batches] == sizes
        assert [number for batch in opened[0].batches for number in batch] == list(range(17))
        assert [(one.image_id, one.source_id) for one in rest] == [
            (sample.image_id, sample.source_id) for sample in labels
        ][1:]

    def test_each_pass_finds_them_again_with_the_same_model(self, tmp_path: Path, opened: list[Recorder]) -> None:
        [one] = open_judged(write_run(tmp_path / "first"), dataset())
        assert len(list(one.predictions)) == len(list(one.predictions)) == 2
        assert len(opened) == 1

    def test_a_folder_of_runs_is_judged_run_by_run(self, tmp_path: Path, opened: list[Recorder]) -> None:
        for name in ("seed2", "seed1", "seed3"):
            write_run(tmp_path / "seeds" / name)
        (tmp_path / "seeds" / "notes").mkdir()
        (tmp_path / "seeds" / "report.html").write_text("")
        several = open_judged(tmp_path / "seeds", dataset())
        assert [one.name for one in several] == ["seed1", "seed2", "seed3"]
        assert len({one.sha256 for one in several}) == 3
        assert opened == []  # one model at a time
        assert [len(list(one.predictions)) for one in several] == [2, 2, 2]
        assert [detector.path.parent.parent.name for detector in opened] == ["seed1", "seed2", "seed3"]

    def test_one_of_several_models_is_opened_when_it_works(self, tmp_path: Path, opened: list[Recorder]) -> None:
        [one] = open_judged(write_run(tmp_path / "first"), dataset(), lazily=True)
        assert (opened, one.class_names) == ([], ("lesion",))
        (tmp_path / "small.onnx").write_bytes(b"model")
        [exported] = open_judged(tmp_path / "small.onnx", dataset(), lazily=True)
        assert exported.class_names == ("lesion",)  # told by opening it, and it is not kept
        assert [len(list(each.predictions)) for each in (one, exported)] == [2, 2]
        assert len(opened) == 3

    def test_a_bad_checkpoint_among_runs_is_told_before_any_work(self, tmp_path: Path, opened: list[Recorder]) -> None:
        write_run(tmp_path / "seed1")
        bad = write_run(tmp_path / "seed2") / "checkpoints" / "best.safetensors"
        bad.write_bytes(b"")
        with pytest.raises(WeightsError, match=r"best\.safetensors: is not a safetensors file or is truncated"):
            open_judged(tmp_path, dataset())

    def test_the_packages_own_model_really_predicts(self) -> None:
        if not PACKAGED_MODEL.is_file():
            pytest.skip("the packaged model is not here")
        [one] = open_judged(Path("bundled"), dataset(1), device="cpu", threads=1)
        [found] = one.predictions
        assert (found.image_id, found.size) == ("p0", SIZE)


class TestSaved:
    def test_results_are_read_at_once(self, tmp_path: Path) -> None:
        file = write_results(tmp_path / "theirs.json")
        [one] = open_judged(file, dataset())
        assert (one.name, one.kind, one.path, one.file, one.sha256) == ("theirs", "results", file, file, sha256(file))
        assert isinstance(one.predictions, list)
        assert [(found.image_id, len(found)) for found in one.predictions] == [("p0", 0), ("p1", 1)]
        assert one.class_names is None

    def test_results_of_more_photographs_than_are_judged_are_noted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = write_results(tmp_path / "theirs.json")
        entries = json.loads(file.read_text())
        file.write_text(json.dumps([*entries, *({**entries[0], "image_id": f"other{index}"} for index in range(3))]))
        [one] = open_judged(file, dataset())
        assert len(list(one.predictions)) == 2
        assert "left out 3 detections in photographs that are not of test photographs" in capsys.readouterr().err

    def test_a_folder_of_dermask_is_read_from_its_results_which_know_scores(self, tmp_path: Path) -> None:
        file = write_results(write_masks(tmp_path / "outlined" / "masks").parent / "coco_results.json", score=0.25)
        for path in (tmp_path / "outlined", file):
            [one] = open_judged(path, dataset())
            assert (one.name, one.kind, one.file) == ("outlined", "results", file)
            assert [found.scores.tolist() for found in one.predictions] == [[], [0.25]]

    @pytest.mark.parametrize("below", ["", "masks"])
    def test_a_folder_of_masks(self, below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_masks(tmp_path / "theirs" / below, count=3)
        [one] = open_judged(tmp_path / "theirs", dataset())
        assert (one.name, one.kind, one.path) == ("theirs", "masks", tmp_path / "theirs")
        assert one.file == tmp_path / "theirs" / below
        assert [(found.image_id, found.scores.tolist()) for found in one.predictions] == [("p0", [1]), ("p1", [1])]
        assert "left out 1 image that is of no photograph of test photographs" in capsys.readouterr().err

    def test_the_folder_that_one_stands_in_has_its_own_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(write_masks(tmp_path / "theirs"))
        [one] = open_judged(Path(), dataset())
        assert one.name == "theirs"

    def test_a_run_goes_before_masks_that_lie_in_its_folder(self, tmp_path: Path, opened: list[Recorder]) -> None:
        write_masks(write_run(tmp_path / "first"))
        [one] = open_judged(tmp_path / "first", dataset())
        assert one.kind == "model"


class TestWhatIsNotUnderstood:
    def test_nothing_there_says_what_may_be_given(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as caught:
            open_judged(tmp_path / "none", dataset())
        assert str(caught.value) == f"{tmp_path / 'none'}: no such file or folder; give {UNDERSTOOD}"

    def test_a_folder_of_nothing_known_says_what_was_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(InputError) as caught:
            open_judged(tmp_path, dataset())
        assert str(caught.value) == (
            f"{tmp_path}: holds no checkpoints/best.safetensors, no folders of runs, no coco_results.json and no mask "
            f"images; give {UNDERSTOOD}"
        )

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("mask.png", "is a single image; give the folder of masks, one for each photograph"),
            ("weights.pth", r"\.pth files are not models of dermask"),
            ("notes.txt", r"is not a model, results or masks; give a run's folder or a folder of runs"),
            ("model", r"is not a model, results or masks"),
        ],
    )
    def test_other_files_are_one_line(self, name: str, message: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(InputError, match=message):
            open_judged(tmp_path / name, dataset())

    def test_results_that_are_not_there_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.json: no such file"):
            open_judged(tmp_path / "none.json", dataset())
