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
        context_blocks: Blocks that the coarsest level goes through before it is merged into the others.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        norm_layer: NormLayer | None = None,
        finest_output_conv: bool = True,
        context_blocks: int = 0,
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_conv(width, channels, 1, norm_layer) for width in in_channels)
        self.output = nn.ModuleList(
            _conv(channels, channels, 3, norm_layer) if stage > 0 or finest_output_conv else nn.Sequential()
            for stage in range(len(in_channels))
        )
        self.context = nn.Sequential(*(ContextBlock(channels) for _ in range(context_blocks)))

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """P2, P3, P4, P5, P6: (B, channels, H_l, W_l) each."""
        laterals = [conv(stage) for conv, stage in zip(self.lateral, stages, strict=True)]
        merged = self.context(laterals[-1])
        levels = [self.output[-1](merged)]
        for lateral, output in zip(laterals[-2::-1], self.output[-2::-1], strict=True):
            merged = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            levels.insert(0, output(merged))
        levels.append(F.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return levels


class ContextBlock(nn.Module):
    """Adds to every place what it takes from a wide neighbourhood and from the mean of all places.

    Where the lesion ends is often decided far from its border: by how the skin looks elsewhere. A trunk of 3x3
    convolutions sees little of that in effect (Luo et al. 2016, arXiv:1701.04128). The wide depthwise kernel is
    ConvNeXt's (Liu et al. 2022, arXiv:2201.03545), the mean over all places ParseNet's (Liu et al. 2015,
    arXiv:1506.04579). A fresh block adds nothing, so it can be put into a network that is trained already.

    Args:
        channels: Of input and output.
    """

    _KERNEL = 7  # at stride 32 that is 224 pixels
    _EXPANSION = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(channels, channels, self._KERNEL, padding=self._KERNEL // 2, groups=channels)
        self.overall = nn.Conv2d(channels, channels, 1)
        self.widen = nn.Conv2d(channels, channels * self._EXPANSION, 1)
        self.narrow = nn.Conv2d(channels * self._EXPANSION, channels, 1)
        for conv in (self.spread, self.overall, self.widen):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)  # type: ignore[arg-type]

    def forward(self, level: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        seen = self.spread(level) + self.overall(level.mean(dim=(2, 3), keepdim=True))
        added: Tensor = self.narrow(F.relu(self.widen(seen)))
        return level + added


def _conv(in_channels: int, out_channels: int, kernel: int, norm_layer: NormLayer | None) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=norm_layer is None)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv) if norm_layer is None else nn.Sequential(conv, norm_layer(out_channels))
