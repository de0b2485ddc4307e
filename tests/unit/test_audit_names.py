"""Class names that mean the same, and names that only look alike."""

from __future__ import annotations

import pytest
from audit_examples import audit_of, outlined, polygon, ring
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask.audit.names import is_one_edit, is_same_name, similar_names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("lesion", "Lesion"),
        ("lesion", " lesion "),
        ("lesion", "lesions"),
        ("lesion", "lesoin"),
        ("lesion", "leson"),
        ("melanoma", "melanomma"),
        ("basal cell", "basal_cell"),
        ("basal-cell", "BasalCell"),
        ("naevus", "nevus"),
        ("Nävus", "navus"),
        ("biopsy", "biopsies"),
        ("mole", "moles"),
    ],
)
def test_spellings_of_one_name(one, other):
    assert is_same_name(one, other)
    assert is_same_name(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mole", "pole"),
        ("type1", "type2"),
        ("naevus 1", "naevus 2"),
        ("class 10", "class 11"),
        ("scar", "scab"),
        ("lesion", "skin"),
        ("melanoma", "melanosis"),
        ("nevus", "lupus"),
        ("?", "!"),
        ("病変", "皮膚"),
    ],
)
def test_other_names(one, other):
    assert not is_same_name(one, other)


def edits(one: str, other: str) -> int:
    """Damerau and Levenshtein's distance (neighbours swapped count one), by the book."""
    rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in range(len(one) + 1):
        for j in range(len(other) + 1):
            if not i or not j:
                rows[i][j] = i + j
                continue
            rows[i][j] = min(rows[i - 1][j], rows[i][j - 1], rows[i - 1][j - 1] - (one[i - 1] == other[j - 1])) + 1
            if i > 1 and j > 1 and one[i - 2 : i] == other[j - 2 : j][::-1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
@settings(max_examples=100, deadline=None)
def test_one_edit_is_a_distance_of_at_most_one(one, other):
    assert is_one_edit(one, other) == (edits(one, other) <= 1)


def test_the_most_frequent_spelling_is_kept():
    assert similar_names({"lesions": 3, "Lesion": 90, "mole": 1, "lesion": 7}) == {
        "lesion": "Lesion",
        "lesions": "Lesion",
    }
    assert similar_names({}) == {}


def test_names_are_compared_over_all_outlines():
    report = audit_of(outlined(polygon(ring()), labels=(2,)), names=("Lesion", "lesion", "scar"))
    assert [(f.kind, f.problem) for f in report.findings] == [
        ("similar-class-names", "class 'Lesion' (0 outlines) looks like 'lesion' (1 outline)"),
        ("unused-class", "class 'scar' has no outline"),
    ]
