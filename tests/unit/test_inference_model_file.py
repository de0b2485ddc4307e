"""What a model's file says about itself: equal to what the libraries read, and clear refusals."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from card_examples import metadata, write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.errors import WeightsError
from dermask.inference.detector import PACKAGED_MODEL, model_fingerprint
from dermask.inference.model_file import keeps_tensors_elsewhere, read_model_file

NAMES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}


def test_the_packaged_model_is_read_as_the_onnx_library_reads_it() -> None:
    found, graph = read_model_file(PACKAGED_MODEL), onnx.load(PACKAGED_MODEL)
    floats: Counter[str] = Counter()
    for tensor in graph.graph.initializer:
        if tensor.data_type in NAMES:
            floats[NAMES[tensor.data_type]] += math.prod(tensor.dims)
    assert found.floats == floats
    assert found.operator_set == next(entry.version for entry in graph.opset_import if not entry.domain)
    assert found.metadata == json.loads({entry.key: entry.value for entry in graph.metadata_props}["dermask"])
    assert found.sha256 == model_fingerprint(PACKAGED_MODEL)
    assert found.num_bytes == PACKAGED_MODEL.stat().st_size
    assert found.format == "ONNX"
    assert found.settings.class_names == ("lesion",)


def test_any_graph_of_the_onnx_library_is_walked(tmp_path: Path) -> None:
    tensors = [
        onnx.helper.make_tensor("scalar", onnx.TensorProto.FLOAT, [], [1.5]),
        onnx.helper.make_tensor("none", onnx.TensorProto.FLOAT16, [0, 3], []),
        onnx.helper.make_tensor("table", onnx.TensorProto.FLOAT16, [2, 300], [0.0] * 600),
        onnx.helper.make_tensor("whole", onnx.TensorProto.INT64, [2], [1, 2]),
        onnx.helper.make_tensor("fine", onnx.TensorProto.DOUBLE, [5], [0.0] * 5),
    ]
    graph = onnx.helper.make_graph([], "empty", [], [], initializer=tensors)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("com.other", 3), onnx.helper.make_opsetid("", 21)]
    )
    onnx.helper.set_model_props(model, {"other": "ü", "dermask": json.dumps(metadata())})
    onnx.save(model, tmp_path / "m.onnx")
    found = read_model_file(tmp_path / "m.onnx")
    assert found.floats == {"float16": 600, "float64": 5, "float32": 1}
    assert list(found.floats) == ["float16", "float64", "float32"], "the most first"
    assert found.operator_set == 21
    assert found.metadata == metadata()


def test_a_checkpoints_tensors_are_counted_from_its_header(tmp_path: Path) -> None:
    tensors = {
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
        "steps": {"dtype": "I64", "shape": [7], "data_offsets": [26, 82]},
    }
    found = read_model_file(write_checkpoint(tmp_path / "best.safetensors", tensors=tensors))
    assert found.floats == {"float32": 6, "bfloat16": 1}
    assert (found.format, found.operator_set) == ("safetensors", None)


def test_of_a_state_to_resume_from_the_network_alone_counts(tmp_path: Path) -> None:
    tensor = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    tensors = {"model.a": tensor, "ema.a": tensor, "optimizer.a.exp_avg": tensor}
    assert read_model_file(write_checkpoint(tmp_path / "last.safetensors", tensors=tensors)).floats == {"float32": 4}


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"not a model at all", b"\x3a\xff\xff\xff\xff\x7f", b"\x0b", b"\xff" * 40]
)
def test_what_is_no_onnx_file_of_ours_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"m\.onnx: is not a model of dermask, or is damaged; write it with"):
        read_model_file(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"config": 1, "class_names": []}', "{"])
def test_metadata_of_another_form_is_refused(text: str, tmp_path: Path) -> None:
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    onnx.helper.set_model_props(model, {"dermask": text})
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match="is not a model of dermask"):
        read_model_file(tmp_path / "m.onnx")


@pytest.mark.parametrize("tensors", [{"a": {"dtype": "F32"}}, {"a": {"dtype": "F32", "shape": 3}}, {"a": []}])
def test_a_damaged_list_of_tensors_is_told(tensors: object, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.safetensors", tensors=tensors)
    with pytest.raises(WeightsError, match="has a damaged list of tensors"):
        read_model_file(path)


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(1, 11_262_339))
def test_a_truncated_file_is_refused_and_never_half_read(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.onnx"
    with PACKAGED_MODEL.open("rb") as file:
        path.write_bytes(file.read(cut))
    with pytest.raises(WeightsError):
        read_model_file(path)


def _apart() -> onnx.TensorProto:
    tensor = onnx.numpy_helper.from_array(np.ones(1, np.float32), "apart")
    onnx.external_data_helper.set_external_data(tensor, "other.bin")
    return tensor


def _model_with(*, own: bool, place: str) -> bytes:
    """A model with a tensor at a place, its numbers in the file or in another."""
    tensor = onnx.helper.make_tensor("here", onnx.TensorProto.FLOAT, [1], [1.0]) if own else _apart()
    node, graph = onnx.helper.make_node, onnx.helper.make_graph
    constant = node("Constant", [], ["c"], value=tensor)
    sparse = onnx.SparseTensorProto(values=tensor, dims=[3])
    function = onnx.helper.make_function("other", "f", [], ["c"], [constant], [onnx.helper.make_opsetid("", 18)])
    models = {
        "weights": lambda: onnx.helper.make_model(graph([], "g", [], [], initializer=[tensor])),
        "sparse weights": lambda: onnx.helper.make_model(graph([], "g", [], [], sparse_initializer=[sparse])),
        "a constant": lambda: onnx.helper.make_model(graph([constant], "g", [], [])),
        "a branch": lambda: onnx.helper.make_model(
            graph([node("If", ["x"], ["y"], then_branch=graph([constant], "then", [], []))], "g", [], [])
        ),
        "a function": lambda: onnx.helper.make_model(graph([], "g", [], []), functions=[function]),
    }
    content: bytes = models[place]().SerializeToString()
    return content


@pytest.mark.parametrize("place", ["weights", "sparse weights", "a constant", "a branch", "a function"])
def test_tensors_in_other_files_are_seen_wherever_they_are(place: str) -> None:
    assert keeps_tensors_elsewhere(_model_with(own=False, place=place))
    assert not keeps_tensors_elsewhere(_model_with(own=True, place=place))


def test_the_packaged_model_is_whole_and_a_part_of_it_is_no_model() -> None:
    content = PACKAGED_MODEL.read_bytes()
    assert not keeps_tensors_elsewhere(content)
    assert not keeps_tensors_elsewhere(b"")
    with pytest.raises(ValueError, match="it is cut short"):
        keeps_tensors_elsewhere(content[:100_000])
