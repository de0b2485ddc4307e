"""From archives on a server or in a folder to data sets that open, with every sum checked on the way."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
from archive_server import IDS, Served, picture, serving, small_archives, zipped

from dermask.data import acquire as acquire_module
from dermask.data import unpack as unpack_module
from dermask.data.acquire import (
    LICENCE_FILE,
    acquire,
    check_accepted,
    check_space,
    make_plan,
    source_folder,
    space_needed,
    write_licence,
)
from dermask.data.archives import ARCHIVES, select
from dermask.data.download import Patience
from dermask.data.download_record import RECORD
from dermask.data.formats import open_dataset
from dermask.data.unpack import MARK
from dermask.errors import InputError, LabelError, OutputExistsError, SettingError

SMALL = small_archives()
QUICK = Patience(timeout=5, attempts=1)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(unpack_module.os, "sync", lambda: None)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def of_year(year, part=None, kind=None):
    return [one for one in SMALL if one.year == year and part in (None, one.part) and kind in (None, one.kind)]


def one_archive():
    return of_year(2018, "training", "masks")[0]


def put(folder, archives=None):
    """The small archives as files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for archive in SMALL if archives is None else archives:
        (folder / archive.name).write_bytes(SMALL[archive])
    return folder


def served(archives, **options):
    return {f"/m/{archive.name}": Served(SMALL[archive], **options) for archive in archives}


def bring(archives, folder, source=None, **options):
    return [
        acquire(step, folder, source=source, patience=QUICK, **options) for step in make_plan(archives, folder, source)
    ]


# The whole way


@pytest.mark.parametrize("year", [2016, 2017, 2018])
def test_every_year_opens_as_a_data_set(tmp_path, year):
    archives = of_year(year)
    with serving(served(archives)) as server:
        done = bring(archives, tmp_path / "data", f"{server}/m/")
    for archive, acquired in zip(archives, done, strict=True):
        assert acquired.folder == tmp_path / "data" / archive.folder
        assert acquired.images == archive.count
        assert (acquired.checked, acquired.is_new) == ("known", True)
        assert acquired.sha256 == hashlib.sha256(SMALL[archive]).hexdigest()
        assert acquired.url.endswith(f"/m/{archive.name}")
    for (one, part), ids in IDS.items():
        if one == year:
            dataset = open_dataset(tmp_path / "data", part=part)
            assert [sample.image_id for sample in dataset] == ids
            assert dataset.load(0).masks.sum() == 8 * 14
    assert not list((tmp_path / "data").glob("*.zip*"))
    assert not list((tmp_path / "data").rglob("*_superpixels.png"))


def test_what_is_noted_in_a_folder_is_not_taken_for_labels(tmp_path):
    masks = of_year(2018, kind="masks")
    bring(masks, tmp_path / "data", str(put(tmp_path / "zips")))
    assert (tmp_path / "data" / RECORD).is_file()
    with pytest.raises(LabelError, match="holds neither photographs nor labels"):
        open_dataset(tmp_path / "data")


def test_a_second_run_asks_for_nothing(tmp_path):
    archives = of_year(2016, "test")
    files = served(archives)
    with serving(files) as server:
        first = bring(archives, tmp_path, f"{server}/m")
        again = bring(archives, tmp_path, f"{server}/m")
    assert [len(one.requests) for one in files.values()] == [1, 1]
    assert again == [replace(one, is_new=False) for one in first]


@pytest.mark.parametrize("keep", [False, True])
def test_archives_go_when_they_are_unpacked_unless_kept(tmp_path, keep):
    archive = one_archive()
    with serving(served([archive])) as server:
        bring([archive], tmp_path, f"{server}/m", keep_archives=keep)
    assert (tmp_path / archive.name).exists() == keep
    assert not (tmp_path / f"{archive.name}.part").exists()


@pytest.mark.parametrize("below", ["", "2018"], ids=["in the folder", "in a folder of the year"])
def test_archives_at_hand_are_used_and_stay(tmp_path, below):
    archive = one_archive()
    source = put(tmp_path / "zips" / below, [archive]) and tmp_path / "zips"
    done = bring([archive], tmp_path / "data", str(source))
    assert done[0].checked == "known"
    assert done[0].url == str(source / below / archive.name)
    assert (source / below / archive.name).read_bytes() == SMALL[archive]


