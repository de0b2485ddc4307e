"""Data sets in, batches out: the same batches whatever loads them, and wherever a run is taken up again.

Nothing random has a state. The order of an epoch follows from (seed, epoch), everything about one photograph in it from
(seed, epoch, position), where a position is a place in the epoch's order. So the number of worker processes, threads
ahead or processes training together changes no batch, and epoch 7 can be made without the six before it.

Shapes: B photographs of a batch; image (3, H, W); M objects of one photograph, possibly none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from dermask.config import ImageSettings, RunSettings
from dermask.data.dataset import Dataset, LoadedSample
from dermask.masks import mask_boxes
from dermask.models.batching import Target
from dermask.records import ImageSize, IntArray
from dermask.threads import map_ahead
from dermask.training.mixing import bare_skin, drawn_scene, paste_lesions
from dermask.training.transforms import augment, mosaic, shrink

AHEAD = 2
"""Batches made ahead of the training step: one ready while the next is being made."""


class Place(NamedTuple):
    """One photograph of an epoch: where it stands in the epoch's order, and which it is."""

    epoch: int
    position: int
    photo: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Photographs with their targets.

    Attributes:
        images: B tensors (3, H, W), uint8 RGB as loaded, float32 in [0, 1] after `to`.
        targets: One per image, in its frame.
        image_ids: Which photographs; the first one's for a mosaic.
        seeds: (B,) int64, what the network's samples are drawn by.
    """

    images: list[Tensor]
    targets: list[Target]
    image_ids: tuple[str, ...]
    seeds: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device, images as float32 in [0, 1]; bytes travel, floats are made there."""
        images = [image.to(device, non_blocking=True).float().div_(255) for image in self.images]
        targets = [target.to(device) for target in self.targets]
        return Batch(images, targets, self.image_ids, self.seeds.to(device))


class TrainLoader:
    """Endless augmented batches of one process, an epoch at a time.

    Args:
        dataset: Photographs of any source; at least one.
        settings: Batch size, accumulation, seed, workers, augmentation and the network's image size.
        rank: Which process this is, of `world_size` that train together. Of every step's photographs, in order,
            it takes number `rank` and then every `world_size`-th.
    """

    def __init__(self, dataset: Dataset, settings: RunSettings, *, rank: int = 0, world_size: int = 1) -> None:
        self.settings = settings.train
        self.count = len(dataset)
        self.rank = rank
        self.world_size = world_size
        self.weights = class_balance(dataset) if self.settings.class_balanced else None
        self._maker = _BatchMaker(dataset, settings)
        self._workers: DataLoader[Batch] | None = None
        self._keys: list[list[Place]] = []

    @property
    def photos_per_step(self) -> int:
        """Photographs per optimiser step, of all processes together."""
        return self.settings.batch_size * self.settings.accumulate * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch; without a setting, as many as show every photograph."""
        return self.settings.steps_per_epoch or -(-self.count // self.photos_per_step)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch: `accumulate` for each of `steps_per_epoch` optimiser steps.

        Raises:
            InputError: A photograph or its labels cannot be read.
        """
        keys = self.places(epoch)
        if not self.settings.workers:
            return map_ahead(self._maker.collate, keys, ahead=AHEAD)
        # The worker processes live on between epochs, and with them their cached photographs.
        self._keys[:] = keys
        if self._workers is None:
            self._workers = DataLoader(
                self._maker,  # type: ignore[arg-type]  # anything with __getitem__ will do
                batch_sampler=self._keys,
                num_workers=self.settings.workers,
                collate_fn=self._maker.assemble,
                persistent_workers=True,
                prefetch_factor=AHEAD,
            )
        return iter(self._workers)

    def places(self, epoch: int) -> list[list[Place]]:
        """Which photographs are in each batch of this process."""
        size = self.settings.batch_size * self.world_size
        needed = self.steps_per_epoch * self.photos_per_step
        order = epoch_order(self.count, needed, seed=self.settings.seed, epoch=epoch, weights=self.weights)
        return [
            [
                Place(epoch, position, int(order[position]))
                for position in range(start + self.rank, start + size, self.world_size)
            ]
            for start in range(0, needed, size)
        ]


