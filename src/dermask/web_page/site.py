"""The page as a folder of static files: page, model and engine, each loaded from that folder alone.

What the page must do as Python does it (sizes, thresholds, names, colours) it is told by the model's own metadata and
by the constants that Python uses, so the two cannot drift apart.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

import dermask
from dermask import files, images
from dermask.errors import InputError, OutputExistsError, WeightsError
from dermask.inference.model_file import ModelFile, read_model_file
from dermask.inference.overlay import CLASS_COLOURS, MASK_THRESH, TRUTH_COLOUR
from dermask.inference.predict import PredictOptions
from dermask.inference.preparing import DECODE_MARGIN
from dermask.web_page.runtime import NAME, Runtime

SCRIPTS = ("page.js", "worker.js", "pixels.js", "masks.js", "files.js")
"""Files of the page that go into the folder as they are."""

PAGE = "index.html"
_STYLE = "page.css"
_MODEL = "model.onnx"
# Not .mjs: servers that do not know this ending say that it is no script, and the browser then refuses it.
_RUNTIME_SCRIPT = f"{NAME}/ort.wasm.bundle.min.js"
_RUNTIME_WASM = f"{NAME}/ort-wasm-simd-threaded.wasm"
_RUNTIME_LICENCE = f"{NAME}/LICENSE.txt"

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; "
    "img-src 'self' blob: data:; style-src 'self'; base-uri 'none'; form-action 'none'"
)
"""What the browser lets the page load and where from; its worker starts from a blob and inherits this."""


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that a page can be made in `folder`: that it is not there, is empty, or may be written over.

    Hidden files do not count: an engine that was half fetched waits in one.

    Raises:
        OutputExistsError: Something else is there.
        InputError: It is a file, or cannot be made or read.
    """
    files.make_folder(folder)
    try:
        is_used = any(not path.name.startswith(".") for path in folder.iterdir())
    except OSError as error:
        raise InputError(str(folder), f"cannot be read: {error.strerror}", "choose another -o") from None
    if is_used and not overwrite:
        raise OutputExistsError(str(folder), "is not empty", "choose another -o, or pass --overwrite")


def write_site(folder: Path, model: Path, runtime: Runtime, *, overwrite: bool = False) -> Path:
    """Write the page with a model and its engine.

    Args:
        folder: Made if it is not there. With `overwrite`, files of the page's names are replaced and others stay.
        model: A file of `dermask export`.
        runtime: The engine.
        overwrite: Whether `folder` may hold something already.

    Returns:
        The page, written last.

    Raises:
        OutputExistsError: `folder` is not empty.
        WeightsError: The model is not an exported one of dermask.
        InputError: Something cannot be written.
    """
    check_folder(folder, overwrite=overwrite)
    described = describe_model(model)
    site = _settings(described, runtime)
    static = resources.files("dermask.web_page") / "static"
    files.write_bytes(folder / _RUNTIME_WASM, runtime.wasm)
    files.write_bytes(folder / _RUNTIME_SCRIPT, runtime.script)
    files.write_bytes(folder / _RUNTIME_LICENCE, (static / "onnxruntime_licence.txt").read_bytes())
    files.write_bytes(folder / _MODEL, model.read_bytes())
    for name in SCRIPTS:
        files.write_bytes(folder / name, (static / name).read_bytes())
    files.write_text(
        folder / _STYLE, _render("look.css", truth_colour=_css(TRUTH_COLOUR), pred_colour=site["colours"][0])
    )
    facts = _facts(described)
    files.write_text(folder / PAGE, _render(PAGE, site=site, facts=facts, policy=POLICY, version=dermask.__version__))
    return folder / PAGE


def describe_model(model: Path) -> ModelFile:
    """What an exported model says about itself.

    Raises:
        WeightsError: It is a checkpoint, or no model of dermask.
    """
    if model.suffix.lower() != ".onnx":
        raise WeightsError(str(model), "does not run in a browser", "export it first: dermask export RUN -o model.onnx")
    return read_model_file(model)


def _settings(model: ModelFile, runtime: Runtime) -> dict[str, Any]:
    """All that the page is told, as JSON."""
    settings, defaults = model.settings, PredictOptions()
    return {
        "class_names": list(settings.class_names),
        "colours": [_css(colour) for colour in CLASS_COLOURS],
        "image": {
            "min_size": settings.image.min_size,
            "max_size": settings.image.max_size,
            "pad_multiple": settings.image.pad_multiple,
            "decode_margin": DECODE_MARGIN,
            "max_pixels": images.MAX_PIXELS,
        },
        "score_floor": settings.box_head.score_thresh,
        "score_thresh": defaults.score_thresh,
        "mask_thresh": MASK_THRESH,
        "overlay_side": defaults.overlay_side,
        "model": {"file": _MODEL, "bytes": model.num_bytes, "sha256": model.sha256},
        "runtime": {
            "name": "ONNX Runtime Web",
            "version": runtime.version,
            "script": _RUNTIME_SCRIPT,
            "wasm": _RUNTIME_WASM,
            "wasm_bytes": len(runtime.wasm),
        },
    }


def _facts(model: ModelFile) -> list[tuple[str, str]]:
    """The model in words, for the page's table."""
    settings, told = model.settings, model.metadata
    rows = [
        ("Model", f"{settings.preset}, trained with dermask {told.get('version', 'of an unknown version')}"),
        ("File", f"{model.num_bytes / 1e6:.1f} MB, SHA-256 {model.sha256}"),
        ("Finds", ", ".join(settings.class_names)),
        ("Sees photographs at", _network_scale(settings.image.min_size, settings.image.max_size)),
        ("Gives scores", f"from {settings.box_head.score_thresh:g} on"),
    ]
    return rows + ([("Licence of the weights", str(told["licence"]))] if told.get("licence") else [])


def _network_scale(short: int, long: int) -> str:
    if short == long:
        return f"{long} pixels on the long side"
    return f"{short} pixels on the short side, or {long} on the long one where that is less"


def _render(template: str, **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("dermask.web_page", "static"), jinja2.PackageLoader("dermask.report")]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def _css(colour: tuple[int, int, int]) -> str:
    return f"rgb({', '.join(map(str, colour))})"
