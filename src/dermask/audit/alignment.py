"""Lay one photograph on another and measure whether the fine texture is the same.

The template is the photograph that lies whole on the other one, or nearly; the source is the one it is looked for in.
An affine map M, (2, 3), takes template positions to source positions, both in unit coordinates (see `signatures`):
source = M[:, :2] @ template + M[:, 2]. P pairs are worked on at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dermask.audit.signatures import Window, blur_matrix, local_contrast, shrink, visible
from dermask.records import ByteArray, FloatArray

_CONTRAST_FLOOR = 4.0
_DAMPING = 0.02
"""Share of the diagonal added to the normal equations, so that a plain photograph does not send the map anywhere."""
_MAX_STEP = 0.08
"""Largest move of one step, in sides of the template."""
_MIN_OVERLAP = 0.25
"""Share of the template that has to lie on visible parts of the source; less proves nothing."""
_AGREEMENT_SIDE = 96


class Maps(NamedTuple):
    """Pictures prepared for alignment.

    Attributes:
        contrast: (P, S, S) float32, freed of shading and local contrast.
        weights: (P, S, S) float32, 0 where nothing is seen.
    """

    contrast: FloatArray
    weights: FloatArray


class Alignment(NamedTuple):
    """Where templates lie on their sources.

    Attributes:
        maps: (P, 2, 3) float32.
        correlation: (P,) float32 of the two pictures there, -1 to 1.
    """

    maps: FloatArray
    correlation: FloatArray


def prepare(thumbnails: ByteArray, side: int, *, radius: float) -> Maps:
    """Thumbnails freed of shading and contrast.

    Args:
        thumbnails: (P, 120, 120) uint8.
        side: Of the result.
        radius: Spread of the neighbourhood that brightness is compared with, in sides of the photograph.
    """
    pixels, weights = shrink(thumbnails.astype(np.float32), visible(thumbnails), side)
    return Maps(local_contrast(pixels, weights, radius * side, _CONTRAST_FLOOR), weights)


def first_map(query: Window, window: Window, orientation: int) -> FloatArray:
    """The map that lays window `query` of the template, turned by `orientation`, on `window` of the source.

    Args:
        query: In the template.
        window: In the source.
        orientation: 0 to 7, as in `signatures.orientations`.

    Returns:
        (2, 3) float32.
    """
    turn = np.eye(3)
    if orientation & 4:
        turn = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]) @ turn
    if orientation & 2:
        turn = np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]]) @ turn
    if orientation & 1:
        turn = np.array([[1.0, 0, 0], [0, -1, 1], [0, 0, 1]]) @ turn
    into = np.array(
        [[1 / query.width, 0, -query.x / query.width], [0, 1 / query.height, -query.y / query.height], [0, 0, 1]]
    )
    out = np.array([[window.width, 0, window.x], [0, window.height, window.y], [0, 0, 1]])
    return np.asarray((out @ turn @ into)[:2], dtype=np.float32)


def align(templates: Maps, sources: Maps, start: FloatArray, *, steps: int) -> Alignment:
    """Improve maps by Gauss-Newton steps on the difference of the two pictures.

    Args:
        templates: Of P pairs.
        sources: Of the same pairs; the side may differ.
        start: (P, 2, 3).
        steps: How many to make; the best map on the way is returned.

    Source:
        Baker and Matthews 2004, Lucas-Kanade 20 years on, section 3.2 (inverse compositional), with both pictures
        scaled to the same energy where they overlap.
    """
    count, side, _ = templates.contrast.shape
    points = _grid(side)
    flat = templates.contrast.reshape(count, -1)
    jacobian = _jacobian(templates.contrast, points)  # (P, 6, S * S)
    maps = start.astype(np.float32)
    best = Alignment(maps, np.full(count, -1, np.float32))
    for step in range(steps + 1):
        seen, weights = sample(sources, maps, points)
        weights *= templates.weights.reshape(count, -1)
        own, other = flat * weights, seen * weights
        gain = np.sqrt(((flat * own).sum(1) + 1e-6) / ((seen * other).sum(1) + 1e-6))
        norms = np.sqrt(((flat * own).sum(1) + 1e-6) * ((seen * other).sum(1) + 1e-6))
        correlation = np.where(weights.mean(1) >= _MIN_OVERLAP, (own * seen).sum(1) / norms, -1).astype(np.float32)
        better = correlation > best.correlation
        best = Alignment(
            np.where(better[:, None, None], maps, best.maps), np.where(better, correlation, best.correlation)
        )
        if step < steps:
            residual = gain[:, None] * other - own
            maps = _moved(maps, _solve(jacobian, weights, residual))
    return best


def agreement(templates: ByteArray, sources: ByteArray, maps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How well the texture of templates agrees with that of their sources, patch by patch.

    Args:
        templates: (P, 120, 120) uint8.
        sources: (P, 120, 120) uint8.
        maps: (P, 2, 3), exact to a pixel of the thumbnails.

    Returns:
        (P, B) correlation of each of the B bands, finest first, averaged over patches and weighted by how much texture
        both have there; and (P,) the share of the template that was compared.
    """
    side = _AGREEMENT_SIDE
    own, own_weights = shrink(templates.astype(np.float32), visible(templates), side)
    seen, weights = sample(Maps(sources.astype(np.float32), visible(sources)), maps, _grid(side))
    other = seen.reshape(own.shape)
    both = own_weights * weights.reshape(own.shape)
    both = np.where(both > 0.9, both, 0).astype(np.float32)
    bands = [_band_agreement(own, other, both, fine, coarse) for fine, coarse in ((0.6, 1.8), (1.2, 3.6), (2.4, 7.2))]
    return np.stack(bands, axis=1), both.mean(axis=(1, 2))


