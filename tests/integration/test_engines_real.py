"""Both engines of exported models on real photographs: the same lesions, at the tolerances of an export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dermask.inference.detector import PACKAGED_MODEL
from dermask.inference.engines import installed_engines
from dermask.inference.onnx_detector import OnnxDetector
from dermask.inference.openvino_detector import OpenVinoDetector
from dermask.inference.photographs import collect_photographs
from dermask.masks import paste_masks
from dermask.scaling import network_size


@pytest.mark.openvino
def test_openvino_finds_what_onnx_runtime_finds(real_data: Path) -> None:
    if "openvino" not in installed_engines():
        pytest.skip("openvino is not installed; the dev group brings it")
    found = collect_photographs([str(real_data / "isic_native"), str(real_data / "isic2017")], output=Path("none"))
    photographs = [photo.source for photo in found[:: max(1, len(found) // 16)]][:16]
    assert len(photographs) == 16
    # Skin alone, nothing found: an ordinary photograph, alone and in a batch.
    photographs += [np.full((300, 400, 3), 190, np.uint8)] * 2
    reference = OnnxDetector(PACKAGED_MODEL, threads=1)
    expected = reference.predict(photographs)
    answers = OpenVinoDetector(PACKAGED_MODEL, threads=1, precision="fp32").predict(photographs)
    assert sum(map(len, expected)) >= 16
    assert [len(one) for one in expected[-2:]] == [0, 0]
    for one, other in zip(answers, expected, strict=True):
        assert (one.size, one.image_id, one.labels.tolist()) == (other.size, other.image_id, other.labels.tolist())
        scale = max(network_size(other.size, reference.settings.image)) / max(other.size)
        np.testing.assert_allclose(one.boxes * scale, other.boxes * scale, rtol=0, atol=0.5)
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-3)
        for number in range(len(other)):
            here, there = (
                paste_masks(each.boxes[[number]], each.mask_probs[[number]], each.size) for each in (one, other)
            )
            union = (here | there).sum()
            assert not union or (here & there).sum() / union >= 0.99
