"""Traits of a photograph: from labels, from a table, from a look; and that nothing stops at what cannot be read."""

from __future__ import annotations

import pickle
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dermask.data.artifacts import find_artifacts
from dermask.data.scene_artifacts import draw_hair
from dermask.data.skin_tone import ITA_BINS, skin_tone
from dermask.data.statistics import measure_photograph
from dermask.data.synthetic import draw_scene
from dermask.data.workers import map_in_processes
from dermask.evaluation.photo_masks import TruthMasks
from dermask.evaluation.traits import (
    NO_LESION,
    NOT_MEASURABLE,
    SIZE_LIMITS,
    TRAITS,
    Looked,
    PhotoTraits,
    lesion_size,
    look_at,
    traits_of,
)
from dermask.records import Bitmask, BoolArray, ImageSize, Instance, PhotoInfo, Sample

SIZE = ImageSize(60, 80)
SKIN = (215, 175, 150)


def sample_of(*lesions: BoolArray, crowd: BoolArray | None = None, image: object = None) -> tuple[Sample, TruthMasks]:
    pixels = np.broadcast_to(np.array(SKIN, np.uint8), (*SIZE, 3)).copy() if image is None else image
    instances = [Instance(1, Bitmask(mask)) for mask in lesions]
    if crowd is not None:
        instances.append(Instance(1, Bitmask(crowd), is_crowd=True))
    sample = Sample("photo", pixels, SIZE, tuple(instances))  # type: ignore[arg-type]
    return sample, TruthMasks.from_sample(sample, SIZE)


def rectangle(top: int, left: int, bottom: int, right: int) -> BoolArray:
    mask = np.zeros(SIZE, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    ("lesions", "size", "border"),
    [
        pytest.param([], NO_LESION, None, id="no lesion"),
        pytest.param([rectangle(20, 20, 20, 20)], NO_LESION, None, id="an empty outline"),
        pytest.param([rectangle(20, 20, 30, 30)], "small", "no", id="small"),
        pytest.param([rectangle(10, 10, 30, 34)], "medium", "no", id="exactly a tenth is medium"),
        pytest.param([rectangle(10, 10, 40, 58)], "large", "no", id="exactly three tenths is large"),
        pytest.param([rectangle(0, 0, 60, 80)], "large", "yes", id="the whole photograph"),
        pytest.param([rectangle(0, 30, 9, 39)], "small", "yes", id="at the top"),
        pytest.param([rectangle(50, 30, 60, 39)], "small", "yes", id="at the bottom"),
        pytest.param([rectangle(30, 0, 39, 9)], "small", "yes", id="at the left"),
        pytest.param([rectangle(30, 70, 39, 80)], "small", "yes", id="at the right"),
        pytest.param([rectangle(30, 69, 39, 79)], "small", "no", id="one pixel off the border"),
        pytest.param([rectangle(5, 5, 20, 25), rectangle(30, 30, 45, 50)], "medium", "no", id="two together"),
        pytest.param([rectangle(5, 5, 20, 25), rectangle(5, 5, 20, 25)], "small", "no", id="the same twice"),
    ],
)
def test_size_and_border_are_those_of_all_lesions_together(
    lesions: list[BoolArray], size: str, border: str | None
) -> None:
    found = traits_of(*sample_of(*lesions), look=False)
    assert (found.lesion_size, found.touches_border) == (size, border)


def test_crowd_regions_tell_nothing_of_the_lesion() -> None:
    everything = rectangle(0, 0, 60, 80)
    found = traits_of(*sample_of(rectangle(20, 20, 30, 30), crowd=everything), look=False)
    assert (found.lesion_size, found.touches_border) == ("small", "no")
    assert traits_of(*sample_of(crowd=everything), look=False).lesion_size == NO_LESION


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_is_never_a_smaller_size(one: float, other: float) -> None:
    order = TRAITS["lesion_size"].values
    low, high = sorted((one, other))
    assert order.index(lesion_size(low)) <= order.index(lesion_size(high))


def test_limits_of_sizes_rise_to_the_whole_photograph() -> None:
    limits = [limit for _, limit in SIZE_LIMITS]
    assert limits == sorted(limits)
    assert limits[-1] == 1
    assert [lesion_size(limit - 1e-9) for limit in limits] == [name for name, _ in SIZE_LIMITS]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (None, None),
        (PhotoInfo(), None),
        (PhotoInfo(diagnosis=""), None),
        (PhotoInfo(patient_id="p", diagnosis="nevus"), "nevus"),
    ],
)
def test_the_diagnosis_is_the_tables(info: PhotoInfo | None, expected: str | None) -> None:
    assert traits_of(*sample_of(), info=info, look=False).diagnosis == expected


def test_without_a_look_nothing_of_the_photograph_is_known() -> None:
    found = traits_of(*sample_of(rectangle(20, 20, 30, 30)), look=False)
    assert (found.skin_tone, found.hair, found.ruler) == (None, None, None)


