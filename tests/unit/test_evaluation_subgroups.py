"""Subgroups against a slow reference, and the permutation test: exact on few units, honest on chance, sharp on gaps."""

from __future__ import annotations

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.errors import InputError, SettingError
from dermask.evaluation import subgroups as module
from dermask.evaluation.bootstrap import MIN_UNITS, Resampling, mean_intervals
from dermask.evaluation.subgroups import SMALL_GROUP, TraitSpread, subgroups, trait_spreads
from dermask.evaluation.traits import TRAITS, PhotoTraits

QUICK = Resampling("photograph", 0, num_resamples=50)
HAIR = {True: PhotoTraits(hair="yes"), False: PhotoTraits(hair="no")}


def alone(count: int) -> np.ndarray:
    return np.arange(count)


def test_no_photographs_have_no_groups() -> None:
    assert subgroups([], {}, alone(0)) == ()
    assert subgroups([], {"isic.jaccard": np.zeros(0)}, alone(0), resampling=QUICK) == ()
    assert trait_spreads([], np.zeros(0), alone(0)) == ()


def test_a_trait_of_one_value_or_none_makes_no_groups() -> None:
    traits = [PhotoTraits("small", None, "nevus"), PhotoTraits("small", "no", None), PhotoTraits("small")]
    assert subgroups(traits, {"isic.jaccard": np.ones(3)}, alone(3)) == ()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.booleans(), st.integers(0, 3)), max_size=25), st.data())
def test_groups_are_those_of_a_slow_reference(rows: list[tuple[str | None, bool, int]], data: st.DataObject) -> None:
    traits = [PhotoTraits(diagnosis=kind, hair="yes" if hair else "no") for kind, hair, _ in rows]
    units = np.array([unit for *_, unit in rows], np.int64)
    number = st.floats(0, 1) | st.just(math.nan)
    values = {name: np.array([data.draw(number) for _ in rows], np.float64) for name in ("one", "two")}
    found = subgroups(traits, values, units, resampling=QUICK)
    expected = []
    for trait, order in (("diagnosis", ["a", "b"]), ("hair", ["no", "yes"])):
        present = [value for value in order if any(getattr(one, trait) == value for one in traits)]
        for value in present if len(present) > 1 else []:
            members = [index for index, one in enumerate(traits) if getattr(one, trait) == value]
            means = {}
            for name, column in values.items():
                known = [column[index] for index in members if not math.isnan(column[index])]
                means[name] = sum(known) / len(known) if known else math.nan
            expected.append((trait, value, len(members), len({int(units[index]) for index in members}), means))
    assert [(one.trait, one.value, one.num_photographs, one.num_units) for one in found] == [
        row[:4] for row in expected
    ]
    for one, row in zip(found, expected, strict=True):
        assert list(one.figures) == ["one", "two"]
        assert list(one.figures.values()) == pytest.approx(list(row[4].values()), nan_ok=True)


def test_values_stand_in_the_order_of_the_trait_and_unknown_ones_last() -> None:
    sizes = ["large", "none", "giant", "small", "medium", "another"]
    found = subgroups([PhotoTraits(size) for size in sizes], {"f": np.zeros(6)}, alone(6))
    assert [one.value for one in found] == ["none", "small", "medium", "large", "another", "giant"]


def test_traits_stand_in_the_order_of_their_table() -> None:
    traits = [PhotoTraits(*"abcdef"), PhotoTraits(*"ghijkl")]
    found = subgroups(traits, {}, alone(2))
    assert [one.trait for one in found] == [name for name in TRAITS for _ in range(2)]
    assert [field.name for field in fields(PhotoTraits)] == list(TRAITS)


def test_a_group_of_few_units_is_small_and_has_no_interval() -> None:
    traits = [HAIR[index < MIN_UNITS] for index in range(2 * MIN_UNITS - 1)]
    values = np.random.default_rng(0).uniform(size=len(traits))
    no, yes = subgroups(traits, {"f": values}, alone(len(traits)), resampling=QUICK)
    assert (no.is_small, no.num_units, no.intervals) == (True, MIN_UNITS - 1, {"f": None})
    assert not yes.is_small
    assert str(MIN_UNITS) in SMALL_GROUP
    interval = yes.intervals["f"]
    assert interval is not None
    assert interval.low < yes.figures["f"] < interval.high
    assert interval == mean_intervals(values[:MIN_UNITS], alone(MIN_UNITS), num_resamples=50)[0]


