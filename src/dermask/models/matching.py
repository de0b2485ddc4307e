"""Which ground truth belongs to which anchor or proposal, and which of them enter the loss.

Shapes: B images, M ground-truth boxes (padded; `gt_valid` says which are real), N candidates, S samples.
Everything is one padded batch: no loop over images, and the shapes do not depend on the data.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -1


def match(
    match_quality_matrix: Tensor,
    gt_valid: Tensor,
    *,
    positive_iou: float,
    negative_iou: float,
    every_gt_matches: bool,
) -> tuple[Tensor, Tensor]:
    """Match each candidate to the ground truth it overlaps most.

    Args:
        match_quality_matrix: (B, M, N) IoU, M >= 1.
        gt_valid: (B, M) bool; padded rows are never matched.
        positive_iou: IoU from which a candidate is positive.
        negative_iou: IoU below which it is background; between the two it is ignored.
        every_gt_matches: Also make positive the candidates that overlap some ground truth most, however little.

    Returns:
        matched_idxs: (B, N) int64 row of the best ground truth; meaningless where the label is not 1.
        match_labels: (B, N) int8: 1 positive, 0 background, -1 ignored.

    Source:
        Ren et al. 2015, arXiv:1506.01497, section 3.1.2.
    """
    quality = match_quality_matrix.masked_fill(~gt_valid[..., None], -1.0)
    best, matched_idxs = quality.max(dim=1)
    match_labels = torch.full_like(best, IGNORED, dtype=torch.int8)
    match_labels.masked_fill_(best < negative_iou, 0)
    match_labels.masked_fill_(best >= positive_iou, 1)
    if every_gt_matches:
        best_of_gt = quality.amax(dim=2, keepdim=True)  # (B, M, 1)
        is_best = ((quality == best_of_gt) & (best_of_gt > 0)).any(dim=1)
        match_labels.masked_fill_(is_best, 1)
    return matched_idxs, match_labels


class Samples(NamedTuple):
    """The candidates drawn for a loss, positives first.

    Attributes:
        idxs: (B, S) int64 candidate numbers.
        valid: (B, S) bool; False fills up where an image had too few candidates.
        positive: (B, S) bool, a subset of `valid`.
    """

    idxs: Tensor
    valid: Tensor
    positive: Tensor


def draw_samples(match_labels: Tensor, random_keys: Tensor, *, count: int, positive_fraction: float) -> Samples:
    """Draw up to `count` candidates per image, of which at most the given share is positive.

    Args:
        match_labels: (B, N) int8 from `match`.
        random_keys: (B, N) in [0, 1); the largest keys are drawn, see `hash_uniform`.
        count: S is this, or N if that is less.
        positive_fraction: Largest share of positives; backgrounds fill the rest.
    """
    total = match_labels.shape[1]
    max_positive = min(int(count * positive_fraction), total)
    count = min(count, total)
    positive_keys, positive_idxs = random_keys.masked_fill(match_labels != 1, -1.0).topk(max_positive, dim=1)
    negative_keys, negative_idxs = random_keys.masked_fill(match_labels != 0, -1.0).topk(count, dim=1)
    is_positive = positive_keys >= 0
    room = count - is_positive.sum(dim=1, keepdim=True)
    rank = torch.arange(count, device=room.device)
    is_negative = (negative_keys >= 0) & (rank < room)

    drawn = torch.cat([is_positive.to(torch.float32) * 2 + positive_keys.clamp(min=0), is_negative + 0.0], dim=1)
    order = drawn.topk(count, dim=1).indices  # positives, then negatives, then fillers
    return Samples(
        idxs=torch.cat([positive_idxs, negative_idxs], dim=1).gather(1, order),
        valid=torch.cat([is_positive, is_negative], dim=1).gather(1, order),
        positive=torch.cat([is_positive, torch.zeros_like(is_negative)], dim=1).gather(1, order),
    )


def hash_uniform(seeds: Tensor, count: int, *, salt: int) -> Tensor:
    """(B, count) float32 in [0, 1): number n of image b is a hash of (seeds[b], salt, n) and of nothing else.

    Sampling then depends on the photograph and the step alone: not on the batch it stands in, the process that
    computes it, the device, or an earlier draw. So a batch equals its single images, several processes equal one, and a
    resumed run equals an uninterrupted one.

    Args:
        seeds: (B,) int64.
        count: Numbers per image.
        salt: Tells independent draws for one image apart.

    Source:
        Finaliser of SplitMix64 (Steele, Lea, Flood 2014); int64 multiplication wraps as uint64's does.
    """
    numbers = torch.arange(count, device=seeds.device, dtype=torch.int64)
    state = _mix(seeds[:, None] + salt * 0x632BE5AB) + numbers * 0x1E3779B97F4A7C15
    return (_shift_right(_mix(state), 40)).to(torch.float32) / (1 << 24)


def _mix(state: Tensor) -> Tensor:
    state = (state ^ _shift_right(state, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9 as a signed number
    state = (state ^ _shift_right(state, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, bits: int) -> Tensor:
    return (state >> bits) & ((1 << (64 - bits)) - 1)  # logical: int64's own shift copies the sign
