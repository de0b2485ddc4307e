"""Drawn photographs and labels that the audit's tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dermask.audit.audit import audit
from dermask.audit.findings import AuditReport, Part
from dermask.audit.settings import AuditSettings
from dermask.data.dataset import Dataset
from dermask.records import Instance, Outline, Polygons, Sample

SIDE = 160
PLAIN = AuditSettings(near_duplicates=False)


def ellipse(x: float = 60, y: float = 80, a: float = 30, b: float = 20, side: int = SIDE) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] + 0.5
    return ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1


def skin(lesion: np.ndarray | None = None, seed: int = 0, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Skin with some texture, and a darker lesion where the mask says."""
    rng = np.random.default_rng(seed)
    shade = np.linspace(-8, 8, shape[1])[None, :, None]
    pixels = np.array([215, 170, 150]) + shade + rng.normal(0, 7, (*shape, 3))
    if lesion is not None:
        pixels[lesion] -= np.array([70, 75, 70])
    return pixels.clip(0, 255).astype(np.uint8)


def ring(x: float = 60, y: float = 80, a: float = 30, b: float = 20, points: int = 40) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], axis=1)


def box_ring(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], float)


def outlined(*outlines: Outline, image_id: str = "one", labels: tuple[int, ...] = (), image=None, **keys) -> Sample:
    """A photograph in memory with these outlines, of class 1 unless said otherwise; the default lesion is on it."""
    chosen = labels or (1,) * len(outlines)
    instances = tuple(Instance(label, outline) for label, outline in zip(chosen, outlines, strict=True))
    return Sample(image_id, skin(ellipse()) if image is None else image, None, instances, **keys)


def polygon(*rings: np.ndarray) -> Polygons:
    return Polygons(rings)


def data(*samples: Sample, names: tuple[str, ...] = ("lesion",), **keys) -> Dataset:
    return Dataset(samples, names, "drawn", **keys)


def audit_of(*samples: Sample, names: tuple[str, ...] = ("lesion",), **keys) -> AuditReport:
    """The audit of one part called ``drawn``, without the search for near-duplicates."""
    return audit([Part("drawn", data(*samples, names=names))], settings=PLAIN, processes=1, **keys)


def kinds(report: AuditReport) -> dict[str, str]:
    """The worst severity of each kind found, but for what is said of a part as a whole."""
    worst: dict[str, str] = {}
    for finding in report.findings:
        if finding.kind not in {"touches-border", "no-lesion", "unused-class"}:
            worst.setdefault(finding.kind, str(finding.severity))
    return worst


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def write_folder(root: Path, count: int = 3, *, seed: int = 0, prefix: str = "p") -> Path:
    """``images/`` and ``masks/`` of drawn lesions, each photograph another."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        x, y = rng.uniform(50, 110, 2)
        mask = ellipse(x, y, rng.uniform(20, 35), rng.uniform(15, 30))
        save(root / "images" / f"{prefix}{index}.png", skin(mask, seed=seed * 1000 + index))
        save(root / "masks" / f"{prefix}{index}_segmentation.png", mask.astype(np.uint8) * 255)
    return root
