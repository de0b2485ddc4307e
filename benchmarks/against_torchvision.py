"""Times our torchvision presets against torchvision's own Mask R-CNN: same weights, same photographs, one process.

    uv run python benchmarks/against_torchvision.py --size 512 --threads 2 --data ../shared/isic2017
    uv run python benchmarks/against_torchvision.py --model v1 --channels-last --bf16 --json result.json

Both networks have the published settings: 1000 proposals to predict, 2000 to train, 512 sampled, up to 100 detections.
After a warm-up, each round times every contestant once, one after the other, so that what else the machine does
falls on all of them; a ratio is the median over rounds of torchvision's time by ours in the same round.

predict  photographs to boxes, scores and full-size mask probabilities, as torchvision returns them. Ours pastes
         with `dermask.masks.paste_masks`; "ours, small masks" stops before, where most uses can stop. "ready" is as a
         `Detector` predicts, with batch norm folded and weights rounded once, also without pasting; "lean" has as many
         proposals and detections as lesions need (50 and 5) besides. Each is also compared with torchvision as shipped.
train    the five losses and their gradients for every parameter, without the optimiser's step. "lean" samples as many
         proposals as the preset `base` does: 64 for the box head, 8 for the mask head, instead of 512 and 128.

Without --weights the weights are random, with batch norm settled on the photographs; the number of detections is
printed, because it decides how much the mask head does. --channels-last and --bf16 add both networks in that setting;
on a CPU that emulates bfloat16 the latter says little and takes minutes a round.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.models import detection, resnet50
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.mask_rcnn import MaskRCNN as TorchvisionMaskRCNN
from torchvision.ops.misc import FrozenBatchNorm2d

from dermask.config import RunSettings, override, preset
from dermask.data.formats import open_dataset
from dermask.data.synthetic import synthetic_dataset
from dermask.errors import InputError
from dermask.export.onnx_graph import make_graph
from dermask.inference.detector import Detector, Prepared, exported_detector, load
from dermask.inference.engines import installed_engines
from dermask.masks import mask_boxes, paste_masks
from dermask.models.batching import Target
from dermask.models.build import build_model
from dermask.models.folding import prepare_to_predict
from dermask.models.mask_rcnn import MaskRCNN
from dermask.models.weights import load_weights, read_state, translate
from dermask.records import Detections, ImageSize
from dermask.training.distributed import choose_precision
from dermask.training.transforms import resized

CONSTRUCTORS = {"v1": detection.maskrcnn_resnet50_fpn, "v2": detection.maskrcnn_resnet50_fpn_v2}
# What the frozen batch norm of torchvision's published v1 has for eps; `load_weights` knows it by the file's name.
_EPS_ZERO_FILE = "maskrcnn_resnet50_fpn_coco"
_LEAN = {"rpn.pre_nms_topk": 200, "rpn.post_nms_topk": 50, "box_head.max_detections": 5}
# As the preset `base` is trained.
_LEAN_TRAINING = {
    "rpn.train_pre_nms_topk": 500,
    "rpn.train_post_nms_topk": 300,
    "box_head.sampled_rois": 64,
    "mask_head.train_rois": 8,
}


@dataclass(frozen=True)
class Batch:
    """Photographs and their outlines as both networks take them."""

    images: list[Tensor]
    targets: list[Target]

    def dicts(self) -> list[dict[str, Tensor]]:
        """The targets in torchvision's form."""
        return [{"boxes": t.boxes, "labels": t.labels, "masks": t.masks.to(torch.uint8)} for t in self.targets]


