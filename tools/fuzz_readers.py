"""Broken input for every reader of files that others wrote: never a traceback, never a hang, never two lines.

    uv run python tools/fuzz_readers.py --count 100000 --seed 1

Each input starts as a valid example, made by our own writers or by hand, and is broken in its structure (values
replaced, deleted, repeated, of another type, nested deeply) or in its bytes (cut, flipped, inserted). It must be read,
or refused by one line of an `InputError`, within the time and memory limits. What is read is loaded too. Anything else
is a failure: it is printed with its number and saved, and `--start NUMBER --count 1` with the same seed repeats it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from dermask.cli.common import counting
from dermask.data.dataset import Dataset
from dermask.data.formats import FORMATS, open_dataset, write_dataset
from dermask.data.metadata import read_metadata
from dermask.data.split_file import read_split
from dermask.errors import DermaskError, InputError
from dermask.images import write_png
from dermask.records import Bitmask, ImageSize, Instance, Polygons, Sample

SECONDS = 5.0
"""Time limit of one input."""
MEMORY = 2 << 30
"""Bytes that the process may take beyond what it has at the start."""
MAX_MESSAGE = 2_000
"""Characters of a message, paths included."""
SIZE = ImageSize(24, 32)
NAMES = ("one", "two", "none")


class Hang(BaseException):
    """The time limit passed; no `except Exception` of a reader may swallow it."""


@dataclass(frozen=True)
class Target:
    """One reader with valid examples of its input.

    Attributes:
        name: As in the summary.
        examples: Whole files.
        read: Reads the file at a path; raises `InputError` to refuse it.
        file: Where the file goes, below the target's own folder.
        is_json: Whether it is broken as a tree too.
    """

    name: str
    examples: tuple[bytes, ...]
    read: Callable[[Path], object]
    file: str = "labels.txt"
    is_json: bool = True


@dataclass
class Tally:
    """Outcomes of one reader's inputs."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)


# Valid examples


def make_targets(folder: Path) -> list[Target]:
    """Every reader, with examples and photographs in `folder`."""
    photographs = folder / "photographs"
    dataset = _example(photographs)
    targets = []
    for kind in FORMATS:
        if not kind.is_folder and kind.reader is not None:
            path = folder / "examples" / f"{kind.key}.json"
            write_dataset(dataset, path, kind.key)
            examples = (path.read_bytes(), *_more_examples(kind.key))
            targets.append(Target(kind.key, examples, lambda path: open_labels(path, photographs), "labels.json"))
    write_dataset(dataset, folder / "examples" / "labelme", "labelme")
    labelme = tuple(path.read_bytes() for path in sorted((folder / "examples" / "labelme").glob("*.json")))
    targets.append(Target("labelme", labelme, lambda path: open_labels(path, photographs), "one.json"))
    targets += _yolo_targets(dataset, folder) + _colour_mask_targets(dataset, folder)
    split = {"dermask_split": 1, "dermask": "0.1", "seed": 3, "fractions": {"train": 0.7, "val": 0.3}, "part_of": None,
             "data": "", "groups": {"photographs": 3}, "parts": {"train": ["one", "two"], "val": ["none"]},
             "left_out": {}, "absent": []}  # fmt: skip
    targets.append(Target("split file", (_json(split),), lambda path: read_split(path).select(dataset), "split.json"))
    tables = (
        b"isic_id,patient_id,lesion_id,diagnosis,copyright_license\none,IP_1,IL_1,nevus,CC-0\ntwo,IP_1,,NA,CC-BY\n",
        b"image_id;melanoma;seborrheic_keratosis\none;0.0;1.0\ntwo;1.0;0.0\n",
        b'image\tMEL\tNV\n"one"\t0\t1\n',
    )
    targets.append(Target("metadata table", tables, lambda path: read_metadata(path), "metadata.csv", is_json=False))
    return targets


def _example(folder: Path) -> Dataset:
    """Three photographs: polygons of two classes, a mask with a hole and two parts, nothing."""
    for name in NAMES:
        write_png(folder / f"{name}.png", np.full((*SIZE, 3), (220, 180, 160), np.uint8))
    mask = np.zeros(SIZE, np.bool_)
    mask[4:20, 4:20] = mask[2:6, 24:30] = True
    mask[8:14, 8:14] = False
    ring = np.array([[4.0, 4.0], [12.5, 4.0], [12.0, 12.0], [4.0, 14.0]])
    instances = {
        "one": (Instance(1, Polygons((ring,)), annotation_id=1),),
        "two": (Instance(2, Bitmask(mask)), Instance(1, Polygons((ring + 8,)))),
        "none": (),
    }
    samples = [Sample(name, folder / f"{name}.png", SIZE, instances[name]) for name in NAMES]
    return Dataset(samples, ("lesion", "mole"), name="examples")


