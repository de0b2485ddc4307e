"""`dermask data download` from the first line to a data set that opens; one line for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from archive_server import IDS, Served, serving, small_archives

from dermask.cli.main import run
from dermask.data import acquire as acquire_module
from dermask.data import archives as archives_module
from dermask.data import unpack as unpack_module
from dermask.data.formats import open_dataset

SMALL = small_archives()


@pytest.fixture(autouse=True)
def _small_challenges(tmp_path, monkeypatch):
    """An empty folder to work in, and official archives of a few photographs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(archives_module, "ARCHIVES", tuple(SMALL))
    monkeypatch.setattr(unpack_module.os, "sync", lambda: None)
    monkeypatch.delenv("DERMASK_TRACEBACK", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def files(monkeypatch):
    """The official server, on this machine; has what it serves as a dictionary by path."""
    files = {f"/new/{one.year}/{one.name}": Served(content) for one, content in SMALL.items()}
    with serving(files) as server:
        servers = (f"{server}/new/{{year}}/{{name}}", f"{server}/old/{{year}}/{{name}}")
        monkeypatch.setattr(archives_module, "SERVERS", servers)
        yield files


@pytest.fixture
def zips(tmp_path):
    folder = tmp_path / "zips"
    folder.mkdir()
    for archive, content in SMALL.items():
        (folder / archive.name).write_bytes(content)
    return folder


def test_a_challenge_comes_whole_with_its_terms(tmp_path, files, capsys):
    assert run(["data", "download", "isic2017", "-o", "isic2017"]) == 0
    out, err = capsys.readouterr()
    assert out == "isic2017\n"
    lines = err.splitlines()
    assert lines[0] == "ISIC 2017, Task 1: CC-0 (https://creativecommons.org/publicdomain/zero/1.0/)"
    begin = lines.index("fetch ISIC-2017_Training_Data.zip")
    assert lines[begin + 1 : begin + 3] == [
        "unpack ISIC-2017_Training_Data.zip",
        "ISIC-2017_Training_Data: 3 photographs; the archive has the known sum",
    ]
    assert "ISIC-2017_Test_v2_Part1_GroundTruth: 2 masks; the archive has the known sum" in lines
    assert "  529 of the 600 test photographs of 2017 stand in the training photographs of 2018" in lines
    assert lines[-1] == "next: dermask data check isic2017, or dermask data split isic2017 -o split.json"
    assert "arXiv: 1710.05006" in (tmp_path / "isic2017/LICENCE.txt").read_text()
    for part in ("Training", "val", "test"):
        assert len(open_dataset(tmp_path / "isic2017", part=part))
    assert sorted(path.name for path in (tmp_path / "isic2017").iterdir() if path.is_file()) == [
        ".dermask-download",
        "LICENCE.txt",
    ]


def test_the_second_run_says_that_it_is_all_there(files, capsys):
    run(["data", "download", "isic2016", "-o", "x", "--only", "masks"])
    capsys.readouterr()
    assert run(["data", "download", "isic2016", "-o", "x", "--only", "masks"]) == 0
    assert "ISBI2016_ISIC_Part1_Test_GroundTruth: 3 masks, here already" in capsys.readouterr().err
    assert [len(one.requests) for one in files.values() if one.requests] == [1, 1]


@pytest.mark.parametrize(
    ("options", "folders"),
    [
        (["--parts", "test", "--only", "masks"], {"ISIC2018_Task1_Test_GroundTruth"}),
        (
            ["--parts", "val, TRAIN", "--only", "photographs"],
            {"ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1-2_Validation_Input"},
        ),
    ],
)
def test_parts_and_kinds_are_chosen(tmp_path, zips, options, folders):
    assert run(["data", "download", "isic2018", "-o", "x", "--source", str(zips), *options]) == 0
    assert {path.name for path in (tmp_path / "x").iterdir() if path.is_dir()} == folders


def test_photographs_of_several_years_are_counted(tmp_path, zips, capsys):
    run(["data", "download", "isic2016", "-o", "isic2016", "--source", "zips", "--only", "masks"])
    run(["data", "download", "isic2017", "-o", "elsewhere/2017", "--source", "zips", "--parts", "test"])
    capsys.readouterr()
    arguments = ["data", "download", "isic2018", "-o", "isic2018", "--source", "zips", "--beside", "elsewhere/2017"]
    assert run([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    tree = json.loads(out)
    shared = {(one["first"]["year"], one["first"]["part"]): one["shared"] for one in tree["shared"]}
    assert shared == {(2016, "test"): 2, (2016, "training"): 1, (2017, "test"): 1}
    assert "  2 of the 3 test photographs of 2016 stand in the training photographs of 2018" in err.splitlines()
    assert err.splitlines()[-1] == (
        "next: dermask data check isic2018 elsewhere/2017 isic2016, which names the shared photographs"
    )
    assert tree["licence"]["file"] == "isic2018/LICENCE.txt"
    assert len(tree["known_overlaps"]) == 3
    assert [one["images"] for one in tree["archives"]] == [one["expected"] for one in tree["archives"]]
    assert {one["checked"] for one in tree["archives"]} == {"known"}
    assert tree["archives"][0]["from"] == str(tmp_path / "zips" / "ISIC2018_Task1-2_Training_Input.zip")


def test_a_dry_run_lists_and_writes_nothing(tmp_path, files, capsys):
    (tmp_path / "x").mkdir()
    first = next(one for one in SMALL if one.year == 2018)
    (tmp_path / "x" / f"{first.name}.part").write_bytes(bytes(2048))
    assert run(["data", "download", "isic2018", "-o", "x", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    rows = out.splitlines()
    assert len(rows) == 6
    assert rows[0].split() == [
        "to", "fetch", f"{first.size / 1024:.0f}", "KB", "sha256", first.checksum, first.name, "(2", "KB", "here)",
    ]  # fmt: skip
    assert "CC-BY-NC 4.0" in err
    assert err.splitlines()[-1].endswith("KB of room needed; nothing was fetched")
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [f"{first.name}.part"]
    assert not any(one.requests for one in files.values())


def test_a_dry_run_for_machines(zips, capsys):
    assert run(["data", "download", "isic2016", "-o", "x", "-n", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in tree["archives"]] == ["to fetch"] * 4
    assert tree["space_needed"] > 0
    assert tree["archives"][0]["from"][0].startswith("https://isic-archive.s3.amazonaws.com/challenges/2016/ISBI2016")
    assert run(["data", "download", "isic2016", "-o", "x", "-n", "--json", "--source", "zips"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["archives"][0]["from"] == ["zips/ISBI2016_ISIC_Part1_Training_Data.zip"]
    assert tree["archives"][0]["md5"] == next(iter(SMALL)).checksum


def test_ctrl_c_says_how_to_go_on_and_the_next_run_does(tmp_path, files, capsys, monkeypatch):
    archive = next(one for one in SMALL if one.year == 2016)
    original = acquire_module.fetch

    def interrupted(urls, part, *, on_progress, **options):
        def stop(done, total):
            on_progress(done, total)
            raise KeyboardInterrupt

        return original(urls, part, on_progress=stop, **options)

    served = files[f"/new/2016/{archive.name}"]
    served.cuts = [1000]
    with monkeypatch.context() as patch:
        patch.setattr(acquire_module, "fetch", interrupted)
        assert run(["data", "download", "isic2016", "-o", "x"]) == 130
    assert "what has arrived is kept; run the same command again" in capsys.readouterr().err
    assert 0 < (tmp_path / "x" / f"{archive.name}.part").stat().st_size <= 1000
    assert run(["data", "download", "isic2016", "-o", "x"]) == 0
    assert served.requests[1]["Range"].startswith("bytes=")


def test_a_break_is_told_while_it_is_waited_for(files, capsys):
    files["/new/2016/ISBI2016_ISIC_Part1_Test_GroundTruth.zip"].cuts = [1000]
    assert run(["data", "download", "isic2016", "-o", "x", "--parts", "test", "--only", "masks"]) == 0
    out, err = capsys.readouterr()
    size = len(files["/new/2016/ISBI2016_ISIC_Part1_Test_GroundTruth.zip"].body)
    assert f"the connection ended at 1,000 of {size:,} bytes; again in 1 s" in err.splitlines()
    assert out == "x\n"


def test_the_address_of_before_is_tried_too(files, capsys):
    for path in list(files):
        files[path.replace("/new/", "/old/")] = files.pop(path)
    assert run(["data", "download", "isic2016", "-o", "x", "--parts", "test"]) == 0


def test_a_number_of_photographs_that_is_not_the_known_one_is_told(files, capsys, monkeypatch):
    from dataclasses import replace

    odd = tuple(replace(one, count=one.count + 1000) for one in SMALL)
    monkeypatch.setattr(archives_module, "ARCHIVES", odd)
    assert run(["data", "download", "isic2016", "-o", "x", "--parts", "test", "--only", "masks"]) == 0
    assert "3 masks, and 1,003 were expected; the archive has the known sum" in capsys.readouterr().err


def test_a_bar_shows_on_a_terminal(files, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    assert run(["data", "download", "isic2016", "-o", "x", "--parts", "test"]) == 0
    err = capsys.readouterr().err
    assert "unpack ISBI2016_ISIC_Part1_Test" in err
    assert "ISBI2016_ISIC_Part1_Test_Data: 3 photographs; the archive has the known sum" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("", 2, "Missing argument"),
        ("isic2019 -o x", 2, "'isic2019' is not one of"),
        ("isic2017", 2, "Missing option '--output'"),
        ("isic2016 -o x --parts validation", 1, "ISIC 2016: part 'validation': is not among its archives"),
        ("isic2016 -o x --only labels", 2, "'labels' is not one of"),
        ("isic2016 -o x --source nowhere", 1, "--source: 'nowhere' is neither a folder nor an https address"),
        ("isic2016 -o x --source .", 1, "lacks ISBI2016_ISIC_Part1_Training_Data.zip and 3 more"),
        ("isic2016 -o x --accept-checksum 12", 1, "--accept-checksum: '12' is no MD5 or SHA-256"),
        ("isic2016 -o x --beside nowhere", 1, "--beside: 'nowhere' is no folder; check the path"),
        ("isic2016 -o taken", 1, "taken: no folder can be made here: a file has this name"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, status, message):
    (tmp_path / "taken").touch()
    assert run(["data", "download", *arguments.split()]) == status
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "x").exists()


def test_a_wrong_sum_ends_it_with_the_way_to_go_on(tmp_path, zips, capsys):
    name = next(one.name for one in SMALL if one.year == 2016)
    other = next(content for one, content in SMALL.items() if one.year == 2018)
    (zips / name).write_bytes(other)
    arguments = ["data", "download", "isic2016", "-o", "x", "--source", "zips", "--parts", "training"]
    assert run(arguments) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    found = line.rpartition(" ")[2]
    assert "never tried against the server by us" in line
    assert run([*arguments, "--accept-checksum", found]) == 0
    assert "4 photographs, and 2 were expected; the archive has another sum" in capsys.readouterr().err


def test_help_leads_with_an_example_and_imports_nothing_heavy(capsys):
    assert run(["data", "download", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: dermask data download")
    assert "    dermask data download isic2017 -o isic2017" in text
    assert "Research use only" in " ".join(text.split())
    code = (
        "import sys; from dermask.cli.main import run; run(['data', 'download', '--help']); print(sorted(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.splitlines()[-1].strip("[]").replace("'", "").split(", "))
    assert loaded & {"torch", "numpy", "PIL", "rich", "urllib.request", "zipfile"} <= {"zipfile"}


def test_every_part_of_the_small_challenges_was_meant():
    assert set(IDS) == {(one.year, one.part) for one in SMALL}
