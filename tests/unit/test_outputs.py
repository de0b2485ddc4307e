"""What `predict` writes: files, tables, resume, and that nothing is overwritten unasked."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np
import pytest
from PIL import Image

from dermask import images, masks
from dermask.config import ImageSettings
from dermask.errors import ImageError, InputError, OutputExistsError, SettingError, WeightsError
from dermask.inference.detector import Prepared
from dermask.inference.outputs import describe_lesions
from dermask.inference.photographs import collect_photographs
from dermask.inference.predict import PredictOptions, PredictSummary, predict_photographs
from dermask.records import Detections, ImageSize, Rle


class FixedDetector:
    """Finds one sure and one doubtful lesion in every photograph, and remembers what it was asked."""

    def __init__(self, class_names: tuple[str, ...] = ("lesion",)) -> None:
        self.class_names = class_names
        self.seen: list[str] = []
        self.interrupt_at: str | None = None  # by name: threads take the photographs in any order

    def predict(self, images: Sequence[object]) -> list[Detections]:
        return [self._predict_one(source) for source in images]

    def _predict_one(self, source: object) -> Detections:
        assert isinstance(source, Path | bytes)
        if isinstance(source, Path) and source.name == self.interrupt_at:
            raise KeyboardInterrupt
        size = images.image_size(source)
        images.read_image(source)
        self.seen.append(source.name if isinstance(source, Path) else "bytes")
        height, width = size
        return Detections(
            boxes=np.array([[1, 2, width / 2, height / 2], [0, 0, width, height]], np.float32),
            scores=np.array([0.9, 0.3], np.float32),
            labels=np.array([1, 1]),
            mask_probs=np.ones((2, 28, 28), np.float32),
            size=size,
            class_names=self.class_names,
        )


def write_photo(path: Path, size: tuple[int, int] = (48, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 180, np.uint8)).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.png", "c.jpg"):
        write_photo(tmp_path / "photos" / name)
    return tmp_path / "photos"


def run(
    inputs: Path | list[str | Path],
    output: Path,
    *,
    detector: FixedDetector | None = None,
    model_id: str = "one",
    overwrite: bool = False,
    **options: object,
) -> PredictSummary:
    found = collect_photographs(inputs if isinstance(inputs, list) else [inputs], output=output)
    return predict_photographs(
        detector or FixedDetector(),
        found,
        output,
        PredictOptions(**options),  # type: ignore[arg-type]
        model_id=model_id,
        overwrite=overwrite,
    )


def rows(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((output / "lesions.csv").read_text())))


def test_every_kind_of_result_is_written(photos: Path, tmp_path: Path):
    output = tmp_path / "out"
    summary = run(photos, output)
    assert summary == PredictSummary(done=3, skipped=0, lesions=3, failures=())
    overlay = images.read_image(output / "overlays" / "a_overlay.png")
    assert overlay.shape == (48, 64, 3)
    mask = np.asarray(Image.open(output / "masks" / "a_segmentation.png"))
    assert mask.shape == (48, 64)
    assert set(np.unique(mask)) == {0, 255}
    assert sorted(path.name for path in output.iterdir()) == [
        "coco_results.json",
        "lesions.csv",
        "masks",
        "overlays",
        "predictions.jsonl",
    ]


def test_the_table_has_one_row_per_lesion_above_the_threshold(photos: Path, tmp_path: Path):
    run(photos, tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [row["photograph"] for row in found] == ["a", "b", "c"]
    first = found[0]
    assert (first["class"], float(first["score"]), first["lesion"]) == ("lesion", 0.9, "1")
    assert [float(first[name]) for name in ("x1", "y1", "x2", "y2")] == [1, 2, 32, 24]
    assert int(first["area_px"]) == 31 * 22
    assert float(first["area_share"]) == pytest.approx(31 * 22 / (48 * 64), abs=1e-6)
    assert (first["width"], first["height"]) == ("64", "48")
    assert Path(first["file"]) == (photos / "a.jpg").resolve()


class RingDetector(FixedDetector):
    """Finds a lesion with a hole."""

    def _predict_one(self, source: object) -> Detections:
        found = super()._predict_one(source).select(np.array([0]))
        found.mask_probs[0, 8:20, 8:20] = 0
        return found


def test_every_result_follows_from_the_tidied_mask(photos: Path, tmp_path: Path):
    run(photos, tmp_path / "raw", detector=RingDetector())
    run(photos, tmp_path / "tidy", detector=RingDetector(), tidy=("holes",))
    for kind in ("masks/a_segmentation.png", "overlays/a_overlay.png", "coco_results.json"):
        assert (tmp_path / "raw" / kind).read_bytes() != (tmp_path / "tidy" / kind).read_bytes()
    assert int(rows(tmp_path / "raw")[0]["area_px"]) < int(rows(tmp_path / "tidy")[0]["area_px"]) == 31 * 22
    assert run(photos, tmp_path / "tidy", detector=RingDetector(), tidy=("holes",)).skipped == 3


def test_coco_results_keep_every_detection_with_its_exact_mask(photos: Path, tmp_path: Path):
    run(photos, tmp_path / "out")
    results = json.loads((tmp_path / "out" / "coco_results.json").read_text())
    assert len(results) == 6
    assert {entry["image_id"] for entry in results} == {"a", "b", "c"}
    first = results[0]
    assert first["bbox"] == [1, 2, 31, 22]
    assert first["category_id"] == 1
    rle = Rle(first["segmentation"]["counts"].encode(), ImageSize(*first["segmentation"]["size"]))
    mask = masks.rle_to_bitmask(rle)
    assert mask.shape == (48, 64)
    assert mask[2:24, 1:32].all()
    assert mask.sum() == 31 * 22


@pytest.mark.parametrize(("rule", "pixels"), [("primary", 31 * 22), ("union", 48 * 64)])
def test_the_rule_decides_the_mask(rule: str, pixels: int, photos: Path, tmp_path: Path):
    run(photos, tmp_path / "out", rule=rule, score_thresh=0.25)
    mask = images.decode_mask(tmp_path / "out" / "masks" / "a_segmentation.png")
    assert mask.sum() == pixels


def test_nothing_found_gives_an_empty_mask_and_no_row(photos: Path, tmp_path: Path):
    class Blind(FixedDetector):
        def predict(self, images_: Sequence[object]) -> list[Detections]:
            return [Detections.empty(found.size) for found in super().predict(images_)]

    summary = run(photos, tmp_path / "out", detector=Blind())
    assert (summary.done, summary.lesions) == (3, 0)
    assert rows(tmp_path / "out") == []
    assert json.loads((tmp_path / "out" / "coco_results.json").read_text()) == []
    assert not images.decode_mask(tmp_path / "out" / "masks" / "a_segmentation.png").any()


def test_only_what_was_asked_for_is_written(photos: Path, tmp_path: Path):
    run(photos, tmp_path / "out", save=("csv",))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["lesions.csv", "predictions.jsonl"]


def test_overlays_of_large_photographs_are_reduced_and_masks_are_not(tmp_path: Path):
    write_photo(tmp_path / "photos" / "large.jpg", (300, 400))
    run(tmp_path / "photos", tmp_path / "out", overlay_side=100)
    assert images.image_size(tmp_path / "out" / "overlays" / "large_overlay.png") == (75, 100)
    assert images.image_size(tmp_path / "out" / "masks" / "large_segmentation.png") == (300, 400)


class TestResume:
    def test_a_second_run_does_nothing_and_changes_nothing(self, photos: Path, tmp_path: Path):
        output = tmp_path / "out"
        run(photos, output)
        before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
        detector = FixedDetector()
        summary = run(photos, output, detector=detector)
        assert (summary.done, summary.skipped, detector.seen) == (0, 3, [])
        assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before

    def test_new_photographs_join_the_tables(self, photos: Path, tmp_path: Path):
        run(photos, tmp_path / "out")
        write_photo(photos / "d.jpg")
        detector = FixedDetector()
        summary = run(photos, tmp_path / "out", detector=detector)
        assert (summary.done, summary.skipped, detector.seen) == (1, 3, ["d.jpg"])
        assert [row["photograph"] for row in rows(tmp_path / "out")] == ["a", "b", "c", "d"]

    def test_a_killed_run_goes_on_and_ends_like_a_whole_one(self, photos: Path, tmp_path: Path):
        detector = FixedDetector()
        detector.interrupt_at = "c.jpg"
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path / "out", detector=detector, batch_size=1)
        with (tmp_path / "out" / "predictions.jsonl").open("a") as file:
            file.write('{"image_id":"c","fi')  # cut off in the middle of a line
        summary = run(photos, tmp_path / "out")
        assert (summary.done, summary.skipped) == (1, 2)
        run(photos, tmp_path / "whole")
        for name in ("coco_results.json", "lesions.csv"):
            assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()

    def test_a_changed_photograph_is_done_again_and_counts_once(self, photos: Path, tmp_path: Path):
        run(photos, tmp_path / "out")
        write_photo(photos / "b.png", (20, 30))
        summary = run(photos, tmp_path / "out")
        assert (summary.done, summary.skipped) == (1, 2)
        found = rows(tmp_path / "out")
        assert sorted(row["photograph"] for row in found) == ["a", "b", "c"]
        assert [row["width"] for row in found if row["photograph"] == "b"] == ["30"]

    def test_pictures_that_are_missing_are_made_later(self, photos: Path, tmp_path: Path):
        run(photos, tmp_path / "out", save=("csv",))
        assert run(photos, tmp_path / "out").done == 3
        assert (tmp_path / "out" / "overlays" / "a_overlay.png").is_file()
        assert run(photos, tmp_path / "out", save=("csv", "mask")).skipped == 3
        assert len(rows(tmp_path / "out")) == 3

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            (
                {"model_id": "two"},
                r"out: holds results of another model; choose another -o folder, or pass --overwrite",
            ),
            ({"detector": FixedDetector(("naevus",))}, r"holds results of another model"),
            ({"score_thresh": 0.7}, r"score_thresh 0\.5, .*not .*score_thresh 0\.7"),
            ({"rule": "union"}, r"rule primary"),
            ({"tidy": ("holes",)}, r"not .*tidy holes"),
        ],
    )
    def test_results_made_otherwise_are_not_mixed_in(self, changed, message, photos: Path, tmp_path: Path):
        run(photos, tmp_path / "out")
        before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
        with pytest.raises(OutputExistsError, match=message):
            run(photos, tmp_path / "out", **changed)
        assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before

    def test_overwrite_removes_results_and_nothing_else(self, photos: Path, tmp_path: Path):
        run(photos, tmp_path / "out")
        (tmp_path / "out" / "notes.txt").write_text("mine")
        summary = run(photos / "a.jpg", tmp_path / "out", model_id="two", overwrite=True)
        assert summary.done == 1
        assert [path.name for path in (tmp_path / "out" / "overlays").iterdir()] == ["a_overlay.png"]
        assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
        assert [row["photograph"] for row in rows(tmp_path / "out")] == ["a"]

    def test_files_of_others_are_not_overwritten(self, photos: Path, tmp_path: Path):
        (tmp_path / "out" / "masks").mkdir(parents=True)
        with pytest.raises(OutputExistsError, match=r"masks: is in the way, .* pass --overwrite"):
            run(photos, tmp_path / "out")

    def test_a_record_that_is_none_is_refused(self, photos: Path, tmp_path: Path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "predictions.jsonl").write_text("hello\n")
        with pytest.raises(OutputExistsError, match="is not a record of this version"):
            run(photos, tmp_path / "out")

    def test_a_file_is_no_folder(self, photos: Path, tmp_path: Path):
        (tmp_path / "out").write_text("")
        with pytest.raises(OutputExistsError, match="is a file; give -o a folder"):
            run(photos, tmp_path / "out")


def test_unreadable_photographs_are_listed_and_the_rest_is_done(photos: Path, tmp_path: Path):
    (photos / "broken.jpg").write_bytes((photos / "a.jpg").read_bytes()[:200])
    (photos / "text.png").write_text("no image")
    summary = run([photos, "nowhere.jpg"], tmp_path / "out")
    assert summary.done == 3
    assert len(summary.failures) == 3
    for line, name in zip(summary.failures, ("broken.jpg", "text.png", "nowhere.jpg"), strict=True):
        assert name in line
        assert "\n" not in line
    assert run([photos, "nowhere.jpg"], tmp_path / "out").failures == summary.failures  # listed again, done again


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are text")
def test_odd_names_cost_no_photograph(photos: Path, tmp_path: Path):
    names = ["größe ü 1.jpg", "two\nlines.jpg", os.fsdecode(b"latin\xfc.jpg")]
    for name in names:
        write_photo(photos / name)
    output = tmp_path / "out"
    assert run(photos, output).done == 6
    assert run(photos, output).skipped == 6
    stems = {Path(name).stem for name in names}
    assert stems < {path.name.removesuffix("_segmentation.png") for path in (output / "masks").iterdir()}
    for name in ("coco_results.json", "lesions.csv", "predictions.jsonl"):
        (output / name).read_text(encoding="utf-8")
    assert stems < {result["image_id"] for result in json.loads((output / "coco_results.json").read_text())}


class SlowDetector(FixedDetector):
    """Takes prepared photographs, each call at its own pace, and counts how many are in hand at once."""

    image_settings = ImageSettings(min_size=32, max_size=32)

    def __init__(self, num_at_once: int) -> None:
        super().__init__()
        self.num_at_once = num_at_once
        self.now = self.most = 0
        self.lock = Lock()

    def predict(self, images: Sequence[object]) -> list[Detections]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            pause = 0.002 * (len(self.seen) * 7 % 5)
        time.sleep(pause)
        found = [self._found(image) for image in images]
        with self.lock:
            self.now -= 1
        return found

    def _found(self, image: object) -> Detections:
        assert isinstance(image, Prepared)
        self.seen.append(image.image_id)
        level = float(image.image.mean()) / 255  # so that every photograph has its own answer
        return Detections(
            boxes=image.to_photograph(np.array([[4, 4, 20, 30]], np.float32)),
            scores=np.array([level], np.float32),
            labels=np.array([1]),
            mask_probs=np.full((1, 28, 28), 0.9, np.float32),
            size=image.original_size,
            class_names=self.class_names,
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestSeveralBatchesAtOnce:
    @pytest.fixture
    def many(self, tmp_path: Path) -> Path:
        for number in range(23):
            path = write_photo(tmp_path / "many" / f"{number:02}.png", (30 + number % 3, 40))
            Image.fromarray(np.full((30 + number % 3, 40, 3), 100 + 5 * number, np.uint8)).save(path)
        (tmp_path / "many" / "07.png").write_bytes(b"no photograph")
        return tmp_path / "many"

    def test_results_are_the_same_to_the_byte(self, many: Path, tmp_path: Path):
        summaries, folders = [], []
        for number, (num_at_once, batch_size) in enumerate([(1, 1), (1, 4), (3, 2), (5, 8)]):
            output = tmp_path / f"out{number}"
            summaries.append(run(many, output, detector=SlowDetector(num_at_once), batch_size=batch_size))
            folders.append(contents(output))
        assert all(summary == summaries[0] for summary in summaries)
        assert all(folder == folders[0] for folder in folders)
        assert summaries[0].done == 22
        [failure] = summaries[0].failures
        assert "07.png" in failure

    @pytest.mark.parametrize("num_at_once", [1, 2])
    def test_a_detector_is_asked_no_more_often_than_it_says(self, num_at_once: int, many: Path, tmp_path: Path):
        detector = SlowDetector(num_at_once)
        run(many, tmp_path / "out", detector=detector, batch_size=1)
        assert detector.most <= num_at_once

    def test_an_error_leaves_a_record_that_goes_on(self, many: Path, tmp_path: Path):
        class Failing(SlowDetector):
            def _found(self, image: object) -> Detections:
                if isinstance(image, Prepared) and image.image_id == "15":
                    raise WeightsError("model", "fails on a photograph")
                return super()._found(image)

        whole, output = tmp_path / "whole", tmp_path / "out"
        run(many, whole, detector=SlowDetector(2), batch_size=2)
        with pytest.raises(WeightsError, match="fails on a photograph"):
            run(many, output, detector=Failing(2), batch_size=2)
        lines = (output / "predictions.jsonl").read_text().splitlines()
        names = [json.loads(line)["image_id"] for line in lines[1:]]
        assert names == sorted(names)
        assert len(names) < 15
        for name in names:
            assert (output / "masks" / f"{name}_segmentation.png").is_file()
        summary = run(many, output, detector=SlowDetector(2), batch_size=2)
        assert summary.skipped == len(names)
        assert contents(output) == contents(whole)


def test_equal_names_in_different_folders_get_different_files(tmp_path: Path):
    for folder in ("left", "right"):
        write_photo(tmp_path / folder / "IMG.jpg")
    write_photo(tmp_path / "left" / "img.png")
    output = tmp_path / "out"
    assert run([tmp_path / "left", tmp_path / "right"], output).done == 3
    names = sorted(path.name for path in (output / "masks").iterdir())
    assert names == ["IMG_segmentation.png", "left_img_segmentation.png", "right_IMG_segmentation.png"]
    assert run([tmp_path / "right", tmp_path / "left"], output).skipped == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_thresh": 1.5}, r"score_thresh 1\.5: must be between 0 and 1"),
        ({"overlay_side": 0}, "overlay_side 0: must be at least 1"),
        ({"batch_size": 0}, "batch_size 0: must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str):
    with pytest.raises(SettingError, match=message):
        PredictOptions(**options)  # type: ignore[arg-type]


def test_lesions_are_described_at_the_photographs_size():
    found = Detections(
        boxes=np.array([[2, 3, 12, 9]], np.float32),
        scores=np.array([0.5], np.float32),
        labels=np.array([1]),
        mask_probs=np.ones((1, 28, 28), np.float32),
        size=ImageSize(20, 30),
    )
    [lesion] = describe_lesions(found)
    assert (lesion.bbox_xywh, lesion.area) == ((2, 3, 10, 6), 60)
    assert describe_lesions(replace(found, mask_probs=np.zeros((1, 28, 28), np.float32)))[0].area == 0


class TestCollect:
    def names(self, inputs: list[str | Path], tmp_path: Path, stdin: bytes | None = None) -> list[str]:
        return [Path(photo.file).name for photo in collect_photographs(inputs, output=tmp_path / "out", stdin=stdin)]

    def test_folders_are_searched_with_their_subfolders(self, tmp_path: Path):
        for name in ("a.JPG", "sub/b.tiff", ".hidden/c.jpg", "a_segmentation.png", "a_superpixels.png", "out/d.png"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
        (tmp_path / "notes.txt").write_text("x")
        assert self.names([tmp_path], tmp_path) == ["a.JPG", "b.tiff"]

    def test_each_photograph_counts_once(self, photos: Path, tmp_path: Path):
        assert self.names([photos / "a.jpg", photos, str(photos / "a.jpg")], tmp_path) == ["a.jpg", "b.png", "c.jpg"]

    def test_patterns_are_expanded_where_no_shell_did(self, photos: Path, tmp_path: Path):
        assert self.names([str(photos / "*.jpg")], tmp_path) == ["a.jpg", "c.jpg"]
        assert self.names([str(tmp_path / "**" / "b.*")], tmp_path) == ["b.png"]

    def test_a_name_with_pattern_characters_is_a_name(self, tmp_path: Path):
        write_photo(tmp_path / "photo[1].jpg")
        assert self.names([str(tmp_path / "photo[1].jpg")], tmp_path) == ["photo[1].jpg"]

    def test_stdin_may_be_a_list_of_paths(self, photos: Path, tmp_path: Path):
        listed = f"{photos / 'c.jpg'}\n\n{photos / 'a.jpg'}\n".encode()
        assert self.names(["-"], tmp_path, stdin=listed) == ["c.jpg", "a.jpg"]

    @pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
    def test_stdin_may_be_a_photograph(self, suffix: str, tmp_path: Path):
        data = write_photo(tmp_path / f"photo.{suffix}").read_bytes()
        [photo] = collect_photographs(["-"], output=tmp_path / "out", stdin=data)
        assert (photo.source, photo.stem) == (data, "stdin")

    def test_a_listed_path_may_be_no_utf8(self, tmp_path: Path):
        assert self.names(["-"], tmp_path, stdin=b"photos/latin\xfc.jpg\n") == [os.fsdecode(b"latin\xfc.jpg")]

    def test_a_locked_folder_is_kept_for_the_list_of_failures(self, photos: Path, tmp_path: Path, monkeypatch):
        locked = photos / "lost+found"
        locked.mkdir()
        listed = os.scandir

        def refuse(path):
            if Path(path) == locked:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return listed(path)

        monkeypatch.setattr(os, "scandir", refuse)  # permissions do not hold back the superuser
        assert self.names([photos], tmp_path) == ["a.jpg", "b.png", "c.jpg", "*"]

    def test_a_name_that_no_file_can_have_is_kept_too(self, tmp_path: Path):
        assert self.names(["n" * 300], tmp_path) == ["n" * 300]

    def test_no_photograph_at_all_is_an_error(self, tmp_path: Path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match=r"empty: holds no photograph; give files named .*\*\.jpg"):
            self.names([tmp_path / "empty"], tmp_path)

    def test_a_missing_file_is_kept_for_the_list_of_failures(self, tmp_path: Path):
        [photo] = collect_photographs(["nowhere.jpg"], output=tmp_path / "out")
        with pytest.raises(ImageError, match="no such file"):
            photo.stamp()


def test_each_photograph_from_stdin_is_done_once_and_kept(tmp_path: Path):
    first, second = (write_photo(tmp_path / f"{side}.jpg", (side, side)).read_bytes() for side in (32, 40))
    for data, expected in ((first, 1), (first, 0), (second, 1), (first, 0)):
        found = collect_photographs(["-"], output=tmp_path / "out", stdin=data)
        summary = predict_photographs(FixedDetector(), found, tmp_path / "out", model_id="one")
        assert summary.done == expected
    names = sorted(path.name for path in (tmp_path / "out" / "masks").iterdir())
    assert names == ["stdin_2_segmentation.png", "stdin_segmentation.png"]
