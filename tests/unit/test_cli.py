"""The command line: one line per mistake and the right status, whatever is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dermask import config
from dermask.cli import main as main_module
from dermask.cli.common import UsageMistake, parse_assignments, run_settings
from dermask.cli.main import run
from dermask.cli.predict import parse_kinds
from dermask.cli.train import Sources, open_sources, parse_split
from dermask.data.synthetic import write_synthetic
from dermask.errors import LabelError, SettingError
from dermask.inference.detector import PACKAGED_MODEL
from dermask.records import ImageSize
from dermask.wording import plural

DATA_COMMANDS = ("download", "show", "stats", "convert", "check", "split", "synthesize")
COMMANDS = [
    *("demo", "train", "evaluate", "compare", "predict", "card", "export", "web-page", "info"),
    *(f"data {name}" for name in DATA_COMMANDS),
]
HEAVY = {"torch", "torchvision", "onnxruntime", "openvino", "onnx", "numpy", "PIL", "rich", "plotly", "jinja2"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("scenes") / "five", 5, 0, ImageSize(96, 96))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DERMASK_TRACEBACK", raising=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_leads_with_an_example_and_says_what_it_is_for(command: str, capsys: pytest.CaptureFixture[str]):
    assert run([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: dermask {command}")
    assert f"    dermask {command}" in text
    assert "Research use only" in " ".join(text.split())


def test_the_first_help_lists_every_command(capsys: pytest.CaptureFixture[str]):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert command.split()[0] in text
    assert "Research use only" in text


def test_help_imports_nothing_heavy():
    code = "import sys; from dermask.cli.main import run; run(['train', '--help']); print(sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(found.stdout.splitlines()[-1].strip("[]").replace("'", "").split(", "))
    assert "typer" in loaded
    assert loaded & HEAVY == set()


def test_the_version_goes_to_stdout(capsys: pytest.CaptureFixture[str]):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == "dermask 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        # Wrong usage
        ("trai", 2, "No such command 'trai'"),
        ("train --epoch 3", 2, "No such option: --epoch"),
        ("train --epochs three --data x -o y", 2, "'--epochs'"),
        ("train --data {labels}", 2, "train needs -o FOLDER for the run, such as -o runs/first"),
        ("train -o run", 2, "train needs --data: a label file or a folder of labelled photographs"),
        ("train --data {labels} -o run --set epochs", 2, "--set epochs: needs a name and a value"),
        ("train --data {labels} -o run --split 3/1 --val-fraction 0.5", 2, "say the same thing; give one"),
        ("train --data {labels} -o run --val-fraction 2", 2, "--val-fraction 2: must be between 0 and 1"),
        ("train --data {labels} -o run --split half", 2, "--split half: give two counts or two shares"),
        (
            "train --data {labels} --val {labels} -o run --split 3/1",
            2,
            "--split divides --data, so it does not go with",
        ),
        ("evaluate run", 2, "Missing option '--data'"),
        ("predict photo.jpg", 2, "Missing option '--output'"),
        ("predict -o out", 2, "Missing argument"),
        ("predict photo.jpg -o out --save drawing", 2, "--save drawing: choose from overlay,mask,coco,csv"),
        ("predict photo.jpg -o out --rule best", 2, "'--rule'"),
        ("predict photo.jpg -o out --tidy edges", 2, "--tidy edges: choose from smooth,largest,holes,all"),
        ("predict photo.jpg -o out --tidy ,", 2, "--tidy ,: choose from"),
        ("predict photo.jpg -o out --score-thresh 2", 2, "'--score-thresh'"),
        ("predict photo.jpg -o out --batch-size 0", 2, "'--batch-size'"),
        ("export run -o model.pt", 2, "-o model.pt: an exported model's name ends in .onnx"),
        ("evaluate run --data {labels} --score-thresh -1", 2, "'--score-thresh'"),
        ("data show {labels} -o sheet.jpg", 2, "so its name must end in .png or .html"),
        ("data synthesize -o more --count 0", 2, "'--count'"),
        # What was asked for cannot be done
        ("train --data nowhere.json -o run", 1, "nowhere.json: no such file"),
        ("train --data {labels} -o run --preset huge", 1, "preset 'huge': does not exist; choose one of small, base"),
        ("train --data {labels} -o run --epochs 0", 1, "setting train.epochs: 0: "),
        ("train --data {labels} -o run --set train.wings=2", 1, "setting 'train.wings': does not exist"),
        ("train --data {labels} -o run --config no.toml", 1, "no.toml: no such file"),
        ("train --data {labels} -o run --weights no.pth", 1, "no.pth: no such weights file"),
        ("train --data {labels} -o run --split 4/40", 1, "asks for 44 photographs of 5"),
        ("predict {photo} -o out --model " + 300 * "n", 1, "File name too long"),
        ("train -o run --resume", 1, "run: is not a run that can be resumed; start it without --resume"),
        (
            "evaluate run --data {labels}",
            1,
            "run: no such file or folder; give a run's folder or a folder of runs, a .safetensors checkpoint, an .onnx",
        ),
        ("evaluate {labels} --data {labels} --threshold-from no.json", 1, "no.json: cannot be read: No such file"),
        ("evaluate {labels} --data {labels} --mm-per-pixel 0", 1, "mm_per_pixel 0: is not a length above 0"),
        (
            "evaluate {labels} --data {labels} --score-thresh 0.5 --threshold-from {labels}",
            2,
            "both choose a threshold",
        ),
        ("evaluate {labels} --data {labels} --metadata no.csv --no-metadata", 2, "contradict each other"),
        ("evaluate {labels} --data {labels} --resamples 3", 2, "'--resamples'"),
        ("evaluate {labels} --data {labels} -o {photo}", 1, "no folder can be made here: a file has this name"),
        ("compare {labels} nowhere --data {labels}", 1, "nowhere: no such file or folder; give a run's folder"),
        ("compare {labels} --data {labels}", 2, "a comparison needs two models"),
        ("evaluate {labels} --data nowhere.json", 1, "nowhere.json: no such file"),
        ("evaluate results.json --data {labels}", 1, "results.json: no such file"),
        ("predict {photo} -o out --model run", 1, "run: no such model"),
        ("export run -o model.onnx", 1, "run: no such model"),
        ("export {packaged} -o model.onnx", 1, "is exported already; give a run's folder or a .safetensors checkpoint"),
        ("web-page", 2, "Missing option '--output'"),
        ("web-page -o site --model run", 1, "run: no such model"),
        ("web-page -o {folder} --runtime run", 1, "is not empty; choose another -o, or pass --overwrite"),
        ("web-page -o site --runtime run", 1, "run: no such folder; name an unpacked onnxruntime-web"),
        ("web-page -o {photo} --runtime run", 1, "no folder can be made here: a file has this name"),
        ("predict {empty} -o out", 1, "holds no photograph; give files named"),
        ("data show {labels} -o {photo} --overwrite", 2, "must end in .png"),
        ("data show {labels} -o {sheet}", 1, "already exists; choose another -o"),
        ("data show nowhere -o sheet.png", 1, "nowhere: no such file"),
        ("data synthesize -o {folder}", 1, "is not an empty folder; choose another name"),
        ("demo -o {folder}", 1, "is not empty; choose another -o, or leave it out for a new folder"),
        ("info --settings --preset huge", 1, "preset 'huge': does not exist"),
    ],
)
def test_a_mistake_gets_one_line_and_its_status(
    arguments: str, status: int, message: str, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sheet = tmp_path / "there.png"
    sheet.write_bytes(b"")
    names = {
        "labels": scenes,
        "photo": next((scenes.parent / "images").iterdir()),
        "sheet": sheet,
        "folder": scenes.parent,
        "empty": tmp_path / "empty",
        "packaged": PACKAGED_MODEL,
    }
    names["empty"].mkdir()
    assert run([part.format(**names) for part in arguments.split()]) == status
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    assert message in line


@pytest.mark.parametrize("group", [[], ["data"]])
def test_no_command_shows_the_commands(group: list[str], capsys: pytest.CaptureFixture[str]):
    assert run(group) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"Usage: {' '.join(['dermask', *group])} [OPTIONS] COMMAND")


def test_a_run_is_never_overwritten(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text("")
    assert run(["train", "--data", str(scenes), "-o", "run"]) == 1
    assert (
        capsys.readouterr().err
        == "dermask: run: holds a run already; go on with it by --resume, or choose another -o\n"
    )


class TestUnexpected:
    def fail(self, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
        def raise_it(**_: object) -> None:
            raise error

        monkeypatch.setattr(main_module, "_command", lambda: raise_it)
        return run([])

    def test_a_bug_of_ours_gets_one_line(self, monkeypatch, capsys):
        assert self.fail(RuntimeError("two\nlines"), monkeypatch) == 1
        expected = "dermask: unexpected RuntimeError: two lines (set DERMASK_TRACEBACK=1 to see where)\n"
        assert capsys.readouterr().err == expected

    def test_its_traceback_is_there_for_those_who_ask(self, monkeypatch, capsys):
        monkeypatch.setenv("DERMASK_TRACEBACK", "1")
        assert self.fail(RuntimeError("two"), monkeypatch) == 1
        error = capsys.readouterr().err
        assert error.startswith("Traceback")
        assert error.endswith("dermask: unexpected RuntimeError: two\n")

    def test_trouble_with_a_file_is_told_as_the_system_tells_it(self, monkeypatch, capsys):
        assert self.fail(PermissionError(13, "Permission denied", "out"), monkeypatch) == 1
        assert "dermask: [Errno 13] Permission denied: 'out'" in capsys.readouterr().err

    def test_ctrl_c_ends_with_130_and_one_line(self, monkeypatch, capsys):
        assert self.fail(KeyboardInterrupt(), monkeypatch) == 130
        assert capsys.readouterr().err == "dermask: interrupted\n"

    def test_ctrl_c_within_a_command_does_too(self, scenes: Path, monkeypatch, capsys):
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("dermask.data.formats.open_dataset", interrupt)
        assert run(["data", "show", str(scenes), "-o", "sheet.png"]) == 130
        assert capsys.readouterr().err.strip() == "dermask: interrupted"


def test_info_for_machines(capsys: pytest.CaptureFixture[str]):
    assert run(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dermask"] == "0.1.0"
    assert set(found["presets"]) == set(config.MODEL_PRESETS)
    assert "cpu" in found["devices"]
    assert found["packages"]["onnxruntime"][0].isdigit()
    assert found["engines"][0] == "onnxruntime"
    assert ("openvino" in found["engines"]) == (found["packages"]["openvino"] is not None)
    assert found["engine_for_many"] in found["engines"]
    assert found["packaged_model"].endswith("small.onnx")


def test_printed_settings_are_the_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["info", "--settings", "--preset", "base"]) == 0
    path = tmp_path / "settings.toml"
    path.write_text(capsys.readouterr().out)
    assert config.from_toml(config.RunSettings, path) == config.RunSettings(model=config.preset("base"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("160/40", [160, 40]), ("0.8/0.2", [0.8, 0.2]), ("1/0.5", [1.0, 0.5])],
)
def test_splits_are_counts_or_shares(text: str, expected: list[float]):
    found = parse_split(text)
    assert found == expected
    assert [type(part) for part in found] == [type(part) for part in expected]


@pytest.mark.parametrize("text", ["", "160", "160/", "a/b", "1/2/3", "0,8/0,2"])
def test_other_splits_are_refused(text: str):
    with pytest.raises(UsageMistake, match=r"give two counts or two shares, such as 160/40 or 0\.8/0\.2"):
        parse_split(text)


def test_later_settings_win(tmp_path: Path):
    path = tmp_path / "settings.toml"
    path.write_text('[train]\nepochs = 7\nseed = 4\n[model]\npreset = "small"\n')
    settings = run_settings(path, "base", {"train.epochs": "9", "train.precision": "bf16", "train.patience": "none"})
    assert settings.train.epochs == 9
    assert settings.train.seed == 4
    assert settings.train.precision == "bf16"
    assert settings.train.patience is None
    assert settings.model == config.preset("base")


def test_assignments_keep_everything_after_the_first_equals_sign():
    assert parse_assignments(["a.b=c=d", " x = 3 "]) == {"a.b": "c=d", "x": "3"}


def test_unknown_values_name_the_setting():
    with pytest.raises(SettingError, match=r"train\.precision"):
        run_settings(None, None, {"train.precision": "fp8"})


@pytest.mark.parametrize(("text", "expected"), [("csv", ("csv",)), (" csv, overlay ,", ("overlay", "csv"))])
def test_kinds_of_results_are_read_from_a_list(text: str, expected: tuple[str, ...]):
    assert parse_kinds(text) == expected


def test_counts_are_written_as_people_write_them():
    assert [plural(count, "photograph") for count in (0, 1, 1200)] == [
        "0 photographs",
        "1 photograph",
        "1,200 photographs",
    ]


class TestSources:
    def test_one_data_set_is_split_by_the_seed(self, scenes: Path):
        train_set, val_set = open_sources(Sources(data=str(scenes), split="3/2"), seed=1)
        assert (len(train_set), len(val_set)) == (3, 2)
        assert {sample.image_id for sample in train_set}.isdisjoint({sample.image_id for sample in val_set})
        again, _ = open_sources(Sources(data=str(scenes), split="3/2"), seed=1)
        assert [sample.image_id for sample in again] == [sample.image_id for sample in train_set]

    def test_a_fifth_validates_when_nothing_is_said(self, scenes: Path):
        train_set, val_set = open_sources(Sources(data=str(scenes)), seed=0)
        assert (len(train_set), len(val_set)) == (4, 1)

    def test_a_second_data_set_validates(self, scenes: Path):
        train_set, val_set = open_sources(Sources(data=str(scenes), val=str(scenes)), seed=0)
        assert (len(train_set), len(val_set)) == (5, 5)

    def test_both_need_the_same_classes(self, scenes: Path, tmp_path: Path):
        tree = json.loads(scenes.read_text())
        tree["categories"][0]["name"] = "scar"
        other = scenes.with_name("scars.json")
        other.write_text(json.dumps(tree))
        with pytest.raises(LabelError, match="has classes scar, the training labels have lesion; give both the same"):
            open_sources(Sources(data=str(scenes), val=str(other)), seed=0)
