"""Find and outline skin lesions in dermoscopy photographs. Research use only.

    import dermask

    detector = dermask.load("runs/demo")
    [detections] = detector.predict(["photo.jpg"])
    for lesion in detections:
        print(lesion.class_name, lesion.score, lesion.box)

Names are looked up on first use, so that importing the package costs next to nothing and never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dermask.data.dataset import Dataset
    from dermask.data.formats import open_dataset
    from dermask.errors import (
        DermaskError,
        ImageError,
        InputError,
        LabelError,
        MissingExtraError,
        NonFiniteLossError,
        OutputExistsError,
        SettingError,
        WeightsError,
    )
    from dermask.images import read_image, write_png
    from dermask.inference.detector import Detector, load
    from dermask.inference.overlay import draw_overlay
    from dermask.masks import detections_bitmask
    from dermask.records import Detections, ImageSize, Instance, Lesion, Sample

__all__ = [
    "Dataset",
    "DermaskError",
    "Detections",
    "Detector",
    "ImageError",
    "ImageSize",
    "InputError",
    "Instance",
    "LabelError",
    "Lesion",
    "MissingExtraError",
    "NonFiniteLossError",
    "OutputExistsError",
    "Sample",
    "SettingError",
    "WeightsError",
    "__version__",
    "detections_bitmask",
    "draw_overlay",
    "load",
    "open_dataset",
    "read_image",
    "write_png",
]

_NAMES_IN = {
    "dermask.data.dataset": ["Dataset"],
    "dermask.data.formats": ["open_dataset"],
    "dermask.errors": [name for name in __all__ if name.endswith("Error")],
    "dermask.images": ["read_image", "write_png"],
    "dermask.inference.detector": ["Detector", "load"],
    "dermask.inference.overlay": ["draw_overlay"],
    "dermask.masks": ["detections_bitmask"],
    "dermask.records": ["Detections", "ImageSize", "Instance", "Lesion", "Sample"],
}
_HOME_OF = {name: module for module, names in _NAMES_IN.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dermask' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
