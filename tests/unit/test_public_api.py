"""The one public door: what `dermask` offers, and that opening it costs nothing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import dermask


@pytest.mark.parametrize("name", dermask.__all__)
def test_every_public_name_is_there_and_described(name: str):
    value = getattr(dermask, name)
    assert name == "__version__" or value.__doc__


def test_public_names_are_sorted_and_listed():
    assert dermask.__all__ == sorted(dermask.__all__)
    assert set(dermask.__all__) <= set(dir(dermask))


def test_every_error_is_public():
    from dermask import errors

    raised = {
        name for name, value in vars(errors).items() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert raised <= set(dermask.__all__)


def test_the_version_is_a_number():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", dermask.__version__)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dermask' has no attribute 'wings'"):
        _ = dermask.wings  # type: ignore[attr-defined]


def test_importing_the_package_imports_next_to_nothing():
    code = "import sys, dermask; print(*sorted(name.partition('.')[0] for name in sys.modules if name != 'dermask'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()).isdisjoint({"dermask", "numpy", "PIL", "pydantic", "torch"})
