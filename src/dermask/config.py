"""Every setting of dermask, with its unit, range and default: the only home of a default.

Settings are frozen; a changed copy comes from `override(settings, {"train.epochs": 3})`, the same dotted names that
the command line takes (`--set train.epochs=3`) and that stand in a run's config.toml. Models and training
never read files or the environment: whoever builds them passes a settings object.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dermask.errors import SettingError

Fraction = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Positive = Annotated[float, Field(gt=0.0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Layers = Literal["heads", "4+", "3+", "all"]
Metric = Literal["val_jaccard", "val_mask_ap", "val_loss"]


class Settings(BaseModel):
    """Base of all settings: frozen, and a name that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSettings(Settings):
    """How a photograph becomes the network's input.

    The photograph is scaled so that its short side is `min_size`, unless its long side would pass `max_size`; then the
    batch is padded with zeros at the right and at the bottom. Equal sizes scale the long side alone.
    """

    min_size: Count = 320
    """Wanted short side, pixels."""
    max_size: Count = 320
    """Largest long side, pixels."""
    pad_multiple: Count = 32
    """Height and width of a batch are multiples of this; the coarsest stride of the pyramid."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """RGB mean on the [0, 1] scale (ImageNet's)."""
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    """RGB standard deviation on the [0, 1] scale (ImageNet's)."""


class BackboneSettings(Settings):
    """The trunk and the feature pyramid on it."""

    name: Literal["mobilenet_v2", "resnet50"] = "mobilenet_v2"
    """Trunk from torchvision; its stages at strides 4, 8, 16, 32 feed the pyramid."""
    frozen_norm: bool = False
    """Batch norm as a fixed scale and shift (torchvision's v1 ResNet)."""
    fpn_channels: Count = 128
    """Channels of every pyramid level."""
    fpn_norm: bool = False
    """Batch norm instead of a bias after each pyramid convolution (torchvision's v2)."""
    finest_output_conv: bool = False
    """Whether P2 gets an output convolution like the others; without it P2 serves only masks, at less cost."""
    context_blocks: Annotated[int, Field(ge=0, le=8, strict=True)] = 2
    """Blocks on the coarsest level that let every place see the whole photograph before its levels are merged."""


class RpnSettings(Settings):
    """Region proposals: anchors, matching, sampling and what is kept."""

    levels: tuple[Annotated[int, Field(ge=2, le=6)], ...] = (3, 4, 5, 6)
    """Pyramid levels with anchors; level l has stride 2^l, level 6 is level 5 subsampled."""
    anchor_sizes: tuple[Positive, ...] = (32.0, 64.0, 128.0, 256.0)
    """Square root of the anchors' area on each level, pixels of the network's input."""
    aspect_ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    """Height divided by width."""
    conv_depth: Count = 1
    """3x3 convolutions before the two outputs."""
    pre_nms_topk: Count = 200
    """Best anchors per level that enter non-maximum suppression."""
    post_nms_topk: Count = 64
    """Proposals kept per photograph when predicting."""
    train_pre_nms_topk: Count = 400
    """As `pre_nms_topk`, when training."""
    train_post_nms_topk: Count = 200
    """As `post_nms_topk`, when training."""
    nms_thresh: Fraction = 0.7
    """IoU above which the weaker of two proposals of a level goes."""
    positive_iou: Fraction = 0.7
    """Anchors at least this close to a lesion are positive."""
    negative_iou: Fraction = 0.3
    """Anchors below this are background; those between are ignored."""
    sampled_anchors: Count = 128
    """Anchors per photograph in the loss."""
    positive_fraction: Fraction = 0.5
    """Largest share of positives among them."""

    @model_validator(mode="after")
    def _one_anchor_size_per_level(self) -> Self:
        if len(self.anchor_sizes) != len(self.levels):
            raise ValueError(f"anchor_sizes has {len(self.anchor_sizes)} values for {len(self.levels)} levels")
        if self.negative_iou > self.positive_iou:
            raise ValueError(f"negative_iou {self.negative_iou} is above positive_iou {self.positive_iou}")
        return self


class BoxHeadSettings(Settings):
    """Class and box of each proposal, and what is kept as a detection."""

    kind: Literal["mlp", "conv"] = "mlp"
    """`mlp`: two hidden layers (torchvision v1); `conv`: four 3x3 convolutions with batch norm, one layer (v2)."""
    channels: Count = 384
    """Width of the hidden layers."""
    pool_size: Count = 7
    """Cells of RoIAlign per side."""
    delta_weights: tuple[Positive, Positive, Positive, Positive] = (10.0, 10.0, 5.0, 5.0)
    """Scale of (dx, dy, dw, dh) in the loss."""
    positive_iou: Fraction = 0.5
    """Proposals at least this close to a lesion are positive, the rest background."""
    sampled_rois: Count = 32
    """Proposals per photograph in the loss."""
    positive_fraction: Fraction = 0.25
    """Largest share of positives among them."""
    score_thresh: Fraction = 0.05
    """Detections below this score are dropped."""
    nms_thresh: Fraction = 0.5
    """IoU above which the weaker of two detections of a class goes."""
    contained_thresh: Fraction = 0.8
    """Share of the smaller of two boxes inside the other above which the weaker loses half its score; 1: never."""
    max_detections: Count = 16
    """Detections kept per photograph."""


class MaskHeadSettings(Settings):
    """The outline within each box."""

    pool_size: Count = 28
    """Cells of RoIAlign per side."""
    resolution: Count = 56
    """Mask cells per side: `pool_size` times a power of two, at least two."""
    conv_channels: tuple[Count, ...] = (96, 96, 96, 96)
    """Widths of the 3x3 convolutions before upsampling."""
    norm: bool = False
    """Batch norm after each of them (torchvision's v2)."""
    dilated: bool = True
    """Each convolution spread twice as wide as the one before, so that four of them see the whole region."""
    finest_level: bool = True
    """Pool from the finest level, for sharp borders, whatever the size of the box; else from the level that fits."""
    train_rois: Count | None = 2
    """Positive proposals per photograph that train the mask; None takes all that were sampled."""

    @model_validator(mode="after")
    def _resolution_is_reached_by_doubling(self) -> Self:
        ratio = self.resolution / self.pool_size
        if ratio not in (2, 4, 8, 16):
            raise ValueError(f"resolution {self.resolution} is not 2, 4, 8 or 16 times pool_size {self.pool_size}")
        return self


class ModelSettings(Settings):
    """The network. `preset` names the starting point; `MODEL_PRESETS` holds them."""

    preset: str = "small"
    class_names: tuple[str, ...] = ("lesion",)
    """Names of labels 1, 2, ...; the background is not among them."""
    image: ImageSettings = ImageSettings()
    backbone: BackboneSettings = BackboneSettings()
    rpn: RpnSettings = RpnSettings()
    box_head: BoxHeadSettings = BoxHeadSettings()
    mask_head: MaskHeadSettings = MaskHeadSettings()
    roi_aligned: bool = True
    """Pool all levels in one call, pixel centres at half integers; False repeats torchvision's pooling exactly."""

    @model_validator(mode="after")
    def _class_names_are_distinct(self) -> Self:
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names {list(self.class_names)} must be distinct and at least one")
        return self


_TORCHVISION_V1 = ModelSettings(
    preset="torchvision_v1",
    roi_aligned=False,
    image=ImageSettings(min_size=800, max_size=1333),
    backbone=BackboneSettings(
        name="resnet50", frozen_norm=True, fpn_channels=256, finest_output_conv=True, context_blocks=0
    ),
    rpn=RpnSettings(
        levels=(2, 3, 4, 5, 6),
        anchor_sizes=(32.0, 64.0, 128.0, 256.0, 512.0),
        pre_nms_topk=1000,
        post_nms_topk=1000,
        train_pre_nms_topk=2000,
        train_post_nms_topk=2000,
        sampled_anchors=256,
    ),
    box_head=BoxHeadSettings(channels=1024, sampled_rois=512, max_detections=100, contained_thresh=1.0),
    mask_head=MaskHeadSettings(
        pool_size=14,
        resolution=28,
        conv_channels=(256, 256, 256, 256),
        dilated=False,
        finest_level=False,
        train_rois=None,
    ),
)

MODEL_PRESETS: dict[str, ModelSettings] = {
    # About 5 M parameters, made for CPUs: lesions are few and large, so anchors start at stride 8 and 64 proposals do.
    "small": ModelSettings(),
    # ResNet-50-FPN from COCO weights, with the finer mask and as many proposals as lesions need.
    "base": ModelSettings(
        preset="base",
        roi_aligned=False,  # as the COCO weights were trained
        image=ImageSettings(min_size=512, max_size=512),
        backbone=_TORCHVISION_V1.backbone,
        rpn=_TORCHVISION_V1.rpn.model_copy(
            update={
                "pre_nms_topk": 200,
                "post_nms_topk": 100,
                "train_pre_nms_topk": 500,
                "train_post_nms_topk": 300,
            }
        ),
        box_head=_TORCHVISION_V1.box_head.model_copy(
            update={"sampled_rois": 64, "max_detections": 16, "contained_thresh": 0.8}
        ),
        mask_head=_TORCHVISION_V1.mask_head.model_copy(update={"resolution": 56, "train_rois": 8}),
    ),
    # The published networks, number for number; tests hold them to torchvision's results.
    "torchvision_v1": _TORCHVISION_V1,
    "torchvision_v2": _TORCHVISION_V1.model_copy(
        update={
            "preset": "torchvision_v2",
            "backbone": _TORCHVISION_V1.backbone.model_copy(update={"frozen_norm": False, "fpn_norm": True}),
            "rpn": _TORCHVISION_V1.rpn.model_copy(update={"conv_depth": 2}),
            "box_head": _TORCHVISION_V1.box_head.model_copy(update={"kind": "conv"}),
            "mask_head": _TORCHVISION_V1.mask_head.model_copy(update={"norm": True}),
        }
    ),
}


class AugmentSettings(Settings):
    """What happens to a training photograph; probabilities are per photograph. All zero leaves it as it is."""

    flip: Fraction = 0.5
    """Probability of a mirror image, each axis on its own."""
    quarter_turn: Fraction = 0.5
    """Probability of a turn by 90, 180 or 270 degrees."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest free rotation to either side, degrees."""
    scale_range: tuple[Positive, Positive] = (0.5, 1.5)
    """Zoom, drawn evenly on a log scale."""
    shift: Fraction = 0.1
    """Largest shift, as a share of the side."""
    colour: Fraction = 0.8
    """Probability of changed brightness, contrast, saturation, hue and white balance."""
    blur: Fraction = 0.1
    """Probability of a Gaussian blur."""
    hair: Fraction = 0.15
    """Probability of drawn hair."""
    ruler: Fraction = 0.05
    """Probability of a drawn ruler."""
    sticker: Fraction = 0.0
    """Probability of a drawn colour sticker beside the lesions."""
    dark_corners: Fraction = 0.0
    """Probability of darkness beyond a circle, as a tube leaves it."""
    noise: Fraction = 0.0
    """Probability of a sensor's noise."""
    jpeg: Fraction = 0.0
    """Probability of JPEG at a quality from 20 to 80."""
    mosaic: Fraction = 0.1
    """Probability that 2 to 4 photographs are joined into one with several lesions."""
    paste: Fraction = 0.0
    """Probability that 1 to 4 lesions of other photographs are put on free skin."""
    bare_skin: Fraction = 0.0
    """Probability that only a part of the photograph's skin is shown, without a lesion."""
    drawn: Fraction = 0.0
    """Probability that a drawn scene of up to 4 lesions stands in for it; of none, where there are several classes."""

    @model_validator(mode="after")
    def _settings_fit_each_other(self) -> Self:
        if self.scale_range[0] > self.scale_range[1]:
            raise ValueError(f"scale_range {list(self.scale_range)} must go from small to large")
        if (total := self.mosaic + self.paste + self.drawn + self.bare_skin) > 1:
            raise ValueError(
                f"mosaic, paste, drawn and bare_skin exclude each other and add up to {total:g}, more than 1"
            )
        return self


NO_AUGMENTATION = AugmentSettings.model_validate(
    dict.fromkeys(AugmentSettings.model_fields, 0) | {"scale_range": (1, 1)}
)


class TrainSettings(Settings):
    """One training run."""

    epochs: Count = 30
    """Passes over the data, or groups of `steps_per_epoch` steps."""
    steps_per_epoch: Count | None = None
    """Optimiser steps per epoch; None goes once through the data."""
    batch_size: Count = 8
    """Photographs per step and process."""
    accumulate: Count = 1
    """Batches whose gradients are summed before one optimiser step."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Positive = 5e-4
    """Peak rate, after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """On convolution and linear weights only."""
    momentum: Fraction = 0.9
    """SGD's momentum."""
    warmup_steps: Annotated[int, Field(ge=0, strict=True)] = 100
    """Optimiser steps over which the rate rises from a hundredth to its peak; never more than a tenth of all steps."""
    final_rate: Fraction = 0.01
    """Rate at the end of the cosine, as a share of the peak."""
    clip_norm: Positive | None = 5.0
    """Largest norm of the whole gradient; None does not clip."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay per step of the weights' moving average, which is what gets validated and kept; 0 turns it off."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bfloat16 where the device multiplies it faster, float32 elsewhere."""
    channels_last: bool = True
    """Memory format of images and convolutions."""
    layers: Layers = "all"
    """What is trained: `heads` (all but the trunk), `4+`, `3+` (from that stage of the trunk), `all`."""
    freeze_norm: bool | None = None
    """Keep batch norm's statistics; None: yes when training starts from weights, no from scratch."""
    class_balanced: bool = False
    """Draw photographs of rare classes more often."""
    patience: Count | None = None
    """Epochs without a better `metric` after which training stops; None never stops early."""
    metric: Metric = "val_jaccard"
    """What decides the best checkpoint."""
    validate_every: Count = 1
    """Epochs between validations; the last epoch always validates."""
    workers: Annotated[int, Field(ge=0, strict=True)] = 0
    """Processes that load photographs beside the training process."""
    cache_images: bool = False
    """Keep decoded photographs in memory, at about the input's size each."""
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    """Of everything random: weights, order, augmentation, sampling."""


class RunSettings(Settings):
    """Everything a training run was made with; saved as config.toml in its folder."""

    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    augment: AugmentSettings = AugmentSettings()


S = TypeVar("S", bound=Settings)


def preset(name: str) -> ModelSettings:
    """The model preset of that name.

    Raises:
        SettingError: No such preset; lists those there are.
    """
    try:
        return MODEL_PRESETS[name]
    except KeyError:
        raise SettingError(f"preset {name!r}", "does not exist", f"choose one of {', '.join(MODEL_PRESETS)}") from None


def override(settings: S, values: Mapping[str, object]) -> S:
    """A copy with some values replaced, checked as a whole.

    Args:
        settings: What to start from.
        values: Dotted name to value, as in ``{"train.epochs": 3}``; strings are read as TOML where they parse as such.

    Raises:
        SettingError: Unknown name or value out of range; names both.
    """
    tree = settings.model_dump()
    for name, value in values.items():
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            child = node.get(parent)
            if not isinstance(child, dict):
                raise SettingError(f"setting {name!r}", f"has no part {parent!r}", f"parts here: {', '.join(node)}")
            node = child
        if leaf not in node:
            raise SettingError(f"setting {name!r}", "does not exist", f"settings here: {', '.join(node)}")
        node[leaf] = _parse_toml_value(value) if isinstance(value, str) else value
    return parse(type(settings), tree, item="setting")


def parse(kind: type[S], tree: Mapping[str, Any], *, item: str) -> S:
    """Check a nested dictionary against a settings class.

    Raises:
        SettingError: In the user's words: dotted name, value, what was expected. `item` is put in front.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise SettingError(f"{item} {name}", "does not exist", "dermask info --settings lists all") from None
        found = "" if isinstance(first["input"], dict) else f"{first['input']!r}: "
        problem = f"{found}{first['msg'].removeprefix('Value error, ')}"
        raise SettingError(f"{item} {name}".strip(), problem) from None


def to_toml(settings: Settings) -> str:
    """The settings as TOML text; `from_toml` gives them back. TOML has no null, so None is written as "none"."""
    return tomli_w.dumps(_map_values(settings.model_dump(), lambda value: "none" if value is None else value))


def from_toml(kind: type[S], path: Path) -> S:
    """Read settings from a TOML file; what it leaves out keeps its default.

    Raises:
        SettingError: The file is missing, is not TOML, or holds a wrong name or value.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingError(str(path), "no such file", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(str(path), f"is not TOML: {error}") from None
    return parse(kind, _map_values(tree, lambda value: None if value == "none" else value), item=f"{path}:")


def _map_values(tree: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        name: _map_values(value, change) if isinstance(value, Mapping) else change(value)
        for name, value in tree.items()
    }


def _parse_toml_value(text: str) -> object:
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word such as bf16
