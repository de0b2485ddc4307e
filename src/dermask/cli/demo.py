"""`dermask demo`: the whole way in a few minutes, on drawn scenes or on a person's own photographs."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import typer

from dermask.cli.common import (
    DeviceOption,
    ImagesOption,
    PartOption,
    Rule,
    SkipBadOption,
    ThreadsOption,
    counting,
    note,
    open_data,
    require_training,
    result,
    set_threads,
)
from dermask.wording import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dermask.config import RunSettings
    from dermask.data.dataset import Dataset
    from dermask.inference.detector import Detector

DEFAULT_OUTPUT = Path("runs/demo")


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """Every number of the demo, chosen so that all of it takes less than five minutes on two CPU cores.

    Attributes:
        train_scenes, val_scenes, test_scenes: Drawn scenes of each part.
        scene_side: Their height and width, pixels.
        scene_seed: Of the training scenes; the other parts use the next two.
        shares: Parts of a person's own data: to train on, to choose the best epoch, to judge.
        most_photographs: Of a person's own data, drawn by `split_seed`, so that the demo stays short.
        split_seed: Which photographs go where.
        pictures: Test photographs that get overlays and masks.
        overrides: What differs from the preset `small`, by dotted name.
    """

    train_scenes: int = 240
    val_scenes: int = 32
    test_scenes: int = 64
    scene_side: int = 256
    scene_seed: int = 1
    shares: tuple[float, float, float] = (0.7, 0.15, 0.15)
    most_photographs: int = 300
    split_seed: int = 0
    pictures: int = 12
    overrides: Mapping[str, object] = field(
        default_factory=lambda: MappingProxyType(
            {
                "model.image.min_size": 192,
                "model.image.max_size": 192,
                "train.epochs": 10,
                "train.batch_size": 8,
                "train.learning_rate": 1e-3,
                "train.validate_every": 2,
                # Drawn scenes have up to four lesions: what counts is whether each is found.
                "train.metric": "val_mask_ap",
                "train.ema_decay": 0.98,
                "train.cache_images": True,
            }
        )
    )


DEMO = DemoSettings()


@dataclass(frozen=True, slots=True)
class DemoData:
    """The three parts of the demo's data."""

    train: Dataset
    val: Dataset
    test: Dataset


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your own labels instead of drawn scenes, in any format that dermask reads.",
            show_default=False,
        ),
    ] = None,
    images: ImagesOption = None,
    part: PartOption = None,
    skip_bad: SkipBadOption = False,
    weights: Annotated[
        str | None,
        typer.Option(help="Start from imagenet or a weights file; by default from nothing.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The run's folder; by default runs/demo, runs/demo-2 ...", show_default=False
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """See all of it work: draw scenes, train, judge, outline, report.

    \b
      dermask demo
      dermask demo --data labels.json --images photos/

    Draws dermoscopy scenes with exact outlines, trains a small network on them from nothing, judges it on unseen
    scenes, outlines some of these, and writes a page about it; a few minutes on two CPU cores. Research use only.
    """
    require_training("dermask demo")
    started = time.monotonic()
    folder = _choose_folder(output)
    set_threads(threads)
    parts = _draw_scenes(DEMO) if data is None else _open_parts(data, images, part, skip_bad, DEMO)
    # The challenge's one mask per photograph: all lesions of a drawn scene, the one lesion of a real photograph.
    rule: Rule = "union" if data is None else "primary"
    page, lines = run_demo(parts, folder, DEMO, rule=rule, weights=weights, source=data, device=device)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    result("\n".join(lines))
    result(f"\ntook {minutes} min {seconds:02d} s\noutlined photographs: {folder / 'outlined'}")
    result(f"report: {page}")


def run_demo(
    parts: DemoData,
    folder: Path,
    settings: DemoSettings,
    *,
    rule: Rule = "primary",
    weights: str | None = None,
    source: Path | None = None,
    device: str = "auto",
) -> tuple[Path, list[str]]:
    """Train, judge, outline and report.

    Returns:
        The page, and the figures as lines of text.
    """
    from dermask.cli.figures_text import figures_table
    from dermask.cli.run_report import judge_detector, write_report
    from dermask.cli.train import DRAWN_SCENES, Sources, train_on
    from dermask.evaluation.evaluate import Terms
    from dermask.evaluation.evaluation_file import save
    from dermask.inference.detector import load

    sources = Sources(data=str(source) if source else DRAWN_SCENES, weights=weights)
    train_on(parts.train, parts.val, _run_settings(settings), folder, sources=sources, device=device)  # type: ignore[arg-type]
    note(f"judging the best epoch on {plural(len(parts.test), 'photograph')} it has not seen")
    detector = load(folder, device=device)  # type: ignore[arg-type]
    evaluation, found = judge_detector(detector, parts.test, Terms(rule=rule))
    save(evaluation, folder, origin={"role": "test"})
    _outline_some(detector, parts.test, folder, settings)
    page = write_report(folder, evaluation, parts.test, found)
    return page, figures_table(evaluation).splitlines()


def _run_settings(settings: DemoSettings) -> RunSettings:
    from dermask.config import RunSettings, override

    return override(RunSettings(), settings.overrides)


def _outline_some(detector: Detector, test: Dataset, folder: Path, settings: DemoSettings) -> None:
    """Overlays, masks and tables of the first test photographs, as `dermask predict` would write them."""
    from dermask.data.coco import write_coco
    from dermask.inference.detector import find_model, model_fingerprint
    from dermask.inference.photographs import collect_photographs
    from dermask.inference.predict import predict_photographs

    chosen = test.select(range(min(settings.pictures, len(test))))
    paths = [sample.image for sample in chosen if isinstance(sample.image, Path)]
    inputs = paths or [folder / "unseen" / "images"]
    if not paths:
        write_coco(chosen, folder / "unseen" / "labels.json")  # saves the scenes beside it
    photographs = collect_photographs(inputs, output=folder)
    output = folder / "outlined"
    with counting("outline", "photographs", len(photographs)) as show_progress:
        predict_photographs(
            detector,
            photographs,
            output,
            model_id=model_fingerprint(find_model(folder)),
            on_photo=show_progress,
        )


def _draw_scenes(settings: DemoSettings) -> DemoData:
    from dermask.data.synthetic import synthetic_dataset
    from dermask.records import ImageSize

    size = ImageSize(settings.scene_side, settings.scene_side)
    counts = (settings.train_scenes, settings.val_scenes, settings.test_scenes)
    note(f"drawing {sum(counts):,} scenes of {settings.scene_side} x {settings.scene_side} pixels")
    number = itertools.count(1)
    with counting("draw", "scenes", sum(counts)) as show_progress:
        train, val, test = (
            synthetic_dataset(count, seed=seed, size=size, on_scene=lambda *_: show_progress(next(number), sum(counts)))
            for seed, count in enumerate(counts, settings.scene_seed)
        )
    return DemoData(train, val, test)


def _open_parts(data: Path, images: Path | None, part: str | None, skip_bad: bool, settings: DemoSettings) -> DemoData:
    whole = open_data(data, images=images, part=part, skip_bad=skip_bad)
    if len(whole) > settings.most_photographs:
        note(f"taking {settings.most_photographs:,} of {plural(len(whole), 'photograph')}; dermask train takes all")
        [whole] = whole.split([settings.most_photographs], seed=settings.split_seed)
    return DemoData(*whole.split(settings.shares, seed=settings.split_seed))


def _choose_folder(output: Path | None) -> Path:
    from dermask.errors import OutputExistsError

    if output is not None:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise OutputExistsError(str(output), "is not empty", "choose another -o, or leave it out for a new folder")
        return output
    folder, number = DEFAULT_OUTPUT, 1
    while folder.exists():
        number += 1
        folder = DEFAULT_OUTPUT.with_name(f"{DEFAULT_OUTPUT.name}-{number}")
    return folder
