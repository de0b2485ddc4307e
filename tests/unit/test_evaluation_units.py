"""What is drawn together: which bonds count, what units are called, and what their names do not mix up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.data.dataset import Dataset
from dermask.evaluation.units import photo_units, unit_name
from dermask.records import PhotoInfo, Sample
from dermask.wording import plural

IMAGE = np.zeros((2, 2, 3), np.uint8)


def photos(*ids: str) -> Dataset:
    return Dataset([Sample(image_id, IMAGE) for image_id in ids], ("lesion",))


def of(patient: str | None = None, lesion: str | None = None) -> PhotoInfo:
    return PhotoInfo(patient_id=patient, lesion_id=lesion)


@pytest.mark.parametrize(
    ("metadata", "names", "kind"),
    [
        pytest.param({}, ("a", "b", "c"), "photograph", id="nothing known"),
        pytest.param({"a": of("1"), "b": of("1"), "c": of("2")}, ("patient 1", "patient 1", "patient 2"), "patient"),
        pytest.param(
            {"a": of("1"), "b": of(lesion="1"), "c": of(lesion="1")},
            ("patient 1", "lesion 1", "lesion 1"),
            "patient or lesion",
            id="a patient and a lesion of one id are two",
        ),
        pytest.param(
            {"a": of("1", "x"), "b": of(lesion="x")},
            ("patient 1", "patient 1", "c"),
            "patient or photograph",
            id="a lesion's patient is known of one photograph",
        ),
        pytest.param(
            {"a": of("2", "x"), "b": of("1", "x"), "c": of("2")},
            ("patient 1",) * 3,
            "patient",
            id="tied over others",
        ),
        pytest.param({"b": of(lesion="x")}, ("a", "lesion x", "c"), "lesion or photograph", id="a lesion of one"),
        pytest.param(
            {"a": of("1"), "b": of(lesion="x")},
            ("patient 1", "lesion x", "c"),
            "patient, lesion or photograph",
            id="all kinds",
        ),
        pytest.param({"z": of("1")}, ("a", "b", "c"), "photograph", id="of other photographs"),
    ],
)
def test_what_a_patient_or_lesion_ties_is_one_unit(
    metadata: dict[str, PhotoInfo], names: tuple[str, ...], kind: str
) -> None:
    assert photo_units(photos("a", "b", "c"), metadata) == (names, kind)
    assert unit_name(photos("a", "b", "c"), metadata) == kind


def test_no_photographs_have_no_units() -> None:
    assert photo_units(photos(), {}) == ((), "photograph")


def test_a_photograph_that_is_called_like_a_patient_is_none() -> None:
    found = photo_units(photos("patient 1", "b"), {"b": of("1")})
    assert found.names == ("photograph patient 1", "patient 1")


INFOS = st.lists(st.builds(of, st.sampled_from([None, "1", "2", "3"]), st.sampled_from([None, "1", "2"])), max_size=9)


@settings(max_examples=60, deadline=None)
@given(INFOS, st.randoms(use_true_random=False))
def test_the_order_of_photographs_changes_no_name(infos: list[PhotoInfo], random) -> None:  # type: ignore[no-untyped-def]
    metadata = {f"photo_{index}": info for index, info in enumerate(infos)}
    ids = list(metadata)
    names = dict(zip(ids, photo_units(photos(*ids), metadata).names, strict=True))
    random.shuffle(ids)
    assert dict(zip(ids, photo_units(photos(*ids), metadata).names, strict=True)) == names
    for first, name in names.items():
        for second in names:
            pairs = zip(metadata[first][:2], metadata[second][:2], strict=True)
            if any(one is not None and one == other for one, other in pairs):
                assert names[second] == name


def test_each_kind_of_a_mixed_unit_has_its_ending() -> None:
    assert plural(1, "patient, lesion or photograph") == "1 patient, lesion or photograph"
    assert plural(40, "patient, lesion or photograph") == "40 patients, lesions or photographs"
    assert plural(2, "photograph") == "2 photographs"
