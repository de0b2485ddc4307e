"""Weights in: published files under both their names, trunks, own checkpoints, and every way they can be wrong."""

import os
import pickle
import sys
from functools import cache
from urllib.error import URLError

import pytest
import torch
from model_cases import random_images, tiny_model, tiny_settings
from safetensors.torch import save_file
from torch.testing import assert_close
from torchvision.models import mobilenet_v2, resnet18, resnet50
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection._utils import overwrite_eps
from torchvision.ops import FrozenBatchNorm2d as PublishedFrozenBatchNorm2d
from torchvision_pairs import CONSTRUCTORS, OUR_SETTINGS

from dermask.config import override, preset
from dermask.errors import WeightsError
from dermask.models.build import build_model
from dermask.models.weights import LoadReport, load_weights, translate

DOWNLOAD = "torch.hub.load_state_dict_from_url"


def oracle(name):
    return CONSTRUCTORS[name](weights=None, weights_backbone=None, num_classes=3)


BOTH = pytest.mark.parametrize("name", ["torchvision_v1", "torchvision_v2"])


@cache
def published_state(name):
    """A state dict of torchvision's model with 3 classes, every tensor different; not to be changed."""
    return randomised(lambda: oracle(name))


def without_init(make):
    """The model that `make` builds, its tensors left as memory was: what initialises a ResNet takes a second."""
    with torch.device("meta"):
        model = make()
    return model.to_empty(device="cpu")


def randomised(make):
    """The state dict of the model that `make` builds, every tensor different."""
    generator = torch.Generator().manual_seed(0)
    state = without_init(make).state_dict()
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            value.zero_()
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2, generator=generator)
        elif value.ndim > 1:
            value.normal_(std=(2 / value[0].numel()) ** 0.5, generator=generator)
        else:
            value.normal_(generator=generator)
    return state


def preset_model(name, class_names=("a", "b")):
    return without_init(lambda: build_model(override(preset(name), OUR_SETTINGS | {"class_names": class_names})))


@pytest.fixture(scope="module")
def mobilenet_state():
    return randomised(mobilenet_v2)


@pytest.fixture
def small_model():
    return build_model(tiny_settings(), seed=1)


def old_names(state):
    """torchvision's v1 as published: named before its heads became sequences of blocks, with frozen batch norm."""
    renamed = {}
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for blocks in ("inner_blocks", "layer_blocks"):
            for number in range(4):
                name = name.replace(f"backbone.fpn.{blocks}.{number}.0.", f"backbone.fpn.{blocks}.{number}.")
        for number in range(4):
            name = name.replace(f"roi_heads.mask_head.{number}.0.", f"roi_heads.mask_head.mask_fcn{number + 1}.")
        renamed[name] = value
    return renamed


# Names.


@BOTH
def test_every_tensor_of_torchvisions_model_has_a_place_and_every_place_a_tensor(name, tmp_path):
    state = published_state(name)
    path = tmp_path / "model.pth"
    torch.save(state, path)
    model = preset_model(name)
    report = load_weights(model, path)
    assert report.fresh == ()
    assert report.unused == ()
    assert set(report.kept) == set(model.state_dict())
    assert len(report.kept) == len(state)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[ours], value) for ours, value in translate(state).items())


def test_names_of_the_published_v1_file_are_understood():
    state = published_state("torchvision_v1")
    old = old_names(state)
    assert len(set(old) - set(state)) > 20
    without_init(lambda: oracle("torchvision_v1")).load_state_dict(old)  # torchvision knows these names
    translated = translate(old)
    expected = {key: value for key, value in translate(state).items() if not key.endswith("num_batches_tracked")}
    assert translated.keys() == expected.keys()
    assert all(torch.equal(translated[key], value) for key, value in expected.items())


def test_translation_leaves_our_own_names_alone(small_model):
    assert translate(small_model.state_dict()).keys() == small_model.state_dict().keys()


def test_translation_keeps_unknown_names(mobilenet_state):
    assert {name for name in translate(mobilenet_state) if not name.startswith("trunk.")} == {
        name for name in mobilenet_state if name.startswith(("features.18.", "classifier."))
    }


# Trunks.