def _more_examples(key: str) -> tuple[bytes, ...]:
    """Forms that our writers do not make."""
    head = {"images": [{"id": 1, "file_name": "one.png", "width": SIZE.width, "height": SIZE.height}],
            "categories": [{"id": 1, "name": "lesion"}]}  # fmt: skip
    outline = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [2, 3, 9, 8], "area": 72}
    if key == "coco":
        runs = {"size": list(SIZE), "counts": [100, 10, 14, 10, SIZE.height * SIZE.width - 134]}
        return (_json(head | {"annotations": [outline | {"segmentation": runs}]}),)
    if key == "cvat":
        boxed = outline | {"segmentation": [], "attributes": {"occluded": False, "rotation": 30.0}}
        return (_json(head | {"annotations": [boxed]}),)
    if key == "via2":
        shapes = ({"name": "circle", "cx": 12, "cy": 11, "r": 5}, {"name": "ellipse", "cx": 12, "cy": 11, "rx": 5,
                  "ry": 3, "theta": 0.4})  # fmt: skip
        regions = [{"shape_attributes": shape, "region_attributes": {"kind": {"mole": True}}} for shape in shapes]
        return (_json({"one.png9": {"filename": "one.png", "size": 9, "regions": regions, "file_attributes": {}}}),)
    if key == "label-studio":
        frame = {"original_width": SIZE.width, "original_height": SIZE.height, "from_name": "a", "to_name": "image"}
        ellipse = {"x": 40, "y": 40, "radiusX": 20, "radiusY": 15, "rotation": 10, "ellipselabels": ["lesion"]}
        box = {"x": 10, "y": 10, "width": 50, "height": 40, "rotation": 20, "rectanglelabels": ["lesion"]}
        result = [frame | {"id": str(i), "type": kind, "value": value} for i, (kind, value) in
                  enumerate((("ellipselabels", ellipse), ("rectanglelabels", box)))]  # fmt: skip
        task = {"id": 1, "data": {"image": "/data/upload/1/1a2b3c4d-one.png"}, "annotations": [{"result": result}]}
        return (_json([task]),)
    return ()


def _yolo_targets(dataset: Dataset, folder: Path) -> list[Target]:
    targets = []
    texts = (b"", b"0 0.1 0.1 0.5 0.1 0.5 0.5\n1 .2 .2 .4 .2 .4 0.9 .2 .9\n", b"0 0.5 0.5 0.25 0.25\n")
    yaml = (
        b"path: ../data # root\ntrain: images/train\nval: images/train\nnc: 2\nnames: ['lesion', \"mole\"]\n",
        b"train: list.txt\nnames:\n  0: lesion\n  1: 'mole # 2'\ndownload: |\n  a: b\n",
        b"names:\n- lesion\n- mole\ntrain: [images/train,\n  images/train]\n",
    )
    for name, file, more in (
        ("YOLO text", "labels/train/two.txt", texts),
        ("YOLO data.yaml", "data.yaml", yaml),
        ("YOLO list of photographs", "list.txt", (b"images/train/one.png\n./images/train/two.png\n",)),
    ):
        root = folder / f"read {name}"
        write_dataset(dataset, root, "yolo")
        if file != "data.yaml":
            (root / "data.yaml").write_text(
                f"train: {'list.txt' if file == 'list.txt' else 'images/train'}\nnames: [lesion, mole]\n"
            )
        else:
            (root / "list.txt").write_text("images/train/one.png\n")
        own = ((root / file).read_bytes(),) if (root / file).exists() else ()
        targets.append(
            Target(name, own + more, lambda path, root=root: load_all(open_dataset(root, part="train")), file, False)  # type: ignore[misc]
        )
    return targets


def _colour_mask_targets(dataset: Dataset, folder: Path) -> list[Target]:
    targets = []
    for name, file in (("colour masks' labelmap", "labelmap.txt"), ("colour masks' PNG", "SegmentationClass/two.png")):
        root = folder / f"read {name}"
        write_dataset(dataset, root, "colour-masks")
        examples = ((root / file).read_bytes(),)
        targets.append(Target(name, examples, lambda path, root=root: load_all(open_dataset(root)), file, False))  # type: ignore[misc]
    return targets


def open_labels(path: Path, photographs: Path) -> None:
    """Open a label file strictly, and again without what is bad, and load what is left."""
    try:
        load_all(open_dataset(path, images=photographs))
    except InputError as error:
        check_message(error)
        with contextlib.suppress(InputError):
            load_all(open_dataset(path, images=photographs, skip_bad=True))
        raise