def sample(sources: Maps, maps: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Source values and weights at mapped points, bilinear; weight 0 outside.

    Args:
        sources: (P, S, S) each.
        maps: (P, 2, 3).
        points: (Q, 2) xy in unit coordinates of the template.

    Returns:
        Two (P, Q) float32.
    """
    count, side, _ = sources.contrast.shape
    pixels = (points @ maps[:, :, :2].transpose(0, 2, 1) + maps[:, None, :, 2]) * side - 0.5  # (P, Q, 2)
    inside = ((pixels > -0.5) & (pixels < side - 0.5)).all(axis=2)
    np.clip(pixels, 0, side - 1.001, out=pixels)
    corner = pixels.astype(np.int32)
    x, y = np.moveaxis(pixels - corner, 2, 0)
    base = corner[..., 1] * side + corner[..., 0] + (np.arange(count, dtype=np.int32) * side * side)[:, None]
    # One complex number holds value and weight: half as many look-ups, which are what takes the time.
    both = np.empty(sources.contrast.size, np.complex64)
    both.real, both.imag = sources.contrast.reshape(-1), sources.weights.reshape(-1)
    upper, lower = both.take(base), both.take(base + side)
    upper += (both.take(base + 1) - upper) * x
    lower += (both.take(base + side + 1) - lower) * x
    upper += (lower - upper) * y
    return np.ascontiguousarray(upper.real), upper.imag * inside


def _grid(side: int) -> FloatArray:
    """(S * S, 2) xy of pixel centres in unit coordinates, row by row."""
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side
    x, y = np.meshgrid(centres, centres)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _jacobian(pictures: FloatArray, points: FloatArray) -> FloatArray:
    """(P, 6, S * S): how pictures change with a, b, c, d, e, f of x' = x + a + b u + c v, y' = y + d + e u + f v."""
    side = pictures.shape[-1]
    down, across = np.gradient(pictures, axis=(1, 2))
    down, across = (slope.reshape(len(pictures), -1) * side for slope in (down, across))
    u, v = (points - 0.5).T
    return np.stack([across, across * u, across * v, down, down * u, down * v], axis=1)


def _solve(jacobian: FloatArray, weights: FloatArray, residual: FloatArray) -> FloatArray:
    """(P, 6) Gauss-Newton steps, shortened to `_MAX_STEP`."""
    hessian = (jacobian * weights[:, None]) @ jacobian.transpose(0, 2, 1)
    diagonal = np.einsum("pii->pi", hessian)
    diagonal *= 1 + _DAMPING
    diagonal += 1e-3
    gradient = (jacobian @ residual[..., None])[..., 0]
    steps = np.linalg.solve(hessian.astype(np.float64), gradient[..., None].astype(np.float64))[..., 0]
    longest = np.abs(steps).max(axis=1, keepdims=True)
    return np.asarray(steps * np.minimum(1, _MAX_STEP / np.maximum(longest, 1e-9)), dtype=np.float32)


def _moved(maps: FloatArray, steps: FloatArray) -> FloatArray:
    """maps after the inverse of the small map that `steps` says."""
    count = len(maps)
    small = np.tile(np.eye(3), (count, 1, 1))
    for row, (shift, u, v) in enumerate(((0, 1, 2), (3, 4, 5))):
        small[:, row, 0] += steps[:, u]
        small[:, row, 1] += steps[:, v]
        small[:, row, 2] += steps[:, shift] - (steps[:, u] + steps[:, v]) / 2  # u, v count from the centre
    whole = np.tile(np.eye(3), (count, 1, 1))
    whole[:, :2] = maps
    return np.asarray((whole @ np.linalg.inv(small))[:, :2], dtype=np.float32)


def _band_agreement(own: FloatArray, other: FloatArray, weights: FloatArray, fine: float, coarse: float) -> FloatArray:
    """(P,) patch-wise correlation of what lies between two blurs, -1 to 1; 0 where there is no texture."""
    side = own.shape[-1]
    narrow, wide, patch = (blur_matrix(side, side, spread) for spread in (fine, coarse, 2 * coarse))

    def blurred(picture: FloatArray, matrix: FloatArray) -> FloatArray:
        # Only by what both show: the edge of a dark corner would otherwise count as texture that they share.
        total = np.maximum(matrix @ weights @ matrix.T, 1e-3)
        return np.asarray(matrix @ (picture * weights) @ matrix.T / total, dtype=np.float32)

    a, b = ((blurred(picture, narrow) - blurred(picture, wide)) * weights for picture in (own, other))
    aa, bb, ab = (blurred(product, patch) for product in (a * a, b * b, a * b))
    # Texture under a grey level is noise of JPEG and of the thumbnail's rounding.
    correlation = ab / np.sqrt((aa + 0.5) * (bb + 0.5))
    presence = weights * np.sqrt(np.minimum(aa, bb) / (np.minimum(aa, bb) + 2.0))
    total = presence.sum(axis=(1, 2))
    return np.asarray((correlation * presence).sum(axis=(1, 2)) / np.maximum(total, 1.0), dtype=np.float32)