def test_a_mobilenet_fills_the_trunk_of_small(mobilenet_state, small_model, tmp_path):
    path = tmp_path / "mobilenet.safetensors"
    save_file(mobilenet_state, path)
    before = {name: value.clone() for name, value in small_model.state_dict().items()}
    report = load_weights(small_model, path)
    trunk = {name for name in before if name.startswith("trunk.")}
    assert set(report.kept) == trunk
    assert set(report.fresh) == {name for name in before if name not in trunk}
    assert {name.split(".")[0] for name in report.unused} == {"features", "classifier"}
    net = mobilenet_v2(weights=None).eval()
    net.load_state_dict(mobilenet_state)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(small_model.eval().trunk(images)[-1], net.features[:18](images))
    assert all(torch.equal(small_model.state_dict()[name], before[name]) for name in report.fresh)


@pytest.mark.parametrize("name", ["base", "torchvision_v2"])
def test_a_resnet_fills_the_trunk_of_the_larger_presets(name, tmp_path):
    path = tmp_path / "resnet50.pt"
    torch.save(randomised(resnet50), path)
    model = preset_model(name)
    report = load_weights(model, path)
    assert report.unused == ("fc.weight", "fc.bias")
    trunk = {key for key in model.state_dict() if key.startswith("trunk.")}
    assert set(report.kept) == trunk


def test_the_real_imagenet_trunk_fills_small(real_data, small_model):
    report = load_weights(small_model, real_data / "weights" / "mobilenet_v2_imagenet_trunk.safetensors")
    assert not [name for name in report.fresh if name.startswith("trunk.")]
    state = small_model.state_dict()
    assert all(state[name].dtype == torch.float32 for name in report.kept if not name.endswith("tracked"))
    small_model.eval()
    stages = small_model.trunk(torch.stack(random_images([(64, 64)])))
    assert all(stage.isfinite().all() and stage.std() > 0.01 for stage in stages)


def test_half_precision_files_are_cast(mobilenet_state, small_model, tmp_path):
    path = tmp_path / "half.safetensors"
    save_file(
        {name: value.half() if value.is_floating_point() else value for name, value in mobilenet_state.items()}, path
    )
    load_weights(small_model, path)
    weight = small_model.state_dict()["trunk.stage2.0.0.weight"]
    assert weight.dtype == torch.float32
    assert_close(weight, mobilenet_state["features.0.0.weight"], atol=1e-3, rtol=1e-3)  # half has 11 bits


# Frozen batch norm with eps 0.