def load_all(dataset: Dataset) -> None:
    """Decode the first photographs with their masks."""
    for line in dataset.skipped:
        check_message(line)
    for index in range(min(len(dataset), 4)):
        dataset.load(index)


def check_message(message: object) -> None:
    """Check that a message is one line of bearable length."""
    text = str(message)
    assert "\n" not in text, f"a message of several lines: {text!r}"
    assert len(text) <= MAX_MESSAGE, f"a message of {len(text)} characters: {text[:200]!r}"


def _json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


# Breaking


VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 0.5, -0.0, 1e-320, 1e308, -1e308, float("inf"), float("nan"), 2**31, 2**53, 2**63,
    -(2**63), 10**400, "", " ", "0", "1", "one.png", "..", "../one.png", "/etc/passwd", "C:\\x", "a\0b", "\ud800",
    "\u202e", "line\nline", "\x1b[31m", "x" * 100_000, "lesion", "polygon", [], {}, [[]], [{}], {"": {}}, [0] * 1000,
    [1, 2, 3], [float("nan")] * 6, [[0, 0], [1, 1], [2, 2]], [[1e308, 1e308, -1e308, 0, 5, 5]], ["a", None, {}],
)  # fmt: skip

TOKENS = (
    b"", b"0", b"-1", b"1e999", b"nan", b"inf", b"1_0", b"0x10", b"99999999999999999999", b"9" * 5000, b"..", b"/",
    b"\\", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"'", b'"', b"[", b"]", b"{", b"}", b":", b",", b"#", b"- ", b"|",
    b"&a", b"*a", b"!!python/object:os.system", b"\t", b"\r", b"\n", b"\x1b[31m", b" " * 2000, b"[" * 3000, b"names:",
    b"a: b", "\u2028".encode(), "ä".encode(), "٣".encode(),
)  # fmt: skip


