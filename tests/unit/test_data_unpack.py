"""Archives from elsewhere: what is in them comes out whole, and what they must not do does not happen."""

from __future__ import annotations

import io
import json
import stat
import struct
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from archive_server import picture, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dermask.data import unpack as unpack_module
from dermask.data.unpack import MARK, Limits, read_mark, unpack
from dermask.errors import InputError, OutputExistsError

PHOTO = picture("photographs")


@pytest.fixture(autouse=True)
def synced(monkeypatch):
    """The calls that wait for every disk of the machine, which a test run has no reason to make."""
    calls = []
    monkeypatch.setattr(unpack_module.os, "sync", lambda: calls.append(1))
    return calls


def write(tmp_path: Path, content: bytes | dict[str, bytes]) -> Path:
    archive = tmp_path / "a.zip"
    archive.write_bytes(content if isinstance(content, bytes) else zipped(content))
    return archive


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def leaves_nothing(tmp_path: Path) -> bool:
    return not (tmp_path / "out").exists()


def patched(content: bytes, name: str, **fields: int) -> bytes:
    """The archive with fields of an entry changed in its table of contents, and sizes in its own header as well."""
    data = bytearray(content)
    places = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<L"), "packed": (20, "<L"), "size": (24, "<L")}
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(name.encode()))
    for field, value in fields.items():
        offset, form = places[field]
        struct.pack_into(form, data, at + offset, value)
        local = struct.unpack_from("<L", data, at + 42)[0]
        struct.pack_into(form, data, local + offset - 2, value)
    return bytes(data)


# What comes out


def test_images_tables_and_licences_come_out_and_the_rest_stays(tmp_path):
    archive = write(
        tmp_path,
        {
            "Top/": b"",
            "Top/ISIC_1.jpg": PHOTO,
            "Top/ISIC_1_superpixels.png": PHOTO,
            "Top/Top_metadata.csv": b"image_id\n",
            "Top/more.zip": zipped({"x.jpg": PHOTO}),
            "Top/.DS_Store": b"x",
            "Top/run.exe": b"MZ",
            "__MACOSX/Top/._ISIC_1.jpg": b"x",
            "Top/Icon\r": b"",
            "./": b"",
            "LICENSE.txt": b"CC-0",
        },
    )
    result = unpack(archive, tmp_path / "out", origin={"sha256": "ab"})
    assert names(tmp_path / "out") == [MARK, "ISIC_1.jpg", "LICENSE.txt", "Top_metadata.csv"]
    assert (tmp_path / "out/ISIC_1.jpg").read_bytes() == PHOTO
    assert (result.files, result.images, result.left_out) == (3, 1, 6)
    mark = read_mark(tmp_path / "out")
    assert (mark["archive"], mark["files"], mark["images"], mark["sha256"]) == ("a.zip", 3, 1, "ab")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "out"]


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        (["ISIC_1.jpg"], ["ISIC_1.jpg"]),
        (["Any/ISIC_1.jpg", "Any/ISIC_2.jpg"], ["ISIC_1.jpg", "ISIC_2.jpg"]),
        (["a/b/ISIC_1.jpg", "a/b/ISIC_2.jpg"], ["ISIC_1.jpg", "ISIC_2.jpg"]),
        (["a/b/ISIC_1.jpg", "a/c/ISIC_1.jpg"], ["b/ISIC_1.jpg", "c/ISIC_1.jpg"]),
        (["a\\ISIC_1.jpg"], ["ISIC_1.jpg"]),
    ],
    ids=["at the top", "in a folder", "in two folders", "in two beside", "backslashes"],
)
def test_the_folders_above_all_images_are_dropped(tmp_path, inside, outside):
    unpack(write(tmp_path, dict.fromkeys(inside, PHOTO)), tmp_path / "out")
    assert [name for name in names(tmp_path / "out") if name != MARK] == outside


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.binary(max_size=5000), min_size=1, max_size=6), stored=st.booleans())
def test_every_file_comes_out_as_it_went_in(tmp_path_factory, contents, stored):
    folder = tmp_path_factory.mktemp("round")
    archive = folder / "a.zip"
    files = {f"T/{number}.jpg": content for number, content in enumerate(contents)}
    archive.write_bytes(zipped(files, zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED))
    unpack(archive, folder / "out")
    assert [(folder / f"out/{number}.jpg").read_bytes() for number in range(len(contents))] == contents


