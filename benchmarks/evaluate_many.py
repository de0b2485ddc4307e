"""Time and memory of `dermask evaluate` on many photographs: a labelled data set and its predictions, repeated.

    uv run dermask predict isic2017/ISIC-2017_Training_Data -o outlined --save coco
    uv run python benchmarks/evaluate_many.py outlined/coco_results.json --data isic2017 --part Training --count 10000

The photographs are links to those given, under new names, so that every one of them is opened, decoded and judged.
Memory is that of all processes together (proportional set size), looked at twice a second; Linux alone tells it.
Processor time says more than wall time on a machine that does other work too.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dermask.data.formats import open_dataset
from dermask.errors import InputError
from dermask.records import MaskFile


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark: 0 done, 1 data that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="COCO results of the data set")
    parser.add_argument("--data", type=Path, required=True, help="an ISIC folder, or images with masks")
    parser.add_argument("--part", help="part of an ISIC root")
    parser.add_argument("--count", type=int, default=10_000, help="photographs")
    parser.add_argument("--options", nargs="*", default=[], help="for dermask evaluate, without the first dashes")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            repeat(options, Path(folder))
        except InputError as error:
            print(error, file=sys.stderr)
            return 1
        command = [sys.executable, "-m", "dermask", "evaluate", f"{folder}/results.json", "--data", f"{folder}/data"]
        command += ["-o", f"{folder}/judged", *(f"--{option}" for option in options.options)]
        seconds, peak, status = measure(command)
        page = Path(folder) / "judged" / "report.html"
        size = page.stat().st_size if page.is_file() else 0
    print(f"photographs      {options.count:,}")
    print(f"wall time        {seconds:.0f} s, {1000 * seconds / options.count:.1f} ms each")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = used.ru_utime + used.ru_stime
    print(f"processor time   {busy:.0f} s, {1000 * busy / options.count:.1f} ms each")
    print(f"peak memory      {peak / 2**20:,.0f} MiB, all processes together")
    print(f"page             {size / 1e6:.1f} MB")
    return status


def repeat(options: argparse.Namespace, folder: Path) -> None:
    """Lay out `count` photographs with masks and predictions under new names.

    Raises:
        InputError: The data set has no mask images.
    """
    dataset = open_dataset(options.data, part=options.part)
    found = defaultdict(list)
    for entry in json.loads(options.results.read_text(encoding="utf-8")):
        found[entry["image_id"]].append(entry)
    images, masks = folder / "data" / "images", folder / "data" / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    results = []
    for number in range(options.count):
        sample = dataset[number % len(dataset)]
        outline = sample.instances[0].outline if sample.instances else None
        if not isinstance(sample.image, Path) or not isinstance(outline, MaskFile):
            raise InputError(sample.image_id, "has no mask image", "give an ISIC folder")
        name = f"copy_{number:06d}"
        (images / f"{name}{sample.image.suffix}").symlink_to(sample.image.resolve())
        (masks / f"{name}{outline.path.suffix}").symlink_to(outline.path.resolve())
        results += [entry | {"image_id": name} for entry in found[sample.image_id]]
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


def measure(command: Sequence[str]) -> tuple[float, int, int]:
    """Wall time in seconds, peak memory in bytes and exit status of a command and all its processes."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(memory(pid) for pid in session(process.pid)))
        time.sleep(0.5)
    return time.monotonic() - started, peak, process.returncode


def session(leader: int) -> list[int]:
    """The processes that a command and its children started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            if int(fields[3]) == leader:
                found.append(int(entry.name))
    return found


def memory(pid: int) -> int:
    """Proportional set size of a process, bytes; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


if __name__ == "__main__":
    raise SystemExit(main())