def break_input(example: bytes, rng: random.Random, *, is_json: bool) -> bytes:
    """A broken copy of a valid file; now and then the file itself."""
    data = example
    if is_json and rng.random() < 0.75:
        tree = json.loads(example)
        with contextlib.suppress(RecursionError, OverflowError):  # of the breaking itself
            for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
                tree = break_tree(tree, rng)
            data = json.dumps(tree, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
        if rng.random() < 0.9:
            return data
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        data = break_bytes(data, rng)
    return data


def break_tree(tree: Any, rng: random.Random) -> Any:
    """A copy of parsed JSON with one place broken."""
    places = [((), None, None), *_places(tree)]
    _, parent, key = rng.choice(places)
    old = tree if parent is None else parent[key]
    how = rng.randrange(7)
    if how == 0 and parent is not None:
        del parent[key]
        return tree
    if how == 1 and isinstance(parent, list):
        parent[key:key] = [deepcopy(parent[key]) for _ in range(rng.choice((1, 1, 2, 100)))]
        return tree
    if how == 2 and isinstance(parent, dict):
        parent[rng.choice(("", "id", "ID", "x", str(key).upper(), str(key) + " "))] = parent.pop(key)
        return tree
    if how == 3:
        new = _retyped(old, rng)
    elif how == 4:
        new = deepcopy(rng.choice(places)[1])  # a subtree from elsewhere
    elif how == 5:
        new = old
        for _ in range(rng.choice((1, 3, 90, 400))):
            new = [new] if rng.random() < 0.5 else {"a": new}
    else:
        new = deepcopy(rng.choice(VALUES))
    if parent is None:
        return new
    parent[key] = new
    return tree


def _places(tree: Any) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    stack = [((), tree)]
    while stack:
        place, node = stack.pop()
        entries = (
            list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        )
        for key, value in entries[:200]:
            yield (*place, key), node, key
            if len(place) < 12:
                stack.append(((*place, key), value))


def _retyped(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        return rng.choice((list(value.values()), list(value), json.dumps(value)[:500], len(value)))
    if isinstance(value, list):
        return rng.choice(({str(i): one for i, one in enumerate(value)}, str(value)[:500], value[:1], value[::-1]))
    if isinstance(value, str):
        return rng.choice(([value], {value: value}, len(value), value.upper(), value + "\u0000", value * 50))
    if isinstance(value, bool) or value is None:
        return rng.choice((str(value), 1, [value]))
    if isinstance(value, int) and abs(value) > 2**64:
        return str(value)
    return rng.choice((str(value), [value], -value, value * 1_000_003, value + 0.5, float(value), {"value": value}))


def break_bytes(data: bytes, rng: random.Random) -> bytes:
    """A copy with some bytes cut, flipped, moved or inserted."""
    place = rng.randrange(len(data) + 1)
    end = min(len(data), place + rng.choice((1, 2, 8, 64)))
    how = rng.randrange(7)
    if how == 0:
        return data[:place]
    if how == 1:
        return data[:place] + data[end:]
    if how == 2:
        return data[:place] + bytes(byte ^ (1 << rng.randrange(8)) for byte in data[place:end]) + data[end:]
    if how == 3:
        return data[:place] + rng.choice(TOKENS) + data[place:]
    if how == 4:
        return data[:place] + rng.choice(TOKENS) + data[end:]
    if how == 5:
        return data[:place] + data[place:end] * rng.choice((2, 3, 200)) + data[end:]
    return data[:place] + bytes(rng.randrange(256) for _ in range(end - place)) + data[end:]


# Running


def fuzz(
    count: int,
    seed: int,
    *,
    start: int = 0,
    only: str | None = None,
    save: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tally]:
    """Break `count` inputs, the same ones for the same seed, and hand each to its reader.

    Args:
        count: Inputs, spread evenly over the readers.
        seed: Of the breaking.
        start: Number of the first input.
        only: Name of one reader.
        save: Folder for inputs that fail; None keeps none.
        on_progress: Told how many are done, of how many.

    Returns:
        Outcomes of each reader.
    """
    with tempfile.TemporaryDirectory() as name:
        targets = [target for target in make_targets(Path(name)) if only in (None, target.name)]
        tallies = {target.name: Tally() for target in targets}
        for number in range(start, start + count):
            target = targets[number % len(targets)]
            rng = random.Random(f"{seed}:{target.name}:{number}")
            data = break_input(rng.choice(target.examples), rng, is_json=target.is_json)
            failure = run_one(target, data, _place(target, Path(name)), tallies[target.name])
            if failure is not None:
                line = f"{target.name}, input {number}: {failure}"
                tallies[target.name].failures.append(line)
                if save is not None:
                    save.mkdir(parents=True, exist_ok=True)
                    (save / f"{seed}-{number}-{Path(target.file).name}").write_bytes(data)
            if on_progress is not None:
                on_progress(number - start + 1, count)
        return tallies


def _place(target: Target, folder: Path) -> Path:
    return folder / f"read {target.name}" / target.file


def run_one(target: Target, data: bytes, path: Path, tally: Tally) -> str | None:
    """Hand one input to its reader; what went wrong, or None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    tally.inputs += 1
    try:
        with time_limit(SECONDS):
            target.read(path)
        tally.accepted += 1
    except InputError as error:
        try:
            check_message(error)
        except AssertionError as problem:
            return str(problem)
        tally.refused += 1
    except Hang:
        return f"no answer within {SECONDS:g} s"
    except DermaskError as error:
        return f"{type(error).__name__}, which is no InputError: {error}"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:300]
        return f"{type(error).__name__}: {text} ({Path(where.filename).name}:{where.lineno})"
    return None


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `Hang` in the block once it has taken so long; without effect where there are no such signals."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise Hang

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def limit_memory() -> None:
    """Let the process take `MEMORY` more than now; more than that is a `MemoryError`. Without effect on Windows."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def summary(tallies: dict[str, Tally]) -> str:
    """The outcomes as a Markdown table."""
    rows = [(name, one.inputs, one.accepted, one.refused, len(one.failures)) for name, one in tallies.items()]
    totals = [sum(row[column] for row in rows if isinstance(row[column], int)) for column in range(1, 5)]
    lines = ["| reader | inputs | read | refused in one line | failures |", "| --- | --- | --- | --- | --- |"]
    for name, inputs, accepted, refused, failures in [*rows, ("all", *totals)]:
        lines.append(f"| {name} | {inputs:,} | {accepted:,} | {refused:,} | {failures} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print failures to stderr and the table to stdout; 1 if there was a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="Number of the first input.")
    parser.add_argument("--only", help="Name of one reader, as in the table.")
    parser.add_argument("--save", type=Path, default=Path("fuzz-failures"), help="Folder for inputs that fail.")
    chosen = parser.parse_args(arguments)
    limit_memory()
    with counting("fuzz", "inputs", chosen.count) as show_progress:
        tallies = fuzz(
            chosen.count, chosen.seed, start=chosen.start, only=chosen.only, save=chosen.save, on_progress=show_progress
        )
    failures = [line for tally in tallies.values() for line in tally.failures]
    for line in failures:
        print(line, file=sys.stderr)
    print(summary(tallies))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
