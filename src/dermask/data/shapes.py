"""What tools draw beside polygons, as rings: rectangles and ellipses, also turned.

Rings are (K, 2) float64 xy in pixels, y down, the first point not repeated. Angles are degrees, clockwise as seen.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_CURVE_POINTS = 64
"""Points that a circle or an ellipse becomes: within 0.12% of its radius."""


def rectangle_ring(x: float, y: float, width: float, height: float, degrees: float = 0.0) -> NDArray[np.float64]:
    """(4, 2) corners of a rectangle turned clockwise around its corner (x, y)."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    return turned_ring(corners, degrees, x, y)


def ellipse_ring(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> NDArray[np.float64]:
    """(64, 2) points of an ellipse around (x, y), turned clockwise around its centre."""
    angles = np.arange(_CURVE_POINTS) * (2 * math.pi / _CURVE_POINTS)
    points = np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], axis=1)
    return turned_ring(points, degrees, x, y)


def turned_ring(points: NDArray[np.float64], degrees: float, x: float, y: float) -> NDArray[np.float64]:
    """(K, 2) points around (0, 0), turned clockwise as seen and then moved to (x, y)."""
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = np.array([[cosine, sine], [-sine, cosine]])  # y goes down, so this is clockwise
    return np.asarray(points @ matrix + np.array([x, y]), np.float64)
