from __future__ import annotations

import pickle

import pytest

from dermask import errors


def test_message_is_item_problem_cure() -> None:
    error = errors.InputError("train.json: annotation 812", "box has width 0", "draw it again")
    assert str(error) == "train.json: annotation 812: box has width 0; draw it again"
    assert (error.item, error.problem, error.cure) == ("train.json: annotation 812", "box has width 0", "draw it again")


def test_message_without_cure_ends_with_the_problem() -> None:
    assert str(errors.LabelError("a.json", "is empty")) == "a.json: is empty"


def test_names_of_files_cannot_break_the_line() -> None:
    error = errors.ImageError("two\nlines \x1b[31m \udcff größe.jpg", "is empty")
    assert str(error) == r"two\nlines \x1b[31m \udcff größe.jpg: is empty"
    assert error.item.startswith("two\n")


@pytest.mark.parametrize(
    "kind",
    [
        errors.InputError,
        errors.ImageError,
        errors.LabelError,
        errors.SettingError,
        errors.WeightsError,
        errors.OutputExistsError,
    ],
)
def test_input_errors_are_value_errors_and_cross_process_borders(kind: type[errors.InputError]) -> None:
    error = kind("item", "problem", "cure")
    assert isinstance(error, errors.DermaskError)
    assert isinstance(error, ValueError)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (str(copy), copy.cure) == (str(error), "cure")


def test_missing_extra_names_the_install_command_and_crosses_process_borders() -> None:
    error = errors.MissingExtraError("dermask train", "train")
    assert isinstance(error, ImportError)
    assert str(error) == 'dermask train: needs an optional part; install it with: pip install "dermask[train]"'
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.extra) == (str(error), "train")


def test_every_error_is_in_the_tree_of_the_docstring() -> None:
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(kinds) > 5
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