def test_zip64_entries_written_to_a_stream_come_out(tmp_path):
    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, piece) -> int:
            self.data += piece
            return len(piece)

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as bundle, bundle.open("a.jpg", "w", force_zip64=True) as f:
        f.write(PHOTO)
    unpack(write(tmp_path, bytes(stream.data)), tmp_path / "out")
    assert (tmp_path / "out/a.jpg").read_bytes() == PHOTO


def test_progress_ends_at_all_bytes(tmp_path):
    seen = []
    files = {"a.jpg": PHOTO, "b.jpg": PHOTO}
    unpack(write(tmp_path, files), tmp_path / "out", on_progress=lambda *counts: seen.append(counts))
    assert seen == [(len(PHOTO), 2 * len(PHOTO)), (2 * len(PHOTO), 2 * len(PHOTO))]


def test_the_content_is_on_the_disk_before_the_name(tmp_path, synced, monkeypatch):
    original = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, to: (synced.append(to.name), original(path, to)))
    unpack(write(tmp_path, {"a.jpg": PHOTO}), tmp_path / "out")
    assert synced == [1, "out"]


# Interrupted, and again


def test_an_interrupted_unpacking_leaves_no_folder_and_is_gone_on_with(tmp_path, monkeypatch):
    contents = {f"T/{number}.jpg": picture("photographs", number) for number in range(4)}
    archive = write(tmp_path, contents)

    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, tmp_path / "out", on_progress=stop)
    assert leaves_nothing(tmp_path)
    temporary = tmp_path / ".out.unpacking"
    assert 0 < len(names(temporary)) < 4
    (temporary / "0.jpg").write_bytes(b"x" * len(contents["T/0.jpg"]))  # the right size, other bytes
    (temporary / "1.jpg").write_bytes(contents["T/1.jpg"][:-1])  # half written
    (temporary / "stray.jpg").write_bytes(b"of another archive")
    kept = names(temporary)[2]
    written = []
    original = unpack_module._extract
    monkeypatch.setattr(
        unpack_module, "_extract", lambda b, info, *rest: (written.append(info.filename), original(b, info, *rest))
    )
    unpack(archive, tmp_path / "out")
    assert {name: (tmp_path / "out" / name[2:]).read_bytes() for name in contents} == contents
    assert names(tmp_path / "out") == [MARK, "0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert {"T/0.jpg", "T/1.jpg"} <= set(written)
    assert f"T/{kept}" not in written
    assert not temporary.exists()


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_stands_there_is_not_touched(tmp_path, kind):
    out = tmp_path / "out"
    {"folder": out.mkdir, "file": out.touch, "link": lambda: out.symlink_to(tmp_path / "nowhere")}[kind]()
    with pytest.raises(OutputExistsError, match=r"out: already exists; move it away"):
        unpack(write(tmp_path, {"a.jpg": PHOTO}), out)


@pytest.mark.parametrize("content", ["", "{", "[]"], ids=["empty", "cut off", "no object"])
def test_a_note_that_cannot_be_read_counts_as_none(tmp_path, content):
    assert read_mark(tmp_path) is None
    (tmp_path / MARK).write_text(content)
    assert read_mark(tmp_path) is None


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=3))
    with pytest.raises(InputError, match=r"needs 0\.0 MiB to unpack a\.zip, and 0\.0 MiB are free; make room"):
        unpack(write(tmp_path, {"a.jpg": PHOTO}), tmp_path / "out")
    assert names(tmp_path) == ["a.zip"]


# Hostile archives


