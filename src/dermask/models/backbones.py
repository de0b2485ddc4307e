"""Trunks: torchvision's ImageNet networks, read at strides 4, 8, 16 and 32.

Shapes: images (B, 3, H, W) normalised; the stages' outputs C2..C5 are (B, C_l, H / 2^l, W / 2^l).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet50

NormLayer = Callable[[int], nn.Module]


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics, scale and shift never change.

    The same numbers as `torchvision.ops.FrozenBatchNorm2d`, through the fused batch norm kernel instead of a multiply
    and an add that each walk over the whole feature map.
    """

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__(num_features, eps=eps)
        self.eval()
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        """Stay in evaluation mode whatever `mode` says."""
        return super().train(False)


class Trunk(nn.Module):
    """Stages 2 to 5 in order; stage 2 includes the stem.

    Args:
        stages: Four modules; stage l takes the output of the stage before it and halves its size (stage 2: quarters).
        channels: Their output channels.
    """

    def __init__(self, stages: tuple[nn.Module, nn.Module, nn.Module, nn.Module], channels: tuple[int, ...]) -> None:
        super().__init__()
        self.stage2, self.stage3, self.stage4, self.stage5 = stages
        self.channels = channels

    def forward(self, images: Tensor) -> list[Tensor]:
        """C2, C3, C4, C5 of (B, 3, H, W) images."""
        c2 = self.stage2(images)
        c3 = self.stage3(c2)
        c4 = self.stage4(c3)
        return [c2, c3, c4, self.stage5(c4)]


class _Stem(nn.Module):
    """ResNet's stem and first stage, with the names of the published weights."""

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1 = resnet.layer1

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))  # type: ignore[operator]
        return out


def resnet50_trunk(norm_layer: NormLayer) -> Trunk:
    """ResNet-50 (He et al. 2016), 23.5 M parameters."""
    body = resnet50(weights=None, norm_layer=norm_layer)
    return Trunk((_Stem(body), body.layer2, body.layer3, body.layer4), (256, 512, 1024, 2048))


def mobilenet_v2_trunk(norm_layer: NormLayer) -> Trunk:
    """MobileNetV2 (Sandler et al. 2018) without its last 1x1 convolution, 1.8 M parameters."""
    features = mobilenet_v2(weights=None, norm_layer=norm_layer).features
    stages = (features[0:4], features[4:7], features[7:14], features[14:18])
    return Trunk(stages, (24, 32, 96, 320))
