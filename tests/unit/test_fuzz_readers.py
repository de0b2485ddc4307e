"""A small run of tools/fuzz_readers.py, and the tool's own promises: it repeats, and it sees what goes wrong."""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

from dermask.errors import LabelError, NonFiniteLossError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_script("tools/fuzz_readers.py")


def test_no_reader_fails_on_broken_input(tool: ModuleType) -> None:
    tallies = tool.fuzz(320, seed=7)
    assert [line for tally in tallies.values() for line in tally.failures] == []
    assert sum(tally.accepted + tally.refused for tally in tallies.values()) == 320
    assert all(tally.refused for tally in tallies.values())  # else the breaking breaks nothing


def test_every_example_is_read_unbroken(tool: ModuleType, tmp_path: Path) -> None:
    for target in tool.make_targets(tmp_path):
        for example in target.examples:
            if example.startswith(b"0 0.5 0.5 0.25 0.25"):
                continue  # a box, refused as it should be
            tally = tool.Tally()
            failure = tool.run_one(target, example, tmp_path / f"read {target.name}" / target.file, tally)
            assert failure is None
            assert (target.name, tally.accepted) == (target.name, 1)


def test_the_same_seed_breaks_alike(tool: ModuleType) -> None:
    def broken(seed: int) -> list[bytes]:
        rng = tool.random.Random(seed)
        return [tool.break_input(b'{"a": [1, {"b": "c"}], "d": null}', rng, is_json=True) for _ in range(50)]

    assert broken(3) == broken(3)
    assert broken(3) != broken(4)
    assert len(set(broken(3))) > 30


def raising(error: BaseException):
    def read(path: Path) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "failure"),
    [
        (lambda path: None, None),
        (raising(LabelError("file", "is broken")), None),
        (raising(LabelError("file", "is broken", "x" * 3000)), "a message of 3"),
        (raising(KeyError("images")), "KeyError: 'images'"),
        (raising(NonFiniteLossError("nan")), "NonFiniteLossError, which is no InputError"),
        (lambda path: time.sleep(9), "no answer within 0.1 s"),
    ],
)
def test_what_goes_wrong_is_seen(tool: ModuleType, tmp_path: Path, monkeypatch, read, failure: str | None) -> None:
    monkeypatch.setattr(tool, "SECONDS", 0.1)
    target = tool.Target("reader", (b"{}",), read)
    found = tool.run_one(target, b"{}", tmp_path / "labels.json", tool.Tally())
    assert found is None if failure is None else failure in found


def test_failures_are_saved_and_end_with_status_1(tool: ModuleType, tmp_path: Path, monkeypatch, capsys) -> None:
    targets = [tool.Target("good", (b"{}",), lambda path: None), tool.Target("bad", (b"[1]",), raising(KeyError("x")))]
    monkeypatch.setattr(tool, "make_targets", lambda folder: targets)
    monkeypatch.setattr(tool, "limit_memory", lambda: None)
    assert tool.main(["--count", "4", "--seed", "5", "--save", str(tmp_path / "failures")]) == 1
    output = capsys.readouterr()
    assert "bad, input 1: KeyError" in output.err
    assert "| all | 4 | 2 | 0 | 2 |" in output.out
    assert len(list((tmp_path / "failures").iterdir())) == 2
