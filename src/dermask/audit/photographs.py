"""One look at each photograph, in worker processes: decoded once, judged with its outlines, and summed up in a record.

What comes back for a photograph is small and of fixed size but for its findings, so that memory does not grow with the
pixels of a data set. A photograph that kills its worker process is told as a finding; see `workers.map_in_processes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dermask import images
from dermask.audit import mask_fit
from dermask.audit.findings import Finding, Place, Severity
from dermask.audit.left_out import photograph_kind
from dermask.audit.near_duplicates import SIDE, Signature, signature
from dermask.audit.outlines import Photograph, check_outlines
from dermask.audit.settings import AuditSettings
from dermask.data.workers import WORKER_DIED, map_in_processes
from dermask.errors import ImageError
from dermask.records import BoolArray, ByteArray, ImageSize, Sample

FOOTPRINT_SIDE = 96
"""Side of the square on which the outlines of two copies of a photograph are compared."""

_SAMPLED_SIDE = 96  # pixels along the short side that brightness and colour are taken from
_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg"},
    "PNG": {".png"},
    "TIFF": {".tif", ".tiff"},
    "BMP": {".bmp"},
    "WebP": {".webp"},
}
_WHOLE_BORDER = 0.95
"""Share of the photograph's border that the inverse of a small lesion covers."""
_TURNED_BY = {
    2: "mirrored left to right",
    3: "rotated by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored and rotated by 90 degrees",
    6: "rotated by 270 degrees",
    7: "mirrored and rotated by 270 degrees",
    8: "rotated by 90 degrees",
}
"""What an EXIF orientation does to a photograph, in the words of `mask_fit.TURNS`."""


