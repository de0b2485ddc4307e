"""Label Studio's own run-length code of brush strokes: `value.rle` of a `brushlabels` result.

Not COCO's: a bit stream of RGBA bytes, row by row, in which all four channels hold the alpha value. The code is the
package rle-pack of the JavaScript library umbrella, as Label Studio uses it and as `brush.py` of label-studio-converter
repeats it in Python. What is written here is that converter's output, without the empty byte it puts behind a stream
that ends on a whole byte.

    32 bits   N, the number of values: 4 x height x width
     5 bits   bits of a value, less one: 8 here
    4 x 4     bits of a count in each of four classes, less one: 3, 4, 8, 16 here
    then until N values are there:
     1 bit    1 one value, repeated; 0 so many values one by one
     2 bits   class of the count
     n bits   the count, less one
     8 bits   the value; or a value as often as the count says

Shapes: H, W the photograph's height and width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dermask.errors import InputError
from dermask.images import MAX_PIXELS
from dermask.records import BoolArray, ByteArray, ImageSize

_CHANNELS = 4
_VALUE_BITS = 8
_COUNT_BITS = (3, 4, 8, 16)
_HEADER_BITS = 32 + 5 + 4 * 4
_INSIDE = 255
_ITEM = "brush outline"
_CURE = "export the labels again"


def encode_brush(bitmask: BoolArray) -> list[int]:
    """The code of an (H, W) bool mask as bytes 0 to 255; `decode_brush` gives the mask back bit for bit.

    Raises:
        InputError: The mask has no pixel at all, or more than `images.MAX_PIXELS`.
    """
    height, width = bitmask.shape
    _check_size(ImageSize(height, width))
    flat = bitmask.ravel()
    stops = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, len(flat))
    counts = np.diff(stops, prepend=0) * _CHANNELS
    bits = [f"{flat.size * _CHANNELS:032b}", f"{_VALUE_BITS - 1:05b}", *(f"{size - 1:04b}" for size in _COUNT_BITS)]
    values = [f"{_INSIDE if flat[0] else 0:08b}", f"{0 if flat[0] else _INSIDE:08b}"]
    for index, count in enumerate(counts.tolist()):
        bits.append(_encode_run(count, values[index % 2]))
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _encode_run(count: int, value: str) -> str:
    """One value repeated `count` times, in as many pieces as its count needs."""
    longest = 1 << _COUNT_BITS[-1]
    pieces, rest = divmod(count - 1, longest)
    kind = next(kind for kind, size in enumerate(_COUNT_BITS) if rest < 1 << size)
    return f"111{longest - 1:016b}{value}" * pieces + f"1{kind:02b}{rest:0{_COUNT_BITS[kind]}b}{value}"


def decode_brush(code: Sequence[int], size: ImageSize) -> BoolArray:
    """The mask of a brush outline.

    Work and memory follow the code's length and `size`, which the caller knows from the photograph, never what the
    code says of itself.

    Args:
        code: Bytes as whole numbers 0 to 255.
        size: Height and width of the photograph, which the code must share.

    Returns:
        (H, W) bool, True where alpha is not 0, the rule of Label Studio's own COCO export.

    Raises:
        InputError: The code is no bytes, cut off, of other values than bytes, or of another size.
    """
    _check_size(size)
    try:
        data = bytes(code)
    except (ValueError, TypeError, OverflowError):
        raise InputError(_ITEM, "its rle is not a list of whole numbers from 0 to 255", _CURE) from None
    num_bits = 8 * len(data)
    if num_bits < _HEADER_BITS:
        raise InputError(_ITEM, f"its rle ends after {len(data)} bytes, within its header", _CURE)
    num_values, count_bits = _read_header(data)
    expected = size.height * size.width * _CHANNELS
    if num_values != expected:
        problem = (
            f"its rle has {num_values} values, and 4 x {size.height} x {size.width} (height x width) are {expected}"
        )
        raise InputError(_ITEM, problem, "use the outline that was made for this photograph")
    alpha = np.zeros(size.height * size.width, np.uint8)
    position, done = _HEADER_BITS, 0
    while done < num_values:
        # A record's head has at most 1 + 2 + 16 + 8 bits, which lie in five bytes wherever it starts.
        window = int.from_bytes(data[position >> 3 : (position >> 3) + 5].ljust(5, b"\0"), "big")
        window = window << (position & 7) & 0xFFFFFFFFFF
        is_run, bits = window >> 39, count_bits[window >> 37 & 3]
        count = (window >> 37 - bits & (1 << bits) - 1) + 1
        position += 3 + bits
        stop, end = done + count, position + (_VALUE_BITS if is_run else _VALUE_BITS * count)
        if end > num_bits:
            raise InputError(_ITEM, f"its rle ends after {done} of {num_values} values", _CURE)
        if stop > num_values:
            raise InputError(_ITEM, f"its rle goes on past its {num_values} values", _CURE)
        # Value 4 p + 3 is the alpha of pixel p, so of values i to j the alphas are those of pixels i // 4 to j // 4.
        if is_run:
            alpha[done // 4 : stop // 4] = window >> 29 - bits & 0xFF
        else:
            alpha[done // 4 : stop // 4] = _read_values(data, position, count)[(3 - done) % 4 :: 4]
        position, done = end, stop
    return np.asarray(alpha != 0, np.bool_).reshape(size)


def _read_header(data: bytes) -> tuple[int, list[int]]:
    """Number of values, and the bits of a count in each class."""
    header = int.from_bytes(data[:7], "big") >> 56 - _HEADER_BITS
    value_bits = (header >> 16 & 31) + 1
    if value_bits != _VALUE_BITS:
        raise InputError(_ITEM, f"its rle has values of {value_bits} bits; Label Studio's have {_VALUE_BITS}", _CURE)
    return header >> 21, [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]


def _read_values(data: bytes, position: int, count: int) -> ByteArray:
    """(count,) uint8 from a bit of the stream on."""
    first, shift = position >> 3, position & 7
    values = np.frombuffer(data, np.uint8, count=count + (shift > 0), offset=first)
    return values if shift == 0 else np.asarray((values[:-1] << shift) | (values[1:] >> 8 - shift), np.uint8)


def _check_size(size: ImageSize) -> None:
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        problem = f"size {height} x {width} (height x width) is not between 1 and {MAX_PIXELS / 1e6:g} million pixels"
        raise InputError(_ITEM, problem, "correct the size in the label file")
