"""Every error dermask raises on purpose.

    DermaskError
    |-- InputError (also a ValueError)      something the caller gave is not usable
    |   |-- ImageError                      a photograph that cannot be read
    |   |-- LabelError                      a label file or one annotation in it
    |   |-- SettingError                    a setting outside its range, or unknown
    |   |-- WeightsError                    a checkpoint or weights file that does not fit
    |   `-- OutputExistsError               a result that would be overwritten
    |-- MissingExtraError (also ImportError)  an optional part of dermask is not installed
    `-- NonFiniteLossError                  training produced NaN or infinity and stopped

Each message is one line: the item, what is wrong with its value, and the cure. The command line prints it
as it is and exits with 1; anything else that escapes is a bug of ours.
"""

from __future__ import annotations


class DermaskError(Exception):
    """Base of all errors that dermask raises on purpose."""


class InputError(DermaskError, ValueError):
    """Something given by the caller cannot be used.

    Args:
        item: What it is about, as a person would name it: ``train.json: annotation 812 (image ISIC_0024306)``.
        problem: The value and what was expected: ``box [40, 52, 40, 90] has width 0; boxes need x2 > x1``.
        cure: What to do next, as an imperative without full stop; empty when the problem says it all.
    """

    def __init__(self, item: str, problem: str, cure: str = "") -> None:
        self.item = item
        self.problem = problem
        self.cure = cure
        super().__init__(_one_line(f"{item}: {problem}" + (f"; {cure}" if cure else "")))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.item, self.problem, self.cure)  # keeps all three across process borders


def _one_line(text: str) -> str:
    """Line ends, terminal codes and undecodable bytes, which file names may hold, become visible escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class ImageError(InputError):
    """A photograph is missing, truncated, too large, or not an image."""


class LabelError(InputError):
    """A label file, or one annotation in it, is wrong."""


class SettingError(InputError):
    """A setting is unknown or outside its range."""


class WeightsError(InputError):
    """A checkpoint or weights file is missing or does not fit the model."""


class OutputExistsError(InputError):
    """A result of an earlier run stands where this one would be written."""


class MissingExtraError(DermaskError, ImportError):
    """An optional part is not installed; the message names the install command."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(f'{feature}: needs an optional part; install it with: pip install "dermask[{extra}]"')

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.feature, self.extra)


class NonFiniteLossError(DermaskError):
    """A loss became NaN or infinite; names every part of it and the photographs of the batch."""
