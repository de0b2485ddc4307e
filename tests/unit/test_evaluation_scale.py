"""Millimetres per pixel: one number for all photographs, or a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dermask.data.dataset import Dataset
from dermask.errors import InputError, LabelError
from dermask.evaluation.scale import read_scale
from dermask.records import Sample


def dataset(*ids: str) -> Dataset:
    return Dataset([Sample(image_id, np.zeros((4, 4, 3), np.uint8)) for image_id in ids], ("lesion",), "drawn")


def table(folder: Path, text: str) -> str:
    path = folder / "scale.csv"
    path.write_bytes(text.encode())
    return str(path)


def test_no_photographs_have_no_scale() -> None:
    assert read_scale("0.02", dataset()) == {}


def test_a_number_holds_for_all() -> None:
    assert read_scale("2e-2", dataset("a", "b")) == {"a": 0.02, "b": 0.02}


@pytest.mark.parametrize(
    "text",
    [
        "image_id,mm_per_pixel\na,0.02\nb,\nelsewhere,x\n",
        "\ufeffisic_id,age,mm_per_pixel\r\na.jpg,40,0.02\r\nb,50, \r\n",
    ],
)
def test_a_table_holds_for_those_it_knows(tmp_path: Path, text: str) -> None:
    assert read_scale(table(tmp_path, text), dataset("a", "b")) == {"a": 0.02}


def test_an_id_may_hold_dots(tmp_path: Path) -> None:
    path = table(tmp_path, "image_id,mm_per_pixel\n1.000,0.01\n1.001.JPG,0.02\n1.png,0.03\n1.002.5,0.04\n")
    known = read_scale(path, dataset("1.000", "1.001", "1.png", "1", "1.002"))
    assert known == {"1.000": 0.01, "1.001": 0.02, "1.png": 0.03}


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf"])
def test_a_scale_that_is_no_length_is_refused(scale: str) -> None:
    with pytest.raises(InputError, match=f"mm_per_pixel {scale}: is not a length above 0"):
        read_scale(scale, dataset("a"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,size\na,1\n", "has not the columns image_id and mm_per_pixel; give a number, or a CSV"),
        ("", "has not the columns"),
        ("image_id,mm_per_pixel\na,wide\n", r"line 2 \(a\): mm_per_pixel 'wide' is not a number"),
        pytest.param(f"image_id,mm_per_pixel\na,{'1' * 200_000}\n", "is not a CSV file: field larger", id="huge"),
        ("image_id,mm_per_pixel\na,1\nb,1\na.jpg,1\n", r"line 4 \(a\): is a second row for this photograph"),
        ("image_id,mm_per_pixel\nb,1\na,0\n", r"line 3 \(a\): is not a length above 0"),
    ],
)
def test_a_table_that_says_no_scale_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_scale(table(tmp_path, text), dataset("a"))


def test_a_table_of_other_photographs_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="knows the scale of none of the photographs"):
        read_scale(table(tmp_path, "image_id,mm_per_pixel\nz,1\n"), dataset("a"))


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "scale.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not a text file"):
        read_scale(str(tmp_path / "scale.csv"), dataset("a"))
    with pytest.raises(InputError, match=r"nowhere\.csv: cannot be read: No such file or directory"):
        read_scale(str(tmp_path / "nowhere.csv"), dataset("a"))