@dataclass(frozen=True)
class Found:
    """Detections of one photograph with full-size mask probabilities."""

    boxes: Tensor
    scores: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Contestant:
    """One network in one setting.

    Attributes:
        name: For the table.
        setting: Contestants of one setting are compared with each other.
        predict: Photographs to detections; None where only part of that is timed.
        tasks: Task name to what to time.
    """

    name: str
    setting: str
    predict: Callable[[], list[Found]] | None
    tasks: dict[str, Callable[[], object]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark: 0 done, 1 a file that cannot be used."""
    options = parse(arguments)
    if warning := bf16_warning(options):
        print(warning, file=sys.stderr)
    torch.set_num_threads(options.threads)
    try:
        batch = read_photographs(options)
        oracle, ours = make_networks(options, batch)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    facts = describe(options, batch)
    for name, value in facts.items():
        print(f"{name:12} {value}")

    groups = [enter(oracle, ours, batch, "plain", options)]
    engines = [*enter_engines(ours, batch, options), enter_packaged(batch, options)] if options.engines else []
    if tuned := tuned_setting(options):
        groups.append(enter(copy.deepcopy(oracle), copy.deepcopy(ours), batch, tuned, options))
    results = {theirs.setting: compare(theirs, own) for theirs, own, *_ in groups}
    for setting, figures in results.items():
        print(f"\nresults, {setting}: " + ", ".join(f"{name} {value:.3g}" for name, value in figures.items()))

    contestants = [*(contestant for group in groups for contestant in group), *engines]
    for engine in engines:
        if engine.predict is None:
            continue
        figures = compare(as_engines_see(ours, batch), engine)
        results[engine.setting] = figures
        print(f"\nresults, {engine.setting}: " + ", ".join(f"{name} {value:.3g}" for name, value in figures.items()))
    timings = {task: time_rounds(contestants, task, options) for task in options.tasks}
    for task, times in timings.items():
        print_table(task, times)
    if options.json:
        record = {**facts, "results": results, "timings": timings}
        options.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CONSTRUCTORS, default="v2", help="which Mask R-CNN of torchvision's")
    parser.add_argument("--size", type=int, default=512, help="longest side that the networks see, pixels")
    parser.add_argument("--batch", type=int, default=1, help="photographs at a time")
    parser.add_argument("--rounds", type=int, default=7, help="how often each contestant is timed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch's operators")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--data", type=Path, help="labelled photographs of any known format; default: drawn scenes")
    parser.add_argument("--part", help="part of an ISIC root: Training, Validation, Test, Test_v2")
    parser.add_argument("--weights", type=Path, help="torchvision's published file; default: random weights")
    parser.add_argument("--tasks", nargs="+", choices=("predict", "train"), default=("predict", "train"))
    parser.add_argument("--channels-last", action="store_true", help="also both networks in this memory format")
    parser.add_argument("--bf16", action="store_true", help="also both networks under bfloat16 autocast")
    parser.add_argument("--engines", action="store_true", help="also the lean network, exported, on installed engines")
    parser.add_argument("--seed", type=int, default=0, help="of drawn scenes and random weights")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time and figure here")
    return parser.parse_args(arguments)


def tuned_setting(options: argparse.Namespace) -> str:
    """What the second setting is called; empty if none was asked for."""
    chosen = (("channels_last", options.channels_last), ("bf16", options.bf16))
    return " + ".join(name for name, on in chosen if on)


def bf16_warning(options: argparse.Namespace) -> str:
    """One line where --bf16 was asked of a CPU that has no instructions for it; else empty."""
    if not options.bf16 or options.device.type != "cpu" or choose_precision("auto", options.device) == torch.bfloat16:
        return ""
    return "--bf16: this CPU emulates bfloat16, which takes minutes a round; leave it out, or name another --device"


def describe(options: argparse.Namespace, batch: Batch) -> dict[str, Any]:
    """Everything that the times depend on."""
    shapes = ", ".join(f"{image.shape[-2]}x{image.shape[-1]}" for image in batch.images)
    return {
        "model": f"maskrcnn_resnet50_fpn, {options.model}",
        "weights": str(options.weights or f"random, seed {options.seed}"),
        "photographs": f"{len(batch.images)} of {options.data or 'drawn scenes'}: {shapes}",
        "objects": sum(len(target.labels) for target in batch.targets),
        "size": options.size,
        "rounds": options.rounds,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


def read_photographs(options: argparse.Namespace) -> Batch:
    """The first photographs that have an object."""
    if options.data:
        data = open_dataset(options.data, part=options.part)
    else:
        data = synthetic_dataset(4 * options.batch, seed=options.seed, size=ImageSize(options.size, options.size))
    labelled = (index for index, sample in enumerate(data) if sample.instances)
    samples = [data.load(index) for index in islice(labelled, options.batch)]
    if len(samples) < options.batch:
        raise InputError(f"--batch {options.batch}", f"{data.name} has {len(samples)} photographs with an object")
    images, targets = [], []
    for sample in samples:
        # At the network's size already, so that all see the same pixels, whoever scales photographs in which way.
        height, width = sample.image.shape[:2]
        ratio = options.size / max(height, width)
        sample = resized(sample, ImageSize(round(height * ratio), round(width * ratio)))
        images.append(torch.tensor(sample.image).permute(2, 0, 1).float().div(255).to(options.device))
        boxes = torch.tensor(mask_boxes(sample.masks))
        targets.append(Target(boxes, torch.tensor(sample.labels), torch.tensor(sample.masks)).to(options.device))
    return Batch(images, targets)


def make_networks(options: argparse.Namespace, batch: Batch) -> tuple[nn.Module, MaskRCNN]:
    """torchvision's network and ours with the same weights; every parameter is trained, but for v1's frozen norm."""
    num_classes = 90 if options.weights else max(int(target.labels.max()) for target in batch.targets)
    class_names = tuple(f"class {number + 1}" for number in range(num_classes))
    sizes = {"image.min_size": options.size, "image.max_size": options.size}
    ours = build_model(override(preset(f"torchvision_{options.model}"), {"class_names": class_names} | sizes))
    limits = {"num_classes": num_classes + 1, "min_size": options.size, "max_size": options.size}
    oracle = published_network(options.model, limits)
    if options.weights:
        load_weights(ours, options.weights)
        oracle.load_state_dict(read_state(options.weights))
        if options.weights.name.startswith(_EPS_ZERO_FILE):
            overwrite_eps(oracle, 0.0)
    else:
        state = settled_state(options, limits, batch)
        ours.load_state_dict(translate(state))
        oracle.load_state_dict(state)
    return oracle.to(options.device), ours.to(options.device)


def published_network(model: str, limits: dict[str, Any]) -> nn.Module:
    """torchvision's network as it is with published weights: v1 has frozen batch norm only then."""
    if model == "v2":
        return CONSTRUCTORS[model](weights=None, weights_backbone=None, **limits)
    trunk = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    return TorchvisionMaskRCNN(_resnet_fpn_extractor(trunk, 5), **limits)


def settled_state(options: argparse.Namespace, limits: dict[str, Any], batch: Batch) -> dict[str, Tensor]:
    """Random weights whose batch norm has the statistics of these photographs.

    With statistics of 0 and 1 the signal would grow from layer to layer, and all proposals would be alike.
    """
    torch.manual_seed(options.seed)
    network = CONSTRUCTORS[options.model](weights=None, weights_backbone=None, **limits).to(options.device).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(batch.images, batch.dicts())
    return network.state_dict()


def enter(
    oracle: nn.Module, ours: MaskRCNN, batch: Batch, setting: str, options: argparse.Namespace
) -> tuple[Contestant, ...]:
    """torchvision, ours, and ours without pasting, as it is and made ready, in one setting."""
    if "channels_last" in setting:
        oracle.to(memory_format=torch.channels_last)
        ours.to(memory_format=torch.channels_last)
    precision = torch.bfloat16 if "bf16" in setting else torch.float32
    ready = prepare_to_predict(ours, precision=precision)
    lean = prepare_to_predict(lean_copy(ours), precision=precision)
    dicts = batch.dicts()
    seeds = torch.arange(len(batch.images))

    def in_setting(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.autocast(options.device.type, torch.bfloat16, enabled="bf16" in setting):
                return call()

        return run

    @in_setting
    @torch.inference_mode()
    def oracle_predict() -> list[Found]:
        results = oracle.eval()(batch.images)
        return [Found(found["boxes"], found["scores"], found["masks"][:, 0]) for found in results]

    @in_setting
    def our_small_masks() -> list[Any]:
        return ours.eval().predict(batch.images)

    def our_predict() -> list[Found]:
        results = []
        for found, image in zip(our_small_masks(), batch.images, strict=True):
            size = ImageSize(image.shape[-2], image.shape[-1])
            boxes, probs = found.boxes.cpu().numpy(), found.mask_probs.cpu().numpy()
            masks = torch.from_numpy(paste_masks(boxes, probs, size, threshold=None, snap=True))
            results.append(Found(found.boxes, found.scores, masks))
        return results

    @in_setting
    def oracle_losses() -> dict[str, Tensor]:
        return oracle.train()(batch.images, dicts)

    @in_setting
    def our_losses() -> dict[str, Tensor]:
        return ours.train().losses(batch.images, batch.targets, seeds=seeds)

    frugal = build_model(override(ours.settings, _LEAN_TRAINING)).to(options.device)
    frugal.load_state_dict(ours.state_dict())
    if "channels_last" in setting:
        frugal.to(memory_format=torch.channels_last)

    @in_setting
    def frugal_losses() -> dict[str, Tensor]:
        return frugal.train().losses(batch.images, batch.targets, seeds=seeds)

    def step(network: nn.Module, losses: Callable[[], dict[str, Tensor]]) -> Callable[[], None]:
        def run() -> None:
            network.zero_grad(set_to_none=True)
            sum(losses().values()).backward()

        return run

    return (
        Contestant(
            "torchvision", setting, oracle_predict, {"predict": oracle_predict, "train": step(oracle, oracle_losses)}
        ),
        Contestant("ours", setting, our_predict, {"predict": our_predict, "train": step(ours, our_losses)}),
        Contestant("ours, small masks", setting, None, {"predict": our_small_masks}),
        Contestant("ours, ready", setting, None, {"predict": in_setting(lambda: ready.predict(batch.images))}),
        Contestant("ours, ready and lean", setting, None, {"predict": in_setting(lambda: lean.predict(batch.images))}),
        Contestant("ours, lean", setting, None, {"train": step(frugal, frugal_losses)}),
    )


def lean_copy(ours: MaskRCNN) -> MaskRCNN:
    """The same weights with as many proposals and detections as lesions need."""
    lean = build_model(override(ours.settings, _LEAN))
    lean.load_state_dict(ours.state_dict())
    return lean.to(next(ours.parameters()).device)


def enter_engines(ours: MaskRCNN, batch: Batch, options: argparse.Namespace) -> list[Contestant]:
    """The lean network as an exported file on every engine that is installed, in the precision that it chooses."""
    settings = override(ours.settings, _LEAN)
    config = RunSettings(model=settings).model_dump(mode="json")
    graph = make_graph(lean_copy(ours), {"config": config, "class_names": list(settings.class_names)})
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lean.onnx"
        file.write_bytes(graph.SerializeToString())
        for name in installed_engines():
            detector = exported_detector(name)(file, threads=options.threads)
            setting = f"{name}, {getattr(detector, 'precision', 'fp32')}"

            def predict(detector: Detector = detector) -> list[Found]:
                pixels = [image.mul(255).round().byte().permute(1, 2, 0).numpy() for image in batch.images]
                return [
                    as_found(one)
                    for one in detector.predict([Prepared(p, ImageSize(*p.shape[:2]), "") for p in pixels])
                ]

            entries.append(Contestant("ours, lean", setting, predict, {"predict": predict}))
    return entries


def enter_packaged(batch: Batch, options: argparse.Namespace) -> Contestant:
    """The model that comes along, from a JPEG to detections: another network, so only its time compares."""
    contents = []
    for image in batch.images:
        file = io.BytesIO()
        Image.fromarray(image.mul(255).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=95)
        contents.append(file.getvalue())
    detector = load(threads=options.threads, engine="onnxruntime")
    return Contestant(
        "packaged small, from JPEG", "onnxruntime, fp32", None, {"predict": lambda: detector.predict(contents)}
    )


def as_found(detections: Detections) -> Found:
    """Detections of an engine, their masks as they are: in the frame of the box."""
    boxes, scores, masks = detections.boxes, detections.scores, detections.mask_probs
    return Found(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(masks))


def as_engines_see(ours: MaskRCNN, batch: Batch) -> Contestant:
    """The lean network in float32, which engines are compared with."""
    lean = lean_copy(ours).eval()

    def predict() -> list[Found]:
        return [Found(found.boxes, found.scores, found.mask_probs) for found in lean.predict(batch.images)]

    return Contestant("ours, lean", "torch", predict, {})


def compare(theirs: Contestant, own: Contestant) -> dict[str, float]:
    """How many detections each has, and how far apart those lie that both have.

    A detection is in both where the other network has a box within a pixel of it: not rank by rank, for scores that
    differ by rounding change places.
    """
    boxes, scores, ious = [], [], []
    counts = [0, 0]
    for one, other in zip(theirs.predict(), own.predict(), strict=True):
        counts = [counts[0] + len(one.scores), counts[1] + len(other.scores)]
        if not len(one.scores) or not len(other.scores):
            continue
        distances = (one.boxes[:, None].float() - other.boxes.float()).abs().amax(dim=-1)
        nearest, idxs = distances.cpu().min(dim=1)
        same = nearest < 1
        boxes += nearest[same].tolist()
        scores += (one.scores.cpu()[same] - other.scores.cpu()[idxs[same]]).abs().tolist()
        ious += mask_ious(one.masks.cpu()[same], other.masks[idxs[same]]).tolist()
    return {
        "detections": counts[0],
        "ours": counts[1],
        "in_both": len(boxes),
        "box_difference_px": max(boxes, default=0.0),
        "score_difference": max(scores, default=0.0),
        "mask_iou_least": min(ious, default=1.0),
        "mask_iou_mean": statistics.fmean(ious) if ious else 1.0,
    }


def mask_ious(masks_a: Tensor, masks_b: Tensor) -> Tensor:
    """(N,) IoU of (N, H, W) probabilities cut at 0.5; 1 where both are empty."""
    cut_a, cut_b = masks_a >= 0.5, masks_b >= 0.5
    union = (cut_a | cut_b).sum(dim=(1, 2))
    return torch.where(union > 0, (cut_a & cut_b).sum(dim=(1, 2)) / union.clamp(min=1), 1.0)


def time_rounds(contestants: Sequence[Contestant], task: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One warm-up, then rounds in which each contestant is timed once."""
    entries = [contestant for contestant in contestants if task in contestant.tasks]
    rows = [{"name": entry.name, "setting": entry.setting, "seconds": []} for entry in entries]
    for number in range(options.rounds + 1):
        for entry, row in zip(entries, rows, strict=True):
            synchronise(options.device)
            start = time.perf_counter()
            entry.tasks[task]()
            synchronise(options.device)
            if number > 0:
                row["seconds"].append(time.perf_counter() - start)
    for row in rows:
        beside = (r for r in rows if (r["name"], r["setting"]) == ("torchvision", row["setting"]))
        theirs = next(beside, rows[0])
        ratios = [their / own for their, own in zip(theirs["seconds"], row["seconds"], strict=True)]
        row["median"] = statistics.median(row["seconds"])
        row["times_faster"] = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        shipped = [their / own for their, own in zip(rows[0]["seconds"], row["seconds"], strict=True)]
        row["than_shipped"] = statistics.median(shipped)
    return rows


def synchronise(device: torch.device) -> None:
    """Wait for the device, which works on while Python runs ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def print_table(task: str, rows: Sequence[dict[str, Any]]) -> None:
    """Median, spread and ratio of each contestant."""
    print(f"\n{task:42} {'median s':>9} {'from':>8} {'to':>8}   times as fast as torchvision; as shipped")
    for row in rows:
        spread = f"{row['median']:9.3f} {min(row['seconds']):8.3f} {max(row['seconds']):8.3f}"
        ratio = row["times_faster"]
        faster = (
            ""
            if row["name"] == "torchvision"
            else f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"
        )
        print(f"{row['name'] + ', ' + row['setting']:42} {spread}   {faster:24} {row['than_shipped']:.2f}")


if __name__ == "__main__":
    sys.exit(main())