def with_link(target: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        info = zipfile.ZipInfo("link.jpg")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        bundle.writestr(info, target)
        bundle.writestr("a.jpg", PHOTO)
    return buffer.getvalue()


def with_device() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        info = zipfile.ZipInfo("null.jpg")
        info.create_system, info.external_attr = 3, (stat.S_IFCHR | 0o666) << 16
        bundle.writestr(info, b"")
    return buffer.getvalue()


def overlapping() -> bytes:
    """Two names for one run of bytes, as in a bomb: the second entry points at the first one's header."""
    data = bytearray(zipped({"a.jpg": PHOTO, "b.jpg": PHOTO}))
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<L", data, second + 42, 0)
    return bytes(data)


def quoting() -> bytes:
    """An entry whose stored bytes reach over the header of the next one."""
    data = zipped({"a.jpg": PHOTO, "b.jpg": PHOTO}, zipfile.ZIP_STORED)
    return patched(data, "a.jpg", packed=len(PHOTO) + 60, size=len(PHOTO) + 60)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"../a.jpg": PHOTO}, r"entry '\.\./a\.jpg': leaves its folder through '\.\.'; do not use this archive"),
        ({"T/../../a.jpg": PHOTO}, r"leaves its folder"),
        ({"T\\..\\..\\a.jpg": PHOTO}, r"leaves its folder"),
        ({"a.jpg": PHOTO, "../evil.exe": b"MZ"}, r"entry '\.\./evil\.exe': leaves its folder"),
        ({"/etc/a.jpg": PHOTO}, r"is an absolute path"),
        ({"\\a.jpg": PHOTO}, r"is an absolute path"),
        ({"C:/a.jpg": PHOTO}, r"is an absolute path"),
        ({"C:a.jpg": PHOTO}, r"is an absolute path"),
        ({"T/a.jpg:stream.jpg": PHOTO}, r"holds a colon or control character"),
        ({"T/a\n.jpg": PHOTO}, r"holds a colon or control character"),
        ({"T/NUL.jpg": PHOTO}, r"names the device NUL\.jpg"),
        ({"T/com1.jpg": PHOTO}, r"names the device com1\.jpg"),
        (with_link("/etc/passwd"), r"entry 'link\.jpg': is a link, not a file"),
        (with_device(), r"entry 'null\.jpg': is a device or pipe, not a file"),
        ({"T/a.jpg": PHOTO, "T/A.JPG": PHOTO}, r"holds 'T/a\.jpg' and 'T/A\.JPG', which are one file on some systems"),
        ({"T/\u00e9.jpg": PHOTO, "T/e\u0301.jpg": PHOTO}, r"which are one file on some systems"),
        ({"T/a.jpg": PHOTO, "T/a.jpg/b.jpg": PHOTO}, r"holds 'T/a\.jpg' both as a file and a folder"),
        ({"T/a.jpg": PHOTO, "T/x.txt": b"", "x.txt": b""}, r"holds 'x\.txt' and 'x\.txt'"),
        (overlapping(), r"shares bytes with another entry"),
        (quoting(), r"shares bytes with another entry"),
        ({"a.jpg": bytes(4 * 2**20)}, r"would unpack to 4\.0 MiB from 0\.0 MiB, as no photographs do"),
        (zipped({"a.txt": b"x"}), r"holds no photographs or masks; check that it is the right archive"),
        (zipped({}), r"holds no photographs or masks"),
    ],
    ids=[
        "parent",
        "parent inside",
        "parent with backslashes",
        "parent of an unwanted file",
        "root",
        "root of a drive",
        "drive",
        "drive without a slash",
        "stream",
        "line end",
        "device name",
        "numbered device",
        "link",
        "device",
        "two cases",
        "two spellings",
        "file and folder",
        "two files made one",
        "overlap",
        "quoted overlap",
        "bomb",
        "no image",
        "nothing",
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path, content, problem):
    archive = write(tmp_path, content)
    with pytest.raises(InputError, match=problem):
        unpack(archive, tmp_path / "out")
    assert names(tmp_path) == ["a.zip"]


def test_two_entries_of_one_name_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("a.jpg", PHOTO)
        with pytest.warns(UserWarning, match="Duplicate name"):
            bundle.writestr("a.jpg", PHOTO)
    with pytest.raises(InputError, match=r"holds 'a\.jpg' and 'a\.jpg', which are one file"):
        unpack(write(tmp_path, buffer.getvalue()), tmp_path / "out")


