"""Photographs and mask images: bytes in, upright RGB or bool pixels out.

The format is told by the content, never by the name, and only JPEG, PNG, TIFF, BMP and WebP are opened. The pixel
count is read from the header and checked before anything is decoded. All pixels come out as a person sees them: EXIF
orientation applied, transparency laid on white, 16 bits scaled down to 8 by the range of the type.

Shapes: H, W height and width of the upright photograph.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import BmpImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from dermask import files
from dermask.errors import ImageError
from dermask.records import BoolArray, ByteArray, ImageSize

Source = str | Path | bytes
"""A photograph: where it is, or its content."""
MAX_PIXELS = 64_000_000
"""Default limit on height times width: above every dermatoscope's camera, and 192 MB once decoded."""

MASK_THRESH = 128
"""Pixels of a mask image above this belong to the object, on the scale 0 to 255 (the ISIC challenges' rule)."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WebP")
"""The formats that are read."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"})
"""How files of these formats are named, in lower case; decides which files of a folder count as photographs."""

_WHITE = (255, 255, 255)
_BLACK = (0, 0, 0)
_CONVERT = f"convert it to one of {', '.join(FORMATS)}"

# The plugins are called directly: Image.open() would warn or raise by its own global pixel limit, which belongs to the
# program that imports us.
_PLUGINS: dict[str, Any] = {
    "JPEG": JpegImagePlugin.jpeg_factory,
    "PNG": PngImagePlugin.PngImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
)
# What people hand over by mistake, named in the message.
_FOREIGN_SIGNATURES = (
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"<svg", "an SVG drawing"),
    (b"<", "a web page or XML text"),
    (b"{", "JSON text"),
)
_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width


def read_image(
    source: Source,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
    target_side: int | None = None,
) -> ByteArray:
    """Decode a photograph.

    Args:
        source: A file, or its content.
        max_pixels: Limit on height times width, checked before decoding.
        name: What messages call it; default the path.
        target_side: Decode a JPEG at 1/2, 1/4 or 1/8 of its size as long as its short side keeps at least this many
            pixels: several times faster when a small picture is wanted. The result may be larger than asked for.
            Other formats are not affected.

    Returns:
        (H, W, 3) uint8 RGB, upright, writable. Grey, palette, CMYK and 16-bit files are converted; transparent pixels
        become white; of an animation or a stack of pages the first is taken.

    Raises:
        ImageError: Missing, empty, truncated, of another format, or with too many pixels; one line that says which.
    """
    image = _decode(source, name, max_pixels, target_side=target_side, background=_WHITE)
    return np.array(image)


