"""Rectangles and ellipses as rings."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dermask.contours import signed_area
from dermask.data.shapes import ellipse_ring, rectangle_ring, turned_ring


@pytest.mark.parametrize(
    ("degrees", "corner"), [(0.0, (14, 25)), (90.0, (5, 24)), (180.0, (6, 15)), (-90.0, (15, 16)), (450.0, (5, 24))]
)
def test_a_rectangle_turns_clockwise_around_its_corner(degrees, corner):
    ring = rectangle_ring(10, 20, 4, 5, degrees)
    np.testing.assert_allclose(ring[0], (10, 20))
    np.testing.assert_allclose(ring[2], corner, atol=1e-12)


@pytest.mark.parametrize("degrees", [0.0, 30.0, -75.0])
def test_an_ellipse_has_its_area_and_turns_around_its_centre(degrees):
    ring = ellipse_ring(40, 50, 20, 10, degrees)
    assert abs(signed_area(ring)) == pytest.approx(math.pi * 200, rel=0.003)
    np.testing.assert_allclose(ring.mean(axis=0), (40, 50))
    end = (40 + 20 * math.cos(math.radians(degrees)), 50 + 20 * math.sin(math.radians(degrees)))
    np.testing.assert_allclose(ring[0], end)


def test_turning_keeps_the_area_and_its_sign():
    ring = np.array([[0, 0], [3, 0], [3, 2], [0, 2.0]])
    assert signed_area(turned_ring(ring, 33, 5, 6)) == pytest.approx(signed_area(ring)) == 6
