"""The box head and the mask head: what is in a region, where exactly, and its outline.

Shapes: R regions (0 is normal), C foreground classes (outputs have C + 1, background first), K cells per side of the
pooled features, S cells per side of the mask.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from dermask.config import BoxHeadSettings, MaskHeadSettings


class BoxHead(nn.Module):
    """Class and refined box of each region.

    Args:
        channels: Channels of the pooled features.
        num_classes: C.
        settings: Kind and width.
    """

    def __init__(self, channels: int, num_classes: int, settings: BoxHeadSettings) -> None:
        super().__init__()
        width, cells = settings.channels, settings.pool_size**2
        if settings.kind == "mlp":
            hidden = [nn.Flatten(), nn.Linear(channels * cells, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        else:
            convs = [layer for _ in range(4) for layer in _conv(channels, channels, norm=True)]
            hidden = [*convs, nn.Flatten(), nn.Linear(channels * cells, width), nn.ReLU()]
        self.hidden = nn.Sequential(*hidden)
        self.class_logits = nn.Linear(width, num_classes + 1)
        self.deltas = nn.Linear(width, (num_classes + 1) * 4)

    def forward(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """Judge pooled regions.

        Args:
            roi_features: (R, channels, K, K).

        Returns:
            class_logits: (R, C + 1) float32, background first.
            deltas: (R, C + 1, 4) float32, one box per class.
        """
        hidden = self.hidden(roi_features)
        return self.class_logits(hidden).float(), self.deltas(hidden).float().unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """The outline in each region, one per class.

    Args:
        channels: Channels of the pooled features.
        num_classes: C.
        settings: Convolutions, their norm, and the resolution, reached by doubling.
    """

    def __init__(self, channels: int, num_classes: int, settings: MaskHeadSettings) -> None:
        super().__init__()
        convs: list[nn.Module] = []
        for number, width in enumerate(settings.conv_channels):
            convs += _conv(channels, width, norm=settings.norm, dilation=2**number if settings.dilated else 1)
            channels = width
        self.convs = nn.Sequential(*convs)
        self.upsample = nn.Sequential()
        for step in range(int(math.log2(settings.resolution // settings.pool_size))):
            width = channels if step == 0 else channels // 2
            self.upsample.extend([nn.ConvTranspose2d(channels, width, 2, stride=2), nn.ReLU(inplace=True)])
            channels = width
        self.mask_logits = nn.Conv2d(channels, num_classes + 1, 1)
        for layer in self.upsample:
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        # Start undecided everywhere: with larger weights the first steps of a fresh trunk are spent on shrinking them.
        nn.init.normal_(self.mask_logits.weight, std=0.001)
        nn.init.zeros_(self.mask_logits.bias)  # type: ignore[arg-type]

    def forward(self, roi_features: Tensor, labels: Tensor) -> Tensor:
        """Outline each region as the class it was given.

        Args:
            roi_features: (R, channels, K, K).
            labels: (R,) int64 from 1.

        Returns:
            (R, S, S) mask logits.
        """
        logits: Tensor = self.mask_logits(self.upsample(self.convs(roi_features)))
        size = logits.shape[-1]
        return logits.gather(1, labels[:, None, None, None].expand(-1, 1, size, size)).squeeze(1)


def _conv(in_channels: int, out_channels: int, *, norm: bool, dilation: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=not norm)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)] if norm else [conv, nn.ReLU(inplace=True)]
