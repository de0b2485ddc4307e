"""The page of a comparison: how far models differ, how sure that is, and the photographs that they see differently.

One HTML file that needs no network. A is the reference; every other model has its own section.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermask import __version__, files, masks
from dermask.data.dataset import Dataset
from dermask.errors import ImageError, InputError
from dermask.evaluation.compared_figures import FIGURES, Side
from dermask.evaluation.comparison import Comparison, PairedDifference, SeedSpread
from dermask.evaluation.comparison_file import ComparisonSet, both_thresholds, caveats
from dermask.evaluation.photo_masks import TruthMasks
from dermask.records import ImageSize, Rle
from dermask.report import pictures
from dermask.report.charts import Chart
from dermask.report.comparison_charts import (
    describe_claim,
    describe_interval,
    difference_histogram,
    forest_chart,
    scatter_chart,
    show_interval,
    show_p,
    signed,
)
from dermask.report.rendering import css_colour, render_page
from dermask.report.tables import NOT_DEFINED, Headline, Table
from dermask.wording import plural, plural_of

NUM_PICTURES = 12
"""Photographs in which either model is better by most; twice as many in all."""

_HEADLINES = (
    "isic.jaccard",
    "isic.thresholded_jaccard",
    "isic.dice",
    "boundary.boundary_iou",
    "coco.mask.ap50",
    "detection.f1",
)
_A_COLOUR, _B_COLOUR = (120, 255, 120), (0, 229, 255)  # apart from the truth's yellow, and A is dashed
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class ComparedPicture:
    """One photograph with three outlines.

    Attributes:
        image_id: Which photograph.
        source: Its pixels as a ``data:`` address; empty where it cannot be read.
        size: Of the small copy, pixels; the frame of the paths.
        truth_path: SVG path data of the labelled border; empty where there is no lesion.
        a_path: The same for the reference.
        b_path: The same for the other model.
        a: The reference's Jaccard index.
        b: The other's.
        letter: What the other is called.
    """

    image_id: str
    source: str
    size: ImageSize
    truth_path: str
    a_path: str
    b_path: str
    a: float
    b: float
    letter: str

    @property
    def gain(self) -> str:
        """The difference with its sign."""
        return f"{self.b - self.a:+.3f}".replace("-", "\N{MINUS SIGN}")

    @property
    def note(self) -> str:
        """Both values."""
        return f"A {self.a:.3f}, {self.letter} {self.b:.3f}"

    @property
    def alt(self) -> str:
        """The picture in words."""
        truth = "labelled border outlined" if self.truth_path else "no labelled lesion"
        found = [
            f"{name} {'outlined' if path else 'found nothing'}, Jaccard {value:.3f}"
            for name, path, value in (("A", self.a_path, self.a), (self.letter, self.b_path, self.b))
        ]
        return f"Photograph {self.image_id}: {truth}; {'; '.join(found)}"


@dataclass(frozen=True, slots=True)
class Gallery:
    """Photographs that belong together."""

    title: str
    pictures: tuple[ComparedPicture, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """What the page shows of one model against the reference."""

    letter: str
    name: str
    verdict: str
    caveats: tuple[str, ...]
    headline: tuple[Headline, ...]
    forests: tuple[Chart, ...]
    spread_charts: tuple[Chart, ...]
    table: Table
    seeds: Table | None
    galleries: tuple[Gallery, ...]

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All that plotly draws."""
        return self.forests + self.spread_charts


def write_comparison_page(
    compared: ComparisonSet,
    path: Path,
    *,
    command: str,
    dataset: Dataset | None = None,
    predictions: Mapping[str, Sequence[Rle]] | None = None,
    num_pictures: int = NUM_PICTURES,
) -> Path:
    """Write a comparison as one HTML file; a photograph that cannot be read shows its outlines alone.

    Args:
        compared: The comparisons.
        path: Where to write; a file that stands there is replaced.
        command: The exact command that made it.
        dataset: The photographs, and
        predictions: for each model by letter its one mask of each photograph, of its first run where it has several:
            both are needed for pictures.
        num_pictures: At most so many where either model is better.

    Returns:
        `path`.

    Raises:
        InputError: The photographs or masks are not those of the comparison; the file cannot be written.
    """
    names = {letter: side.name for letter, side in compared.sides.items()}
    if dataset is not None and [sample.image_id for sample in dataset] != list(compared.members[0].image_ids):
        raise InputError("report", "the comparison is about other photographs", "give the data set it was made with")
    sections = []
    for letter, member in zip(list(names)[1:], compared.members, strict=True):
        galleries: tuple[Gallery, ...] = ()
        if dataset is not None and predictions is not None:
            galleries = _galleries(member, letter, dataset, predictions, num_pictures)
        sections.append(_section(member, letter, galleries))
    others = list(names.values())[1:]
    first = compared.members[0]
    context = {
        "title": f"Comparison: {', '.join(others)} against {names['A']}",
        "lead": f"{plural(len(first.image_ids), 'photograph')} of {compared.dataset_name or 'a labelled data set'}, "
        "judged at their own size",
        "sections": [
            *((f"against-{section.letter.lower()}", f"{section.letter} against A") for section in sections),
            ("origin", "How this was made"),
        ],
        "reference": names["A"],
        "members": sections,
        "a_colour": css_colour(_A_COLOUR),
        "b_colour": css_colour(_B_COLOUR),
        "command": command,
        "origin_tables": _origin_tables(compared),
    }
    charts = [chart for section in sections for chart in section.charts]
    files.write_text(path, render_page("comparison.html", context, charts=charts))
    return path


