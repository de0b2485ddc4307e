"""The report page: what it shows, that it is whole in itself, and that it reads well without eyes or network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from plotly import graph_objects

from dermask import config
from dermask.data.dataset import Dataset
from dermask.errors import InputError
from dermask.evaluation.evaluate import evaluate
from dermask.evaluation.record import Evaluation
from dermask.records import Bitmask, Detections, ImageSize, Instance, Sample
from dermask.report import charts, evaluation_tables, pictures, tables
from dermask.report.page import write_run_report

SIZE = ImageSize(30, 40)


# Outlines


def path_area(path: str) -> float:
    """Signed areas of all rings together, by the shoelace rule; holes run the other way round."""
    total = 0.0
    for ring in path.split("Z")[:-1]:
        x, y = np.array([[float(value) for value in point.split()] for point in ring[1:].split("L")]).T
        total += float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    return abs(total)


@pytest.mark.parametrize(
    ("bitmask", "num_rings", "expected"),
    [
        pytest.param(np.zeros((20, 30), np.bool_), 0, 0, id="empty"),
        pytest.param(np.ones((20, 30), np.bool_), 1, 600, id="whole photograph"),
        pytest.param(np.pad(np.ones((10, 10), np.bool_), 5), 1, 100, id="square"),
        pytest.param(np.pad(np.pad(np.zeros((6, 6), np.bool_), 4, constant_values=True), 3), 2, 160, id="ring"),
    ],
)
def test_a_border_path_encloses_the_mask(bitmask: np.ndarray, num_rings: int, expected: float) -> None:
    size = ImageSize(*bitmask.shape)
    path = pictures.border_path(bitmask, size)
    assert path.count("M") == path.count("Z") == num_rings
    assert path_area(path) == pytest.approx(expected, abs=0.5 * 4 * num_rings)  # each corner is cut by 1/8 pixel


@given(hnp.arrays(np.bool_, (12, 16)), st.integers(1, 3))
def test_a_border_path_stays_inside_the_picture(bitmask: np.ndarray, scale: int) -> None:
    size = ImageSize(12 // scale, 16 // scale)
    numbers = [float(value) for value in re.findall(r"[\d.-]+", pictures.border_path(bitmask, size))]
    assert all(0 <= x <= size.width for x in numbers[::2])
    assert all(0 <= y <= size.height for y in numbers[1::2])


def test_a_reduced_border_keeps_its_place() -> None:
    bitmask = np.zeros((400, 800), np.bool_)
    bitmask[100:300, 200:700] = True
    numbers = re.findall(r"[\d.]+", pictures.border_path(bitmask, ImageSize(100, 200)))
    x, y = np.array(numbers[::2], float), np.array(numbers[1::2], float)
    assert (x.min(), y.min(), x.max(), y.max()) == pytest.approx((50, 25, 175, 75), abs=0.05)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((30, 40), (30, 40)), ((420, 420), (420, 420)), ((3000, 4200), (300, 420)), ((8400, 6), (420, 1))],
)
def test_a_small_copy_has_the_photographs_shape(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert pictures.small_size(ImageSize(*size)) == expected


def test_small_copies_come_from_files_and_from_memory(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (600, 840, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    from_file = pictures.small_copy(Sample("a", tmp_path / "photo.png"))
    assert from_file.shape == (300, 420, 3)
    np.testing.assert_array_equal(from_file, pictures.small_copy(Sample("a", image)))


# Charts


def history_text(epochs: int) -> str:
    names = ["epoch", "step", "lr", *charts.LOSS_TITLES, *(f"val_{name}" for name in charts.LOSS_TITLES)]
    lines = [",".join([*names, "val_jaccard", "val_mask_ap"])]
    for epoch in range(1, epochs + 1):
        validated = "" if epoch % 2 else str(0.5 + epoch / 100)
        cells = [str(epoch), str(epoch * 10), "0.0005", *["1.25"] * 6, *[validated] * 7, "nan"]
        lines.append(",".join(cells))
    return "\n".join(lines) + "\n"


def test_history_cells_without_a_number_are_none(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(history_text(3))
    history = charts.read_history(tmp_path / "history.csv")
    assert history["epoch"] == [1, 2, 3]
    assert history["val_jaccard"] == [None, 0.52, None]
    assert history["val_mask_ap"] == [None] * 3


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), ("", "is empty")])
def test_a_history_that_is_none_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"history\.csv: {message}"):
        charts.read_history(path)


def test_every_chart_is_one_that_plotly_knows_and_says_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(history_text(4))
    history = charts.read_history(tmp_path / "history.csv")
    drawn = [*charts.loss_charts(history), charts.quality_chart(history), charts.jaccard_histogram([0.1, 0.64, 0.9])]
    assert len(drawn) == 8
    for chart in drawn:
        assert chart is not None
        graph_objects.Figure(chart.figure)  # refuses a property that does not exist
        json.dumps(chart.figure, allow_nan=False)
        assert chart.summary.endswith(".")
    assert drawn[0].summary == (
        "Total loss over 4 epochs: training from 1.250 to 1.250, validation from 0.520 to 0.540."
    )  # type: ignore[union-attr]


def test_no_history_gives_no_chart() -> None:
    assert charts.loss_charts({}) == []
    assert charts.quality_chart({"val_jaccard": [None]}) is None


def test_the_histogram_counts_every_photograph_once() -> None:
    values = [0.0, 0.05, 0.649, 0.65, 1.0]
    [bars] = charts.jaccard_histogram(values).figure["data"]
    assert sum(bars["y"]) == len(values)
    colours = dict(zip(bars["customdata"], bars["marker"]["color"], strict=True))
    assert colours["0.60 to 0.65"] == charts.VAL_COLOUR
    assert colours["0.65 to 0.70"] == charts.TRAIN_COLOUR


# The page


class Page(HTMLParser):
    """What a test asks of a page: its headings, ids, pictures and everything that it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.picture_names: list[str | None] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        if values.get("role") == "img" or tag == "img":
            self.picture_names.append(values.get("aria-label") or values.get("alt"))
        if tag == "a":
            self.links.append(str(values.get("href")))
        elif tag in {"link", "script", "img", "image", "iframe"}:
            self.loaded += [str(values[name]) for name in ("src", "href") if name in values]


