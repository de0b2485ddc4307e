from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermask import images
from dermask.errors import ImageError, InputError
from dermask.records import ByteArray, ImageSize

ORIENTATION_TAG = 0x0112
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")


def gradient(height: int = 24, width: int = 36) -> ByteArray:
    """A picture in which no flip or turn looks like another: red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // (width - 1), y * 255 // (height - 1), np.full_like(x, 60)], axis=-1).astype(np.uint8)


def encode(image: Image.Image | ByteArray, kind: str, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if kind == "WEBP":
        options = {"lossless": True, "exact": True, **options}
    if kind == "JPEG":
        options = {"quality": 95, "subsampling": 0, **options}
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_orientation(image: ByteArray, kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    if kind == "TIFF":
        return encode(image, kind, tiffinfo={ORIENTATION_TAG: orientation})
    return encode(image, kind, exif=exif)


def stored_for(upright: ByteArray, orientation: int) -> ByteArray:
    """The pixels as a camera with that orientation stores them, by the definition of the EXIF standard.

    Orientation says on which side of the upright picture the stored first row and first column are.
    """
    undo = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: upright.swapaxes(0, 1)[::-1],  # first row at the right, first column at the top
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: upright.swapaxes(0, 1)[:, ::-1],  # first row at the left, first column at the bottom
    }
    return np.ascontiguousarray(undo[orientation])


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int, height: int, depth: int, colour: int, rows: bytes, *, extra: bytes = b"", end: bytes = b""
) -> bytes:
    """A PNG of any kind, bit by bit, with chunks before and after its pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + end + png_chunk(b"IEND", b"")


# Formats and kinds of pixels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("from_file", [False, True], ids=["bytes", "file"])
def test_every_format_is_read_by_content_whatever_its_name(tmp_path: Path, kind: str, from_file: bool) -> None:
    content = encode(gradient(), kind)
    (tmp_path / "photo.txt").write_bytes(content)
    source = tmp_path / "photo.txt" if from_file else content
    image = images.read_image(source)
    assert image.dtype == np.uint8
    image[0, 0] = image[0, 0]  # may be written to
    assert image.flags.c_contiguous
    np.testing.assert_allclose(image.astype(int), gradient().astype(int), atol=6 if kind == "JPEG" else 0)
    assert images.image_size(source) == ImageSize(24, 36)


GREY = np.linspace(0, 255, 20, dtype=np.uint8).reshape(4, 5)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    image = images.read_image(encode(GREY, kind, **({"quality": 100} if kind == "JPEG" else {})))
    np.testing.assert_allclose(image.astype(int), np.repeat(GREY[..., None], 3, axis=-1).astype(int), atol=2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_becomes_black_and_white(kind: str) -> None:
    bits = GREY > 100
    image = images.read_image(encode(Image.fromarray(bits), kind))
    np.testing.assert_array_equal(image[..., 0], bits * 255)
    np.testing.assert_array_equal(images.decode_mask(encode(Image.fromarray(bits), kind)), bits)


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("TIFF", "RGBA"), ("WEBP", "RGBA"), ("PNG", "LA")])
def test_transparency_lies_on_white(kind: str, mode: str) -> None:
    pixels = Image.new("RGBA", (3, 1), (100, 100, 100, 255))
    pixels.putpixel((1, 0), (100, 100, 100, 0))
    pixels.putpixel((2, 0), (100, 100, 100, 51))  # a fifth
    image = images.read_image(encode(pixels.convert(mode), kind))
    np.testing.assert_array_equal(image[0, :, 0], [100, 255, 224])
    assert (image == image[..., :1]).all()


