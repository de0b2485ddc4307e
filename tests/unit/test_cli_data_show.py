"""`dermask data show`: sheets as pictures and pages, evenly, at random and worst first."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import check_page

from dermask import images
from dermask.cli.main import run
from dermask.data.synthetic import write_synthetic
from dermask.records import ImageSize


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("scenes") / "six", 6, 0, ImageSize(96, 96))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broken(scenes: Path, tmp_path: Path) -> Path:
    """Labels of which one photograph is damaged behind its header."""
    folder = tmp_path / "broken"
    folder.mkdir()
    tree = json.loads(scenes.read_text())
    for entry in tree["images"]:
        content = (scenes.parent / entry["file_name"]).read_bytes()
        target = folder / entry["file_name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content[: len(content) // 2] if entry is tree["images"][2] else content)
    (folder / "labels.json").write_text(json.dumps(tree))
    return folder / "labels.json"


def ids_of(page: str) -> list[str]:
    return re.findall(r'class="id">(.*?)<', page)


def test_a_page_shows_photographs_and_says_what_they_are(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "show", str(scenes), "-o", "sheet.html", "--count", "4", "--columns", "2"]) == 0
    assert capsys.readouterr().out == "sheet.html\n"
    page = check_page(Path("sheet.html").read_text(encoding="utf-8"))
    assert page.classes.count("tile") == 4
    assert "4 of 6 photographs" in page.text


def test_a_hole_is_outlined_too_and_an_empty_mask_is_no_lesion(tmp_path: Path, capsys) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    inverted = np.full((64, 64), 255, np.uint8)
    inverted[20:44, 20:44] = 0
    for name, mask in (("a", inverted), ("b", np.ones((64, 64), np.uint8))):
        Image.new("RGB", (64, 64), (200, 160, 140)).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}_segmentation.png")
    for name in ("sheet.png", "sheet.html"):
        assert run(["data", "show", str(tmp_path), "-o", str(tmp_path / name), "--side", "64"]) == 0
        assert "2 of 2 photographs, 1 lesion on them" in capsys.readouterr().err
    with Image.open(tmp_path / "sheet.png") as image:
        tile = np.asarray(image)[8:72, 8:72].astype(int)
    differs = np.abs(tile - (200, 160, 140)).sum(axis=-1) > 30
    assert differs[20, 22:42].all()
    assert differs[22:42, 20].all()
    assert not differs[28:36].any(axis=0)[28:36].any()


def test_a_seed_chooses_the_same_at_random(scenes: Path) -> None:
    chosen = {}
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert run(["data", "show", str(scenes), "-o", f"{name}.html", "--count", "3", "--seed", seed]) == 0
        chosen[name] = ids_of(Path(f"{name}.html").read_text(encoding="utf-8"))
    assert chosen["a"] == chosen["b"]
    assert chosen["a"] == sorted(chosen["a"])
    assert len(set(chosen["a"])) == 3
    assert chosen["a"] != chosen["c"]


@pytest.mark.parametrize("name", ["sheet.png", "sheet.html"])
def test_a_photograph_that_cannot_be_read_is_a_tile(
    name: str, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "show", str(broken), "-o", name, "--side", "64"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("not shown: ") == 1
    assert "damaged or cut short" in captured.err
    if name.endswith("png"):
        assert images.image_size(name) == ImageSize(8 + 64 + 20 + 8, 8 + 6 * (64 + 8))
    else:
        assert "cannot be read" in check_page(Path(name).read_text(encoding="utf-8")).text


@pytest.mark.parametrize("name", ["worst.png", "worst.html"])
def test_the_worst_come_first_and_say_why(name: str, broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "show", str(broken), "-o", name, "--worst", "--count", "3"]) == 0
    assert "finding" in capsys.readouterr().err
    if name.endswith("html"):
        text = Path(name).read_text(encoding="utf-8")
        page = check_page(text)
        assert "worst first" in page.text
        third = Path(json.loads(broken.read_text())["images"][2]["file_name"]).stem
        assert third in ids_of(text)[0]
        assert re.search(r"error: (truncated|unreadable)-photograph: ", page.text)


def test_nothing_wrong_leaves_no_sheet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "data/masks").mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :400]
    disc = np.hypot(y - 150, x - 200) < 80
    image = np.where(disc[..., None], (100, 60, 40), (220, 180, 160)) + rng.normal(0, 6, (300, 400, 3))
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(tmp_path / "data/images/a.png")
    Image.fromarray(disc.astype(np.uint8) * 255).save(tmp_path / "data/masks/a.png")
    assert run(["data", "show", "data", "-o", "worst.png", "--worst"]) == 0
    assert "found nothing wrong" in capsys.readouterr().err
    assert not Path("worst.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "sheet.gif"], "must end in .png or .html"),
        (["-o", "sheet.png", "--worst", "--seed", "1"], "--seed: chooses at random, and --worst by the audit"),
        (["-o", "sheet.png", "--columns", "0"], "--columns"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], message: str, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "show", str(scenes), *options]) == 2
    assert message in capsys.readouterr().err
