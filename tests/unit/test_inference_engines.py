"""Which engine runs an exported model: the rule of `auto`, and clear refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dermask.errors import MissingExtraError, SettingError
from dermask.inference import engines
from dermask.inference.detector import PACKAGED_MODEL, load
from dermask.inference.engines import MANY, choose_engine, has_amx, has_fast_bf16
from dermask.inference.onnx_detector import OnnxDetector

BOTH = ("onnxruntime", "openvino")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine as the test wants it."""

    def describe(*, bf16: bool, installed: tuple[str, ...] = BOTH, gpu: bool = False) -> None:
        monkeypatch.setattr(engines, "has_amx", lambda: bf16)
        monkeypatch.setattr(engines, "installed_engines", lambda: installed)
        monkeypatch.setattr(engines, "_has_gpu", lambda: gpu)

    return describe


@pytest.mark.parametrize(
    ("bf16", "installed", "gpu", "device", "num_photographs", "expected"),
    [
        pytest.param(False, BOTH, False, "auto", None, "onnxruntime", id="no bfloat16"),
        pytest.param(True, BOTH, False, "auto", None, "openvino", id="bfloat16, nobody knows how many"),
        pytest.param(True, BOTH, False, "cpu", MANY, "openvino", id="bfloat16, many photographs"),
        pytest.param(True, BOTH, False, "auto", MANY - 1, "onnxruntime", id="bfloat16, few photographs"),
        pytest.param(True, BOTH, False, "auto", 0, "onnxruntime", id="bfloat16, no photograph"),
        pytest.param(True, ("onnxruntime",), False, "auto", None, "onnxruntime", id="not installed"),
        pytest.param(True, BOTH, True, "auto", None, "onnxruntime", id="a GPU"),
        pytest.param(True, BOTH, True, "cpu", None, "openvino", id="a GPU that is not to be used"),
        pytest.param(True, BOTH, False, "cuda", None, "onnxruntime", id="a GPU that is asked for"),
    ],
)
def test_auto_takes_what_is_expected_to_be_faster(machine, bf16, installed, gpu, device, num_photographs, expected):
    machine(bf16=bf16, installed=installed, gpu=gpu)
    assert choose_engine("auto", device=device, num_photographs=num_photographs) == expected


@pytest.mark.parametrize("engine", BOTH)
def test_what_is_asked_for_is_taken_whatever_the_machine(engine, machine):
    for bf16 in (False, True):
        machine(bf16=bf16, gpu=True)
        assert choose_engine(engine, num_photographs=1) == engine


def test_an_engine_that_is_not_installed_is_named_with_its_command(machine):
    machine(bf16=True, installed=("onnxruntime",))
    message = r'engine openvino: needs an optional part; install it with: pip install "dermask\[openvino\]"'
    with pytest.raises(MissingExtraError, match=message):
        choose_engine("openvino")
    with pytest.raises(MissingExtraError, match=message):
        load(PACKAGED_MODEL, engine="openvino")


def test_an_unknown_engine_is_named_before_the_model_is_looked_at():
    with pytest.raises(SettingError, match="engine 'steam': is not known; choose auto, onnxruntime or openvino"):
        load("no such file", engine="steam")  # type: ignore[arg-type]


def test_a_checkpoint_has_no_choice_of_engine(tmp_path: Path):
    (tmp_path / "m.safetensors").write_bytes(b"")
    with pytest.raises(SettingError, match=r"engine onnxruntime: does not run .*m\.safetensors, a checkpoint; write a"):
        load(tmp_path / "m.safetensors", engine="onnxruntime")


@pytest.fixture
def _processor_is_asked_anew():
    engines._flags.cache_clear()
    yield
    engines._flags.cache_clear()


@pytest.mark.usefixtures("_processor_is_asked_anew")
@pytest.mark.parametrize(
    ("text", "amx", "bf16"),
    [
        ("", False, False),
        ("processor\t: 0\nflags\t\t: fpu avx2 fma\n", False, False),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 fma\n", False, True),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16 amx_tile\nprocessor\t: 1\n", True, True),
        ("model name\t: amx_bf16\nflags\t\t: avx512_bf16_other\n", False, False),
        ("Features\t: fp asimd bf16\n", False, False),  # not an x86 processor, where nothing was measured
    ],
)
def test_linux_says_what_the_processor_multiplies(text: str, amx: bool, bf16: bool, tmp_path: Path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(engines, "_CPU_INFO", tmp_path / "cpuinfo")
    assert (has_amx(), has_fast_bf16()) == (amx, bf16)


@pytest.mark.usefixtures("_processor_is_asked_anew")
def test_elsewhere_nothing_is_claimed(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(engines, "_CPU_INFO", tmp_path / "none")
    assert (has_amx(), has_fast_bf16()) == (False, False)


def test_load_opens_with_the_engine_of_the_rule(machine):
    machine(bf16=True)
    assert isinstance(load(num_photographs=1), OnnxDetector)
    assert isinstance(load(engine="onnxruntime"), OnnxDetector)


def test_nothing_imports_openvino_unless_it_is_asked_for():
    code = (
        "import importlib, pkgutil, sys\n"
        "import dermask.inference, dermask.cli\n"
        "for part in (dermask.inference, dermask.cli):\n"
        "    for found in pkgutil.iter_modules(part.__path__, part.__name__ + '.'):\n"
        "        importlib.import_module(found.name)\n"
        "import numpy as np, dermask\n"
        "dermask.load(engine='onnxruntime', threads=1).predict([np.zeros((32, 32, 3), np.uint8)])\n"
        "print(sorted(name for name in sys.modules if name.startswith('openvino')))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout == "[]\n"