def test_many_photographs_of_few_units_are_small_too() -> None:
    traits = [HAIR[index % 2 == 0] for index in range(200)]
    found = subgroups(traits, {"f": np.zeros(200)}, np.arange(200) // 20, resampling=QUICK)
    assert all(one.is_small and one.num_units == 10 and one.num_photographs == 100 for one in found)


def test_intervals_are_made_as_the_resampling_says() -> None:
    traits = [HAIR[index % 2 == 0] for index in range(100)]
    values = np.random.default_rng(1).uniform(size=100)
    wide, narrow = (
        subgroups(traits, {"f": values}, alone(100), resampling=Resampling("photograph", 100, 200, 3, level))
        for level in (0.95, 0.5)
    )
    for one, other in zip(wide, narrow, strict=True):
        outer, inner = one.intervals["f"], other.intervals["f"]
        assert outer is not None
        assert inner is not None
        assert outer.low < inner.low < inner.high < outer.high
        assert (outer.level, inner.level) == (0.95, 0.5)


def test_the_order_of_photographs_changes_no_group() -> None:
    generator = np.random.default_rng(2)
    traits = [HAIR[bool(flag)] for flag in generator.integers(2, size=90)]
    values, order = generator.uniform(size=90), generator.permutation(90)
    one = subgroups(traits, {"f": values}, alone(90), resampling=QUICK)
    other = subgroups([traits[index] for index in order], {"f": values[order]}, order, resampling=QUICK)
    for left, right in zip(one, other, strict=True):
        assert (left.value, left.num_photographs) == (right.value, right.num_photographs)
        assert left.figures["f"] == pytest.approx(right.figures["f"])


@pytest.mark.parametrize(
    ("values", "units", "message"),
    [
        ({"isic.dice": np.zeros(3)}, alone(2), r"subgroups: isic\.dice: has 3 entries for 2 photographs"),
        ({"isic.dice": np.zeros(2)}, alone(1), r"subgroups: units: has 1 entries for 2 photographs"),
    ],
)
def test_different_numbers_of_photographs_are_told(
    values: dict[str, np.ndarray], units: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        subgroups([PhotoTraits(), PhotoTraits()], values, units)


def test_a_spread_wants_a_permutation() -> None:
    with pytest.raises(SettingError, match="num_permutations 0: must be at least 1"):
        trait_spreads([PhotoTraits()], np.zeros(1), alone(1), num_permutations=0)
    with pytest.raises(InputError, match=r"subgroups: isic\.jaccard: has 2 entries for 1 photographs"):
        trait_spreads([PhotoTraits()], np.zeros(2), alone(1))


def test_nothing_is_claimed_of_groups_that_are_too_small() -> None:
    traits = [HAIR[index < MIN_UNITS] for index in range(2 * MIN_UNITS - 1)]
    (spread,) = trait_spreads(traits, np.arange(len(traits), dtype=float), alone(len(traits)))
    assert (spread.compared, spread.p_value, spread.p_adjusted) == (("yes",), None, None)
    assert math.isnan(spread.difference)
    assert spread.describe() == "Fewer than two groups have 30 units or more: nothing is claimed."


def test_a_gap_is_found_and_told() -> None:
    generator = np.random.default_rng(0)
    traits = [HAIR[index % 3 == 0] for index in range(150)]
    values = generator.normal(0.8, 0.05, 150) - 0.2 * np.array([one.hair == "yes" for one in traits])
    (spread,) = trait_spreads(traits, values, alone(150), num_permutations=999)
    assert spread.p_value == pytest.approx(0.001)
    assert spread.difference == pytest.approx(0.2, abs=0.03)
    assert spread.describe().endswith(
        "between no and yes: more than chance (permutation test, Holm-corrected p = 0.001)."
    )


def test_p_values_are_corrected_for_the_number_of_traits_tested() -> None:
    generator = np.random.default_rng(3)
    traits = [
        PhotoTraits(
            hair="yes" if first else "no", ruler="yes" if second else "no", diagnosis="rare" if not index else "x"
        )
        for index, (first, second) in enumerate(generator.integers(2, size=(120, 2)))
    ]
    found = {one.trait: one for one in trait_spreads(traits, generator.uniform(size=120), alone(120))}
    assert found["diagnosis"].p_adjusted is None  # one photograph of a kind: not tested, not counted
    low, high = sorted((found["hair"].p_value, found["ruler"].p_value))  # type: ignore[type-var]
    adjusted = sorted((found["hair"].p_adjusted, found["ruler"].p_adjusted))  # type: ignore[type-var]
    assert adjusted == pytest.approx([min(1, 2 * low), max(min(1, 2 * low), high)])


def test_all_values_alike_are_no_spread() -> None:
    (spread,) = trait_spreads([HAIR[index % 2 == 0] for index in range(80)], np.full(80, 0.7), alone(80))
    assert (spread.difference, spread.p_value) == (pytest.approx(0), 1)
    assert "may be chance" in spread.describe()


def test_photographs_without_the_figure_take_no_part() -> None:
    generator = np.random.default_rng(5)
    traits = [HAIR[index % 2 == 0] for index in range(100)]
    values = generator.uniform(size=100)
    with_gaps = np.concatenate([values, np.full(40, math.nan)])
    more = [*traits, *[HAIR[index % 3 == 0] for index in range(40)]]
    assert trait_spreads(more, with_gaps, alone(140)) == trait_spreads(traits, values, alone(100))


def test_p_values_are_those_of_all_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six units, of which two have two photographs: 4! times 2! ways to change places."""
    monkeypatch.setattr(module, "MIN_UNITS", 2)
    units = np.array([0, 1, 1, 2, 3, 4, 4, 5])
    kinds = [True, True, False, True, False, False, True, False]
    values = np.array([0.9, 0.2, 0.8, 0.7, 0.4, 0.5, 0.6, 0.1])

    def spread(ordered: np.ndarray) -> float:
        groups = [ordered[np.array(kinds) == kind] for kind in (True, False)]
        return sum(len(group) * (group.mean() - ordered.mean()) ** 2 for group in groups)

    single, double = [0, 3, 4, 7], [[1, 2], [5, 6]]
    as_far = total = 0
    for first in itertools.permutations(single):
        for second in itertools.permutations(double):
            ordered = values.copy()
            ordered[single] = values[list(first)]
            for place, source in zip(double, second, strict=True):
                ordered[place] = values[source]
            total += 1
            as_far += spread(ordered) >= spread(values) - 1e-12
    (found,) = trait_spreads([HAIR[kind] for kind in kinds], values, units, num_permutations=20_000)
    assert total == 48
    assert found.p_value == pytest.approx(as_far / total, abs=0.015)


def test_permuted_units_stay_whole_and_keep_their_number_of_photographs() -> None:
    units = np.array([3, 7, 3, 1, 7, 9, 9, 9])
    values = np.arange(8.0)
    blocks = {(0.0, 2.0), (1.0, 4.0), (3.0,), (5.0, 6.0, 7.0)}
    chunks = list(module._permuted_units(values, units, 40, seed=0))
    assert sum(len(chunk) for chunk in chunks) == 40
    for row in np.concatenate(chunks):
        assert {tuple(row[units == unit]) for unit in (1, 3, 7, 9)} == blocks
    assert len({tuple(row) for row in np.concatenate(chunks)}) == 2  # only the two pairs can change places


def test_chance_is_called_a_difference_about_as_often_as_stated() -> None:
    """Photographs of a unit alike, kinds by unit: ignoring units would call a third of such data sets different."""
    generator, called = np.random.default_rng(11), 0
    for _ in range(120):
        units = np.repeat(np.arange(70), 3)
        kinds = generator.permutation(np.arange(70) % 2 == 0)[units]
        values = generator.normal(size=70)[units] + 0.3 * generator.normal(size=210)
        (found,) = trait_spreads([HAIR[bool(kind)] for kind in kinds], values, units, num_permutations=199)
        called += found.p_value is not None and found.p_value <= 0.05
    assert called <= 14  # of 120 at 5 %: 6 expected, more than 14 in one of 1,000 runs


def test_a_spread_is_a_record_that_prints() -> None:
    spread = TraitSpread("lesion_size", "isic.jaccard", ("small", "medium", "large"), 0.1234, 0.2, 0.4)
    assert spread.describe() == (
        "Means differ by up to 0.123 between small, medium and large: may be chance "
        "(permutation test, Holm-corrected p = 0.4)."
    )
