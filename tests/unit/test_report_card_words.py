"""Words of people for a model card: which there may be, and the numbers that do not belong there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dermask.errors import InputError
from dermask.report.card_words import CardWords, read_words, typed_numbers

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    words = read_words(write(tmp_path / "w.toml", ""))
    assert words == CardWords()
    assert words.text("model.name") == ""
    assert words.points("limits.failures") == ()


def test_texts_and_points_are_read(tmp_path: Path) -> None:
    words = read_words(
        write(tmp_path / "w.toml", '[model]\nname = " N "\nlicence = ""\n[limits]\nfailures = ["a", " ", "b"]\n')
    )
    assert words.text("model.name") == "N"
    assert words.points("model.name") == ("N",)
    assert words.text("model.licence") == ""
    assert words.points("limits.failures") == ("a", "b")
    assert words.text("limits.failures") == "- a\n- b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "is not TOML"),
        ("[network]\nname = 'x'", "network: is no section of a card's words; choose from model, intended_use"),
        ("model = 'x'", "model: is no section of a card's words"),
        ("[model]\nnames = 'x'", "model.names: is not known; choose from name, description"),
        ("[model]\nname = 3", "model.name: is 3; give a text or a list of texts"),
        ("[limits]\nrisks = [1]", r"limits.risks: is \[1\]; give a text or a list of texts"),
    ],
)
def test_what_a_card_has_no_place_for_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_words(write(tmp_path / "w.toml", text))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"w\.toml: no such file; check the path"):
        read_words(tmp_path / "w.toml")


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("", []),
        ("Photographs of ISIC 2016 and 2017, CC-0, masks of the 2018 release", []),
        ("Apache-2.0, CC BY 4.0, arXiv:1810.03993, doi:10.1109/ICCV.2017.322, https://a.org/1/2", []),
        ("Test_v2, MobileNetV2, ISIC_0000013, dermask 0.1.0, 2026-11-25, November 2026", []),
        ("# a comment of 12 words", []),
        ("40 of the 264 lie below 0.65", ["40", "264", "0.65"]),
        ("1,768 photographs of 384 x 384, and 95 %", ["1,768", "384", "384", "95"]),
        ("384x384", ["384", "384"]),
    ],
)
def test_figures_typed_by_hand_are_found(line: str, numbers: list[str], tmp_path: Path) -> None:
    path = write(tmp_path / "w.toml", f"\n{line}\n")
    assert typed_numbers(path) == [(2, number) for number in numbers]
