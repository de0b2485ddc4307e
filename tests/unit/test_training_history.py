import math
import sys

import pytest

from dermask.errors import InputError, MissingExtraError
from dermask.training.history import COLUMNS, History, read_history

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")  # its own use of numpy and protobuf


def row(epoch, **figures):
    return {"epoch": float(epoch), "step": 10.0 * epoch, "lr": 0.1 / 3, "loss": 1 / epoch} | figures


@pytest.mark.parametrize("text", ["epoch,loss\n1,0;5\n", "epoch,loss\n1,0.5,0.6\n"], ids=["a comma", "a column"])
def test_a_history_that_another_program_has_saved_is_named(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(InputError, match=r"history\.csv: is not as it was written: .*; restore it, or move it away"):
        read_history(tmp_path / "history.csv")


def write(folder, *rows):
    history = History(folder)
    for figures in rows:
        history.add(figures)
    history.close()


class TestHistoryFile:
    def test_there_is_a_header_from_the_start(self, tmp_path):
        write(tmp_path)
        assert (tmp_path / "history.csv").read_text() == ",".join(COLUMNS) + "\n"
        assert read_history(tmp_path / "history.csv") == []

    def test_the_columns_are_those_the_field_knows(self):
        parts = ["loss", "rpn_class_loss", "rpn_bbox_loss", "mrcnn_class_loss", "mrcnn_bbox_loss", "mrcnn_mask_loss"]
        assert COLUMNS[:5] == ("epoch", "step", "lr", "seconds", "photos_per_second")
        assert list(COLUMNS[5:]) == [*parts, *(f"val_{name}" for name in parts), "val_jaccard", "val_mask_ap"]

    def test_numbers_come_back_to_the_bit(self, tmp_path):
        rows = [row(1, val_loss=math.pi, seconds=1e-17), row(2), row(3, val_jaccard=0.1 + 0.2)]
        write(tmp_path, *rows)
        assert read_history(tmp_path / "history.csv") == rows

    def test_epochs_without_validation_leave_its_columns_empty(self, tmp_path):
        write(tmp_path, row(1))
        assert (tmp_path / "history.csv").read_text().splitlines()[1].endswith(",,,")

    def test_an_undefined_figure_is_nan(self, tmp_path):
        write(tmp_path, row(1, val_mask_ap=math.nan))
        assert math.isnan(read_history(tmp_path / "history.csv")[0]["val_mask_ap"])

    @pytest.mark.parametrize("epochs", [0, 1, 3])
    def test_a_resumed_run_keeps_the_epochs_of_its_checkpoint(self, tmp_path, epochs):
        write(tmp_path, row(1), row(2), row(3))
        History(tmp_path, epochs=epochs).close()
        assert [figures["epoch"] for figures in read_history(tmp_path / "history.csv")] == [1, 2, 3][:epochs]

    def test_no_file_is_no_rows(self, tmp_path):
        assert read_history(tmp_path / "history.csv") == []


class TestCurves:
    def read(self, folder):
        accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
        events = accumulators.EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    def test_hold_the_same_numbers_under_names_that_pair_up(self, tmp_path):
        write(tmp_path, row(1, val_loss=0.5), row(2, val_loss=0.25, val_jaccard=0.75))
        curves = self.read(tmp_path)
        assert curves["loss/train"] == [(1, 1.0), (2, 0.5)]
        assert curves["loss/val"] == [(1, 0.5), (2, 0.25)]
        assert curves["jaccard/val"] == [(2, 0.75)]
        assert "run/lr" in curves

    def test_a_repeated_epoch_is_there_once(self, tmp_path):
        write(tmp_path, row(1), row(2, loss=9.0))
        resumed = History(tmp_path, epochs=1)
        resumed.add(row(2))
        resumed.close()
        assert self.read(tmp_path)["loss/train"] == [(1, 1.0), (2, 0.5)]

    def test_without_tensorboard_the_message_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
        with pytest.raises(MissingExtraError, match=r"dermask\[train\]"):
            History(tmp_path)