def test_an_archive_put_into_the_target_by_hand_is_used_and_stays(tmp_path):
    archive = one_archive()
    put(tmp_path, [archive])
    assert make_plan([archive], tmp_path)[0].state == "at hand"
    assert bring([archive], tmp_path)[0].is_new
    assert (tmp_path / archive.name).exists()


def test_progress_names_what_is_done(tmp_path):
    archive = one_archive()
    seen = []
    with serving(served([archive])) as server:
        bring([archive], tmp_path, f"{server}/m", on_progress=lambda *told: seen.append(told))
    assert next(what for what, _, _ in seen) == f"fetch {archive.name}"
    assert seen[-1][0] == f"unpack {archive.name}"
    assert seen[-1][1] == seen[-1][2]


# Sums


def test_a_verified_archive_is_not_read_again(tmp_path, monkeypatch):
    archive = one_archive()
    source = str(put(tmp_path / "zips", [archive]))
    reads = []
    original = acquire_module._sums
    monkeypatch.setattr(acquire_module, "_sums", lambda *rest: (reads.append(1), original(*rest))[1])
    monkeypatch.setattr(acquire_module, "unpack", lambda *_, **__: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            bring([archive], tmp_path / "data", source)
    assert len(reads) == 1
    os.utime(tmp_path / "zips" / archive.name, (1, 1))
    with pytest.raises(ZeroDivisionError):
        bring([archive], tmp_path / "data", source)
    assert len(reads) == 2


def test_a_wrong_sum_is_told_kept_and_can_be_accepted(tmp_path):
    archive = one_archive()
    other = zipped({"T/ISIC_0000009_segmentation.png": picture("masks")})
    sha256 = hashlib.sha256(other).hexdigest()
    files = {f"/m/{archive.name}": Served(other)}
    expected = (
        rf"{archive.name}\.unverified: has the SHA-256 {sha256}, and {archive.checksum} is known for it "
        r"\(from published loaders of other people, .* never tried against the server by us\); remove it to fetch it "
        rf"again, or, where you trust it, go on with --accept-checksum {sha256}$"
    )
    with serving(files) as server:
        for _ in range(2):  # the second time it is there, and not fetched again
            with pytest.raises(InputError, match=expected):
                bring([archive], tmp_path, f"{server}/m")
        assert not (tmp_path / archive.folder).exists()
        done = bring([archive], tmp_path, f"{server}/m", accepted=[sha256])
    assert len(files[f"/m/{archive.name}"].requests) == 1
    assert (done[0].checked, done[0].sha256, done[0].images) == ("accepted", sha256, 1)
    assert not list(tmp_path.glob("*.zip*"))


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_an_accepted_sum_counts_at_once_in_either_kind(tmp_path, kind):
    archive = replace(one_archive(), checksum="0" * 64)
    content = SMALL[one_archive()]
    with serving({f"/m/{archive.name}": Served(content)}) as server:
        done = bring([archive], tmp_path, f"{server}/m", accepted=[hashlib.new(kind, content).hexdigest()])
    assert done[0].checked == "accepted"


def test_a_wrong_sum_of_an_archive_at_hand_leaves_it_as_it_is(tmp_path):
    archive = one_archive()
    (put(tmp_path / "zips", [archive]) / archive.name).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"has the SHA-256 \w+, and \w+ is known"):
        bring([archive], tmp_path / "data", str(tmp_path / "zips"))
    assert (tmp_path / "zips" / archive.name).read_bytes() == b"something else"


def test_pieces_that_do_not_belong_together_are_fetched_once_more(tmp_path):
    archive = one_archive()
    (tmp_path / f"{archive.name}.part").write_bytes(b"x" * 50)  # no note of what the server said
    file = Served(SMALL[archive])
    with serving({f"/m/{archive.name}": file}) as server:
        assert bring([archive], tmp_path, f"{server}/m")[0].checked == "known"
    assert [request.get("Range") for request in file.requests] == ["bytes=50-", None]


@pytest.mark.parametrize("checksum", ["", "12", "g" * 32, "0" * 40])
def test_a_sum_to_accept_has_the_form_of_one(checksum):
    with pytest.raises(SettingError, match=r"--accept-checksum: .* is no MD5 or SHA-256; give 32 or 64"):
        check_accepted([checksum])
    assert check_accepted([" ABCDEF" + "0" * 26 + "\n"]) == {"abcdef" + "0" * 26}


