from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dermask import config
from dermask.errors import SettingError

PRESETS = sorted(config.MODEL_PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_bears_its_name_and_is_valid(name: str) -> None:
    settings = config.preset(name)
    assert settings.preset == name
    # model_copy() checks nothing, so the whole is checked again here.
    assert config.parse(config.ModelSettings, settings.model_dump(), item="preset") == settings


def test_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(SettingError, match=r"preset 'huge': does not exist; choose one of small, base"):
        config.preset("huge")


def test_default_is_the_small_preset() -> None:
    assert config.RunSettings().model == config.preset("small")


def test_override_without_values_changes_nothing() -> None:
    assert config.override(config.RunSettings(), {}) == config.RunSettings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("train.epochs", "3", 3),
        ("train.learning_rate", "1e-3", 1e-3),
        ("train.precision", "bf16", "bf16"),
        ("train.patience", "none", None),
        ("train.channels_last", "false", False),
        ("augment.scale_range", "[0.5, 2.0]", (0.5, 2.0)),
        ("model.mask_head.train_rois", "none", None),
    ],
)
def test_override_reads_text_as_toml(name: str, text: str, value: object) -> None:
    before = config.RunSettings()
    changed = config.override(before, {name: text})
    node: object = changed
    for part in name.split("."):
        node = getattr(node, part)
    assert node == value
    assert before == config.RunSettings()
    assert config.override(before, {name: value}) == changed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train.epoch": 3}, r"setting 'train\.epoch': does not exist; settings here: epochs"),
        ({"training.epochs": 3}, r"has no part 'training'; parts here: model, train, augment"),
        ({"train.epochs.x": 3}, r"has no part 'epochs'"),
        ({"train.epochs": 0}, r"train\.epochs: 0: .*greater than or equal to 1"),
        ({"train.epochs": "many"}, r"train\.epochs: 'many': .*valid integer"),
        ({"train.precision": "fp8"}, r"train\.precision: 'fp8'"),
        ({"augment.flip": 1.5}, r"augment\.flip: 1\.5: .*less than or equal to 1"),
        ({"augment.scale_range": [2.0, 1.0]}, r"augment: scale_range \[2\.0, 1\.0\] must go from small to large"),
        ({"model.mask_head.resolution": 57}, r"resolution 57 is not 2, 4, 8 or 16 times pool_size 28"),
        ({"model.rpn.levels": [3, 4]}, r"anchor_sizes has 4 values for 2 levels"),
        ({"model.rpn.negative_iou": 0.9}, r"negative_iou 0\.9 is above positive_iou 0\.7"),
        ({"model.class_names": []}, r"class_names \[\] must be distinct and at least one"),
        ({"model.class_names": ["a", "a"]}, r"class_names \['a', 'a'\] must be distinct"),
    ],
)
def test_override_refuses_in_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        config.override(config.RunSettings(), values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_toml_there_and_back(tmp_path: Path, name: str) -> None:
    run = config.RunSettings(model=config.preset(name), augment=config.NO_AUGMENTATION)
    (tmp_path / "config.toml").write_text(config.to_toml(run), encoding="utf-8")
    assert config.from_toml(config.RunSettings, tmp_path / "config.toml") == run


def test_toml_that_is_empty_gives_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    assert config.from_toml(config.RunSettings, tmp_path / "config.toml") == config.RunSettings()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"c\.toml: no such file; check the path"),
        (b"epochs = ", r"c\.toml: is not TOML"),
        (b"\xff\xfe", r"c\.toml: is not TOML"),
        (b"[train]\nepochs = -1", r"c\.toml: train\.epochs: -1: "),
        (b"[train]\nepoch = 1", r"c\.toml: train\.epoch: does not exist; dermask info --settings lists all"),
        (b"train = 3", r"c\.toml: train: 3: "),
    ],
)
def test_bad_toml_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError, match=message) as caught:
        config.from_toml(config.RunSettings, path)
    assert "\n" not in str(caught.value)


@settings(deadline=None, max_examples=30)
@given(st.text(st.characters(exclude_characters="0123456789"), max_size=20).filter(lambda text: text.strip() != "true"))
def test_text_that_is_no_number_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(SettingError, match=r"^[^\n]+$"):
        config.override(config.RunSettings(), {"train.epochs": text})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config.RunSettings().train.epochs = 3  # type: ignore[misc]
