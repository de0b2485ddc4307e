"""The audit on real photographs: quiet where the labels are good, loud where they were spoilt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermask.audit.audit import audit
from dermask.audit.findings import Part, Severity
from dermask.audit.settings import AuditSettings
from dermask.data.dataset import Dataset
from dermask.data.formats import open_dataset
from dermask.records import Bitmask, Instance

PLAIN = AuditSettings(near_duplicates=False)


@pytest.fixture(scope="module")
def validation(real_data) -> Dataset:
    return open_dataset(Path(real_data) / "isic2017", part="Validation")


def with_masks(dataset: Dataset, change) -> Dataset:
    samples = []
    for index, sample in enumerate(dataset):
        mask = change(dataset.load(index).masks[0])
        samples.append(replace(sample, instances=(Instance(1, Bitmask(mask)),)))
    return Dataset(samples, dataset.class_names, dataset.name)


def marked(dataset: Dataset, kind: str) -> set[str]:
    report = audit([Part("Validation", dataset)], settings=PLAIN, processes=1)
    return {finding.place.image_id for finding in report.findings if finding.kind == kind and finding.place}


def test_official_labels_have_few_warnings_and_no_errors(validation):
    report = audit([Part("Validation", validation)], settings=PLAIN, processes=1)
    assert report.count(Severity.ERROR) == 0
    assert report.count(Severity.WARNING) <= 3
    assert report.by_kind()["touches-border"] == 1


def test_most_inverted_masks_are_found(validation):
    some = validation[::3]
    assert len(marked(with_masks(some, np.logical_not), "inverted-mask")) >= 0.9 * len(some)
    assert marked(some, "inverted-mask") == set()


def test_most_masks_of_another_place_are_found(validation):
    some = validation[::3]
    moved = with_masks(some, lambda mask: np.roll(mask, 130, axis=1))
    assert len(marked(moved, "unaligned-mask")) >= 0.5 * len(some)