def made_up(count: int, *, name: str = "drawn") -> tuple[Dataset, list[Detections], Evaluation]:
    samples, found = [], []
    for index in range(count):
        mask = np.zeros(SIZE, np.bool_)
        mask[5:20, 5:25] = index != 1  # the second photograph has no lesion
        image = np.full((*SIZE, 3), 180, np.uint8)
        instances = (Instance(1, Bitmask(mask)),) if mask.any() else ()
        samples.append(Sample(f"photo_{index}", image, SIZE, instances))
        box = np.array([[5 + index % 7, 5, 25, 20]], np.float32)
        one = Detections(box, np.array([0.8], np.float32), np.array([1]), np.ones((1, 8, 8), np.float32), SIZE)
        found.append(Detections.empty(SIZE) if index == 2 else one)
    dataset = Dataset(samples, ("lesion",), name, Path("labels.json"))
    return dataset, found, evaluate(found, dataset)


def charts_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="figures-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    charts_of_page: dict[str, Any] = json.loads(found[1])
    return charts_of_page


@pytest.fixture(scope="module")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    run_dir = tmp_path_factory.mktemp("run")
    (run_dir / "history.csv").write_text(history_text(4))
    (run_dir / "config.toml").write_text(config.to_toml(config.RunSettings()))
    (run_dir / "environment.json").write_text(json.dumps({"torch": "2.11.0", "data": {"train": "3f9a<b>"}}))
    dataset, found, evaluation = made_up(30, name="drawn </script><b>")
    page = write_run_report(
        run_dir, command="dermask train -o 'a & b'", evaluation=evaluation, dataset=dataset, detections=found
    )
    assert page == run_dir / "report.html"
    return page.read_text(encoding="utf-8")


def test_the_page_loads_nothing(full_page: str) -> None:
    page = Page(full_page)
    assert page.loaded
    assert all(address.startswith("data:image/webp;base64,") for address in page.loaded)
    assert all(link.startswith("#") for link in page.links)
    assert "@import" not in full_page.split("</style>")[0]
    assert "url(" not in full_page.split("</style>")[0]


