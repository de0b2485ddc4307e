"""A trained network as one ONNX graph of standard operators.

In: `images` (B, H, W, 3) uint8 RGB, H and W multiples of `image.pad_multiple`, and `sizes` (B, 2) int64, height and
width without the padding; whatever the padding holds is ignored. Out: `boxes` (B, D, 4) float32 xyxy in the frame of
`images`, `scores` (B, D) float32, `labels` (B, D) int64 from 1, `valid` (B, D) bool, the valid ones first and best
first, and `mask_probs` (K, S, S) float32, one for each valid detection in reading order; where the very first detection
is not valid, one meaningless row stands before them, so that no engine ever meets an empty batch. B, H, W and K are
dynamic, D and S the settings' `max_detections` and `resolution`.

The names of the network's tensors stay what they are in a checkpoint, behind `model.`, and batch norm stays batch norm
(every engine folds it when it opens the file): so training can start from an exported file too.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from dermask.errors import MissingExtraError
from dermask.models.mask_rcnn import MaskRCNN

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

OPSET = 18
"""RoiAlign with half-pixel frames needs 16, the exporter 18; ONNX Runtime has no RoiAlign of opset 22."""

INPUT_NAMES = ("images", "sizes")
OUTPUT_NAMES = ("boxes", "scores", "labels", "valid", "mask_probs")

# Tensors of at least so many numbers are stored as float16 where that is asked for; smaller ones save nothing.
_MIN_HALVED = 1024
# The graph holds for any batch, height and width between these; what it is traced with lies inside.
_MAX_BATCH, _MAX_CELLS = 256, 64
_TRACED_BATCH, _TRACED_CELLS = 2, (6, 8)


class _Exportable(nn.Module):
    """From pixels to detections, with the masks of valid detections alone."""

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.model = model
        image = model.settings.image
        mean, std = (torch.tensor(values)[None, :, None, None] for values in (image.mean, image.std))
        self.register_buffer("mean", mean * 255, persistent=False)
        self.register_buffer("inverse_std", 1 / (std * 255), persistent=False)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """See the module."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.get_buffer("mean")) * self.get_buffer("inverse_std")
        height, width = pixels.shape[-2], pixels.shape[-1]
        is_row = torch.arange(height) < sizes[:, 0, None]
        is_column = torch.arange(width) < sizes[:, 1, None]
        inside = (is_row[:, :, None] & is_column[:, None, :])[:, None]
        pixels = torch.where(inside, pixels, torch.zeros(()))
        levels, found = self.model._detect(pixels, sizes.float())
        batch, count = found.scores.shape
        is_first = torch.arange(batch * count) == 0
        rows = torch.nonzero(found.valid.flatten() | is_first).squeeze(1)  # (K,)
        torch._check(rows.shape[0] >= 1)
        mask_probs = self.model._outline(
            levels,
            found.boxes.flatten(0, 1)[rows],
            found.labels.flatten()[rows],
            rows // count,
            (height, width),
        )
        return *found, mask_probs


def make_graph(model: MaskRCNN, metadata: Mapping[str, object], *, half: bool = False) -> onnx.ModelProto:
    """Trace the network and write it down in ONNX's operators.

    Args:
        model: The network, weights loaded; put in evaluation mode.
        metadata: JSON-ready; kept in the file under `dermask`. Needs `config` and `class_names`, as a checkpoint's.
        half: Store large tensors as float16, which the engine widens when it opens the file; halves the file.

    Raises:
        MissingExtraError: onnx or onnxscript is not installed.
    """
    try:
        import onnx_ir
        from onnxscript import optimizer

        from dermask.export.onnx_operators import translations
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"onnx", "onnx_ir", "onnxscript"}:
            raise MissingExtraError("dermask export", "train") from None
        raise
    module = _Exportable(model).eval()
    multiple = model.settings.image.pad_multiple
    rows, columns = (multiple * cells for cells in _TRACED_CELLS)
    images = torch.zeros((_TRACED_BATCH, rows, columns, 3), dtype=torch.uint8)
    sizes = torch.tensor([[rows - 2, columns - 6], [rows, columns]])
    batch = Dim("batch", min=1, max=_MAX_BATCH)
    height, width = (multiple * Dim(name, min=1, max=_MAX_CELLS) for name in ("height_cells", "width_cells"))
    with _quiet():
        program = torch.export.export(
            module, (images, sizes), dynamic_shapes=({0: batch, 1: height, 2: width}, {0: batch}), strict=False
        )
        exported = torch.onnx.export(
            program,
            custom_translation_table=translations(),
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=list(INPUT_NAMES),
            output_names=list(OUTPUT_NAMES),
        )
        assert exported is not None
        # Not the whole optimiser, which folds batch norm into the weights: see above.
        optimizer.fold_constants(exported.model)
        optimizer.remove_unused_nodes(exported.model)
        graph: onnx.ModelProto = onnx_ir.serde.serialize_model(exported.model)
    _clean(graph, metadata)
    if half:
        _halve(graph)
    return graph


def round_weights(model: nn.Module) -> None:
    """Give a network, in place, the weights that `make_graph` stores with `half`."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if (rounded := _as_half(tensor.numpy(force=True))) is not None:
                tensor.copy_(torch.from_numpy(rounded))


def _as_half(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Float32 numbers as float16; None where that saves nothing, or where one is beyond float16's range."""
    if values.dtype != np.float32 or values.size < _MIN_HALVED:
        return None
    with np.errstate(over="ignore"):
        halved = values.astype(np.float16)
    return halved if np.isfinite(halved).all() else None


def _clean(graph: onnx.ModelProto, metadata: Mapping[str, object]) -> None:
    """Keep what describes the model, drop what describes the tracing."""
    for part in (graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        del part.metadata_props[:]
    for node in graph.graph.node:
        node.doc_string = ""
    del graph.graph.value_info[:]
    del graph.metadata_props[:]
    graph.producer_name, graph.producer_version = "dermask", str(metadata.get("dermask", ""))
    graph.metadata_props.add(key="dermask", value=json.dumps(dict(metadata)))


def _halve(graph: onnx.ModelProto) -> None:
    """Store large float32 tensors as float16, each with a cast that engines fold away when they open the file."""
    from onnx import TensorProto, helper, numpy_helper

    casts = {}
    for tensor in graph.graph.initializer:
        if (halved := _as_half(numpy_helper.to_array(tensor))) is not None:
            casts[tensor.name] = f"{tensor.name}.float32"
            tensor.CopyFrom(numpy_helper.from_array(halved, tensor.name))
    for node in graph.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = casts.get(name, name)
    widened = [helper.make_node("Cast", [name], [wide], to=TensorProto.FLOAT) for name, wide in casts.items()]
    nodes = [*widened, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks on stdout, in warnings and in logs; what matters is checked afterwards, by running it."""
    logger: Any = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
