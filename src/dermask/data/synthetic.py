"""Draw dermoscopy scenes with exact outlines: the embedded data of the demo and of the tests.

    skin (scene_skin) + lesions (scene_lesions) -> light -> ink, hair, bubbles, ruler (scene_artifacts)
    -> sticker, tube, camera (scene_camera)

A scene depends on its seed, size and settings alone. Each layer has random numbers of its own, so the same seed with
other lesions keeps its skin, light and hair. M lesions of one photograph (0 to 4), H, W its height and width.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from dermask import files, images, masks
from dermask.data import coco, scene_artifacts, scene_camera, scene_lesions, scene_skin
from dermask.data.dataset import Dataset, LoadedSample
from dermask.errors import OutputExistsError, SettingError
from dermask.records import Bitmask, BoolArray, ByteArray, ImageSize, Instance, Rle, Sample

MAX_LESIONS = 4
MIN_SIDE = 32
"""Shortest side of a scene in pixels; below it a small lesion would have hardly a pixel."""


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """How often things occur in drawn scenes; probabilities are per scene.

    Raises:
        SettingError: A value is outside its range.
    """

    lesion_counts: tuple[float, ...] = (0.06, 0.62, 0.16, 0.10, 0.06)
    """Probability of 0, 1, ... 4 lesions."""
    areas: tuple[float, float] = (0.03, 0.6)
    """Smallest and largest lesion as shares of the frame."""
    tones: tuple[float, float] = (0.0, 1.5)
    """Melanin of the lightest and the darkest skin; light skin is drawn more often."""
    hair: float = 0.5
    ruler: float = 0.2
    bubbles: float = 0.22
    ink: float = 0.1
    patch: float = 0.12
    aperture: float = 0.12
    corners: float = 0.25
    freckles: float = 0.4
    pores: float = 0.4
    vessels: float = 0.45

    def __post_init__(self) -> None:
        for field in fields(self)[3:]:
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise SettingError(f"scene setting {field.name}", f"{value} is not a probability from 0 to 1")
        counts = self.lesion_counts
        if not 1 <= len(counts) <= MAX_LESIONS + 1 or min(counts) < 0 or abs(sum(counts) - 1) > 1e-6:
            raise SettingError("scene setting lesion_counts", f"{counts} must be 1 to 5 probabilities that sum to 1")
        if not 0.03 <= self.areas[0] <= self.areas[1] <= 0.6:
            raise SettingError("scene setting areas", f"{self.areas} must go from small to large within 0.03 to 0.6")
        if not 0 <= self.tones[0] <= self.tones[1] <= 2:
            raise SettingError("scene setting tones", f"{self.tones} must go from light to dark within 0 to 2")


DEFAULT_SCENES = SceneSettings()
_SCENE_SIZE = ImageSize(320, 320)


def draw_scene(
    seed: int, size: ImageSize, *, num_lesions: int | None = None, settings: SceneSettings = DEFAULT_SCENES
) -> LoadedSample:
    """One drawn dermoscopy photograph with its lesions' outlines.

    Args:
        seed: Of everything random, from 0.
        size: Height and width, each at least `MIN_SIDE`.
        num_lesions: How many lesions, 0 to `MAX_LESIONS`; None draws it.
        settings: How often things occur.

    Returns:
        A sample with image (H, W, 3) uint8, masks (M, H, W) bool that never overlap, labels all 1, and image_id
        ``scene_`` with the seed. Hair, ink and rulers lie over lesions without changing their masks; what a sticker
        or the tube's edge hides belongs to none.

    Raises:
        SettingError: The size is too small, the seed negative, or the number of lesions out of range.
    """
    if seed < 0:
        raise SettingError("scene seed", f"{seed} is negative", "choose 0 or above")
    if min(size) < MIN_SIDE:
        raise SettingError(
            "scene size", f"{size.width}x{size.height} is under {MIN_SIDE} pixels", "choose a larger one"
        )
    if num_lesions is not None and not 0 <= num_lesions <= MAX_LESIONS:
        raise SettingError("num_lesions", f"{num_lesions} is not from 0 to {MAX_LESIONS}")
    children = np.random.SeedSequence(seed).spawn(6)
    plan, skin, lesions, light, things, camera = (np.random.default_rng(child) for child in children)
    drawn = int(plan.choice(len(settings.lesion_counts), p=settings.lesion_counts))
    count = drawn if num_lesions is None else num_lesions
    tone = settings.tones[0] + (settings.tones[1] - settings.tones[0]) * plan.random() ** 2.5
    present = {name: bool(plan.random() < getattr(settings, name)) for name in _THINGS}

    surround = scene_camera.draw_surround(
        plan, size, aperture=present["aperture"], corners=present["corners"], patch=present["patch"]
    )
    pigments = scene_skin.bare_skin(skin, size, float(tone))
    for name, add in _SKIN_THINGS.items():
        if present[name]:
            add(skin, pigments)
    lesion_masks = _paint_lesions(lesions, pigments, count, surround.visible, settings)
    pixels = pigments.render() * scene_camera.draw_light(light, size)
    image = np.asarray(np.clip(pixels * 255, 0, 255), dtype=np.uint8)
    for name, lay in _LAID_ON.items():
        if present[name]:
            image = lay(image, things)
    image = scene_camera.through_camera(surround.cover(image), camera)
    return LoadedSample(image, lesion_masks, np.ones(count, np.int64), None, f"scene_{seed}")


_SKIN_THINGS = {
    "freckles": scene_skin.add_freckles,
    "pores": scene_skin.add_pores,
    "vessels": scene_skin.add_vessels,
}
_LAID_ON = {
    "ink": scene_artifacts.draw_ink,
    "hair": scene_artifacts.draw_hair,
    "bubbles": scene_artifacts.draw_bubbles,
    "ruler": scene_artifacts.draw_ruler,
}
_THINGS = ("aperture", "corners", "patch", *_SKIN_THINGS, *_LAID_ON)


def _paint_lesions(
    rng: np.random.Generator,
    pigments: scene_skin.Pigments,
    count: int,
    visible: BoolArray,
    settings: SceneSettings,
) -> BoolArray:
    size = pigments.size
    painted = np.zeros((count, *size), dtype=np.bool_)
    free = visible.copy()
    for index, shape in enumerate(scene_lesions.place_lesions(rng, size, count, visible, settings.areas)):
        painted[index] = scene_lesions.paint_lesion(rng, shape, pigments, free)
        free &= ~painted[index]
    return painted


def synthetic_dataset(
    count: int,
    *,
    seed: int = 0,
    size: ImageSize = _SCENE_SIZE,
    settings: SceneSettings = DEFAULT_SCENES,
    on_scene: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Drawn scenes in memory.

    Scene i depends on `seed` and i alone: a larger data set begins with the scenes of the smaller one.

    Args:
        count: How many, 0 or more.
        seed: Another seed, other scenes; from 0.
        size: Height and width of each.
        settings: How often things occur.
        on_scene: Called after each scene with how many are drawn, and of how many.

    Raises:
        SettingError: As for `draw_scene`.
    """
    samples = []
    for index in range(count):
        scene = _scene(index, seed, size, settings)
        instances = tuple(Instance(1, Bitmask(mask)) for mask in scene.masks)
        samples.append(Sample(scene_id(seed, index), scene.image, size, instances))
        if on_scene is not None:
            on_scene(index + 1, count)
    return Dataset(samples, name=f"{count} drawn scenes, seed {seed}")