def test_a_header_that_claims_less_than_there_is_does_not_pass(tmp_path):
    honest = zipped({"a.jpg": bytes(3 * 2**20)})
    lying = patched(honest, "a.jpg", size=1000)
    with pytest.raises(InputError, match=r"entry 'a\.jpg': is damaged or cut off: Bad CRC-32"):
        unpack(write(tmp_path, lying), tmp_path / "out")
    assert leaves_nothing(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 2**20


def test_a_header_that_claims_more_than_there_is_does_not_pass(tmp_path):
    lying = patched(zipped({"a.jpg": PHOTO}), "a.jpg", size=len(PHOTO) + 5)
    with pytest.raises(InputError, match=rf"holds {len(PHOTO):,} bytes and claims {len(PHOTO) + 5:,}; remove it"):
        unpack(write(tmp_path, lying), tmp_path / "out")
    assert leaves_nothing(tmp_path)


def test_one_entry_may_not_grow_beyond_the_ratio_that_all_together_keep(tmp_path):
    noise = np.random.default_rng(0).bytes(2**18)
    content = zipped({"bomb.jpg": bytes(2**20)} | {f"{number}.jpg": noise for number in range(3)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"entry 'bomb\.jpg': unpacks to more than 50 times its size"):
        unpack(write(tmp_path, content), tmp_path / "out", limits=Limits(ratio=50, ratio_from=2**16))


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (Limits(entries=9), r"holds 10 entries, more than the 9 that are unpacked; do not use this archive"),
        (Limits(total_bytes=100), r"would unpack to 0\.0 MiB, more than the 0\.0 MiB allowed"),
    ],
)
def test_absurd_counts_and_sizes_are_refused(tmp_path, limits, problem):
    archive = write(tmp_path, {f"{number}.jpg": PHOTO for number in range(10)})
    with pytest.raises(InputError, match=problem):
        unpack(archive, tmp_path / "out", limits=limits)


def test_a_huge_table_of_contents_is_not_read(tmp_path):
    archive = write(tmp_path, {f"{number}{'x' * 60_000}.jpg": b"" for number in range(20)})
    with pytest.raises(InputError, match=r"is damaged or cut off: it asks for 1,2\d\d,\d\d\d bytes at once"):
        unpack(archive, tmp_path / "out", limits=Limits(directory_bytes=2**16))


# Damaged archives


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", r"a\.zip: is damaged or cut off: File is not a zip file; remove it and fetch it again"),
        (b"<html>", r"is damaged or cut off"),
        (zipped({"a.jpg": PHOTO})[:-30], r"is damaged or cut off"),
        (zipped({"a.jpg": PHOTO})[40:], r"is damaged or cut off|shares bytes"),
        (patched(zipped({"a.jpg": PHOTO}), "a.jpg", flags=1), r"entry 'a\.jpg': is encrypted; unpack it by hand"),
        (zipped({"a.jpg": PHOTO}, zipfile.ZIP_LZMA), r"is compressed by lzma, and only stored and deflated"),
        (patched(zipped({"a.jpg": PHOTO}), "a.jpg", method=9), r"is compressed by deflate64"),
        (patched(zipped({"a.jpg": PHOTO}), "a.jpg", method=77), r"is compressed by 77"),
        (patched(zipped({"a.jpg": PHOTO}), "a.jpg", crc=1), r"is damaged or cut off: Bad CRC-32 for file 'a\.jpg'"),
    ],
    ids=["empty", "a web page", "end cut", "start cut", "encrypted", "lzma", "deflate64", "unknown method", "crc"],
)
def test_a_damaged_archive_is_told_in_one_line(tmp_path, content, problem):
    with pytest.raises(InputError, match=problem):
        unpack(write(tmp_path, content), tmp_path / "out")
    assert leaves_nothing(tmp_path)


def test_an_archive_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=r"none\.zip: cannot be read: No such file or directory; check the path"):
        unpack(tmp_path / "none.zip", tmp_path / "out")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_escapes_as_another_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    whole = bytearray(zipped({"T/a.jpg": PHOTO, "T/b.csv": b"a,b\n" * 50}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    archive = folder / "a.zip"
    archive.write_bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))])
    refused = None
    try:
        unpack(archive, folder / "out")
    except InputError as error:
        refused = error
    if refused is not None:
        assert str(refused).isprintable()
        assert not (folder / "out").exists()
    else:
        assert json.loads((folder / "out" / MARK).read_text())["images"] >= 1
        assert [p for p in folder.iterdir() if p.name not in ("a.zip", "out")] == []