@dataclass(frozen=True, slots=True)
class Task:
    """A photograph to look at.

    Attributes:
        part: Its part's name.
        sample: The photograph and its labels.
        class_names: Of its data set.
        settings: Thresholds.
        wants_hash: Whether another file has as many bytes, so that the content must be compared.
    """

    part: str
    sample: Sample
    class_names: tuple[str, ...]
    settings: AuditSettings
    wants_hash: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a photograph.

    Attributes:
        findings: What is wrong with it alone.
        num_outlines: Labelled outlines.
        touches_border: Whether an outline reaches the photograph's border.
        file_hash: 20 bytes, of the file as stored; empty where it was not asked for.
        pixel_hash: 20 bytes, of the decoded pixels; empty where they cannot be read.
        looks: What it is compared with others by; None where that is not wanted or it cannot be read.
        footprint: Packed bits of a square that all its outlines were scaled to; empty without outlines.
    """

    findings: tuple[Finding, ...] = ()
    num_outlines: int = 0
    touches_border: bool = False
    file_hash: bytes = b""
    pixel_hash: bytes = b""
    looks: Signature | None = None
    footprint: bytes = b""


def look_at_all(
    tasks: Sequence[Task], *, processes: int | None = None, on_progress: Callable[[int, int], None] | None = None
) -> list[Look]:
    """Look at every photograph.

    Args:
        tasks: The photographs.
        processes: Worker processes; 1 works in this one. None takes one for each CPU there is, fewer for few
            photographs. A script that asks for more than one guards its own code by ``__name__ == "__main__"``.
        on_progress: Told how many are done, and of how many.
    """
    looks = []
    for look in map_in_processes(look_at, tasks, died=_died, processes=processes):
        looks.append(look)
        if on_progress is not None:
            on_progress(len(looks), len(tasks))
    return looks


def look_at(task: Task) -> Look:
    """Look at one photograph; whatever is wrong with it becomes a finding."""
    try:
        return _look(task)
    except Exception as error:  # the audit of thousands does not end at the one that nobody thought of
        return _failed(task, f"unexpected {type(error).__name__}: {' '.join(str(error).split())}")


def _died(task: Task) -> Look:
    return _failed(task, WORKER_DIED)


def _failed(task: Task, problem: str) -> Look:
    place = Place(task.part, task.sample.image_id)
    path = task.sample.image if isinstance(task.sample.image, Path) else None
    item = f"{task.part}: {task.sample.image_id}"
    cure = "look at the photograph by hand, and report it if it opens elsewhere"
    finding = Finding("not-audited", Severity.ERROR, item, problem, cure, place, photograph=path)
    return Look((finding,), len(task.sample.instances))


def _look(task: Task) -> Look:
    sample = task.sample
    place = Place(task.part, sample.image_id)
    file_hash = _hash_file(sample.image) if task.wants_hash and isinstance(sample.image, Path) else b""
    try:
        image, size = _decode(sample.image)
    except ImageError as error:
        photograph = Photograph(place, sample, ImageSize(0, 0), task.class_names, task.settings)
        cure = error.cure or "export it again"
        finding = photograph.finding(photograph_kind(error), Severity.ERROR, error.problem, cure)
        return Look((finding,), len(sample.instances), file_hash=file_hash)
    photograph = Photograph(place, sample, size, task.class_names, task.settings)
    findings = [*_check_photograph(photograph, image)]
    touches, footprint = False, b""
    if sample.size is not None and sample.size != size:
        findings.append(_wrong_size(photograph, sample.size))
    elif sample.instances:
        found, drawn, together = check_outlines(photograph)
        findings += found
        touches = any(one.touches_border for one in drawn)
        if together.any():
            footprint = _footprint(together)
            findings += _check_fit(photograph, image, together)
    return Look(
        tuple(findings),
        len(sample.instances),
        touches,
        file_hash,
        hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=20).digest(),
        signature(image) if task.settings.near_duplicates else None,
        footprint,
    )


def _decode(image: Path | ByteArray) -> tuple[ByteArray, ImageSize]:
    """The photograph, a JPEG at reduced scale, and its full size. All of the file is read, so a cut one is found."""
    if isinstance(image, np.ndarray):
        return image, ImageSize(*image.shape[:2])
    size = images.image_size(image)
    return images.read_image(image, target_side=SIDE), size


def _hash_file(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=20)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:  # told when it is decoded
        return b""
    return digest.digest()


def _footprint(mask: BoolArray) -> bytes:
    scaled = Image.fromarray(mask).resize((FOOTPRINT_SIDE, FOOTPRINT_SIDE), Image.Resampling.NEAREST)
    return np.packbits(np.asarray(scaled)).tobytes()


def _check_photograph(photograph: Photograph, image: ByteArray) -> Iterator[Finding]:
    settings = photograph.settings
    height, width = photograph.size
    if min(height, width) < settings.small_side:
        problem = f"has {width}x{height} pixels"
        cure = "use the photograph as it was taken, if there is one"
        yield photograph.finding("small-photograph", Severity.NOTE, problem, cure, measure=-float(min(height, width)))
    step = max(min(image.shape[:2]) // _SAMPLED_SIDE, 1)
    pixels = image[::step, ::step].reshape(-1, 3).astype(np.float32).T
    contrast = float(pixels.mean(axis=0).std())
    if contrast < settings.blank_contrast:
        problem = f"shows next to nothing: its brightness varies by {contrast:.1f} of 255 levels"
        cure = "leave it out, unless it shows skin"
        yield photograph.finding("blank-photograph", Severity.WARNING, problem, cure, measure=-contrast)
    elif (colour := float((pixels.max(axis=0) - pixels.min(axis=0)).mean())) <= settings.grey_levels:
        cure = "use the coloured one, if there is one"
        yield photograph.finding("grey-photograph", Severity.NOTE, "has no colour", cure, measure=-colour)
    path = photograph.sample.image
    if isinstance(path, Path):
        kind = images.file_format(path)
        if path.suffix.lower() in images.SUFFIXES and path.suffix.lower() not in _SUFFIXES[kind]:
            problem = f"is called {path.suffix} and holds {kind}"
            cure = "rename it; other programs may go by the name"
            yield photograph.finding("wrong-suffix", Severity.NOTE, problem, cure)


def _wrong_size(photograph: Photograph, stated: ImageSize) -> Finding:
    height, width = photograph.size
    turned = stated == (width, height)
    problem = f"was labelled at {stated.width}x{stated.height}, the photograph has {width}x{height} pixels"
    if turned:
        problem += " (turned by its EXIF orientation?)"
    cure = "label the photograph at its own size, or restore the one that was labelled"
    return photograph.finding("turned" if turned else "wrong-size", Severity.ERROR, problem, cure)


def _check_fit(photograph: Photograph, image: ByteArray, together: BoolArray) -> Iterator[Finding]:
    """Whether the outlines lie on something, and on the lesion rather than around it."""
    settings = photograph.settings
    share = float(np.count_nonzero(together)) / together.size
    if not settings.tiny_share <= share <= 1 - settings.tiny_share or min(photograph.size) < mask_fit.SIDE // 2:
        return
    small, mask = mask_fit.shrink(image), mask_fit.shrink_mask(together)
    if small.shape[:2] != mask.shape:
        return  # a photograph so narrow that its reduced copy rounds to another shape
    inverse = _check_inverse(photograph, small, mask, share)
    if inverse is not None:
        yield inverse
    elif share < settings.full_share:
        yield from _check_alignment(photograph, small, mask)


def _check_inverse(photograph: Photograph, small: mask_fit.Plane, mask: mask_fit.Plane, share: float) -> Finding | None:
    """Whether the outlines, which cover `share` of the photograph, are around the lesion; on its reduced copy."""
    settings = photograph.settings
    border, brighter = mask_fit.inversion(small, mask)
    # The inverse of a small lesion covers nearly all, border included; a lesion that fills the frame leaves bits of it.
    least_border = _WHOLE_BORDER if share >= settings.full_share else settings.inverted_border
    if border < least_border or brighter < settings.inverted_darkness:
        return None
    problem = f"covers {border:.0%} of the photograph's border and is brighter than what it leaves out"
    cure = "look at it; swap inside and outside if it covers the skin"
    return photograph.finding("inverted-mask", Severity.WARNING, problem, cure, measure=brighter)


def _check_alignment(photograph: Photograph, small: mask_fit.Plane, mask: mask_fit.Plane) -> Iterator[Finding]:
    """Whether the outlines would lie on a border if they were turned or moved; on the photograph's reduced copy."""
    settings = photograph.settings
    usable = mask_fit.skin_and_lesion(small)
    here = mask_fit.contrast(small, mask, usable)
    if here >= settings.unaligned_contrast:
        return
    least = max(settings.unaligned_best, settings.unaligned_gain * here)
    path = photograph.sample.image
    orientation = images.orientation(path) if isinstance(path, Path) else 1
    if orientation != 1:
        turned = mask_fit.turn(mask, _TURNED_BY[orientation])
        there = mask_fit.contrast(small, turned, usable) if turned.shape == mask.shape else 0.0
        if there >= least:
            problem = (
                f"lies on no border, and on one when turned as the photograph's EXIF orientation {orientation} says"
            )
            cure = "turn the outline likewise, or draw it again on the upright photograph"
            yield photograph.finding("turned", Severity.WARNING, problem, cure, measure=there - here)
            return
    fit = mask_fit.best_fit(small, mask)
    if fit.overlap < settings.unaligned_overlap and fit.best >= least:
        problem = f"lies on no border; {fit.change} it fits {fit.best / max(fit.contrast, 0.01):.0f} times better"
        cure = "check that it belongs to this photograph"
        yield photograph.finding("unaligned-mask", Severity.WARNING, problem, cure, measure=fit.best - fit.contrast)