def scene_id(seed: int, index: int) -> str:
    """What scene `index` of a seed is called in data sets and files."""
    return f"scene_{seed}_{index:05d}"


def _scene(index: int, seed: int, size: ImageSize, settings: SceneSettings) -> LoadedSample:
    if seed < 0:
        raise SettingError("scene seed", f"{seed} is negative", "choose 0 or above")
    own_seed = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
    return draw_scene(own_seed, size, settings=settings)


def write_synthetic(
    folder: Path,
    count: int,
    seed: int,
    size: ImageSize,
    *,
    settings: SceneSettings = DEFAULT_SCENES,
    on_scene: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw scenes into a folder: ``images/ID.jpg``, ``masks/ID_segmentation.png`` and ``labels.json``.

    A mask image holds all lesions of its photograph together, as the ISIC challenges have it; the COCO file
    ``labels.json`` keeps them apart. One scene is in memory at a time.

    Args:
        folder: Where to; made if missing.
        count: How many, 0 or more.
        seed: Of the scenes, as for `synthetic_dataset`.
        size: Height and width of each.
        settings: How often things occur.
        on_scene: As for `synthetic_dataset`.

    Returns:
        The path of ``labels.json``.

    Raises:
        OutputExistsError: The folder holds something already.
        SettingError: As for `draw_scene`.
        InputError: A file cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExistsError(str(folder), "is not an empty folder", "choose another name")
    for name in ("images", "masks"):
        files.make_folder(folder / name)
    samples = []
    for index in range(count):
        scene, image_id = _scene(index, seed, size, settings), scene_id(seed, index)
        photograph = folder / "images" / f"{image_id}.jpg"
        files.write_bytes(photograph, _encode(scene.image, "JPEG", quality=92))
        images.write_png(folder / "masks" / f"{image_id}_segmentation.png", np.logical_or.reduce(scene.masks))
        outlines: list[Rle] = [masks.bitmask_to_rle(mask) for mask in scene.masks]
        samples.append(Sample(image_id, photograph, size, tuple(Instance(1, outline) for outline in outlines)))
        if on_scene is not None:
            on_scene(index + 1, count)
    labels = folder / "labels.json"
    coco.write_coco(Dataset(samples, name=f"{count} drawn scenes, seed {seed}"), labels)
    return labels


def write_sheet(path: str | Path, *, seed: int = 0, rows: int = 5, columns: int = 6, side: int = 232) -> None:
    """Write a WebP sheet of drawn scenes, the last row with its outlines.

    The picture in the documentation is made by
    ``python -c "from dermask.data.synthetic import write_sheet; write_sheet('docs/images/synthetic.webp')"``.

    Args:
        path: The WebP file, replaced if it is there.
        seed: Of the scenes, as for `synthetic_dataset`.
        rows: Of scenes.
        columns: Scenes per row.
        side: Height and width of each scene, pixels.
    """
    gap = 6
    sheet = np.full((rows * (side + gap) + gap, columns * (side + gap) + gap, 3), 255, dtype=np.uint8)
    for index in range(rows * columns):
        scene = _scene(index, seed, ImageSize(side, side), DEFAULT_SCENES)
        tile = scene.image.copy()
        if index >= (rows - 1) * columns:
            for mask in scene.masks:
                tile[_border(mask)] = (90, 255, 190)
        top, left = (gap + place * (side + gap) for place in divmod(index, columns))
        sheet[top : top + side, left : left + side] = tile
    files.write_bytes(Path(path), _encode(sheet, "WEBP", quality=80, method=6))


def _border(mask: BoolArray) -> BoolArray:
    """The pixels of a mask with a neighbour outside it; the photograph's edge is no neighbour."""
    padded = np.pad(mask, 1, mode="edge")
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inner)


def _encode(image: ByteArray, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()