def choose_most_different(differences: Sequence[float], count: int) -> tuple[list[int], list[int]]:
    """Which photographs to show: where the second model gains most, and where it loses most, furthest first.

    Args:
        differences: One per photograph, second model's figure minus the first's.
        count: At most so many of each; photographs without a difference are in neither.
    """
    ranked = sorted(range(len(differences)), key=lambda index: differences[index])
    loses = [index for index in ranked if differences[index] < -_TIE][:count]
    gains = [index for index in reversed(ranked) if differences[index] > _TIE][:count]
    return gains, loses


def _section(member: Comparison, letter: str, galleries: tuple[Gallery, ...]) -> Section:
    everything = (*member.differences, *member.set_differences)
    by_name = {one.name: one for one in everything}
    first, second = member.photo_values("a")[:, 0], member.photo_values("b")[:, 0]
    forests = [forest_chart(everything, letter, in_pixels=in_pixels) for in_pixels in (False, True)]
    return Section(
        letter=letter,
        name=member.b.name,
        verdict=_verdict(member, letter),
        caveats=caveats(member, letter),
        headline=tuple(_headline(by_name[name], letter) for name in _HEADLINES),
        forests=tuple(chart for chart in forests if chart is not None),
        spread_charts=(
            scatter_chart(first, second, member.image_ids, letter),
            difference_histogram(second - first, letter),
        ),
        table=_difference_table(everything, letter, both_thresholds(member, letter)),
        seeds=_seed_table(member, letter) if member.has_seeds else None,
        galleries=galleries,
    )


def _verdict(member: Comparison, letter: str) -> str:
    """The result in a sentence, from the figure that ranks models."""
    jaccard = member.differences[0]
    counts = (
        f"{letter} is better in {jaccard.better_b:,}, A in {jaccard.better_a:,} of "
        f"{plural(jaccard.num_photographs, 'photograph')}"
    )
    if not member.resampling.allows_claims:
        return f"Jaccard index {signed(jaccard)}, without a claim; {counts}."
    return (
        f"Jaccard index {signed(jaccard)}, {describe_interval(jaccard)}: {describe_claim(jaccard, letter)}; {counts}."
    )


def _headline(one: PairedDifference, letter: str) -> Headline:
    values = f"A {_show(one, one.a)}, {letter} {_show(one, one.b)}"
    meaning = f"{values}. {_capital(describe_claim(one, letter))}."
    return Headline(FIGURES[one.name].title, _signed(one), meaning, show_interval(one))


def _difference_table(everything: Sequence[PairedDifference], letter: str, scores: str) -> Table:
    rows = []
    for one in everything:
        counts = "" if FIGURES[one.name].of_set else f"{one.better_a:,} / {one.ties:,} / {one.better_b:,}"
        rows.append(
            (
                FIGURES[one.name].title
                + (" (pixels)" if FIGURES[one.name].in_pixels else "")
                + (f": {scores}" if scores and one.name == "detection.f1" else ""),
                _show(one, one.a),
                _show(one, one.b),
                _signed(one),
                show_interval(one),
                show_p(one.p_adjusted).removeprefix("p ").removeprefix("= "),
                counts,
                _capital(describe_claim(one, letter).partition(", ")[0]),
            )
        )
    minus = "\N{MINUS SIGN}"
    columns = ("Figure", "A", letter, f"{letter} {minus} A", "Interval", "p (Holm)", f"A / equal / {letter}", "Shown")
    return Table(f"All figures, {letter} against A", columns, tuple(rows))


def _seed_table(member: Comparison, letter: str) -> Table:
    rows = []
    for first, second in zip(member.spreads_a, member.spreads_b, strict=True):
        for name, spread in (("A", first), (letter, second)):
            rows.append((f"{FIGURES[spread.name].title}, {name}", *_spread_cells(spread)))
    columns = ("Figure", "Runs", "Mean", "Deviation", "Least", "Most", "Each run")
    return Table(f"Runs of A and {letter}", columns, tuple(rows))


