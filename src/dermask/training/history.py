"""What a run did, epoch by epoch: history.csv, and the same numbers as TensorBoard curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dermask.errors import InputError, MissingExtraError
from dermask.files import write_text
from dermask.training.callbacks import LOSS_PARTS

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

_LOSSES = ("loss", *LOSS_PARTS)
VALIDATION_COLUMNS = (*(f"val_{name}" for name in _LOSSES), "val_jaccard", "val_mask_ap")
COLUMNS = ("epoch", "step", "lr", "seconds", "photos_per_second", *_LOSSES, *VALIDATION_COLUMNS)
"""Columns of history.csv, one row per epoch.

epoch and step count from 1 and since the start; lr is that of the epoch's last step; seconds cover training and
validation, photos_per_second training alone; losses are means over the epoch; val_jaccard is the mean Jaccard index
over photographs and val_mask_ap COCO's mask AP, both in [0, 1]. Epochs without validation leave its columns empty.
"""
_WHOLE = frozenset({"epoch", "step"})


class History:
    """The rows of history.csv and the TensorBoard curves of a run.

    Args:
        run_dir: Gets history.csv and tensorboard/.
        epochs: Rows to keep of what is there already: those of the epochs that the checkpoint has seen.
    """

    def __init__(self, run_dir: Path, *, epochs: int = 0) -> None:
        self.path = run_dir / "history.csv"
        self.rows = read_history(self.path)[:epochs]
        self._write()
        self._curves = _open_curves(run_dir / "tensorboard", first_epoch=epochs + 1)

    def add(self, row: Mapping[str, float]) -> None:
        """Append an epoch and write it out; the file is replaced as a whole."""
        self.rows.append(dict(row))
        self._write()
        for name in COLUMNS:
            if name in row and name != "epoch":
                self._curves.add_scalar(_curve_name(name), row[name], int(row["epoch"]))
        self._curves.flush()

    def close(self) -> None:
        """Finish the TensorBoard file."""
        self._curves.close()

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.rows:
            writer.writerow([_to_text(name, row) for name in COLUMNS])
        write_text(self.path, text.getvalue())


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of a history.csv; figures that an epoch does not have are left out. No file: no rows.

    Raises:
        InputError: Something in it is no number, as when another program has saved it.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except (ValueError, TypeError) as error:
        raise InputError(str(path), f"is not as it was written: {error}", "restore it, or move it away") from None


def _to_text(name: str, row: Mapping[str, float]) -> str:
    if name not in row:
        return ""
    # repr is the shortest text that reads back as the same number, so that resumed runs can be compared exactly.
    return str(int(row[name])) if name in _WHOLE else repr(float(row[name]))


def _curve_name(column: str) -> str:
    """Training and validation of one figure stand side by side in TensorBoard: loss/train, loss/val."""
    if column.startswith("val_"):
        return f"{column.removeprefix('val_')}/val"
    return f"{column}/train" if column in _LOSSES else f"run/{column}"


def _open_curves(folder: Path, *, first_epoch: int) -> SummaryWriter:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter  # takes a second, so only when training starts
    except ImportError:
        raise MissingExtraError("TensorBoard curves", "train") from None
    # What a killed run logged of the epoch that is now repeated is struck out.
    return SummaryWriter(folder, purge_step=first_epoch if first_epoch > 1 else None)
