"""`dermask export --int8`: a smaller, faster file, and what it costs, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dermask.cli.common import counting, note, open_data
from dermask.wording import plural

if TYPE_CHECKING:
    from dermask.export.cost import Cost
    from dermask.inference.detector import Photograph

MAX_LOSS = 0.005
# Without labels, two outlines of one lesion may differ by more than the figures of both.
_MAX_MASK_LOSS = 0.05


@dataclass(frozen=True, slots=True)
class Int8Request:
    """What was asked for; the fields are the options of the command."""

    model: Path
    output: Path
    calibrate: list[str]
    data: Path | None
    images: Path | None
    part: str | None
    max_loss: float
    seven_bits: bool
    force: bool
    licence: str | None


@contextmanager
def float_model(model: Path, export: Callable[[Path], None]) -> Iterator[Path]:
    """The exported model to start from: the file itself, the packaged one, or one written for the time being."""
    from dermask.inference.detector import find_model

    found = find_model(model)
    if found.suffix.lower() == ".onnx":
        yield found
        return
    with TemporaryDirectory(prefix="dermask-") as folder:
        file = Path(folder) / "float.onnx"
        export(file)
        yield file


def export_int8(source: Path, request: Int8Request, *, overwrite: bool) -> None:
    """Quantise an exported model, say what it costs and write it.

    Raises:
        WeightsError: It costs more than was allowed; nothing is written.
        InputError: Photographs or labels cannot be read.
    """
    from dermask import files
    from dermask.errors import WeightsError
    from dermask.export.quantize import describe, quantize_onnx
    from dermask.inference.onnx_detector import OnnxDetector
    from dermask.inference.photographs import collect_photographs

    found = collect_photographs(request.calibrate, output=request.output.parent / f"{request.output.stem}_calibrate")
    calibration: list[Photograph] = [photo.source for photo in found]
    judged = calibration if request.data is None else open_data(request.data, images=request.images, part=request.part)
    with counting("calibrate", "photographs", len(calibration)) as show_progress:
        graph = quantize_onnx(source, calibration=calibration, seven_bits=request.seven_bits, on_progress=show_progress)
    with files.replacing(request.output) as temporary:
        temporary.write_bytes(graph.SerializeToString())
        original, smaller = (
            OnnxDetector(source, device="cpu", threads=1),
            OnnxDetector(temporary, device="cpu", threads=1),
        )
        cost = _measure(original, smaller, judged)
        _tell(cost, source, temporary)
        _tell_times(source, temporary, calibration)
        loss, limit, words = _loss(cost, request.max_loss)
        if not (loss <= limit or request.force):  # so that NaN is refused too
            raise WeightsError(
                str(request.output),
                f"would lose {loss:.4f} of {words}, more than {limit:g}",
                "calibrate on other or more photographs, raise --max-loss, or pass --force",
            )
        describe(
            graph,
            calibration=calibration,
            seven_bits=request.seven_bits,
            cost=cost,
            licence=request.licence,
        )
        temporary.write_bytes(graph.SerializeToString())


def _measure(original: object, smaller: object, judged: object) -> Cost:
    from dermask.export.cost import measure_cost

    with counting("compare", "photographs", len(judged)) as show_progress:  # type: ignore[arg-type]
        return measure_cost(original, smaller, judged, show_progress)  # type: ignore[arg-type]


def _loss(cost: Cost, max_loss: float) -> tuple[float, float, str]:
    """What is lost, the limit for it, and its name."""
    if cost.labelled is not None:
        return cost.labelled.jaccard_loss, max_loss, "the Jaccard index"
    return 1 - cost.mask_iou, max(max_loss, _MAX_MASK_LOSS), "the masks' IoU with the original's"


def _tell(cost: Cost, source: Path, smaller: Path) -> None:
    sizes = (path.stat().st_size / 1e6 for path in (source, smaller))
    note("size: {:.1f} MB before, {:.1f} MB in 8 bits".format(*sizes))
    note(
        f"{plural(cost.photographs, 'photograph')} in both: masks overlap by {cost.mask_iou:.3f} (IoU), "
        f"another number of lesions on {cost.count_changed}"
    )
    if cost.labelled is None:
        return
    labelled = cost.labelled
    note("Jaccard index: {:.4f} before, {:.4f} in 8 bits".format(*labelled.jaccard))
    if labelled.jaccard_interval is not None:
        low, high, *_ = labelled.jaccard_interval
        note(f"  difference {-labelled.jaccard_loss:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, paired")
    note("mask AP: {:.4f} before, {:.4f} in 8 bits".format(*labelled.mask_ap))


def _tell_times(source: Path, smaller: Path, photographs: list[Photograph]) -> None:
    from dermask.export.cost import time_ratio
    from dermask.inference.detector import exported_detector
    from dermask.inference.engines import installed_engines

    for engine in installed_engines():
        opener = exported_detector(engine)
        ratio = time_ratio(opener(source, threads=1), opener(smaller, threads=1), photographs)
        note(f"{engine}: {ratio:.2f} times as fast as the original here, one thread, processor time")