def test_the_page_can_be_read_without_eyes(full_page: str) -> None:
    page = Page(full_page)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert all(page.picture_names)
    assert len(page.picture_names) == 24 + 24 + len(charts_of(full_page))
    assert len(set(page.ids)) == len(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert '<html lang="en">' in full_page
    assert 'name="viewport"' in full_page
    assert "Photograph photo_2: labelled border outlined, prediction nothing found, Jaccard 0.000" in full_page


def test_the_page_shows_figures_settings_and_origin(full_page: str) -> None:
    _, _, evaluation = made_up(30)
    assert full_page.count(f'<dd class="value">{evaluation.figures.jaccard:.3f}</dd>') >= 1
    assert full_page.count('class="picture"') == 24 + 24
    for text in (
        "Research use only",
        "does not diagnose",
        "dermask train -o &#39;a &amp; b&#39;",
        "the best-scoring lesion of each photograph",
        "1 labelled, 1 outlined, score 0.80",
        "1 labelled, 0 outlined<",
        "Best epoch by val_jaccard: 4, with 0.5400.",
        "2.11.0",
        "data.train",
        "3f9a&lt;b&gt;",
        "adamw, learning rate 0.0005",
        "labels.json",
        tables.ISIC_FIGURES["dice"][1],
    ):
        assert text in full_page, text


def test_text_from_outside_cannot_become_markup(full_page: str) -> None:
    assert "drawn &lt;/script&gt;&lt;b&gt;" in full_page
    assert "drawn </script>" not in full_page
    assert "3f9a<b>" not in full_page


def test_plotly_is_inlined_once(full_page: str) -> None:
    assert full_page.count("plotly.js v") == 1
    assert set(charts_of(full_page)) <= set(Page(full_page).ids)


def test_a_page_of_a_run_alone_has_no_empty_sections(tmp_path: Path) -> None:
    text = write_run_report(tmp_path / "first", command="dermask train").read_text(encoding="utf-8")
    page = Page(text)
    assert "<h1>Evaluation: first</h1>" in text
    assert page.headings == [1, 2, 3]
    assert page.links == ["#origin"]
    assert "plotly" not in text


def test_a_run_with_a_history_is_a_training_run(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(history_text(1))
    text = write_run_report(tmp_path, command="x").read_text(encoding="utf-8")
    assert f"<h1>Training run: {tmp_path.name}</h1>" in text
    assert "over 1 epoch:" in text


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_photographs_are_shown_once_each(count: int, tmp_path: Path) -> None:
    dataset, found, evaluation = made_up(count)
    page = write_run_report(tmp_path, command="x", evaluation=evaluation, dataset=dataset, detections=found)
    assert page.read_text(encoding="utf-8").count('class="picture"') == count


def test_a_figure_that_is_not_defined_is_a_dash(tmp_path: Path) -> None:
    dataset = Dataset([Sample("a", np.zeros((*SIZE, 3), np.uint8))])
    evaluation = evaluate([Detections.empty(SIZE)], dataset)
    cards = evaluation_tables.headline(evaluation)
    assert [card.text for card in cards] == ["1.000"] * 4 + [tables.NOT_DEFINED] * 3 + ["0.000"]
    text = write_run_report(tmp_path, command="x", evaluation=evaluation).read_text(encoding="utf-8")
    assert ">nan<" not in text


def test_several_classes_get_their_own_rows() -> None:
    dataset = Dataset(
        [Sample("a", np.zeros((*SIZE, 3), np.uint8), SIZE, (Instance(2, Bitmask(np.ones(SIZE, np.bool_))),))],
        ("naevus", "wart"),
    )
    evaluation = evaluate([Detections.empty(SIZE, class_names=("naevus", "wart"))], dataset)
    [coco] = [table for table in evaluation_tables.figure_tables(evaluation) if table.title.startswith("COCO")]
    assert [row[:4:2] + row[3:4] for row in coco.rows[-2:]] == [
        ("AP, naevus", "none", tables.NOT_DEFINED),
        ("AP, wart", "none", "0.000"),
    ]


def test_a_damaged_side_file_does_not_spoil_the_page(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text('{"torch": ')
    assert "Environment" not in write_run_report(tmp_path, command="x").read_text(encoding="utf-8")


def test_an_evaluation_of_other_photographs_is_refused(tmp_path: Path) -> None:
    dataset, found, _ = made_up(3)
    _, _, other = made_up(4)
    with pytest.raises(InputError, match="the evaluation is about other photographs"):
        write_run_report(tmp_path, command="x", evaluation=other, dataset=dataset, detections=found)
    assert not (tmp_path / "report.html").exists()
