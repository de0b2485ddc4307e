"""`dermask card`: a model card of a run, from its files and evaluations."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dermask.cli.common import note, refuse_existing, result

if TYPE_CHECKING:
    from dermask.report.card_evaluation import CardEvaluation
    from dermask.report.card_model import CardModel
    from dermask.report.card_words import CardWords

CARD_NAME = "MODEL_CARD.md"


def card(
    model: Annotated[Path, typer.Argument(help="A run's folder, a checkpoint, an .onnx file, or `bundled`.")],
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            help="More evaluations of this model: folders of dermask evaluate -o, or their evaluation.json. Those in "
            "the run's folder, and one or two folders below it, are taken anyway.",
            show_default=False,
        ),
    ] = None,
    words: Annotated[
        Path | None,
        typer.Option(
            help="TOML with what only people know: authors, licence, provenance, failures.", show_default=False
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Markdown file to write.")] = Path(CARD_NAME),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Write a model card: data, training, figures with intervals, kinds of photographs, limits, intended use.

    \b
      dermask card runs/first
      dermask card runs/first --evaluation judged/hospital --words words.toml -o MODEL_CARD.md
      dermask card bundled --evaluation judged/test

    Every number comes from the model's file, its run and its evaluations. What only people know comes from --words, and
    where that is missing the card says so. Needs no torch. Research use only.
    """
    from dermask.cli.run_report import command_line
    from dermask.files import write_text
    from dermask.inference.detector import find_model
    from dermask.report.card_model import read_model
    from dermask.report.card_words import CardWords, read_words
    from dermask.report.model_card import write_model_card

    refuse_existing(output, overwrite)
    found = read_model(find_model(model))
    told = CardWords() if words is None else read_words(words)
    evaluations = gather_evaluations(found, evaluation or ())
    if words is not None:
        _note_typed_numbers(words)
    _note_licences(found, told)
    write_text(output, write_model_card(found, evaluations, words=told, command=shlex.split(command_line())))
    if not evaluations:
        note("no evaluation: the card says that the model was not evaluated; make one with dermask evaluate -o")
    result(str(output))


def gather_evaluations(model: CardModel, named: Sequence[Path]) -> list[CardEvaluation]:
    """The evaluations of the run's folder that judge this model, then those named; each file once.

    One that lies in the folder and judges something else, such as another model to compare with, is left out with a
    note. One that is named and does is a mistake.

    Raises:
        InputError: One cannot be read, or a named one judges another model.
    """
    from dermask.errors import InputError
    from dermask.report.card_evaluation import read_evaluation
    from dermask.report.card_model import check_same_model

    wanted = {_file_of(path).resolve() for path in named}
    found = []
    for path in _below(model.run_dir):
        if path.resolve() in wanted:
            continue
        one = read_evaluation(path)
        try:
            check_same_model(model, one)
        except InputError as error:
            note(f"left out: {error.item}: {error.problem}")
            continue
        found.append(one)
    seen: set[Path] = set()
    for path in named:
        if (file := _file_of(path).resolve()) not in seen:
            seen.add(file)
            found.append(read_evaluation(path))
            check_same_model(model, found[-1])
    return found


def _below(run_dir: Path | None) -> Iterator[Path]:
    from dermask.evaluation.evaluation_file import SUMMARY_NAME

    if run_dir is not None:
        for pattern in (SUMMARY_NAME, f"*/{SUMMARY_NAME}", f"*/*/{SUMMARY_NAME}"):
            yield from sorted(run_dir.glob(pattern))


def _file_of(path: Path) -> Path:
    from dermask.evaluation.evaluation_file import SUMMARY_NAME

    return path / SUMMARY_NAME if path.is_dir() else path


def _note_typed_numbers(path: Path) -> None:
    from dermask.report.card_words import typed_numbers

    by_line: dict[int, list[str]] = {}
    for line, number in typed_numbers(path):
        by_line.setdefault(line, []).append(number)
    for line, numbers in by_line.items():
        note(f"{path}, line {line}: {', '.join(numbers)} typed by hand; figures belong to an evaluation")


def _note_licences(model: CardModel, words: CardWords) -> None:
    in_file, told = model.metadata.get("licence"), words.text("model.licence")
    if in_file and told and in_file != told:
        note(f"licence: the model's file says {in_file}, the words {told}; the card follows the file")