def test_palette_is_looked_up() -> None:
    pixels = Image.fromarray(gradient()).quantize(16)
    np.testing.assert_array_equal(images.read_image(encode(pixels, "PNG")), np.asarray(pixels.convert("RGB")))
    np.testing.assert_array_equal(images.read_image(encode(pixels, "BMP")), np.asarray(pixels.convert("RGB")))


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"], ids=["index", "alpha of each entry"])
def test_palette_with_transparency_lies_on_white(transparency: object) -> None:
    pixels = Image.new("P", (3, 1))
    pixels.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    for x in range(3):
        pixels.putpixel((x, 0), x)
    image = images.read_image(encode(pixels, "PNG", transparency=transparency))
    np.testing.assert_array_equal(image[0], [[10, 20, 30], [255, 255, 255], [70, 80, 90]])


@pytest.mark.parametrize("transparency", [(10, 20, 30)])
def test_transparent_colour_of_rgb_lies_on_white(transparency: tuple[int, int, int]) -> None:
    pixels = Image.new("RGB", (2, 1), (10, 20, 30))
    pixels.putpixel((1, 0), (11, 20, 30))
    image = images.read_image(encode(pixels, "PNG", transparency=transparency))
    np.testing.assert_array_equal(image[0], [[255, 255, 255], [11, 20, 30]])


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    pixels = Image.fromarray(gradient()).convert("CMYK")
    image = images.read_image(encode(pixels, kind))
    np.testing.assert_allclose(image.astype(int), gradient().astype(int), atol=8)