class _BatchMaker:
    """Makes one training photograph, or a batch, from places; sent whole to worker processes."""

    def __init__(self, dataset: Dataset, settings: RunSettings) -> None:
        self.dataset = dataset
        self.augment = settings.augment
        self.seed = settings.train.seed
        self.canvas = canvas_size(settings.model.image)
        self.cover = canvas_cover(settings.model.image)
        self.fill = _fill(settings.model.image)
        self.several_classes = len(settings.model.class_names) > 1
        self.cache: dict[int, LoadedSample] | None = {} if settings.train.cache_images else None

    def __getitem__(self, place: Place) -> tuple[LoadedSample, int]:
        rng = np.random.default_rng((self.seed, place.epoch, 1 + place.position))  # 0 is the epoch's order
        seed = int(rng.integers(1 << 62))
        kind, shares, several = rng.random(), self.augment, len(self.dataset) > 1
        if several and kind < shares.mosaic:
            parts = [self.load(place.photo), *self._load_others(rng)]
            return mosaic(parts, self.augment, self.canvas, rng, fill=self.fill), seed
        if several and kind < shares.mosaic + shares.paste:
            sample = paste_lesions(self.load(place.photo), self._load_others(rng), rng)
        elif kind > 1 - shares.bare_skin:
            sample = bare_skin(self.load(place.photo), rng)
        elif kind > 1 - shares.bare_skin - shares.drawn:
            sample = drawn_scene(self.canvas, rng, bare=self.several_classes)
        else:
            sample = self.load(place.photo)
        return augment(sample, self.augment, self.canvas, rng, fill=self.fill, cover=self.cover), seed

    def _load_others(self, rng: np.random.Generator) -> list[LoadedSample]:
        """One to three photographs at random."""
        return [self.load(index) for index in rng.integers(len(self.dataset), size=rng.integers(1, 4)).tolist()]

    def load(self, index: int) -> LoadedSample:
        if self.cache is not None and index in self.cache:
            return self.cache[index]
        sample = shrink(self.dataset.load(index), self.canvas)
        if self.cache is not None:
            self.cache[index] = sample
        return sample

    def collate(self, places: Sequence[Place]) -> Batch:
        return self.assemble([self[place] for place in places])

    @staticmethod
    def assemble(made: Sequence[tuple[LoadedSample, int]]) -> Batch:
        samples = [sample for sample, _ in made]
        seeds = torch.tensor([seed for _, seed in made], dtype=torch.int64)
        return make_batch(samples, seeds)


def make_batch(samples: Sequence[LoadedSample], seeds: Tensor) -> Batch:
    """Samples as tensors: images stay uint8, boxes are the tight ones of the masks."""
    images = [torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1))) for sample in samples]
    targets = [
        Target(
            boxes=torch.from_numpy(mask_boxes(sample.masks)),
            labels=torch.from_numpy(sample.labels),
            masks=torch.from_numpy(sample.masks),
        )
        for sample in samples
    ]
    return Batch(images, targets, tuple(sample.image_id for sample in samples), seeds)


def canvas_size(settings: ImageSettings) -> ImageSize:
    """The square that training photographs are laid on: the network takes it as it is, without resizing or padding
    beyond its multiple."""
    return ImageSize(settings.min_size, settings.min_size)


def canvas_cover(settings: ImageSettings) -> float:
    """How far a photograph covers the canvas: where the network bounds the long side alone it is seen whole, where it
    bounds the short side training sees it at the same scale, cut to the square."""
    return 0.0 if settings.min_size == settings.max_size else 1.0


def epoch_order(
    count: int, needed: int, *, seed: int, epoch: int, weights: NDArray[np.float64] | None = None
) -> IntArray:
    """Indices of the photographs of an epoch, in order.

    Args:
        count: Photographs in the data set.
        needed: Places to fill. Shuffles follow each other until they are, so that any `count` places in a row from a
            multiple of `count` show every photograph once.
        seed: The run's.
        epoch: From 1.
        weights: (count,) share of places for each photograph, sum 1; places are then drawn independently.

    Returns:
        (needed,) int64 in [0, count).
    """
    rng = np.random.default_rng((seed, epoch, 0))
    if weights is not None:
        return rng.choice(count, needed, p=weights)
    return np.concatenate([rng.permutation(count) for _ in range(-(-needed // count))])[:needed]


def class_balance(dataset: Dataset) -> NDArray[np.float64]:
    """(len(dataset),) share of places for each photograph, such that rare classes come as often as common ones.

    A photograph counts for the rarest of its classes; those without an object are a class of their own.
    """
    classes = [{instance.label for instance in sample.instances if not instance.is_crowd} or {0} for sample in dataset]
    frequency: dict[int, int] = {}
    for labels in classes:
        for label in labels:
            frequency[label] = frequency.get(label, 0) + 1
    weights = np.array([1 / min(frequency[label] for label in labels) for labels in classes], np.float64)
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _fill(settings: ImageSettings) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in settings.mean)
    return red, green, blue