def test_the_published_v1_trunk_keeps_its_eps_of_zero(tmp_path):
    body = IntermediateLayerGetter(
        resnet50(weights=None, norm_layer=PublishedFrozenBatchNorm2d),
        {f"layer{number}": str(number) for number in (1, 2, 3, 4)},
    )
    generator = torch.Generator().manual_seed(0)
    for name, value in body.named_buffers():
        if name.endswith("running_var"):
            # As small as eps somewhere: there it decides.
            value.uniform_(0.5, 2, generator=generator)
            value[::7] = 2e-5
        if name.endswith(".weight"):
            value[::7] = 1e-3
    overwrite_eps(body, 0.0)
    state = {f"backbone.body.{name}": value for name, value in body.state_dict().items()}
    images = torch.stack(random_images([(64, 64)]))
    with torch.no_grad():
        expected = list(body(images).values())
    differences = []
    for name in ("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "another_name.pth"):
        torch.save(state, tmp_path / name)
        model = preset_model("torchvision_v1")
        load_weights(model, tmp_path / name)
        with torch.no_grad():
            pairs = zip(model.trunk(images), expected, strict=True)
            differences.append(max(float((stage - wanted).abs().max() / wanted.std()) for stage, wanted in pairs))
    # The variance and eps meet in float32, which leaves 1e-7 of 2e-5 undecided; fifty layers add up.
    assert differences[0] < 1e-4
    assert differences[1] > 1e-2, "the test must see the difference that eps makes"


# Heads of another number of classes or resolution.


@BOTH
def test_heads_of_other_classes_start_fresh_and_are_reported(name, tmp_path):
    state = published_state(name)
    path = tmp_path / "model.pth"
    torch.save(state, path)
    model = preset_model(name, ("lesion",))
    report = load_weights(model, path)
    heads = {"box_head.class_logits", "box_head.deltas", "mask_head.mask_logits"}
    assert set(report.fresh) == {f"{head}.{part}" for head in heads for part in ("weight", "bias")}
    assert set(report.unused) == set(report.fresh)
    for head in heads:
        assert head in str(report)
    assert f"{len(report.kept)} tensors kept, 6 fresh, 6 unused" in str(report)


def test_coco_weights_fill_base_but_for_what_its_finer_mask_adds(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(old_names(published_state("torchvision_v1")), path)
    model = without_init(lambda: build_model(preset("base")))
    report = load_weights(model, path)
    fresh = {part.rsplit(".", 1)[0] for part in report.fresh}
    assert fresh == {"box_head.class_logits", "box_head.deltas", "mask_head.mask_logits", "mask_head.upsample.2"}
    assert "mask_head.upsample.0.weight" in report.kept


def test_long_reports_are_shortened():
    report = LoadReport("file", (), tuple(f"part{number}.weight" for number in range(20)), ())
    assert str(report) == (
        "weights file: 0 tensors kept, 20 fresh, 0 unused; "
        "fresh: part0, part1, part10, part11, part12, part13, part14, part15, and 12 more"
    )


# Our own checkpoints.


@pytest.mark.parametrize("prefix", ["", "model.", "ema."])
def test_own_checkpoints_come_back_whole(prefix, small_model, tmp_path):
    trained = tiny_model(seed=5)
    state = {f"{prefix}{name}": value for name, value in trained.state_dict().items()}
    if prefix == "ema.":  # the last checkpoint holds both; its average is what counts
        state |= {f"model.{name}": torch.zeros_like(value) for name, value in trained.state_dict().items()}
    path = tmp_path / "best.safetensors"
    save_file(state, path)
    report = load_weights(small_model, path)
    assert (report.fresh, report.unused) == ((), ())
    loaded = small_model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in trained.state_dict().items())


# Published weights by name.


@pytest.mark.parametrize(
    ("source", "name", "file"),
    [
        ("coco_v1", "torchvision_v1", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"),
        ("coco_v2", "torchvision_v2", "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"),
    ],
)
def test_published_weights_are_fetched_by_torchvisions_download(source, name, file, monkeypatch):
    calls = []

    def fetch(url, **options):
        calls.append((url, options))
        return published_state(name)

    monkeypatch.setattr(DOWNLOAD, fetch)
    report = load_weights(preset_model(name), source)
    ((url, options),) = calls
    assert url == f"https://download.pytorch.org/models/{file}"
    assert options == {"map_location": "cpu", "check_hash": True, "weights_only": True, "progress": False}
    assert report.source == file
    assert report.fresh == ()


def test_imagenet_means_the_trunk_that_the_model_has(small_model, mobilenet_state, monkeypatch):
    urls = []
    monkeypatch.setattr(DOWNLOAD, lambda url, **_: urls.append(url) or mobilenet_state)
    report = load_weights(small_model, "imagenet")
    assert "mobilenet_v2" in urls[0]
    assert not [name for name in report.fresh if name.startswith("trunk.")]


def test_what_the_download_prints_stays_out_of_the_results(small_model, mobilenet_state, monkeypatch, capsys):
    monkeypatch.setattr(DOWNLOAD, lambda url, **_: sys.stdout.write("Downloading") and mobilenet_state)
    load_weights(small_model, "imagenet")
    assert capsys.readouterr() == ("", "Downloading")


def test_a_foreign_pickle_gives_one_line_and_no_warning(small_model, tmp_path):
    (tmp_path / "foreign.pt").write_bytes(pickle.dumps({1: 2}, protocol=4))  # torch warns about its protocol
    with pytest.raises(WeightsError, match=r"foreign\.pt: (?!.*please file an issue)"):
        load_weights(small_model, tmp_path / "foreign.pt")


@pytest.mark.parametrize(
    "error", [URLError("Name or service not known"), ConnectionResetError("reset"), RuntimeError("invalid hash value")]
)
def test_without_a_network_the_message_names_the_file_and_the_way_around(error, small_model, monkeypatch):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(DOWNLOAD, fail)
    with pytest.raises(WeightsError) as caught:
        load_weights(small_model, "imagenet")
    message = str(caught.value)
    assert message.startswith("weights imagenet: could not be downloaded from https://download.pytorch.org/models/")
    assert "fetch mobilenet_v2-7ebf99e0.pth on a machine with a network" in message
    assert "--weights PATH/mobilenet_v2-7ebf99e0.pth" in message
    assert "\n" not in message


def test_coco_weights_are_not_for_a_mobilenet(small_model):
    with pytest.raises(WeightsError, match="coco_v1: are not published for mobilenet_v2; use imagenet, or a ResNet-50"):
        load_weights(small_model, "coco_v1")


# Files that do not fit.


def test_a_missing_file_lists_the_published_names(small_model, tmp_path):
    with pytest.raises(WeightsError, match=r"none.pth: no such weights file; .* imagenet, coco_v1, coco_v2"):
        load_weights(small_model, tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(lambda: resnet50(weights=None), "holds no tensor of this model's trunk", id="another trunk"),
        pytest.param(lambda: mobilenet_v2(weights=None, width_mult=0.5), "of another architecture", id="half as wide"),
        pytest.param(lambda: torch.nn.Linear(2, 2), "holds no tensor of this model's trunk", id="something else"),
    ],
)
def test_another_architecture_is_refused(make, expected, small_model, tmp_path):
    torch.save(make().state_dict(), tmp_path / "other.pth")
    before = {name: value.clone() for name, value in small_model.state_dict().items()}
    with pytest.raises(WeightsError, match=f"other.pth: .*{expected}.*mobilenet_v2"):
        load_weights(small_model, tmp_path / "other.pth")
    assert all(torch.equal(value, before[name]) for name, value in small_model.state_dict().items())


def test_a_shallower_resnet_is_refused(tmp_path):
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match=r"another architecture: trunk\S+ is \(.*\), the model needs \(.*\)"):
        load_weights(preset_model("base"), tmp_path / "resnet18.pth")


