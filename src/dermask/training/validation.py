"""What a model is worth after an epoch: its losses, the mean Jaccard index and mask AP on the validation photographs.

Photographs are resized as when predicting, nothing is augmented, and figures are taken at the photographs' own size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from dermask import boxes as box_ops
from dermask.config import RunSettings
from dermask.data.dataset import Dataset, LoadedSample
from dermask.evaluation.evaluate import summarise
from dermask.evaluation.photo_masks import PredictedMasks, TruthMasks
from dermask.models.mask_rcnn import MaskRCNN, TensorDetections
from dermask.records import Detections, FloatArray, ImageSize
from dermask.scaling import network_size
from dermask.threads import map_ahead
from dermask.training.distributed import Processes
from dermask.training.loading import AHEAD, Batch, make_batch
from dermask.training.transforms import resized

Progress = Callable[[int, int], None]


class Validator:
    """Validates models on one data set, keeping what need not be read twice.

    With several processes each takes its share; so that all make the same number of steps, up to `world_size - 1`
    photographs are computed twice. They count twice in the mean losses, and once in everything else.

    Args:
        dataset: At least one photograph.
        settings: Batch size, image size, and whether photographs stay in memory.
        processes: Those that validate together.
        precision: What convolutions are computed in.
    """

    def __init__(
        self, dataset: Dataset, settings: RunSettings, *, processes: Processes, precision: torch.dtype
    ) -> None:
        self.dataset = dataset
        self.settings = settings
        self.processes = processes
        self.precision = precision
        self._truths: dict[int, TruthMasks] = {}
        self._samples: dict[int, LoadedSample] = {}

    def run(self, model: MaskRCNN, progress: Progress) -> dict[str, float]:
        """The ``val_`` figures of a model in evaluation mode; every process must call it.

        Args:
            model: On the processes' device.
            progress: Called with the photographs done and their number, of this process.
        """
        device = self.processes.device
        share = self._share()
        size = self.settings.train.batch_size
        groups = [share[start : start + size] for start in range(0, len(share), size)]
        totals: dict[str, float] = {}
        predictions: list[PredictedMasks] = []
        for group, loaded in zip(groups, map_ahead(self._load, groups, ahead=AHEAD), strict=True):
            batch = loaded.to(device)
            with torch.inference_mode(), torch.autocast(device.type, self.precision, self.precision != torch.float32):
                losses = model.losses(batch.images, batch.targets, seeds=batch.seeds)
                found = model.predict(batch.images)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0.0) + value.item() * len(group) / len(share)
            predictions += self._to_photographs(group, batch, found)
            progress(len(predictions), len(share))
        count = len(self.dataset)
        truths = self.processes.gather([self._truths[index] for index in share])[:count]
        predictions = self.processes.gather(predictions)[:count]
        figures = summarise(truths, predictions, num_classes=len(self.dataset.class_names))
        means = self.processes.mean({"loss": sum(totals.values()), **totals})
        return {f"val_{name}": value for name, value in means.items()} | figures._asdict()

    def _share(self) -> list[int]:
        """Every `world_size`-th photograph from `rank` on, going round so that all shares are equally long."""
        rank, world_size, count = self.processes.rank, self.processes.world_size, len(self.dataset)
        return [(rank + step * world_size) % count for step in range(-(-count // world_size))]

    def _load(self, indices: Sequence[int]) -> Batch:
        # The index is the seed: the same samples every epoch, so that validation losses can be compared.
        return make_batch([self._sample(index) for index in indices], torch.tensor(indices, dtype=torch.int64))

    def _sample(self, index: int) -> LoadedSample:
        if index in self._samples:
            return self._samples[index]
        full = self.dataset.load(index)
        if index not in self._truths:
            self._truths[index] = TruthMasks.from_bitmasks(
                full.masks, full.labels, ignored=full.ignored, image_id=full.image_id
            )
        height, width = full.image.shape[:2]
        sample = _without_empty(resized(full, ImageSize(*network_size((height, width), self.settings.model.image))))
        if self.settings.train.cache_images:
            self._samples[index] = sample
        return sample

    def _to_photographs(
        self, indices: Sequence[int], batch: Batch, found: Sequence[TensorDetections]
    ) -> list[PredictedMasks]:
        """Detections at the size of the photographs as they are on disk."""
        masks: list[PredictedMasks] = []
        for index, image, detections in zip(indices, batch.images, found, strict=True):
            truth = self._truths[index]
            ratio = np.array([truth.size.width / image.shape[-1], truth.size.height / image.shape[-2]] * 2, np.float32)
            one = Detections(
                boxes=box_ops.clip(_array(detections.boxes) * ratio, truth.size),
                scores=_array(detections.scores),
                labels=detections.labels.cpu().numpy(),
                mask_probs=_array(detections.mask_probs),
                size=truth.size,
                class_names=self.dataset.class_names,
                image_id=truth.image_id,
            )
            masks.append(PredictedMasks.from_detections(one))
        return masks


def _without_empty(sample: LoadedSample) -> LoadedSample:
    """Without the objects of which no pixel is left, which have no box."""
    keep = sample.masks.any(axis=(1, 2))
    if keep.all():
        return sample
    return LoadedSample(sample.image, sample.masks[keep], sample.labels[keep], None, sample.image_id)


def _array(tensor: torch.Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
