"""Figures of a data set: exact on drawn shapes, and whole where photographs are broken."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermask.data.dataset import Dataset
from dermask.data.skin_tone import ITA_BINS
from dermask.data.statistics import GRID, PartStatistics, measure, measure_photograph
from dermask.data.statistics_summary import QUANTILES, hex_colour, mean_colour, photographs_csv, quantiles, summarize
from dermask.data.synthetic import synthetic_dataset
from dermask.records import Bitmask, ImageSize, Instance, PhotoInfo, Polygons, Sample

SIZE = ImageSize(200, 300)
SKIN, LESION = (220, 180, 160), (90, 50, 40)


def photograph(*shapes: np.ndarray, name: str = "one", label: int = 1) -> Sample:
    image = np.full((*SIZE, 3), SKIN, np.uint8)
    for shape in shapes:
        image[shape] = LESION
    return Sample(name, image, SIZE, tuple(Instance(label, Bitmask(shape)) for shape in shapes))


def disc(radius: float, x: float = 150, y: float = 100) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE.height, : SIZE.width] + 0.5
    return np.hypot(rows - y, columns - x) < radius


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def test_a_disc_is_measured() -> None:
    figures, grid = measure_photograph(photograph(disc(40)))
    (lesion,) = figures.lesions
    assert lesion.area == int(disc(40).sum())
    assert lesion.area_share == lesion.area / 60_000
    assert lesion.diameter == pytest.approx(80, abs=0.2)
    assert lesion.diameter_share == pytest.approx(0.4, abs=0.001)
    assert lesion.compactness == pytest.approx(1, abs=0.02)
    assert not lesion.touches_border
    assert figures.lesion_colour == LESION
    assert figures.around_colour == SKIN
    assert figures.skin is not None
    assert grid is not None
    assert grid.mean() == pytest.approx(lesion.area_share, abs=0.002)
    assert grid[GRID // 2, GRID // 2] == 1
    assert grid[0, 0] == 0


def test_compactness_tells_long_from_round() -> None:
    figures, _ = measure_photograph(photograph(box(20, 90, 280, 110)))
    assert figures.lesions[0].compactness == pytest.approx(4 * math.pi * 260 * 20 / 560**2, abs=0.02)


def test_a_hole_makes_an_outline_less_compact() -> None:
    ring = disc(60) & ~disc(30)
    figures, _ = measure_photograph(photograph(ring))
    expected = 4 * math.pi * math.pi * (60**2 - 30**2) / (2 * math.pi * 90) ** 2
    assert figures.lesions[0].compactness == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("edges", [(0, 50, 60, 80), (10, 0, 60, 80), (240, 10, 300, 80), (10, 150, 60, 200)])
def test_an_outline_at_any_edge_touches_the_border(edges: tuple[int, int, int, int]) -> None:
    figures, _ = measure_photograph(photograph(box(*edges)))
    assert figures.lesions[0].touches_border


def test_a_photograph_without_a_lesion_is_ordinary() -> None:
    figures, grid = measure_photograph(photograph())
    assert figures.lesions == ()
    assert figures.lesion_colour is None
    assert figures.around_colour == SKIN
    assert figures.sharpness == 0
    assert figures.brightness == pytest.approx(190, abs=2)
    assert grid is None


def test_crowds_and_empty_outlines_are_no_lesions() -> None:
    empty, crowd = np.zeros(SIZE, np.bool_), disc(20)
    sample = Sample(
        "one",
        np.full((*SIZE, 3), SKIN, np.uint8),
        None,
        (Instance(1, Bitmask(empty)), Instance(1, Bitmask(crowd), is_crowd=True)),
    )
    assert measure_photograph(sample)[0].lesions == ()


def test_noise_is_sharper_than_its_blur() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    soft = np.asarray(Image.fromarray(noise).resize((16, 16)).resize((64, 64)))
    sharp_of = [measure_photograph(Sample("one", image))[0].sharpness for image in (noise, soft)]
    assert sharp_of[0] > 10 * sharp_of[1]


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_any_size_can_be_measured(height: int, width: int) -> None:
    mask = np.ones((height, width), np.bool_)
    image = np.full((height, width, 3), SKIN, np.uint8)
    figures, grid = measure_photograph(Sample("one", image, None, (Instance(1, Bitmask(mask)),)))
    assert figures.lesions[0].area_share == 1
    assert figures.lesions[0].touches_border
    assert figures.around_colour is None
    assert figures.skin is None
    assert grid is not None
    assert grid.min() == 1


# Parts


def test_an_empty_part_has_no_figures() -> None:
    part = measure("none", Dataset([]))
    summary = summarize(part)
    assert (summary["photographs"], summary["outlines"], summary["touching_border"]) == (0, 0, None)
    assert summary["area_share"] is None
    assert summary["skin_tone"]["bins"] == {name: 0 for name, _ in ITA_BINS}
    assert not part.position.any()


def test_a_part_is_counted() -> None:
    samples = [
        photograph(disc(30), name="a"),
        photograph(disc(20, x=60), disc(20, x=200), name="b", label=2),
        photograph(name="c"),
    ]
    metadata = {"a": PhotoInfo(diagnosis="x"), "b": PhotoInfo(diagnosis="x"), "c": PhotoInfo(), "d": PhotoInfo()}
    seen: list[tuple[int, int]] = []
    part = measure(
        "train",
        Dataset(samples, ("naevus", "wart")),
        metadata=metadata,
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert part.count_classes() == {"naevus": 1, "wart": 2}
    assert part.count_outlines() == {0: 1, 1: 1, 2: 1}
    assert part.count_sizes() == {SIZE: 3}
    assert part.diagnoses == {"x": 2}
    assert sum(part.count_bins().values()) == 3
    assert part.position.max() == 0.5  # two photographs with a lesion, nowhere in the same place
    json.dumps(summarize(part), allow_nan=False)


def test_broken_photographs_are_counted_and_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    Image.new("RGB", (30, 20), SKIN).save(tmp_path / "small.png")
    ring = Polygons((np.array([[0.0, 0], [5, 0], [np.nan, 5]]),))
    samples = [
        photograph(disc(30), name="good"),
        Sample("missing", tmp_path / "missing.jpg"),
        Sample("broken", tmp_path / "broken.jpg"),
        Sample("resized", tmp_path / "small.png", ImageSize(40, 60)),
        Sample("not finite", tmp_path / "small.png", None, (Instance(1, ring),)),
    ]
    part = measure("train", Dataset(samples))
    assert [one.image_id for one in part.photographs] == ["good"]
    problems = {one.image_id: one.problem for one in part.unreadable}
    assert list(problems) == ["missing", "broken", "resized", "not finite"]
    assert problems["missing"] == "no such file"
    assert problems["resized"] == "labelled at 60x40 pixels, but has 30x20"
    assert [one["image_id"] for one in summarize(part)["unreadable"]] == list(problems)


@pytest.mark.slow
def test_worker_processes_find_the_same() -> None:
    dataset = synthetic_dataset(40, seed=3, size=ImageSize(96, 96))
    one, two = measure("a", dataset, processes=1), measure("a", dataset, processes=2)
    assert one.photographs == two.photographs
    np.testing.assert_array_equal(one.position, two.position)


def test_quantiles_are_named() -> None:
    found = quantiles(list(range(101)))
    assert found is not None
    assert list(found) == [*QUANTILES, "mean"]
    assert (found["p5"], found["median"], found["max"], found["mean"]) == (5, 50, 100, 50)
    assert quantiles([]) is None


def test_colours_are_averaged_and_written() -> None:
    assert mean_colour([(0, 0, 0), None, (10, 20, 31)]) == [5, 10, 16]
    assert mean_colour([None]) is None
    assert hex_colour((1, 160, 255)) == "#01a0ff"


def test_the_table_has_a_line_for_each_photograph() -> None:
    part = measure("a, b", Dataset([photograph(disc(30), name='x"y'), Sample("gone", Path("gone.jpg"))]))
    rows = list(csv.DictReader(io.StringIO(photographs_csv([part, PartStatistics("c", (), ())]))))
    assert [(row["part"], row["image_id"], row["problem"]) for row in rows] == [
        ("a, b", 'x"y', ""),
        ("a, b", "gone", "no such file"),
    ]
    assert rows[0]["lesion_rgb"] == "#5a3228"
    assert rows[0]["ita_bin"] in dict(ITA_BINS)
    assert rows[1]["ita"] == ""
