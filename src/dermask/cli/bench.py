"""`dermask bench`: how fast a model is on this machine, and whether its engines agree."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dermask.cli.common import JsonOption, ThreadsOption, counting, note, result
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.inference.detector import Detector

# Drawn where no photographs are given: as many as there are numbers of lesions below, at a dermoscope's usual shape.
_DRAWN = 16
_HEIGHT, _WIDTH = 768, 1024
_LESIONS = (0, 1, 2, 4)
_MEGAPIXELS = (0.3, 3.0, 12.0)
_AT_ONCE = (1, 4, 16)
_FOLDER_SAVES = {"masks and tables": ("mask", "coco", "csv"), "overlays too": ("overlay", "mask", "coco", "csv")}


def bench(
    model: Annotated[
        Path | None,
        typer.Argument(help="A run, a checkpoint or an .onnx file; by default the model that comes along."),
    ] = None,
    photos: Annotated[
        list[str] | None,
        typer.Option(help="Photographs or folders to time on; by default drawn ones.", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option(help="Photographs to take at most, spread over all.", min=1)] = 32,
    rounds: Annotated[int, typer.Option(help="How often each is timed.", min=1)] = 3,
    threads: ThreadsOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the engines beside each other.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Time a model on this machine, engine beside engine.

    \b
      dermask bench
      dermask bench runs/first --photos photos/ --threads 2
      dermask bench first.onnx --quick --json

    Engines take turns on the same photographs, and what they find is compared. Then: the cost by number of lesions and
    by size of the photograph, a whole folder beside the network alone, the time from a bare interpreter to the first
    result, and, where torch is installed, the least time that the network's arithmetic takes here. Takes a minute or
    two. Research use only.
    """
    from dermask.inference.detector import find_model
    from dermask.inference.photographs import collect_photographs

    path = find_model(model)
    with _photographs(photos) as inputs:
        found = [photo.source for photo in collect_photographs(inputs, output=Path("none"))]
        files = [source for source in found[:: max(1, len(found) // count)][:count] if isinstance(source, Path)]
        detectors = _open(path, threads)
        figures: dict[str, Any] = {"model": str(path), "photographs": len(files), "threads": threads, "rounds": rounds}
        figures["engines"] = _engines(detectors, files, rounds)
        if not quick:
            first = next(iter(detectors.values()))
            figures["lesions_ms"] = _by_lesions(first, rounds)
            figures["photograph_ms"] = _by_size(first, rounds)
            figures["at_once_ms"] = _by_number(first, files, rounds)
            figures["threads_ms"] = _by_threads(path, files, rounds)
            figures["folder_by_network"] = _folder(first, files)
            figures["start_seconds"] = _start(path, detectors, files[0], threads)
            figures["floor"] = _floor(path, figures["engines"], threads)
    result(json.dumps(figures, indent=2) if as_json else "\n".join(_as_text(figures)))


@contextmanager
def _photographs(given: list[str] | None) -> Iterator[list[str]]:
    """The photographs that were named, or a folder of drawn ones for the time being."""
    if given:
        yield given
        return
    from PIL import Image

    from dermask.data.synthetic import draw_scene
    from dermask.records import ImageSize

    with TemporaryDirectory(prefix="dermask-") as folder, counting("draw", "photographs", _DRAWN) as show_progress:
        for number in range(_DRAWN):
            scene = draw_scene(number, ImageSize(_HEIGHT, _WIDTH), num_lesions=_LESIONS[number % len(_LESIONS)])
            Image.fromarray(scene.image).save(Path(folder) / f"scene_{number:02}.jpg", quality=90)
            show_progress(number + 1, _DRAWN)
        yield [folder]


def _open(path: Path, threads: int | None) -> dict[str, Detector]:
    """The model on everything here that runs it, by name."""
    from dermask.inference.detector import exported_detector, load
    from dermask.inference.engines import has_fast_bf16, installed_engines

    if path.suffix.lower() == ".onnx":
        opened = {name: exported_detector(name)(path, threads=threads) for name in installed_engines()}
        return {f"{name}, {getattr(one, 'precision', 'fp32')}": one for name, one in opened.items()}
    detectors: dict[str, Detector] = {"torch, fp32": load(path, device="cpu", threads=threads)}
    if has_fast_bf16():
        from dermask.inference.torch_detector import TorchDetector

        detectors["torch, bf16"] = TorchDetector.from_checkpoint(path, precision="bf16", threads=threads)
    return detectors


def _engines(detectors: Mapping[str, Detector], files: list[Path], rounds: int) -> dict[str, Any]:
    from dataclasses import asdict

    from dermask.inference.preparing import prepare
    from dermask.inference.timing import Spread, agreement, time_in_turns

    (first, reference), *others = detectors.items()
    settings = reference.image_settings  # type: ignore[attr-defined]
    prepared = [prepare(file, settings) for file in files]
    total = 2 * (rounds + 1) * len(files)
    with counting("time", "photographs", total) as show_progress:
        network = time_in_turns(
            detectors, prepared, rounds=rounds, on_progress=lambda done, _: show_progress(done, total)
        )
        whole = time_in_turns(
            detectors, files, rounds=rounds, on_progress=lambda done, _: show_progress(total // 2 + done, total)
        )
    figures: dict[str, Any] = {}
    for name in detectors:
        figures[name] = {
            "network_ms": [1000 * value for value in Spread.of(network[name].wall)],
            "network_processor_ms": [1000 * value for value in Spread.of(network[name].processor)],
            "from_file_ms": [1000 * value for value in Spread.of(whole[name].wall)],
            "times_as_fast": list(network[name].times_as_fast(network[first])),
        }
    for name, other in others:
        figures[name]["agreement"] = asdict(agreement(reference, other, prepared))
    return figures


def _by_lesions(detector: Detector, rounds: int) -> dict[str, float]:
    """Milliseconds of a photograph with so many lesions."""
    from dermask.data.synthetic import draw_scene
    from dermask.records import ImageSize

    scenes = {str(number): draw_scene(3, ImageSize(480, 640), num_lesions=number).image for number in _LESIONS}
    return {name: _median_ms(detector, image, rounds) for name, image in scenes.items()}


def _by_size(detector: Detector, rounds: int) -> dict[str, float]:
    """Milliseconds of a photograph of so many megapixels, from a JPEG's bytes to detections."""
    import io

    from PIL import Image

    from dermask.data.synthetic import draw_scene
    from dermask.records import ImageSize

    drawn = Image.fromarray(draw_scene(3, ImageSize(_HEIGHT, _WIDTH), num_lesions=1).image)
    times = {}
    for megapixels in _MEGAPIXELS:
        scale = (megapixels * 1e6 / (_HEIGHT * _WIDTH)) ** 0.5
        content = io.BytesIO()
        drawn.resize((round(_WIDTH * scale), round(_HEIGHT * scale))).save(content, "JPEG", quality=90)
        times[f"{megapixels:g} megapixels"] = _median_ms(detector, content.getvalue(), rounds)
    return times


def _by_number(detector: Detector, files: list[Path], rounds: int) -> dict[str, float]:
    """Milliseconds of each photograph where so many are handed over at once, prepared beforehand."""
    from dermask.inference.preparing import prepare

    settings = detector.image_settings  # type: ignore[attr-defined]
    prepared = [prepare(file, settings) for file in (files * _AT_ONCE[-1])[: _AT_ONCE[-1]]]
    times = {}
    for number in _AT_ONCE:
        took = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            detector.predict(prepared[:number])  # type: ignore[arg-type]
            took.append(time.perf_counter() - started)
        times[str(number)] = 1000 * statistics.median(took[1:]) / number
    return times


def _by_threads(path: Path, files: list[Path], rounds: int) -> dict[str, float]:
    """Milliseconds of a photograph on so many threads; an exported model's alone, for torch has one number for all."""
    from dermask.inference.detector import exported_detector
    from dermask.inference.preparing import prepare
    from dermask.inference.timing import Spread, time_in_turns
    from dermask.threads import num_cores

    if path.suffix.lower() != ".onnx":
        return {}
    numbers = sorted({1, 2, num_cores()} & set(range(1, num_cores() + 1)))
    opened = {str(number): exported_detector("onnxruntime")(path, threads=number) for number in numbers}
    prepared = [prepare(file, opened["1"].image_settings) for file in files[:8]]
    times = time_in_turns(opened, prepared, rounds=rounds)
    return {name: 1000 * Spread.of(found.wall).median for name, found in times.items()}


def _median_ms(detector: Detector, photograph: Any, rounds: int) -> float:
    from dermask.inference.timing import Spread, time_in_turns

    times = time_in_turns({"it": detector}, [photograph], rounds=max(3, rounds))
    return 1000 * Spread.of(times["it"].wall).median


def _folder(detector: Detector, files: list[Path]) -> dict[str, list[float]]:
    """How many times as long as the network alone a folder takes, by what is saved."""
    from dermask.inference.timing import time_folder

    many = (files * (-(-64 // len(files))))[: max(64, len(files))]
    with TemporaryDirectory(prefix="dermask-") as folder:
        copies = [Path(folder) / f"{number:04}{file.suffix}" for number, file in enumerate(many)]
        for copy, file in zip(copies, many, strict=True):
            copy.write_bytes(file.read_bytes())
        return {name: list(time_folder(detector, copies, save)) for name, save in _FOLDER_SAVES.items()}  # type: ignore[arg-type]


def _start(path: Path, detectors: Mapping[str, Detector], file: Path, threads: int | None) -> dict[str, list[float]]:
    """Seconds, of the clock and of the processor, from a bare interpreter to the first result."""
    from dermask.inference.timing import time_start

    engines = [name.partition(",")[0] for name in detectors]
    return {
        engine: list(time_start(path, "auto" if engine == "torch" else engine, file, threads=threads))
        for engine in dict.fromkeys(engines)
    }


def _floor(path: Path, engines: Mapping[str, Any], threads: int | None) -> dict[str, Any] | None:
    """The least milliseconds of the network's arithmetic here; None without torch."""
    try:
        import torch

        from dermask.models.build import build_model
        from dermask.models.floor import count_flops, matrix_rate
    except ModuleNotFoundError:
        return None
    from dermask.inference.model_file import read_model_file

    if threads is not None:
        torch.set_num_threads(threads)
    flops = count_flops(build_model(read_model_file(path).settings, seed=0).eval())
    figures: dict[str, Any] = {"gflop": {part: value / 1e9 for part, value in flops.items()}}
    for name, precision in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rate = matrix_rate(precision)
        floor_ms = 1000 * sum(flops.values()) / rate
        figures[name] = {"gflop_per_second": rate / 1e9, "floor_ms": floor_ms}
        for engine, found in engines.items():
            if engine.endswith(name):
                figures[name][f"{engine.partition(',')[0]}_by_floor"] = found["network_ms"][0] / floor_ms
    return figures


def _as_text(figures: Mapping[str, Any]) -> Iterator[str]:
    threads = figures["threads"] or "all"
    rounds = plural(figures["rounds"], "round")
    yield f"{figures['model']}: {plural(figures['photographs'], 'photograph')}, {rounds} in turns, threads: {threads}"
    yield f"{'':24}{'network alone, ms':>26}{'from the file, ms':>26}{'times as fast':>26}"
    for name, found in figures["engines"].items():
        columns = (found["network_ms"], found["from_file_ms"])
        texts = [f"{median:.1f} ({low:.1f} to {high:.1f})" for median, low, high in columns]
        texts.append("{:.2f} ({:.2f} to {:.2f})".format(*found["times_as_fast"]))
        yield f"{name:24}" + "".join(f"{text:>26}" for text in texts)
        if "agreement" in found:
            from dermask.inference.timing import Agreement

            yield f"  agreement: {Agreement(**found['agreement'])}"
    if "lesions_ms" in figures:
        yield "by lesions: " + _join_ms(figures["lesions_ms"])
        yield "by size of the file: " + _join_ms(figures["photograph_ms"])
        yield "by photographs handed over at once: " + _join_ms(figures["at_once_ms"])
        if figures["threads_ms"]:
            yield "by threads of ONNX Runtime: " + _join_ms(figures["threads_ms"])
        for name, (median, low, high) in figures["folder_by_network"].items():
            yield f"a folder, {name}: {median:.2f} ({low:.2f} to {high:.2f}) times the network alone"
        for name, (wall, processor) in figures["start_seconds"].items():
            yield f"from import to the first result, {name}: {wall:.2f} s, {processor:.2f} s of processor"
        yield from _floor_text(figures["floor"])


def _join_ms(times: Mapping[str, float]) -> str:
    return ", ".join(f"{name}: {ms:.1f} ms" for name, ms in times.items())


def _floor_text(floor: Mapping[str, Any] | None) -> Iterator[str]:
    if floor is None:
        note("the floor of the network's arithmetic needs torch: pip install 'dermask[train]'")
        return
    parts = ", ".join(f"{part} {value:.2f}" for part, value in floor["gflop"].items())
    yield f"arithmetic of one photograph with one lesion: {sum(floor['gflop'].values()):.2f} GFLOP ({parts})"
    for name in ("fp32", "bf16"):
        found = floor[name]
        line = f"  at this machine's {found['gflop_per_second']:.0f} GFLOP/s in {name}: {found['floor_ms']:.1f} ms"
        ratios = [f"{key.removesuffix('_by_floor')} takes {value:.2f} times that" for key, value in found.items()
                  if key.endswith("_by_floor")]  # fmt: skip
        yield "; ".join([line, *ratios])
