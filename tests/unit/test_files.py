from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermask import files
from dermask.errors import InputError


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 100])
def test_written_bytes_are_read_back(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    files.write_bytes(path, data)
    assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]  # no temporary file stays


def test_text_is_utf8_and_keeps_its_line_ends(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "größe\r\n\n")
    assert (tmp_path / "a.txt").read_bytes() == "größe\r\n\n".encode()


def test_text_that_is_no_unicode_is_written_as_json_escapes_it(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.json", '"latin\udcfc"')
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == "latin\udcfc"


def test_existing_file_is_replaced_and_has_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("ordinary")
    ordinary = stat.S_IMODE(path.stat().st_mode)
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == ordinary


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_is_being_replaced_stays_until_the_new_one_is_whole(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail_half_way() -> None:
        with files.replacing(path, temporary=tmp_path / ".a") as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(InputError if isinstance(failure, OSError) else KeyboardInterrupt):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with files.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_made_or_refused(tmp_path: Path) -> None:
    for _ in range(2):
        files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file: no folder can be made here: a file has this name; choose another"):
        files.make_folder(tmp_path / "file")
    with pytest.raises(InputError, match="no folder can be made here: Not a directory"):
        files.make_folder(tmp_path / "file" / "below")


def test_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    files.write_bytes(path, b"x")
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(descriptor: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    expected = InputError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        files.write_text(path, "new")
    if expected is InputError:
        assert str(caught.value).startswith(f"{path}: cannot be written: No space left on device; ")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="a: no folder can be made here: a file has this name"):
        files.write_text(tmp_path / "a" / "b.txt", "")


@pytest.mark.parametrize("name", ["a.jpg", "sub/a.jpg", "./a.jpg", "..a", "a..", "a b", "größe.png", "a\\b.jpg"])
def test_safe_join_keeps_names_inside(tmp_path: Path, name: str) -> None:
    assert files.safe_join(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (".", "is empty"),
        ("/etc/passwd", "absolute"),
        ("\\\\server\\share", "absolute"),
        ("C:\\a.jpg", "absolute"),
        ("C:a.jpg", "absolute"),
        ("..", r"leaves its folder through '\.\.'"),
        ("../a.jpg", "leaves its folder"),
        ("a/../../b.jpg", "leaves its folder"),
        ("a\\..\\..\\b.jpg", "leaves its folder"),
        ("a\0.jpg", "NUL"),
    ],
)
def test_safe_join_refuses(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        files.safe_join(tmp_path, name)


@given(st.text(alphabet="./\\a:~\0", max_size=12))
def test_safe_join_never_leaves_the_root(name: str) -> None:
    root = Path("/data/root")
    try:
        joined = files.safe_join(root, name)
    except InputError:
        return
    assert Path(os.path.normpath(joined)).is_relative_to(root)