@pytest.mark.parametrize("content", ["", "[]", '{"archives": 3}', '{"archives": {"x.zip": {}}}'])
def test_a_record_that_cannot_be_read_costs_one_more_look(tmp_path, content):
    archive = one_archive()
    put(tmp_path, [archive])
    (tmp_path / RECORD).write_text(content)
    assert bring([archive], tmp_path)[0].checked == "known"
    assert list(json.loads((tmp_path / RECORD).read_text())["archives"]) == [archive.name]


# What is in the way


@pytest.mark.parametrize("mark", [None, "{}", '{"archive": "other.zip"}'], ids=["none", "empty", "of another"])
def test_a_folder_of_somebody_else_is_not_touched(tmp_path, mark):
    archive = one_archive()
    (tmp_path / archive.folder).mkdir()
    if mark is not None:
        (tmp_path / archive.folder / MARK).write_text(mark)
    with pytest.raises(OutputExistsError, match=r"is there and was not unpacked by this command; move it away, choose"):
        make_plan([archive], tmp_path)


def test_what_a_source_lacks_is_told_before_anything_is_done(tmp_path):
    archives = of_year(2018)
    source = put(tmp_path / "zips", archives[:4])
    with pytest.raises(InputError, match=rf"zips: lacks {archives[4].name} and 1 more; add it, or choose with --parts"):
        make_plan(archives, tmp_path / "data", str(source))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("nowhere", r"--source: 'nowhere' is neither a folder nor an https address"),
        ("ftp://host/x", r"--source: 'ftp://host/x' is no address"),
        ("https://host/x?key=1", r"has a query; give the address of the folder alone"),
    ],
)
def test_a_source_is_a_folder_or_an_address(source, problem):
    with pytest.raises(InputError, match=problem):
        source_folder(source)
    assert source_folder(None) is source_folder("https://host/x") is None


def test_the_plan_says_what_is_here(tmp_path):
    masks = of_year(2016, kind="masks")
    (tmp_path / f"{masks[0].name}.part").write_bytes(b"12345")
    bring(masks[1:], tmp_path, str(put(tmp_path / "zips")))
    steps = make_plan(of_year(2016), tmp_path)
    assert [(step.state, step.present) for step in steps] == [
        ("to fetch", 0), ("to fetch", 5), ("to fetch", 0), ("unpacked", 0),
    ]  # fmt: skip


def test_the_space_needed_is_that_of_the_fullest_moment(tmp_path):
    photographs, masks = select(2018, ["training"])
    steps = make_plan([photographs, masks], tmp_path)
    assert space_needed([], keep_archives=False) == 0
    assert space_needed(steps[:1], keep_archives=False) == 2 * photographs.size
    assert space_needed(steps, keep_archives=False) == 2 * photographs.size
    assert space_needed(steps, keep_archives=True) == 2 * photographs.size + 5 * masks.size
    assert space_needed([replace(steps[0], present=10**10)], keep_archives=False) == 2 * photographs.size - 10**10
    assert space_needed([replace(steps[0], state="at hand")], keep_archives=False) == photographs.size
    assert space_needed([replace(steps[0], state="unpacked")], keep_archives=False) == 0


def test_a_disk_without_room_is_told_before_anything_is_fetched(tmp_path, monkeypatch):
    steps = make_plan([one for one in ARCHIVES if one.year == 2018], tmp_path)
    monkeypatch.setattr(acquire_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    with pytest.raises(InputError, match=r"needs about 20\.8 GiB for this, and 1\.0 GiB are free; make room, take"):
        check_space(steps, tmp_path, keep_archives=False)
    check_space([], tmp_path, keep_archives=False)


# Terms


def test_the_terms_are_kept_for_every_year_of_the_folder(tmp_path):
    assert write_licence(tmp_path, 2016) == tmp_path / LICENCE_FILE
    write_licence(tmp_path, 2018)
    text = (tmp_path / LICENCE_FILE).read_text(encoding="utf-8")
    assert "ISIC 2016, Task 1: CC-0" in text
    assert "https://doi.org/10.1038/sdata.2018.161" in text
    assert "ISIC 2017, Task 1" not in text


@pytest.mark.parametrize("content", [b"terms of somebody else", b"\xff\xfe"])
def test_terms_of_somebody_else_are_not_replaced(tmp_path, content):
    (tmp_path / LICENCE_FILE).write_bytes(content)
    path = write_licence(tmp_path, 2017)
    assert path == tmp_path / "LICENCE-isic2017.txt"
    assert "ISIC 2017, Task 1: CC-0" in path.read_text(encoding="utf-8")
    assert (tmp_path / LICENCE_FILE).read_bytes() == content
