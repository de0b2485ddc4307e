"""What `evaluate` and `compare` share: their options, the photographs to judge on, and the judging of one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermask.cli.common import EngineName, Rule, UsageMistake, choose_part, counting, note, open_data

if TYPE_CHECKING:
    from dermask.cli.judged import Judged
    from dermask.data.dataset import Dataset
    from dermask.evaluation.evaluate import Terms
    from dermask.evaluation.judge import Verdict
    from dermask.evaluation.record import Threshold
    from dermask.records import PhotoInfo

ScoreThreshOption = Annotated[
    float | None,
    typer.Option(
        help="From which score a lesion counts. Default: what the run's validation chose, else 0.5.",
        min=0,
        max=1,
        show_default=False,
    ),
]
ThresholdFromOption = Annotated[
    Path | None,
    typer.Option(
        help="evaluation.json of validation photographs: takes the score with their highest F1.", show_default=False
    ),
]
JudgingEngineOption = Annotated[
    EngineName | None,
    typer.Option(help="What runs an .onnx model. ONNX Runtime, so that figures compare.", show_default=False),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(help="Millimetres per pixel: a number, or a CSV with image_id and mm_per_pixel.", show_default=False),
]
NoLookOption = Annotated[
    bool, typer.Option("--no-look", help="Do not read photographs for skin tone, hair and rulers; faster.")
]
ResamplesOption = Annotated[
    int | None, typer.Option("--resamples", help="For intervals. 2000.", min=100, show_default=False)
]
SeedOption = Annotated[int, typer.Option(help="Of the resamples.", min=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How to judge, as the options say it.

    Attributes:
        rule: Which detections make the one mask of a photograph.
        threshold: The score from which a lesion counts; None asks the model's own validation, else the default.
        mm_per_pixel: The photographs' scale by id, where known.
        metadata: What a table says of photographs.
        pooled: Whether figures over all pixels are wanted.
        look: Whether photographs are read for their traits.
        resamples: For the intervals; None is the default.
        seed: For the intervals.
    """

    rule: Rule = "primary"
    threshold: Threshold | None = None
    mm_per_pixel: Mapping[str, float]
    metadata: Mapping[str, PhotoInfo]
    pooled: bool = False
    look: bool = True
    resamples: int | None = None
    seed: int = 0

    def terms(self, model: Path) -> Terms:
        """The same for one model."""
        from dermask.evaluation.bootstrap import NUM_RESAMPLES
        from dermask.evaluation.evaluate import Terms

        return Terms(
            rule=self.rule,
            threshold=self.threshold or _own_threshold(model),
            metadata=self.metadata,
            mm_per_pixel=self.mm_per_pixel,
            look=self.look,
            pooled=self.pooled,
            num_resamples=self.resamples or NUM_RESAMPLES,
            seed=self.seed,
        )


def read_threshold(score_thresh: float | None, chosen_by: Path | None) -> Threshold | None:
    """The threshold that the options name, if they do; an evaluation that chose it is read."""
    from dermask.evaluation.evaluation_file import chosen_threshold
    from dermask.evaluation.record import Threshold

    if score_thresh is not None:
        return Threshold(score_thresh, "given")
    return None if chosen_by is None else chosen_threshold(chosen_by)


def note_same_photographs(chosen_by: Path | None, dataset: Dataset) -> None:
    """Say so where the evaluation that chose the threshold is about the very photographs to be judged."""
    from dermask.evaluation.evaluation_file import fingerprint_of, read_summary

    if chosen_by is not None and fingerprint_of(read_summary(chosen_by)) == dataset.fingerprint():
        note(
            f"chosen on these same photographs: the score threshold of {chosen_by}; precision, recall and F1 at it "
            "flatter, choose it on others"
        )


def check_no_validation(folders: Iterable[Path]) -> None:
    """Check that nothing would be written over the evaluation that closes a run, which later ones go by.

    Raises:
        InputError: A folder holds one.
    """
    from dermask.errors import InputError
    from dermask.evaluation.evaluation_file import SUMMARY_NAME, VALIDATION, read_summary, role_of

    for folder in folders:
        if not (folder / SUMMARY_NAME).is_file():
            continue
        try:
            role = role_of(read_summary(folder))
        except InputError:  # it is no evaluation of ours
            continue
        if role == VALIDATION:
            raise InputError(
                str(folder), "holds a run's own evaluation on validation", f"choose another -o, as {folder / 'test'}"
            )


def _own_threshold(model: Path) -> Threshold:
    """What a run's validation chose, else the default."""
    from dermask.errors import InputError
    from dermask.evaluation.evaluation_file import SUMMARY_NAME, VALIDATION, chosen_threshold, read_summary, role_of
    from dermask.evaluation.photo_masks import SCORE_THRESH
    from dermask.evaluation.record import Threshold

    own = model / SUMMARY_NAME
    if (model / "checkpoints").is_dir() and own.is_file():
        try:
            if role_of(read_summary(own)) == VALIDATION:
                return chosen_threshold(own)
            note(f"{own}: does not say that it is about the run's validation; lesions count from the default score")
        except InputError as error:
            note(f"{error}; lesions count from the default score")
    return Threshold(SCORE_THRESH)


def open_part(
    data: Path, images: Path | None, part: str | None, split: Path | None, fold: int | None, skip_bad: bool
) -> Dataset:
    """The photographs to judge on; those of a split under a name that says so."""
    if split is None:
        if fold is not None:
            raise UsageMistake("--fold needs --split, a file of dermask data split")
        return open_data(data, images=images, part=part, skip_bad=skip_bad)
    from dermask.data.splits import read_split

    chosen = read_split(split)
    name = choose_part(chosen, part, fold)
    return chosen.named(open_data(data, images=images, part=name, skip_bad=skip_bad, split=split), name)


def judge(judged: Judged, dataset: Dataset, terms: Terms) -> list[Verdict]:
    """Judge what was found in each photograph, with a progress bar; saved predictions by all cores."""
    from dermask.data.workers import count_processes
    from dermask.evaluation.evaluate import judge_all

    with counting(f"judge {judged.name}", "photographs", len(dataset)) as show_progress:
        return judge_all(
            judged.predictions,
            dataset,
            terms,
            processes=1 if judged.kind == "model" else count_processes(len(dataset)),
            progress=show_progress,
        )