def test_a_trunk_with_holes_is_refused(mobilenet_state, small_model, tmp_path):
    state = {name: value for name, value in mobilenet_state.items() if not name.startswith("features.5.")}
    torch.save(state, tmp_path / "holes.pth")
    with pytest.raises(WeightsError, match=r"lacks \d+ tensors of the trunk, the first is trunk.stage3"):
        load_weights(small_model, tmp_path / "holes.pth")


def test_a_pyramid_of_another_width_is_refused(small_model, tmp_path):
    other = build_model(tiny_settings({"backbone.fpn_channels": 16}), seed=0)
    torch.save(other.state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(WeightsError, match=r"another architecture: fpn\S+ is \(16, .*, the model needs \(32, "):
        load_weights(small_model, tmp_path / "narrow.pth")


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True], ids=["as torch saves", "a bare pickle"])
def test_code_in_a_weights_file_is_refused_and_not_run(legacy, small_model, tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "was here"
    content = {"weight": torch.zeros(1), "payload": Payload(trace)}
    if legacy:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=r"evil.pth: cannot be read safely as weights"):
        load_weights(small_model, path)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"these are not weights\n", b"PK\x03\x04 cut off", b"\x89PNG\r\n\x1a\n" + bytes(64)],
    ids=["empty", "text", "half a zip", "a picture"],
)
def test_other_files_are_refused_in_one_line(content, suffix, small_model, tmp_path):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"file\..*: cannot be read") as caught:
        load_weights(small_model, path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(mobilenet_state, small_model, tmp_path):
    for name, save in (("cut.safetensors", save_file), ("cut.pth", torch.save)):
        path = tmp_path / name
        save(mobilenet_state, path)
        path.write_bytes(path.read_bytes()[:100_000])
        with pytest.raises(WeightsError, match=f"{name}: cannot be read"):
            load_weights(small_model, path)


@pytest.mark.parametrize(
    "content", [{"model": {"weight": torch.zeros(1)}, "epoch": 3}, [torch.zeros(1)], torch.zeros(1)],
    ids=["a whole checkpoint", "a list", "a tensor"],
)  # fmt: skip
def test_something_else_than_a_state_dict_is_refused(content, small_model, tmp_path):
    torch.save(content, tmp_path / "nested.pth")
    with pytest.raises(WeightsError, match=r"something else than a plain state dict; save model.state_dict\(\) alone"):
        load_weights(small_model, tmp_path / "nested.pth")
