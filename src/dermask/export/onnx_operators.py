"""How the operators that torch's exporter does not know are written in ONNX's own.

Functions of onnxscript: calling an operator adds it to the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18

from dermask.models.nms import suppress_operator

op: Any = opset18  # its own types describe values, not the graph's names for them


def translations() -> dict[Any, Callable[..., Any]]:
    """Torch operator to the function that writes it."""
    return {
        torch.ops.aten.sort.stable: _stable_sort,
        suppress_operator._opoverload: _suppress,
    }


def _stable_sort(values: Any, *, stable: bool, dim: int, descending: bool) -> Any:
    # TopK takes the lower index first among equal values, which is what makes the sort stable.
    count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, count, axis=dim, largest=int(descending), sorted=1)


def _suppress(boxes: Any, scores: Any, groups: Any, valid: Any, iou_thresh: float) -> Any:
    """`dermask.models.nms.suppress` by NonMaxSuppression, each group as a class of its own, so that none meets another.

    What is not valid, or of another group, gets a score below the operator's threshold.
    """
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    middle = op.Constant(value_ints=[1])
    every_group = op.Range(zero, op.Add(op.ReduceMax(groups, keepdims=0), one), one)
    is_member = op.Equal(op.Unsqueeze(groups, middle), op.Reshape(every_group, op.Constant(value_ints=[1, -1, 1])))
    counts = op.And(is_member, op.Unsqueeze(valid, middle))  # (B, groups, N)
    by_group = op.Where(counts, op.Unsqueeze(scores, middle), op.Constant(value_float=-1.0))
    kept = op.NonMaxSuppression(
        boxes,
        by_group,
        op.Gather(op.Shape(scores), middle),  # as many as there are
        op.Constant(value_floats=[iou_thresh]),
        op.Constant(value_floats=[-0.5]),
    )  # (kept, 3): image, group, box
    places = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
    marks = op.Add(op.CastLike(op.ConstantOfShape(op.Shape(op.Gather(kept, zero, axis=1))), one), one)
    nothing = op.CastLike(op.ConstantOfShape(op.Shape(scores)), one)
    return op.Greater(op.ScatterND(nothing, places, marks), zero)
