"""Feature pyramid: every level as wide as the others, each with the meaning of the coarsest.

Lin et al. 2017, arXiv:1612.03144. Level l has stride 2^l; level 6 is level 5 subsampled and exists for large anchors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dermask.models.backbones import NormLayer


class FeaturePyramid(nn.Module):
    """P2 to P6 from C2 to C5.

    Args:
        in_channels: Channels of C2 to C5.
        channels: Channels of every P_l.
        norm_layer: After each convolution instead of its bias; None keeps the bias.
        finest_output_conv: Whether P2 goes through an output convolution like the others.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        norm_layer: NormLayer | None = None,
        finest_output_conv: bool = True,
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_conv(width, channels, 1, norm_layer) for width in in_channels)
        self.output = nn.ModuleList(
            _conv(channels, channels, 3, norm_layer) if stage > 0 or finest_output_conv else nn.Sequential()
            for stage in range(len(in_channels))
        )

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """P2, P3, P4, P5, P6: (B, channels, H_l, W_l) each."""
        laterals = [conv(stage) for conv, stage in zip(self.lateral, stages, strict=True)]
        merged = laterals[-1]
        levels = [self.output[-1](merged)]
        for lateral, output in zip(laterals[-2::-1], self.output[-2::-1], strict=True):
            merged = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            levels.insert(0, output(merged))
        levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return levels


def _conv(in_channels: int, out_channels: int, kernel: int, norm_layer: NormLayer | None) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=norm_layer is None)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv) if norm_layer is None else nn.Sequential(conv, norm_layer(out_channels))
