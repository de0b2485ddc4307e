"""One look at a photograph: what is wrong with the file, what comes back, and workers that die."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audit_examples import PLAIN, SIDE, audit_of, ellipse, kinds, outlined, polygon, ring, save, skin
from PIL import Image

from dermask.audit import photographs
from dermask.audit.audit import audit
from dermask.audit.findings import Part
from dermask.audit.photographs import Task, look_at, look_at_all
from dermask.data.dataset import Dataset
from dermask.records import ImageSize, Sample

TINY = ellipse(x=20, y=30, a=12, b=8, side=60)


def truncated(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def tasks_of(*samples: Sample) -> list[Task]:
    return [Task("drawn", sample, ("lesion",), PLAIN) for sample in samples]


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.tif", "p.bmp", "p.webp"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_file_cut_short_is_found_though_its_header_is_whole(tmp_path, name, share):
    options = {"compression": "tiff_lzw"} if name.endswith("tif") else {}
    path = truncated(save(tmp_path / name, skin(ellipse()), **options), share)
    found = kinds(audit_of(outlined(polygon(ring()), image=path)))
    assert set(found) <= {"truncated-photograph", "unreadable-photograph"}
    assert set(found.values()) == {"error"}
    if name in ("p.jpg", "p.png"):
        assert set(found) == {"truncated-photograph"}


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"", "unreadable-photograph"), (b"no image at all", "unreadable-photograph"), (None, "missing-photograph")],
)
def test_files_that_are_no_photographs(tmp_path, content, kind):
    path = tmp_path / "p.jpg"
    if content is not None:
        path.write_bytes(content)
    report = audit_of(outlined(polygon(ring()), image=path), outlined(polygon(ring()), image_id="two"))
    assert kinds(report) == {kind: "error"}  # and the other photograph was looked at
    assert report.findings[0].place == ("drawn", "one")
    assert report.num_outlines == 2


def test_too_many_pixels_are_not_decoded(tmp_path):
    path = save(tmp_path / "p.png", np.zeros((8001, 8001), np.uint8))
    assert kinds(audit_of(outlined(image=path))) == {"too-many-pixels": "error"}


@pytest.mark.parametrize(
    ("stated", "kind"), [((SIDE, SIDE + 1), "wrong-size"), ((SIDE, SIDE), None), ((100, SIDE), "wrong-size")]
)
def test_the_size_that_the_labels_state(stated, kind):
    sample = replace(outlined(polygon(ring())), size=ImageSize(*stated))
    assert kinds(audit_of(sample)) == ({} if kind is None else {kind: "error"})


def test_a_size_that_is_turned_says_so(tmp_path):
    sample = Sample("one", skin(shape=(200, 150)), ImageSize(150, 200), ())
    report = audit_of(sample)
    assert kinds(report) == {"turned": "error"}
    assert "was labelled at 200x150, the photograph has 150x200 pixels (turned" in report.findings[0].problem


def blank(noise: float) -> np.ndarray:
    return np.random.default_rng(0).normal(120, noise, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (blank(2), {"blank-photograph": "warning"}),
        (skin(), {}),
        (skin(ellipse())[..., :1].repeat(3, axis=2), {"grey-photograph": "note"}),
        (skin(ellipse()) // 3 + 100, {}),
        (skin(shape=(127, 300)), {"small-photograph": "note"}),
        (skin(shape=(128, 300)), {}),
    ],
    ids=["blank", "bare skin", "grey", "pale", "small", "not small"],
)
def test_what_a_photograph_shows(pixels, expected):
    assert kinds(audit_of(outlined(image=pixels))) == expected


@pytest.mark.parametrize(("name", "kind"), [("p.jpg", "wrong-suffix"), ("p.png", None), ("p.PNG", None), ("p", None)])
def test_a_name_that_says_another_format(tmp_path, name, kind):
    path = tmp_path / name
    Image.fromarray(skin(ellipse())).save(path, "PNG")
    report = audit_of(outlined(image=path))
    assert kinds(report) == ({} if kind is None else {kind: "note"})
    if kind:
        assert "is called .jpg and holds PNG" in [f.problem for f in report.findings]


def test_an_unexpected_failure_is_told_and_stops_nothing(monkeypatch):
    def fail(photograph):
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr(photographs, "check_outlines", fail)
    report = audit_of(outlined(polygon(ring())), Sample("two", skin(), None, ()))
    assert kinds(report) == {"not-audited": "error"}
    assert "unexpected ZeroDivisionError: nobody thought of it" in report.findings[0].problem


def test_the_same_is_seen_at_reduced_scale(tmp_path):
    """A JPEG four times as large is decoded at a quarter, and judged like the small one."""
    large = skin(ellipse(x=240, y=320, a=120, b=80, side=1280), shape=(1280, 1280))
    path = save(tmp_path / "p.jpg", large, quality=90)
    assert kinds(audit_of(outlined(polygon(ring(x=240, y=320, a=120, b=80)), image=path))) == {}
    moved = audit_of(outlined(polygon(ring(x=900, y=900, a=120, b=80)), image=path))
    assert kinds(moved) == {"unaligned-mask": "warning"}


def test_hashes_tell_files_and_pixels(tmp_path):
    one = save(tmp_path / "one.png", skin(), compress_level=1)
    other = save(tmp_path / "other.png", skin(), compress_level=9)
    looks = [look_at(replace(task, wants_hash=True)) for task in tasks_of(*(outlined(image=p) for p in (one, other)))]
    assert looks[0].file_hash != looks[1].file_hash
    assert looks[0].pixel_hash == looks[1].pixel_hash != b""
    assert look_at(tasks_of(outlined(image=one))[0]).file_hash == b""


def test_progress_counts_every_photograph():
    told: list[tuple[int, int]] = []
    samples = [outlined(image_id=str(i)) for i in range(3)]
    look_at_all(tasks_of(*samples), processes=1, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert look_at_all([], processes=2) == []


class Fatal:
    """A photograph that ends the process which unpacks it, as one that the system kills does."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __reduce__(self):
        return _die, (self.parent,)


def _die(parent: int) -> None:
    if os.getpid() != parent:
        os._exit(9)


@pytest.mark.slow
def test_a_photograph_that_kills_its_worker_is_told_and_all_others_are_looked_at():
    samples = [outlined(polygon(ring()), image_id=f"p{i}") for i in range(20)]
    samples[11] = Sample("fatal", Fatal(os.getpid()), None, ())  # type: ignore[arg-type]
    looks = look_at_all(tasks_of(*samples), processes=2)
    assert [bool(look.pixel_hash) for look in looks] == [i != 11 for i in range(20)]
    (finding,) = looks[11].findings
    assert (finding.kind, finding.item) == ("not-audited", "drawn: fatal")
    assert "the process that looked at it died" in finding.problem


@pytest.mark.slow
def test_processes_see_what_one_sees(tmp_path):
    paths = [save(tmp_path / f"p{i}.png", skin(ellipse(), seed=i)) for i in range(20)]
    part = Part("drawn", Dataset([outlined(polygon(ring()), image=path, image_id=path.stem) for path in paths]))
    truncated(paths[7], 0.5)
    alone, together = (audit([part], settings=PLAIN, processes=count) for count in (1, 2))
    assert alone.findings == together.findings
    assert kinds(alone) == {"truncated-photograph": "error"}