def test_a_look_gives_the_answers_of_the_detectors() -> None:
    scene = draw_scene(4, ImageSize(200, 260), num_lesions=1)
    image = draw_hair(scene.image, np.random.default_rng(2), count=30)
    sample = Sample("scene", image, ImageSize(200, 260), (Instance(1, Bitmask(scene.masks[0])),))
    found = traits_of(sample, TruthMasks.from_sample(sample, ImageSize(200, 260)))
    tone, lines = skin_tone(image, scene.masks[0]), find_artifacts(image)
    assert tone is not None
    assert (found.skin_tone, found.hair, found.ruler) == (tone.bin, "yes", "no")
    assert lines.hair
    assert not lines.ruler


def test_skin_tone_is_that_of_data_stats(tmp_path: Path) -> None:
    for seed in (1, 2, 4):
        scene = draw_scene(seed, ImageSize(450, 600), num_lesions=1)
        Image.fromarray(scene.image).save(tmp_path / "scene.jpg", quality=95)
        instances = (Instance(1, Bitmask(scene.masks[0])),)
        sample = Sample("scene", tmp_path / "scene.jpg", ImageSize(450, 600), instances)
        figures, _ = measure_photograph(sample)
        found = traits_of(sample, TruthMasks.from_sample(sample, ImageSize(450, 600)))
        assert found.skin_tone == (NOT_MEASURABLE if figures.skin is None else figures.skin.bin)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((*SIZE, 3), np.uint8), id="black"),
        pytest.param(np.full((*SIZE, 3), 255, np.uint8), id="white"),
        pytest.param(np.full((*SIZE, 3), 120, np.uint8), id="grey"),
    ],
)
def test_a_photograph_without_skin_has_no_measurable_tone(image: np.ndarray) -> None:
    assert traits_of(*sample_of(image=image)).skin_tone == NOT_MEASURABLE


def test_what_cannot_be_read_has_the_traits_of_its_labels_alone(tmp_path: Path) -> None:
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    for path in (tmp_path / "missing.jpg", tmp_path / "torn.jpg"):
        found = traits_of(*sample_of(rectangle(0, 0, 30, 30), image=path), info=PhotoInfo(diagnosis="nevus"))
        assert found == PhotoTraits("medium", "yes", "nevus")


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 7, 3), (1, 1, 3), (2, 900, 3)])
def test_a_photograph_of_any_size_can_be_looked_at(shape: tuple[int, int, int]) -> None:
    image = np.full(shape, 150, np.uint8)
    found = look_at(Sample("odd", image), np.zeros(shape[:2], np.bool_))
    assert found == (Looked(NOT_MEASURABLE, "no", "no") if image.size else Looked())


def test_every_value_found_is_one_that_the_trait_lists() -> None:
    for seed in range(4):
        scene = draw_scene(seed, ImageSize(128, 128))
        sample = Sample("scene", scene.image, None, tuple(Instance(1, Bitmask(mask)) for mask in scene.masks))
        for name, value in asdict(traits_of(sample, TruthMasks.from_sample(sample, ImageSize(128, 128)))).items():
            assert value is None or value in TRAITS[name].values


def test_the_table_tells_every_trait_in_order_and_how_far_to_trust_it() -> None:
    assert list(TRAITS) == [field.name for field in fields(PhotoTraits)]
    for trait in TRAITS.values():
        assert trait.title
        assert trait.meaning.endswith(".")
        assert trait.note.endswith(".")
        assert len(set(trait.values)) == len(trait.values)
    assert TRAITS["skin_tone"].values[:-1] == tuple(name for name, _ in ITA_BINS)


def _look(sample: Sample) -> Looked:
    return look_at(sample, np.zeros((64, 64), np.bool_))


def _died(sample: Sample) -> Looked:
    raise AssertionError(sample.image_id)


@pytest.mark.slow  # starting processes takes seconds
def test_photographs_are_looked_at_in_worker_processes() -> None:
    samples = [Sample(str(seed), draw_scene(seed, ImageSize(64, 64)).image) for seed in range(10)]
    found = list(map_in_processes(_look, samples, died=_died, processes=2))
    assert found == [_look(sample) for sample in samples]


def test_looking_and_its_results_cross_process_borders() -> None:
    found = _look(Sample("scene", draw_scene(0, ImageSize(64, 64)).image))
    assert pickle.loads(pickle.dumps(look_at)) is look_at
    assert pickle.loads(pickle.dumps((found, PhotoTraits("small")))) == (found, PhotoTraits("small"))


def test_a_photograph_twice_as_large_has_the_same_traits() -> None:
    small = draw_scene(11, ImageSize(384, 384), num_lesions=1)
    large = np.asarray(Image.fromarray(small.image).resize((768, 768), Image.Resampling.BICUBIC))
    traits = []
    for image, mask in ((small.image, small.masks[0]), (large, small.masks[0].repeat(2, 0).repeat(2, 1))):
        sample = Sample("scene", image, None, (Instance(1, Bitmask(mask)),))
        traits.append(traits_of(sample, TruthMasks.from_sample(sample, ImageSize(*mask.shape))))
    assert traits[0] == traits[1]