def test_ycck_jpeg_of_adobe_becomes_rgb() -> None:
    # A CMYK JPEG by Adobe says in its APP14 marker whether its four components are CMYK (0) or YCCK (2).
    content = encode(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG", quality=100)
    marker = content.index(b"Adobe") + 11
    assert content[marker] == 0
    as_cmyk = images.read_image(content)
    np.testing.assert_allclose(as_cmyk, 255, atol=2)  # no ink
    ycck = bytearray(content)
    ycck[marker] = 2
    # Stored inverted as (255, 255, 255, 255): as Y, Cb, Cr it is a bright colour, not white.
    image = images.read_image(bytes(ycck))
    with Image.open(io.BytesIO(bytes(ycck))) as reference:
        np.testing.assert_array_equal(image, np.asarray(reference.convert("RGB")))
    assert not np.array_equal(image, as_cmyk)


WIDE = np.array([[0, 128, 257, 25_700, 32_896, 65_535]], np.uint16)
WIDE_IN_8_BITS = [0, 0, 1, 100, 128, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_by_the_range_of_the_type(kind: str) -> None:
    image = images.read_image(encode(WIDE, kind))
    np.testing.assert_array_equal(image[0, :, 0], WIDE_IN_8_BITS)
    assert (image == image[..., :1]).all()


def test_16_bit_grey_tiff_of_the_other_byte_order_is_the_same() -> None:
    content = encode(Image.fromarray(WIDE.astype(">u2")), "TIFF")
    assert content[:2] == b"MM"
    np.testing.assert_array_equal(images.read_image(content)[0, :, 0], WIDE_IN_8_BITS)


def test_dark_16_bit_picture_stays_dark() -> None:
    image = images.read_image(encode(np.full((3, 3), 2570, np.uint16), "PNG"))
    assert (image == 10).all()


def test_16_bit_colour_png_keeps_its_high_bytes() -> None:
    rows = b"\0" + struct.pack(">6H", 0x1234, 0x8000, 0xFFFF, 0, 0x00FF, 0xABCD)
    image = images.read_image(png(2, 1, 16, 2, rows))
    np.testing.assert_array_equal(image[0], [[0x12, 0x80, 0xFF], [0, 0, 0xAB]])


def test_16_bit_grey_with_transparent_value_lies_on_white() -> None:
    rows = b"\0" + struct.pack(">3H", 1000, 1001, 30_000)
    image = images.read_image(png(3, 1, 16, 0, rows, extra=png_chunk(b"tRNS", struct.pack(">H", 1000))))
    np.testing.assert_array_equal(image[0, :, 0], [255, 4, 117])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits_spans_the_whole_range(depth: int) -> None:
    image = images.read_image(png(2, 1, depth, 0, bytes([0, (2**depth - 1) << (8 - depth)])))
    np.testing.assert_array_equal(image[0, :, 0], [255, 0])


def test_white_is_zero_tiff_is_turned_over() -> None:
    content = encode(WIDE, "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(images.read_image(content)[0, :, 0], 255 - np.array(WIDE_IN_8_BITS))


def test_32_bit_tiffs_are_scaled() -> None:
    np.testing.assert_array_equal(
        images.read_image(encode(np.array([[0, 2**30, 2**31 - 1]], np.int32), "TIFF"))[0, :, 0], [0, 128, 255]
    )
    np.testing.assert_array_equal(
        images.read_image(encode(np.array([[0, 0.5, 1]], np.float32), "TIFF"))[0, :, 0], [0, 128, 255]
    )


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0, np.nan, np.inf])
def test_floats_without_a_known_range_are_refused(value: float) -> None:
    with pytest.raises(ImageError, match="floating point pixels outside 0 to 1; convert it to 8 or 16 bits"):
        images.read_image(encode(np.array([[0, value]], np.float32), "TIFF"))


@pytest.mark.parametrize("mode", ["YCbCr", "LAB"])
def test_other_colour_spaces_of_tiff(mode: str) -> None:
    pixels = Image.new(mode, (4, 3), (150, 90, 140))
    np.testing.assert_array_equal(images.read_image(encode(pixels, "TIFF")), np.asarray(pixels.convert("RGB")))


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PNG"])
def test_first_picture_of_several_is_taken(kind: str) -> None:
    first, second = Image.fromarray(gradient()), Image.new("RGB", (36, 24), "white")
    content = encode(first, kind, save_all=True, append_images=[second])
    np.testing.assert_array_equal(images.read_image(content), gradient())


def test_jpeg_with_a_second_picture_inside_is_read() -> None:
    content = encode(gradient(), "MPO", save_all=True, append_images=[Image.new("RGB", (36, 24))], quality=95)
    np.testing.assert_allclose(images.read_image(content).astype(int), gradient().astype(int), atol=12)
    assert images.image_size(content) == ImageSize(24, 36)


# Orientation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    upright = gradient(24, 40)
    content = with_orientation(stored_for(upright, orientation), kind, orientation)
    assert images.image_size(content) == ImageSize(24, 40)
    image = images.read_image(content)
    assert image.shape == upright.shape
    np.testing.assert_allclose(image.astype(int), upright.astype(int), atol=8 if kind == "JPEG" else 0)
    assert images.decode_mask(content).shape == (24, 40)


def test_orientation_behind_the_pixels_of_a_png_is_applied() -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    late = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    content = png(3, 1, 8, 0, b"\0\x0a\x14\x1e", end=late)
    assert images.image_size(content) == ImageSize(3, 1)
    np.testing.assert_array_equal(images.read_image(content)[:, 0, 0], [10, 20, 30])


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientation_that_makes_no_sense_is_ignored(orientation: int) -> None:
    content = with_orientation(gradient(), "PNG", orientation)
    np.testing.assert_array_equal(images.read_image(content), gradient())


@pytest.mark.parametrize("exif", [b"", b"II*\0\xff\xff\xff\xff", b"garbage" * 9, b"MM\0*"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_does_not_hide_the_photograph(kind: str, exif: bytes) -> None:
    content = encode(gradient(), kind, exif=b"Exif\0\0" + exif)
    assert images.read_image(content).shape == (24, 36, 3)
    assert images.image_size(content) == ImageSize(24, 36)


# Smaller decoding ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target_side", "expected"),
    [
        (None, (203, 400)),
        (1, (26, 50)),
        (25, (26, 50)),
        (26, (51, 100)),
        (100, (102, 200)),
        (203, (203, 400)),
        (999, (203, 400)),
    ],
)
def test_target_side_decodes_to_the_smallest_scale_that_suffices(
    target_side: int | None, expected: tuple[int, int]
) -> None:
    content = encode(gradient(203, 400), "JPEG")
    image = images.read_image(content, target_side=target_side)
    assert image.shape[:2] == expected
    assert min(image.shape[:2]) >= min(target_side or 203, 203)
    assert images.image_size(content) == (203, 400)


def test_target_side_is_the_short_side_of_a_turned_photograph_too() -> None:
    content = with_orientation(stored_for(gradient(400, 200), 6), "JPEG", 6)
    assert images.read_image(content, target_side=50).shape == (100, 50, 3)


def test_target_side_leaves_other_formats_alone() -> None:
    assert images.read_image(encode(gradient(), "PNG"), target_side=2).shape == (24, 36, 3)


# Refusals ------------------------------------------------------------------------------------------------------------


def test_a_path_may_be_given_as_text(tmp_path: Path) -> None:
    pixels = np.full((4, 6, 3), 90, np.uint8)
    images.write_png(str(tmp_path / "photo.png"), pixels)
    np.testing.assert_array_equal(images.read_image(str(tmp_path / "photo.png")), pixels)
    assert images.image_size(str(tmp_path / "photo.png")) == (4, 6)
    with pytest.raises(ImageError, match=r"nowhere\.png: no such file"):
        images.read_image(str(tmp_path / "nowhere.png"))


def test_missing_file_folder_and_empty_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    for path, message in (
        (tmp_path / "none.jpg", r"none\.jpg: no such file; check the path"),
        (tmp_path, "is a folder, not an image"),
        (tmp_path / "empty.jpg", r"empty\.jpg: is empty \(0 bytes\)"),
        (tmp_path / "empty.jpg" / "a.jpg", "cannot be opened: Not a directory"),
        (tmp_path / "a\0.jpg", "cannot be opened"),
    ):
        for read in (images.read_image, images.decode_mask, images.image_size):
            with pytest.raises(ImageError, match=message):
                read(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may read everything")
def test_forbidden_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.jpg").chmod(0)
    with pytest.raises(ImageError, match="cannot be opened: Permission denied"):
        images.read_image(tmp_path / "a.jpg")


def test_name_of_bytes_is_given_or_made() -> None:
    with pytest.raises(ImageError, match=r"^upload 3: is empty"):
        images.read_image(b"", name="upload 3")
    with pytest.raises(ImageError, match=r"^image of 4 bytes: is not an image"):
        images.read_image(b"abcd")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"GIF89a" + bytes(20), "a GIF image"),
        (b"\0\0\0\x18ftypheic", "HEIC, AVIF or a film"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"<!DOCTYPE html>", "a web page"),
        (b'{"images": []}', "JSON text"),
        (b"8BPS\0\1", "not an image that dermask knows"),
        (bytes(1000), "not an image that dermask knows"),
        (b"\xff", "not an image that dermask knows"),
    ],
)
def test_foreign_file_is_named_with_the_formats_that_are_read(content: bytes, found: str) -> None:
    with pytest.raises(ImageError, match=f"is {found}.*; convert it to one of JPEG, PNG, TIFF, BMP, WebP$"):
        images.read_image(content)