def _spread_cells(spread: SeedSpread) -> tuple[str, ...]:
    digits = 2 if FIGURES[spread.name].in_pixels else 3

    def show(value: float | None) -> str:
        return NOT_DEFINED if value is None or np.isnan(value) else f"{value:.{digits}f}"

    return (
        str(len(spread.runs)),
        show(spread.mean),
        show(spread.deviation),
        show(min(spread.runs)),
        show(max(spread.runs)),
        ", ".join(show(value) for value in spread.runs),
    )


def _galleries(
    member: Comparison, letter: str, dataset: Dataset, predictions: Mapping[str, Sequence[Rle]], count: int
) -> tuple[Gallery, ...]:
    for name in ("A", letter):
        if len(predictions[name]) != len(dataset):
            raise InputError("report", f"{name} has {len(predictions[name])} masks for {len(dataset)} photographs")
    values = member.photo_values("a")[:, 0], member.photo_values("b")[:, 0]
    chosen = choose_most_different((values[1] - values[0]).tolist(), count)
    found = []
    for better, indices in zip((letter, "A"), chosen, strict=True):
        shown = tuple(
            _picture(
                dataset,
                index,
                (predictions["A"][index], predictions[letter][index]),
                (float(values[0][index]), float(values[1][index])),
                letter,
            )
            for index in indices
        )
        if shown:
            found.append(Gallery(f"{better} is better: {plural(len(shown), 'photograph')}, most first", shown))
    return tuple(found)


def _picture(
    dataset: Dataset, index: int, outlines: tuple[Rle, Rle], values: tuple[float, float], letter: str
) -> ComparedPicture:
    sample, size = dataset[index], dataset.size(index)
    small = pictures.small_size(size)
    try:
        source = pictures.webp_address(pictures.small_copy(sample))
    except ImageError:
        source = ""
    truth = TruthMasks.from_sample(sample, size).union()
    truth_path, a_path, b_path = (pictures.border_path(masks.rle_to_bitmask(rle), small) for rle in (truth, *outlines))
    return ComparedPicture(sample.image_id, source, small, truth_path, a_path, b_path, *values, letter)


def _origin_tables(compared: ComparisonSet) -> list[Table]:
    first = compared.members[0]
    drawn = first.resampling
    rule = "the best-scoring lesion of each photograph"
    if compared.rule == "union":
        rule = "all lesions that reach the model's score threshold, joined"
    together = f"photographs of one {drawn.bond}" if drawn.bond else "nothing"
    models = [(f"{letter}, {name}", text) for letter, side in compared.sides.items() for name, text in _runs(side)]
    return [
        Table("Models and their runs", (), tuple(models)),
        Table(
            "Photographs",
            (),
            (
                ("Data set", compared.dataset_name or "unnamed"),
                ("Photographs", f"{len(first.image_ids):,}"),
                ("Fingerprint", compared.dataset_fingerprint),
                ("Mask of a photograph", rule),
            ),
        ),
        Table(
            "How differences were judged",
            (),
            (
                ("Drawn together", f"{together}; {plural(drawn.num_units, drawn.unit)} in all"),
                ("Intervals", f"percentiles of {drawn.num_resamples:,} resamples, paired, level {drawn.level:g}"),
                ("P-values", f"sign flips of {plural_of(drawn.unit)}, {first.num_flips:,} at random, two-sided"),
                ("Correction", "Holm's, over the figures of the photographs, for each model by itself"),
                ("Seed", str(drawn.seed)),
                ("Versions", f"dermask {__version__}, numpy {np.__version__}, Python {platform.python_version()}"),
            ),
        ),
    ]


def _runs(side: Side) -> Iterator[tuple[str, str]]:
    """Each run's name, and what is known of it."""
    for index, name in enumerate(side.run_names):
        known = [f"counts from score {score:.3g}" for score in side.score_thresholds[index : index + 1]]
        for origin in side.origins[index : index + 1]:
            if known and "score_thresh_from" in origin:
                known[0] += f" ({origin['score_thresh_from']})"
            known += [text for text in (origin.get("file"), origin.get("sha256")) if text]
        yield name, ", ".join(known)


def _show(one: PairedDifference, value: float) -> str:
    if np.isnan(value):
        return NOT_DEFINED
    return f"{value:.{2 if FIGURES[one.name].in_pixels else 3}f}"


def _signed(one: PairedDifference) -> str:
    return NOT_DEFINED if np.isnan(one.difference) else signed(one)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