def decode_mask(source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> BoolArray:
    """Decode a mask image.

    Args:
        source: A file, or its content.
        max_pixels: Limit on height times width, checked before decoding.
        name: What messages call it; default the path.

    Returns:
        (H, W) bool, True above 128 on the scale 0 to 255 (16-bit values are scaled to it first), whatever the values
        that occur: a mask saved as 0 and 1 is empty. Colours count by their luma; transparent pixels are False.

    Raises:
        ImageError: As `read_image`.
    """
    return decode_levels(source, max_pixels=max_pixels, name=name) > MASK_THRESH


def decode_levels(source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> ByteArray:
    """The grey levels of a mask image, (H, W) uint8, from which `decode_mask` takes those above 128.

    Raises:
        ImageError: As `read_image`.
    """
    image = _decode(source, name, max_pixels, target_side=None, background=_BLACK)
    return np.asarray(image.convert("L"))


def file_format(source: Source, *, name: str | None = None) -> str:
    """The format of an image file by its first bytes: one of `FORMATS`.

    Raises:
        ImageError: It cannot be opened, or is of another format.
    """
    item = name or (f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source))
    with _open_file(source, item) as file:
        return _sniff(file, item)


def image_size(source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> ImageSize:
    """Height and width of the upright photograph, read from its header.

    Raises:
        ImageError: As `read_image`, as far as the header tells.
    """
    with _opened(source, name, max_pixels) as (image, _):
        if isinstance(image, PngImagePlugin.PngImageFile) and _has_late_metadata(image.fp):
            image.load()  # the orientation stands behind the pixels, and only loading gets there
        width, height = _stored_size(image)
        return ImageSize(width, height) if _orientation(image) in _SIDEWAYS else ImageSize(height, width)


def orientation(source: Source, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> int:
    """The EXIF orientation of a photograph as stored, 1 to 8; 1 is upright, and where none is stated.

    Raises:
        ImageError: As `read_image`, as far as the header tells.
    """
    with _opened(source, name, max_pixels) as (image, _):
        if isinstance(image, PngImagePlugin.PngImageFile) and _has_late_metadata(image.fp):
            image.load()
        return _orientation(image)


def resize(image: ByteArray, size: ImageSize) -> ByteArray:
    """Scale pixels to `size` with a bilinear filter whose support grows when shrinking, so that nothing aliases.

    Args:
        image: (H, W, 3) or (H, W) uint8.
        size: Wanted height and width, at least 1 each.

    Returns:
        uint8 of `size`, with the channels of `image`; `image` itself where it has that size already.
    """
    if image.shape[:2] == tuple(size):
        return image
    # reducing_gap 2 halves by whole factors first: several times faster on large photographs, and hardly visible.
    scaled = Image.fromarray(image).resize((size.width, size.height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.array(scaled)


def encode_png(array: ByteArray | BoolArray) -> bytes:
    """A PNG file's content for (H, W, 3) uint8 RGB, (H, W) uint8 grey, or (H, W) bool as 0 and 255."""
    pixels = array.astype(np.uint8) * np.uint8(255) if array.dtype == np.bool_ else array
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: str | Path, array: ByteArray | BoolArray) -> None:
    """Write `encode_png(array)` to `path`, whole or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    files.write_bytes(Path(path), encode_png(array))


def _decode(
    source: Source,
    name: str | None,
    max_pixels: int,
    *,
    target_side: int | None,
    background: tuple[int, int, int],
) -> Image.Image:
    """Upright RGB."""
    with _opened(source, name, max_pixels) as (image, item):
        if target_side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            image.draft(None, (max(target_side, 1), max(target_side, 1)))
        image.load()
        # A TIFF is turned upright by Pillow when it is loaded; everything else is turned here.
        orientation = 1 if isinstance(image, TiffImagePlugin.TiffImageFile) else _orientation(image)
        upright = _to_rgb(image, background, item)
        return upright.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else upright


@contextmanager
def _opened(source: Source, name: str | None, max_pixels: int) -> Iterator[tuple[Any, str]]:
    """The image with its header read and its pixel count checked, and what messages call it."""
    item = name or (f"image of {len(source)} bytes" if isinstance(source, bytes) else str(source))
    with _open_file(source, item) as file, _no_warnings():
        kind = _sniff(file, item)
        try:
            if kind == "WebP":
                _check_pixels(_webp_size(file), max_pixels, item)
            with _PLUGINS[kind](file, "") as image:
                _check_pixels(_stored_size(image), max_pixels, item)
                yield image, item
        except ImageError:
            raise
        except MemoryError:
            raise ImageError(item, "needs more memory than there is", "shrink it, or close other programs") from None
        except Exception as error:  # the decoders raise anything from SyntaxError to struct.error on damaged files
            reason = " ".join(str(error).split()) or type(error).__name__
            problem = f"is a {kind} file that is damaged or cut short ({reason})"
            raise ImageError(item, problem, "copy or export it again") from None


def _open_file(source: Source, item: str) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return Path(source).open("rb")
    except FileNotFoundError:
        raise ImageError(item, "no such file", "check the path") from None
    except IsADirectoryError:
        raise ImageError(item, "is a folder, not an image", "name a file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(item, f"cannot be opened: {reason}", "check its permissions") from None


def _sniff(file: BinaryIO, item: str) -> str:
    """The format by the first bytes; leaves the file at its start."""
    try:
        head = file.read(16)
    except OSError as error:
        raise ImageError(item, f"cannot be read: {error.strerror or error}", "check the disk") from None
    file.seek(0)
    if not head:
        raise ImageError(item, "is empty (0 bytes)", "copy or export it again")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    foreign = "HEIC, AVIF or a film" if head[4:8] == b"ftyp" else "not an image that dermask knows"
    for signature, description in _FOREIGN_SIGNATURES:
        if head.startswith(signature):
            foreign = description
            break
    raise ImageError(item, f"is {foreign}", _CONVERT)


def _webp_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height from a WebP header: Pillow's decoder takes memory for the canvas before it tells its size."""
    head = file.read(30)
    file.seek(0)
    if len(head) < 30:
        raise EOFError("header cut short")
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("unknown first chunk")


def _stored_size(image: Any) -> tuple[int, int]:
    """Width and height of the pixels as stored; Pillow gives a TIFF's after turning it upright."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2[TiffImagePlugin.IMAGEWIDTH]), int(image.tag_v2[TiffImagePlugin.IMAGELENGTH])
    return image.size  # type: ignore[no-any-return]


def _check_pixels(size: tuple[int, int], max_pixels: int, item: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(item, f"says it is {width} x {height} pixels", "copy or export it again")
    if width * height > max_pixels:
        problem = f"has {width} x {height} pixels, {width * height / 1e6:.1f} million"
        raise ImageError(item, problem, f"shrink it to at most {max_pixels / 1e6:g} million")


def _has_late_metadata(file: Any) -> bool:
    """Whether a PNG has text or EXIF chunks behind its pixels; the file is left where it was."""
    position = file.tell()
    file.seek(8)
    seen_pixels = found = False
    while not found and len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        seen_pixels |= kind == b"IDAT"
        found = seen_pixels and kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt")
        file.seek(length + 4, io.SEEK_CUR)  # the content and its checksum
    file.seek(position)
    return found


def _orientation(image: Any) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it makes no sense."""
    try:
        # Not a PNG's own getexif(), which decodes all pixels to look behind them.
        value = Image.Image.getexif(image).get(_ORIENTATION_TAG)
    except Exception:  # a photograph with broken EXIF data is still a photograph
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSE else 1


def _to_rgb(image: Image.Image, background: tuple[int, int, int], item: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        canvas = _wide_grey_to_8_bit(image, item).convert("RGB")
        if isinstance(transparent := image.info.get("transparency"), int):
            canvas.paste(background, mask=Image.fromarray(np.asarray(image) == transparent))
        return canvas
    if image.mode == "La":
        image = image.convert("LA")
    if ("A" in image.mode.upper() and image.mode != "LAB") or "transparency" in image.info:
        colours = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, background)
        canvas.paste(colours, mask=colours.getchannel("A"))
        return canvas
    return image.convert("RGB")


def _wide_grey_to_8_bit(image: Image.Image, item: str) -> Image.Image:
    """Grey of 9 to 32 bits or floats, scaled so that the largest value of the type becomes 255."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    bits = int(tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0])
    if image.mode == "F":
        largest = 1.0
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageError(item, "has floating point pixels outside 0 to 1", "convert it to 8 or 16 bits")
    else:
        signed = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == 2
        if bits == 32 and not signed:
            values = values.view(np.uint32)  # Pillow keeps 32 bits as signed, whatever they were
        largest = float(2 ** (bits - signed) - 1)
    scaled = np.clip(values.astype(np.float32) * np.float32(255 / largest) + np.float32(0.5), 0, 255).astype(np.uint8)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero
        scaled = 255 - scaled
    return Image.fromarray(scaled)


class _WarningGate:
    """Silences warnings while any thread decodes, and restores the filters when the last one is done.

    Pillow warns about damaged metadata of photographs that are perfectly readable. `warnings.catch_warnings` alone
    is not enough: the filters are global, and threads that leave it in another order than they came restore wrongly.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


_GATE = _WarningGate()


@contextmanager
def _no_warnings() -> Iterator[None]:
    _GATE.enter()
    try:
        yield
    finally:
        _GATE.leave()
