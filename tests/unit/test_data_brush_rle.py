import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.data.brush_rle import decode_brush, encode_brush
from dermask.errors import InputError
from dermask.records import ImageSize


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def span(width: int, start: int, stop: int) -> np.ndarray:
    mask = np.zeros((1, width), bool)
    mask[0, start:stop] = True
    return mask


# Made by mask2rle of label-studio-converter 0.0.59 from masks of 0 and 255.
GOLDEN = [
    pytest.param(mask_of("."), [0, 0, 0, 4, 57, 27, 252, 96, 0], id="one pixel outside"),
    pytest.param(mask_of("#"), [0, 0, 0, 4, 57, 27, 252, 127, 224], id="one pixel inside"),
    pytest.param(
        mask_of("....", ".##.", "...."),
        [0, 0, 0, 48, 57, 27, 254, 19, 0, 159, 255, 9, 128, 0],
        id="two of twelve",
    ),
    pytest.param(
        span(300, 10, 280), [0, 0, 4, 176, 57, 27, 254, 39, 0, 224, 134, 255, 249, 60, 0], id="every class of count"
    ),
    pytest.param(
        span(20000, 17000, 20000),
        [0, 1, 56, 128, 57, 27, 255, 255, 255, 0, 225, 51, 224, 28, 187, 127, 252],
        id="a run longer than 65536",
    ),
]


@pytest.mark.parametrize(("mask", "code"), GOLDEN)
def test_the_code_is_that_of_label_studios_converter(mask, code):
    assert encode_brush(mask) == code
    np.testing.assert_array_equal(decode_brush(code, ImageSize(*mask.shape)), mask)


def test_values_one_by_one_and_grey_edges_are_read():
    # mask2rle of [[0, 7, 0], [200, 0, 255]] by the same converter: any alpha but 0 is inside.
    code = [0, 0, 0, 24, 57, 27, 252, 96, 17, 131, 198, 1, 30, 68, 96, 17, 255, 128]
    np.testing.assert_array_equal(decode_brush(code, ImageSize(2, 3)), mask_of(".#.", "#.#"))
    # Written by hand: 8 values, one record of them one by one, class 0, count 8: alphas 5 and 0, colours all 9.
    bits = f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}" + "0" + "00" + "111"
    bits += "".join(f"{value:08b}" for value in (9, 9, 9, 5, 9, 9, 9, 0))
    bits += "0" * (-len(bits) % 8)
    code = [int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)]
    np.testing.assert_array_equal(decode_brush(code, ImageSize(1, 2)), [[True, False]])


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 300),
    share=st.sampled_from([0, 0.02, 0.5, 0.98, 1]),
    block=st.sampled_from([1, 1, 5, 40]),
    seed=st.integers(0, 2**32 - 1),
)
def test_encode_then_decode_returns_the_mask(height, width, share, block, seed):
    coarse = np.random.default_rng(seed).random((height, width)) < share
    mask = np.kron(coarse, np.ones((1, block), bool)).astype(bool)
    np.testing.assert_array_equal(decode_brush(encode_brush(mask), ImageSize(*mask.shape)), mask)


@settings(max_examples=100, deadline=None)
@given(
    start=st.sampled_from([[], [0, 0, 0, 48, 57, 27, 254, 19, 0, 159, 255, 9, 128, 0]]),
    tail=st.lists(st.integers(0, 255), max_size=40),
    cut=st.integers(0, 14),
)
def test_any_bytes_give_a_mask_or_one_clear_line(start, tail, cut):
    code = start[: max(len(start) - cut, 0)] + tail
    try:
        assert decode_brush(code, ImageSize(3, 4)).shape == (3, 4)
    except InputError as error:
        message = str(error)
    else:
        return
    assert message.startswith("brush outline: ")
    assert "\n" not in message


GOOD = encode_brush(mask_of("....", ".##.", "...."))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        pytest.param([], r"rle ends after 0 bytes, within its header", id="empty"),
        pytest.param(GOOD[:6], r"rle ends after 6 bytes, within its header", id="half a header"),
        pytest.param(GOOD[:9], r"rle ends after 20 of 48 values", id="cut off"),
        pytest.param([255] * 20, r"values of 32 bits; Label Studio's have 8", id="word size"),
        pytest.param(
            [255, 255, 255, 255, *GOOD[4:]], r"has 4294967295 values, and 4 x 3 x 4 .* are 48", id="huge size"
        ),
        pytest.param([0, 0, 0, 44, *GOOD[4:]], r"has 44 values, and 4 x 3 x 4", id="another size"),
        pytest.param([*GOOD[:7], 255, 255, 255, 255, 255], r"goes on past its 48 values", id="too many values"),
        pytest.param([*GOOD[:8], 256], r"not a list of whole numbers from 0 to 255", id="no byte"),
        pytest.param([*GOOD[:8], "1"], r"not a list of whole numbers from 0 to 255", id="text"),
        pytest.param([*GOOD[:8], 1.5], r"not a list of whole numbers from 0 to 255", id="a fraction"),
    ],
)
def test_a_broken_code_is_refused(code, message):
    with pytest.raises(InputError, match=message):
        decode_brush(code, ImageSize(3, 4))


def test_a_size_beyond_any_photograph_takes_no_memory():
    with pytest.raises(InputError, match="not between 1 and 64 million pixels"):
        decode_brush(GOOD, ImageSize(10**6, 10**6))
    with pytest.raises(InputError, match="not between 1 and"):
        encode_brush(np.zeros((0, 5), bool))