def test_gif_is_not_opened_though_the_decoder_could() -> None:
    with pytest.raises(ImageError, match="a GIF image"):
        images.read_image(encode(GREY, "GIF"))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.9])
def test_truncated_file_is_refused_in_one_line(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    content = encode(noise, kind)
    with pytest.raises(ImageError, match=r"^a\.img: is a .* file that is damaged or cut short \(.+\); copy") as caught:
        images.read_image(content[: int(len(content) * share)], name="a.img")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg"])
def test_truncated_compressed_tiff_is_refused(compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    content = encode(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8), "TIFF", compression=compression)
    np.testing.assert_array_equal(images.read_image(content).shape, (60, 80, 3))
    with pytest.raises(ImageError, match="damaged or cut short"):
        images.read_image(content[: len(content) // 2])
    assert capfd.readouterr().err == ""


def huge(kind: str, width: int, height: int) -> bytes:
    """A small file whose header promises many pixels."""
    small = bytearray(encode(gradient(16, 16), kind))
    if kind == "PNG":
        return png(width, height, 8, 2, b"")
    if kind == "JPEG":
        start = small.index(b"\xff\xc0") + 5
        small[start : start + 4] = struct.pack(">HH", height, width)
    elif kind == "BMP":
        small[18:26] = struct.pack("<ii", width, height)
    elif kind == "WEBP":
        assert small[12:16] == b"VP8L"
        small[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    else:
        for tag, value in ((256, width), (257, height)):
            start = (
                small.index(struct.pack("<HH", tag, 3))
                if struct.pack("<HH", tag, 3) in small
                else small.index(struct.pack("<HH", tag, 4))
            )
            small[start : start + 12] = struct.pack("<HHII", tag, 4, 1, value)
    return bytes(small)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("side", [8_001, 16_000])
def test_too_many_pixels_are_refused_before_decoding(kind: str, side: int) -> None:
    content = huge(kind, side, side)
    message = rf"has {side} x {side} pixels, {side * side / 1e6:.1f} million; shrink it to at most 64 million"
    for read in (images.read_image, images.decode_mask, images.image_size):
        with pytest.raises(ImageError, match=message):
            read(content)


@pytest.mark.parametrize(
    "chunk",
    [
        b"VP8 " + bytes(7) + b"\x9d\x01\x2a" + struct.pack("<HH", 9000, 9000),
        b"VP8X" + bytes(8) + (8999).to_bytes(3, "little") * 2,
    ],
    ids=["lossy", "extended"],
)
def test_every_kind_of_webp_tells_its_size_before_decoding(chunk: bytes) -> None:
    with pytest.raises(ImageError, match="has 9000 x 9000 pixels"):
        images.read_image(b"RIFF\0\0\0\0WEBP" + chunk[:4] + chunk[4:].rjust(14, b"\0"))


def test_webp_of_every_kind_is_read() -> None:
    lossy = encode(gradient(), "WEBP", lossless=False, quality=95)
    assert lossy[12:16] == b"VP8 "
    with_metadata = encode(gradient(), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    assert with_metadata[12:16] == b"VP8X"
    for content in (lossy, with_metadata):
        np.testing.assert_allclose(images.read_image(content).astype(int), gradient().astype(int), atol=16)
    with pytest.raises(ImageError, match="unknown first chunk"):
        images.read_image(lossy[:12] + b"ABCD" + lossy[16:])


def test_want_of_memory_and_a_failing_disk_are_told_apart_from_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(ImageError, match="needs more memory than there is"):
        images.read_image(encode(GREY, "BMP"))

    class FailingFile(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("pathlib.Path.open", lambda path, mode: FailingFile())
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be read: Input/output error"):
        images.read_image(Path("a.jpg"))


def test_limit_is_the_callers_and_not_the_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert images.read_image(encode(gradient(), "PNG")).shape == (24, 36, 3)
    assert images.image_size(huge("PNG", 20_000, 20_000), max_pixels=10**9) == (20_000, 20_000)
    with pytest.raises(ImageError, match=r"36 x 24 pixels, 0\.0 million; shrink it to at most 0\.000863 million"):
        images.read_image(encode(gradient(), "PNG"), max_pixels=36 * 24 - 1)
    assert images.read_image(encode(gradient(), "PNG"), max_pixels=36 * 24).shape == (24, 36, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_picture_without_pixels_is_refused(kind: str) -> None:
    with pytest.raises(ImageError, match=r"0 x 5 pixels|damaged"):
        images.read_image(huge(kind, 0, 5))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(FORMATS), st.integers(0, 9999))
def test_damaged_bytes_give_pixels_or_an_image_error(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = np.frombuffer(encode(gradient(), kind), np.uint8).copy()
    content[rng.integers(0, len(content), 4)] = rng.integers(0, 256, 4)
    content = content[: rng.integers(1, len(content) + 1)]
    for read in (images.image_size, images.read_image, images.decode_mask):
        try:
            assert len(read(content.tobytes(), max_pixels=100_000)) >= 1
        except ImageError as error:
            assert "\n" not in str(error)  # noqa: PT017 - not every damage is noticed, so nothing need be raised


def test_warnings_are_silenced_in_threads_and_restored() -> None:
    before = list(warnings.filters)
    content = encode(gradient(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                images.read_image(content)
        except BaseException as error:  # handed to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == before


# Masks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_mask_is_what_lies_above_128(kind: str) -> None:
    values = np.array([[0, 1, 127, 128, 129, 255]], np.uint8)
    mask = images.decode_mask(encode(values, kind))
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, [[False, False, False, False, True, True]])


def test_mask_of_16_bits_is_scaled_first() -> None:
    values = np.array([[0, 255, 128 * 257, 129 * 257, 65_535]], np.uint16)
    np.testing.assert_array_equal(images.decode_mask(encode(values, "PNG")), [[False, False, False, True, True]])


def test_mask_of_zeros_and_ones_is_empty() -> None:
    assert not images.decode_mask(encode((GREY > 100).astype(np.uint8), "PNG")).any()


def test_mask_in_colour_counts_by_luma_and_transparent_is_outside() -> None:
    pixels = Image.new("RGBA", (4, 1), (255, 255, 255, 255))
    pixels.putpixel((1, 0), (0, 0, 255, 255))
    pixels.putpixel((2, 0), (255, 255, 0, 255))
    pixels.putpixel((3, 0), (255, 255, 255, 0))
    np.testing.assert_array_equal(images.decode_mask(encode(pixels, "PNG")), [[True, False, True, False]])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    np.testing.assert_array_equal(images.decode_mask(encode(palette, "PNG")), [[False, True]])


# Scaling and writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(24, 36), (12, 18), (7, 5), (1, 1), (50, 40)])
def test_resize_gives_the_size_and_keeps_the_mean(size: tuple[int, int]) -> None:
    for image in (gradient(), gradient()[..., 0]):
        scaled = images.resize(image, ImageSize(*size))
        assert scaled.shape == size + image.shape[2:]
        assert scaled.dtype == np.uint8
        np.testing.assert_allclose(scaled.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=3)


def test_resize_does_not_alias() -> None:
    stripes = np.tile(np.array([[0, 255]], np.uint8), (64, 64))
    np.testing.assert_allclose(images.resize(stripes, ImageSize(8, 16)).astype(int), 127, atol=16)


def test_written_png_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    for array in (gradient(), gradient()[..., 0], gradient()[::2, ::-1]):
        images.write_png(path, array)
        expected = array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=-1)
        np.testing.assert_array_equal(images.read_image(path), expected)
    images.write_png(path, GREY > 100)
    np.testing.assert_array_equal(images.decode_mask(path), GREY > 100)
    with Image.open(path) as image:
        assert image.mode == "L"
    assert list(path.parent.iterdir()) == [path]


def test_png_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: no folder can be made here: a file has this name"):
        images.write_png(tmp_path / "file" / "a.png", GREY)


# Real photographs ----------------------------------------------------------------------------------------------------


def test_real_photographs_and_masks_fit(real_data: Path) -> None:
    photographs = sorted((real_data / "isic_native" / "images").glob("*.jpg"))[:4]
    assert photographs
    for path in photographs:
        image = images.read_image(path)
        size = images.image_size(path)
        assert image.shape == (*size, 3)
        mask = images.decode_mask(real_data / "isic_native" / "masks" / f"{path.stem}_segmentation.png")
        assert mask.shape == tuple(size)
        assert 0.001 < mask.mean() < 0.999
        small = images.read_image(path, target_side=320)
        assert 320 <= min(small.shape[:2]) < 640
        # The decoder's own scaling gives the same picture as scaling afterwards, up to its coarser filter.
        reference = images.resize(image, ImageSize(*small.shape[:2]))
        assert np.abs(small.astype(int) - reference.astype(int)).mean() < 3
