"""Tables beside photographs: every known layout, what says nothing, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_examples import write_photograph

from dermask.data import metadata
from dermask.data.dataset import Dataset
from dermask.data.metadata import find_metadata, is_isic_cli_folder, no_outlines, read_metadata
from dermask.errors import LabelError
from dermask.records import PhotoInfo, Sample

ISIC_CLI = (
    "isic_id,attribution,copyright_license,age_approx,anatom_site_general,{diagnosis},lesion_id,patient_id,sex\n"
    'ISIC_0000000,"Anonymous, somewhere",CC-0,55,anterior torso,{nevus},IL_7252831,IP_1,female\n'
    "ISIC_0000001,Anonymous,CC-BY-NC,30,anterior torso,{melanoma},,,male\n"
)


def write(tmp_path, text, name="metadata.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_text(text, encoding=encoding, newline="")
    return path


@pytest.mark.parametrize(
    ("diagnosis", "nevus", "melanoma"),
    [
        ("diagnosis", "nevus", "melanoma"),
        ("diagnosis_1,diagnosis_2,diagnosis_3,diagnosis_4", "Benign,Benign proliferations,nevus,x", "Malignant,,,"),
    ],
    ids=["old", "new"],
)
def test_what_isic_cli_downloads_is_read(tmp_path, diagnosis, nevus, melanoma):
    path = write(tmp_path, ISIC_CLI.format(diagnosis=diagnosis, nevus=nevus, melanoma=melanoma))
    table = read_metadata(path)
    assert table["ISIC_0000000"] == PhotoInfo("IP_1", "IL_7252831", "nevus", "CC-0")
    assert table["ISIC_0000001"] == PhotoInfo(None, None, melanoma.split(",")[0], "CC-BY-NC")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ISIC_0000000,benign\nISIC_0000001,malignant\n", ["benign", "malignant"]),
        (
            "image_id,melanoma,seborrheic_keratosis\nISIC_0000000,0.0,1.0\nISIC_0000001,0.0,0.0\n",
            ["seborrheic_keratosis", "neither"],
        ),
        (
            "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\nISIC_0000000,0,1,0,0,0,0,0\nISIC_0000001,1.0,0,0,0,0,0,0\n",
            ["nv", "mel"],
        ),
        ("image_id,age_approximate,sex\nISIC_0000000,55,male\nISIC_0000001,unknown,female\n", [None, None]),
        ("lesion_id,image_id,dx,dx_type\nHAM_1,ISIC_0000000,bkl,histo\nHAM_2,ISIC_0000001,nv,histo\n", ["bkl", "nv"]),
        (
            "image_id,split,melanoma,seborrheic_keratosis\nISIC_0000000,Training,1,0\nISIC_0000001,Test_v2,0,1\n",
            ["melanoma", "seborrheic_keratosis"],
        ),
    ],
    ids=["2016", "2017", "2018", "2017 without", "HAM10000", "index"],
)
def test_the_challenges_tables_are_read(tmp_path, text, expected):
    table = read_metadata(write(tmp_path, text))
    assert [table[f"ISIC_000000{index}"].diagnosis for index in range(2)] == expected


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_spreadsheets_dialects_are_understood(tmp_path, separator, encoding, end):
    rows = [("Image_ID", "Patient_ID", "note"), ("one.jpg", "p", '"a, b; c"'), ("sub/two.PNG", " ", ""), ("", "", "")]
    text = end.join(separator.join(row) for row in rows) + end
    table = read_metadata(write(tmp_path, text, encoding=encoding))
    assert table == {"one": PhotoInfo(patient_id="p"), "two": PhotoInfo()}


@pytest.mark.parametrize("nothing", ["", " ", "NA", "n/a", "NaN", "None", "unknown", "Unknown ", "-", "?"])
def test_a_value_that_says_nothing_ties_nothing(tmp_path, nothing):
    path = write(tmp_path, f"image_id,patient_id,lesion_id,diagnosis\none,{nothing},{nothing},{nothing}\n")
    assert read_metadata(path) == {"one": PhotoInfo()}


def test_the_same_line_twice_is_one(tmp_path):
    assert len(read_metadata(write(tmp_path, "image_id,patient_id\none,p\none,p\n"))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"metadata\.csv: is empty; correct the table, or name another with --metadata"),
        ("\n\n , \n", r"is empty"),
        ("image_id,dx\n", r"has a header and no photograph"),
        (
            "name,dx\none,nv\n",
            r"line 1: has no column of ids; the columns are \['name', 'dx'\]; name the column isic_id",
        ),
        ("image_id,dx,DX\none,nv,nv\n", r"line 1: column 'dx' stands twice"),
        ("image_id,dx\none,nv\ntwo\n", r"line 3: has 1 cells where the first line has 2"),
        ("image_id,dx\none,nv\n,nv\n", r"line 3: image_id is empty"),
        (
            "image_id,patient_id\none,p\ntwo,q\none,r\n",
            r"line 4: 'one' stands in line 2 too, with other values; keep one of the two",
        ),
        ("image,MEL,NV\none,yes,no\n", r"line 2: mel 'yes' is not a number"),
        ("image,MEL,NV\none,3,0\n", r"line 2: mel '3' is not between 0 and 1"),
        ("image,MEL,NV\none,nan,0\n", r"line 2: mel 'nan' is not between 0 and 1"),
        ('image_id,dx\none,"nv\n', r"line 2: is not CSV"),
        ("image_id,dx\none," + "n" * 200_000 + "\n", r"line 2: is not CSV: field larger"),
    ],
)
def test_a_wrong_table_gets_one_line(tmp_path, text, message):
    with pytest.raises(LabelError, match=message):
        read_metadata(write(tmp_path, text))


def test_what_is_no_text_gets_one_line(tmp_path, monkeypatch):
    with pytest.raises(LabelError, match=r"gone\.csv: no such file; check the path"):
        read_metadata(tmp_path / "gone.csv")
    with pytest.raises(LabelError, match=r"cannot be read: Is a directory"):
        read_metadata(tmp_path)
    with pytest.raises(LabelError, match=r"is not UTF-8 text: .*; save the table as UTF-8"):
        read_metadata(write(tmp_path, "image_id,dx\none,nävus\n", encoding="latin-1"))
    monkeypatch.setattr(metadata, "MAX_BYTES", 10)
    with pytest.raises(LabelError, match=r"a table has at most"):
        read_metadata(write(tmp_path, "image_id,dx\none,nv\n"))


@settings(deadline=None, max_examples=100)
@given(st.text(alphabet=st.sampled_from('a,;\t"\n\r \0é'), max_size=60) | st.binary(max_size=60))
def test_no_table_ends_in_anything_but_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("tables") / "metadata.csv"
    start = b"image_id,dx\n" if isinstance(content, str) else b""
    path.write_bytes(start + (content.encode() if isinstance(content, str) else content))
    try:
        message = repr(read_metadata(path))
    except LabelError as error:
        message = str(error)
    assert message.isprintable()


def dataset_in(folder, *names):
    return Dataset([Sample(name, folder / f"{name}.jpg") for name in names])


class TestFinding:
    def test_without_a_table_there_is_none(self, tmp_path):
        assert find_metadata(dataset_in(tmp_path / "images", "one")) is None
        assert find_metadata(Dataset([])) is None
        assert find_metadata(Dataset([Sample("one", np.zeros((1, 1, 3), np.uint8))])) is None

    @pytest.mark.parametrize(
        "place",
        [
            "root/images/metadata.csv",
            "root/metadata.csv",
            "index.csv",
            "root/images/HAM10000_metadata",
            "root/ISIC-2017_Training_Part3_GroundTruth.csv",
            "root/ISIC2018_Task3_Training_LesionGroupings.csv",
            "root/ISIC_2019_Training_Metadata.csv",
        ],
    )
    def test_one_beside_or_above_the_photographs_is_found(self, tmp_path, place):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path.parent, "image_id,lesion_id\none,x\n", path.name)
        assert find_metadata(dataset_in(tmp_path / "root" / "images", "one")) == path

    def test_one_beside_the_labels_is_found(self, tmp_path):
        path = write(tmp_path, "image_id,lesion_id\none,x\n")
        dataset = Dataset([Sample("one", tmp_path.parent / "else" / "where" / "one.jpg")], source=tmp_path / "a.json")
        assert find_metadata(dataset) == path

    def test_tables_of_something_else_are_passed_over(self, tmp_path):
        write(tmp_path, "image_id,lesion_id\nother,x\n")
        write(tmp_path, "image_id,age\none,3\n", "index.csv")
        write(tmp_path, "\0\0", "HAM10000_metadata")
        assert find_metadata(dataset_in(tmp_path, "one")) is None
        path = write(tmp_path, "image_id,lesion_id\none,x\n", "my_metadata.csv")
        assert find_metadata(dataset_in(tmp_path, "one")) == path


def test_a_download_of_isic_cli_is_told_by_its_table(tmp_path):
    assert not is_isic_cli_folder(tmp_path)
    path = write(tmp_path, ISIC_CLI.format(diagnosis="diagnosis", nevus="nevus", melanoma="melanoma"))
    assert not is_isic_cli_folder(tmp_path)  # no photographs
    write_photograph(tmp_path / "ISIC_0000000.jpg")
    assert is_isic_cli_folder(tmp_path)
    assert "photographs and metadata.csv, and no outlines; outline them first" in str(no_outlines(tmp_path))
    path.write_text("image_id,dx\n")
    assert not is_isic_cli_folder(tmp_path)
