"""Model cards: the established headings, no number that is not in the files, one model only."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from card_examples import (
    OTHER_HASH,
    TRAIN_HASH,
    VAL_HASH,
    metadata,
    record,
    write_checkpoint,
    write_evaluation,
    write_run,
)

from dermask.data.dataset import Dataset
from dermask.errors import InputError, SettingError
from dermask.evaluation.evaluate import Terms, evaluate
from dermask.evaluation.evaluation_file import save
from dermask.evaluation.record import Evaluation
from dermask.evaluation.traits import TRAITS
from dermask.inference.detector import PACKAGED_MODEL, model_fingerprint
from dermask.records import Bitmask, Detections, ImageSize, Instance, Sample
from dermask.report import card_figures, evaluation_tables, tables
from dermask.report.card_evaluation import CardEvaluation, distinct_names, read_evaluation
from dermask.report.card_model import CardModel, read_model
from dermask.report.card_training import changed_settings, training_command
from dermask.report.card_words import SECTIONS, CardWords, read_words, typed_numbers
from dermask.report.model_card import HEADINGS, NOT_STATED, write_model_card

ROOT = Path(__file__).resolve().parents[2]
ALL_WORDS = CardWords(
    {f"{part}.{name}": f"Words on {part} {name}." for part, names in SECTIONS.items() for name in names}
)

# A number that is not part of a name such as AP50, Test_v2 or ISIC_0000013.
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w])")


@pytest.fixture
def run(tmp_path: Path) -> CardModel:
    return model_of(write_run(tmp_path / "first"))


def model_of(folder: Path) -> CardModel:
    return read_model(folder / "checkpoints" / "best.safetensors")


def evaluation(folder: Path, **more: Any) -> CardEvaluation:
    return read_evaluation(write_evaluation(folder, **more))


def headings_of(card: str) -> list[str]:
    return re.findall(r"^## (.+)$", card, re.MULTILINE)


def section(card: str, heading: str) -> str:
    return re.split(r"^## ", card.split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]


def numbers_in(text: str) -> set[str]:
    return {found.rstrip(",") for found in _NUMBER.findall(text)}


class TestStructure:
    @pytest.fixture(params=["nothing known", "evaluated", "all words"])
    def card(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        if request.param == "nothing known":
            bare = metadata()
            bare = {"config": {"model": bare["config"]["model"]}, "class_names": ["lesion"]}
            return write_model_card(read_model(write_checkpoint(tmp_path / "bare.safetensors", bare)))
        judged = [evaluation(tmp_path / "a"), evaluation(tmp_path / "b", name="a|b", count=16)]
        words = ALL_WORDS if request.param == "all words" else None
        return write_model_card(
            model_of(write_run(tmp_path / "first")), judged, words=words, command=["dermask", "card"]
        )

    def test_the_headings_are_the_established_ones_in_order(self, card: str) -> None:
        assert headings_of(card) == list(HEADINGS)
        assert card.startswith("# Model card: ")
        assert card.count("\n# ") == 0

    def test_every_section_says_something(self, card: str) -> None:
        for heading in HEADINGS:
            assert section(card, heading).strip(), heading

    def test_tables_are_well_formed(self, card: str) -> None:
        blocks = [block for block in card.split("\n\n") if block.startswith("|")]
        assert blocks
        for block in blocks:
            lines = block.rstrip().split("\n")
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
            assert len(widths) == 1, block
            assert set(lines[1]) <= set("| -"), block
        for before, line in zip(card.split("\n"), card.split("\n")[1:], strict=False):
            assert not line.startswith("|") or before.startswith("|") or not before, "a table needs a line before it"

    def test_lists_stand_apart_and_no_template_is_left(self, card: str) -> None:
        assert "\n\n\n" not in card
        assert not re.search(r"[{}]{2}|{%|None\b(?! of)|nan\b|Undefined", card.replace("None: it was", ""))
        assert card.endswith("\n")
        assert card.count("```") % 2 == 0
        for before, line in zip(card.split("\n"), card.split("\n")[1:], strict=False):
            assert not line.startswith("- ") or not before or before.startswith("- "), f"{before!r} before {line!r}"

    def test_it_is_research_use_only_and_no_medical_device(self, card: str) -> None:
        assert "**Research use only.**" in card
        assert "not a\nmedical device" in card


def leaves(tree: Any) -> Iterator[Any]:
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else None
    if parts is None:
        yield tree
    else:
        for part in parts:
            yield from leaves(part)
        if isinstance(tree, dict):
            yield from tree


def shown(value: Any) -> Iterator[str]:
    """Every way in which a card shows a value."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield from (f"{value:,}", f"{value:g}", f"{value:.0f}", f"{100 * value:g}", f"{value / 1e6:.1f}")
        yield from (f"{value:,.0f}", f"{value:.2f}", f"{value:.3f}", f"{value:.4f}", f"{value:.2g}")
    else:
        yield from numbers_in(str(value))
        yield from re.findall(r"\d+", str(value))


def constants() -> str:
    """Text that is the same in every card: what figures and traits mean, and the source of the headings."""
    tables_of = (
        tables.ISIC_FIGURES,
        tables.COCO_FIGURES,
        evaluation_tables.BOUNDARY_FIGURES,
        evaluation_tables.DETECTION_FIGURES,
    )
    words = [part for table in tables_of for pair in table.values() for part in pair]
    words += [f"{trait.meaning} {trait.note}" for trait in TRAITS.values()]
    return " ".join([*words, card_figures.SMALL_GROUPS, "Mitchell et al. 2019, 1810.03993", "SHA-256", "30"])


class TestNumbers:
    def test_every_number_is_in_the_files(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path / "first")
        model = model_of(folder)
        records = [record(), record(name="native", count=16, seed=1)]
        judged = [read_evaluation(write_evaluation(tmp_path / str(i), content)) for i, content in enumerate(records)]
        files = [json.loads((folder / name).read_text()) for name in ("environment.json", "data.json")]
        history = [[value for value in column if value is not None] for column in model.history.values()]
        facts = [model.file.sha256, model.file.num_bytes, *model.file.floats.values(), model.settings.model_dump()]
        known = {text for value in leaves([records, files, history, facts, metadata()]) for text in shown(value)}
        known |= {f"{sum(model.history['seconds']) / 60:.0f}", str(len(model.history["seconds"])), "2"}
        found = numbers_in(write_model_card(model, judged))
        assert len(found) > 80
        assert found - known - numbers_in(constants()) == set()

    def test_cards_of_different_files_share_no_number(self, tmp_path: Path) -> None:
        """Whatever is typed into the template would be in both."""
        cards = []
        for index, (low, count) in enumerate([(0.211, 1201), (0.677, 3907)]):
            content = metadata(
                epoch=3 + index,
                step=1111 * (index + 2),
                best_epoch=3 + index,
                best_value=low,
                version=f"0.{index + 41}.0",
            )
            content["config"]["train"] |= {"epochs": 11 + index, "seed": 77 + index, "learning_rate": low / 100}
            content["config"]["augment"] = dict.fromkeys(content["config"]["augment"], low / 3) | {
                "scale_range": [low, low + 1],
                "rotate_degrees": 100 * low,
            }
            content["config"]["train"] |= {"batch_size": 5 + index, "weight_decay": low / 7, "ema_decay": low / 9}
            content["config"]["model"]["box_head"] |= {"max_detections": 21 + index, "score_thresh": low / 5}
            content["config"]["model"]["backbone"]["fpn_channels"] = 64 * (index + 1)
            content["config"]["model"]["image"] |= {"min_size": 352 + index, "max_size": 544 + index}
            content["config"]["model"]["mask_head"]["resolution"] = 56 * (index + 1)
            content["metrics"] = {"epoch": 3 + index, "loss": low, "val_jaccard": low + 0.05}
            tensors = {"a": {"dtype": "F32", "shape": [3, 1001 + index], "data_offsets": [0, 0]}}
            path = write_checkpoint(tmp_path / str(index) / "model.safetensors", content, tensors=tensors)
            judged = record(low=low, count=count, seed=index, fingerprint="abcdef"[index] * 64)
            judged["resampling"] |= {"num_resamples": 1500 + index, "seed": 55 + index, "level": 0.9 + index / 100}
            judged["dermask"] = "x"
            for group in judged["subgroups"]:
                group["num_photographs"] += 31 * index
            judged["detection"]["chosen"] |= {"missed": 8 + 7 * index}
            cards.append(write_model_card(read_model(path), [read_evaluation(write_evaluation(path.parent, judged))]))
        both = numbers_in(cards[0]) & numbers_in(cards[1])
        in_both = {"0", "1", "0.0"}  # photographs without a lesion, ignored regions; processes; the file's megabytes
        assert both - numbers_in(constants()) - in_both == set()

    def test_no_place_of_this_machine_is_told(self, run: CardModel, tmp_path: Path) -> None:
        judged = evaluation(tmp_path / "a", sha256=run.file.sha256)
        card = write_model_card(
            run, [judged], command=["dermask", "card", str(run.run_dir), "-o", str(tmp_path / "C.md")]
        )
        for word in ("/home", "secret", "somebody", str(tmp_path), ".."):
            assert word not in card
        assert "dermask evaluate runs/first --data isic2017 -o 264" in card
        assert "dermask card first -o C.md" in card


class TestFigures:
    def test_figures_come_with_their_intervals(self, run: CardModel, tmp_path: Path) -> None:
        judged = evaluation(tmp_path / "a")
        value = judged.figures["isic.jaccard"]
        expected = f"| Jaccard index | {value:.3f} [{value - 0.011:.3f}, {value + 0.012:.3f}] |"
        assert expected in write_model_card(run, [judged])

    def test_too_few_photographs_get_no_interval_and_no_groups(self, run: CardModel, tmp_path: Path) -> None:
        card = write_model_card(run, [evaluation(tmp_path / "a", name="native", count=16)])
        assert "no interval: 16 photographs, fewer than 30" in section(card, "Uncertainty")
        assert "Read its figures as examples" in section(card, "Limits and risks")
        assert "None of its 2 groups has 30 photographs" in section(card, "Quantitative analyses")
        assert not re.search(r"\d \[\d", card), "no interval anywhere"

    def test_groups_too_small_are_marked(self, run: CardModel, tmp_path: Path) -> None:
        card = write_model_card(run, [evaluation(tmp_path / "a")])
        [no] = re.findall(r"^\| Hair \| no \|.*$", card, re.MULTILINE)
        [yes] = re.findall(r"^\| Hair \| yes \|.*$", card, re.MULTILINE)
        assert "too small for a claim" not in no
        assert "[" in no
        assert yes.endswith("| too small for a claim |")
        assert "[" not in yes
        assert "has too few photographs of these kinds for a claim: hair: yes." in card

    def test_figures_by_size_say_on_how_many_lesions_they_rest(self, tmp_path: Path) -> None:
        one = evaluation(tmp_path / "judged")
        counts = {"coco.mask.num_medium": 7, "coco.mask.num_large": 1234}
        one = dataclasses.replace(one, figures={**one.figures, **counts})
        medium, large = (one.figures[f"coco.mask.ap_{size}"] for size in ("medium", "large"))
        assert card_figures.show(one, "coco.mask.ap_medium") == f"{medium:.3f} (7: too few for a claim)"
        assert card_figures.show(one, "coco.mask.ap_large") == f"{large:.3f} (1,234)"
        assert "(" not in card_figures.show(one, "coco.box.ap_large")  # an older file does not say

    def test_columns_stand_side_by_side(self, run: CardModel, tmp_path: Path) -> None:
        judged = [evaluation(tmp_path / "a"), evaluation(tmp_path / "b", name="native", count=16)]
        assert "| figure | isic2017 Test_v2, 264 photographs | native, 16 photographs |" in write_model_card(
            run, judged
        )

    def test_a_threshold_is_told_by_the_photographs_that_chose_it(self, run: CardModel, tmp_path: Path) -> None:
        chooser = evaluation(tmp_path / "val", name="Validation")
        for place in (tmp_path / "val", tmp_path / "val" / "evaluation.json"):
            content = record()
            content["rules"]["score_thresh_from"] = f"highest F1 in {place}"
            other = read_evaluation(write_evaluation(tmp_path / "a", content))
            assert "| chosen by | default | highest F1 on Validation |" in write_model_card(run, [chooser, other])
        assert "highest F1 in `evaluation.json`" in write_model_card(run, [other])

    def test_failures_are_counted_in_the_table_of_photographs(self, run: CardModel, tmp_path: Path) -> None:
        content = record(count=3)
        content["rules"]["jaccard_thresh"] = 0.65
        folder = write_evaluation(tmp_path / "a", content)
        assert "counted as failed" not in write_model_card(run, [read_evaluation(folder)])
        (folder / "per_photo.csv").write_text("image_id,jaccard\na,0.64\nb,0.65\nc,0\n")
        assert "| Photographs counted as failed | 2 of 3 |" in write_model_card(run, [read_evaluation(folder)])
        (folder / "per_photo.csv").write_text("image_id,jaccard\na,0.64\n")
        assert read_evaluation(folder).failures is None, "of other photographs"

    def test_what_an_older_file_does_not_say_is_left_out(self, run: CardModel, tmp_path: Path) -> None:
        content = {name: part for name, part in record().items() if name in ("dataset", "rules", "isic", "coco")}
        card = write_model_card(run, [read_evaluation(write_evaluation(tmp_path / "a", content))])
        assert headings_of(card) == list(HEADINGS)
        for word in ("Boundary", "Calibration", "Lesions found"):
            assert word not in section(card, "Quantitative analyses")
        assert "no interval: none was computed" in card
        assert "its file does not tell the command" in card

    def test_classes_have_their_own_rows(self, run: CardModel, tmp_path: Path) -> None:
        content = record()
        content["dataset"]["class_names"] = ["nevus", "scar|old"]
        content["coco"]["mask"]["ap_by_class"] = {"nevus": 0.5678, "scar|old": None}
        card = write_model_card(run, [read_evaluation(write_evaluation(tmp_path / "a", content))])
        assert "| Mask AP, nevus | 0.568 |" in card
        assert "scar\\|old" not in card, "not defined anywhere, so there is no row"

    def test_names_of_two_data_sets_differ(self, tmp_path: Path) -> None:
        same = [evaluation(tmp_path / place) for place in ("a", "b", "c/a")]
        assert distinct_names([]) == []
        assert distinct_names(same[:1]) == ["isic2017 Test_v2"]
        assert distinct_names(same[:2]) == ["isic2017 Test_v2 (a)", "isic2017 Test_v2 (b)"]
        assert len(set(distinct_names(same))) == 3


class TestOneModel:
    @pytest.mark.parametrize(
        ("fingerprint", "role"),
        [
            (TRAIN_HASH, "the model was trained on them"),
            (VAL_HASH, "they chose the epoch"),
            (OTHER_HASH, "other photographs"),
        ],
    )
    def test_photographs_of_the_training_are_told_by_their_hash(
        self, fingerprint: str, role: str, run: CardModel, tmp_path: Path
    ) -> None:
        card = write_model_card(run, [evaluation(tmp_path / "a", fingerprint=fingerprint)])
        assert f"| 0 | 0 | {role} |" in section(card, "Evaluation data")
        limits = section(card, "Limits and risks")
        assert ("was trained on: its figures say" in limits) == (fingerprint == TRAIN_HASH)
        assert ("chose the epoch, so its figures flatter" in limits) == (fingerprint == VAL_HASH)

    def test_a_model_that_does_not_tell_its_photographs_claims_nothing(self, tmp_path: Path) -> None:
        model = read_model(write_checkpoint(tmp_path / "m.safetensors", metadata(data={})))
        card = write_model_card(model, [evaluation(tmp_path / "a")])
        assert f"| {NOT_STATED} |" in section(card, "Evaluation data")
        assert "an overlap cannot be excluded" in card

    def test_an_evaluation_of_another_model_is_refused(self, run: CardModel, tmp_path: Path) -> None:
        message = r"a.evaluation\.json: judges another model: first \(eeeeeeeeeeee\), where .*best\.safetensors is "
        with pytest.raises(InputError, match=message + run.file.sha256[:12] + "; evaluate this model"):
            write_model_card(run, [evaluation(tmp_path / "a", sha256="e" * 64)])

    def test_so_is_one_of_saved_predictions(self, run: CardModel, tmp_path: Path) -> None:
        content = record(sha256="e" * 64)
        content["origin"]["kind"] = "masks"
        with pytest.raises(InputError, match="judges saved masks, not a model"):
            write_model_card(run, [read_evaluation(write_evaluation(tmp_path / "a", content))])

    def test_another_checkpoint_of_the_run_goes_with_a_remark(self, run: CardModel, tmp_path: Path) -> None:
        last = write_checkpoint(run.run_dir / "checkpoints" / "last.safetensors", metadata(epoch=7))
        card = write_model_card(run, [evaluation(tmp_path / "a", sha256=model_fingerprint(last))])
        assert "judged: last.safetensors of the same run, not the file described here" in card

    def test_one_that_does_not_say_what_it_judged_goes_with_a_remark(self, run: CardModel, tmp_path: Path) -> None:
        assert "its file does not say which model was judged" in write_model_card(run, [evaluation(tmp_path / "a")])
        told = evaluation(tmp_path / "a", sha256=run.file.sha256)
        assert "its file does not say which model" not in write_model_card(run, [told])

    def test_without_an_evaluation_the_card_says_so_in_every_place(self, run: CardModel) -> None:
        card = write_model_card(run)
        assert "**Not evaluated**" in card
        for heading in ("Metrics", "Evaluation data", "Quantitative analyses", "Uncertainty", "Limits and risks"):
            assert "not evaluated" in section(card, heading), heading


class TestTraining:
    def test_a_run_tells_its_data_machine_and_curve(self, run: CardModel) -> None:
        card = write_model_card(run)
        assert "4,321 photographs, `isic2017 Training`, hash `aaaa" in card
        assert "1,098 photographs, `isic2017 Validation`, hash `bbbb" in card
        procedure = section(card, "Training procedure")
        assert "Python 3.11.4, torch 2.77.1, numpy 2.66.1 |" in procedure
        assert "| weights of epoch | 5 of 7 |" in procedure
        assert re.findall(r"^\| (\d) \| \d\.\d+ \| 0\.91", procedure, re.MULTILINE) == ["1", "5", "7"]
        assert "37 minutes for 7 epochs" in procedure
        assert "| made | 2031-05-06 |" in card

    def test_its_command_holds_every_setting_that_is_not_a_default(self, run: CardModel) -> None:
        assert training_command(run).replace(" \\\n ", "") == (
            "dermask train --data isic2017 --part Training --val isic2017 --val-part Validation --weights imagenet "
            "--preset small --set model.image.max_size=448 --set train.epochs=7 --set train.learning_rate=0.00037 "
            "-o runs/first"
        )

    def test_defaults_are_not_told(self, tmp_path: Path) -> None:
        from dermask import config

        content = metadata(config=json.loads(config.RunSettings(model=config.preset("base")).model_dump_json()))
        content["config"]["model"]["class_names"] = ["lesion", "scar"]
        model = read_model(write_checkpoint(tmp_path / "m.safetensors", content | {"class_names": ["lesion", "scar"]}))
        assert changed_settings(model) == []
        assert training_command(model) == "dermask train --data LABELS --preset base -o runs/m"

    def test_several_processes_are_started_by_torchrun(self, tmp_path: Path) -> None:
        model = read_model(write_checkpoint(tmp_path / "m.safetensors", metadata(world_size=4)))
        assert training_command(model).startswith("torchrun --nproc-per-node 4 -m dermask train ")

    def test_a_run_on_drawn_scenes_has_no_such_command(self, run: CardModel) -> None:
        assert training_command(dataclasses.replace(run, sources={"data": "drawn scenes"})) == ""

    @pytest.mark.parametrize("name", ["environment.json", "data.json"])
    def test_a_damaged_file_of_the_run_is_named(self, name: str, run: CardModel) -> None:
        (run.run_dir / name).write_text("[")
        with pytest.raises(InputError, match=f"{name}: is not as the run wrote it; restore it, or remove it"):
            model_of(run.run_dir)

    @pytest.mark.parametrize("odd", [None, [], {}, "many", -1.5, True])
    def test_odd_values_in_its_files_do_no_harm(self, odd: object, run: CardModel) -> None:
        odd_files = {
            "environment": dict.fromkeys(run.environment, odd),
            "sources": dict.fromkeys(run.sources, odd),
            "file": dataclasses.replace(
                run.file,
                metadata=dict.fromkeys(metadata(), odd) | {"config": metadata()["config"], "class_names": []},
            ),
        }
        for name, value in odd_files.items():
            assert headings_of(write_model_card(dataclasses.replace(run, **{name: value}))) == list(HEADINGS)

    def test_a_setting_of_another_version_is_named(self, tmp_path: Path) -> None:
        content = metadata()
        content["config"]["train"]["wings"] = 2
        with pytest.raises(SettingError, match=r"m\.safetensors: train\.wings: does not exist"):
            read_model(write_checkpoint(tmp_path / "m.safetensors", content))

    def test_the_packaged_model_tells_what_its_metadata_holds(self) -> None:
        card = write_model_card(read_model(PACKAGED_MODEL))
        assert card.startswith("# Model card: dermask small, packaged\n")
        assert model_fingerprint(PACKAGED_MODEL) in card
        assert "dermask train --data isic2017 --part Training --val-part Validation --weights bundled" in card
        assert "--set augment.bare_skin=0.33 --set augment.drawn=0.08" in card
        assert "dermask export runs/small -o small.onnx --half" in card


class TestWords:
    def test_what_people_say_stands_in_its_section(self, run: CardModel) -> None:
        card = write_model_card(run, words=ALL_WORDS)
        for name, text in ALL_WORDS.values.items():
            assert text in card, name
        assert NOT_STATED not in card
        assert "Words on ethics text." in section(card, "Ethical considerations")
        assert "Words on limits failures." in section(card, "Limits and risks")

    def test_what_nobody_said_is_visible(self, run: CardModel) -> None:
        card = write_model_card(run)
        for line in ("| developed by | *not stated* |", "| licence | *not stated* |", "How to cite it: *not stated*."):
            assert line in card

    def test_the_files_licence_is_not_overruled(self, tmp_path: Path) -> None:
        model = read_model(write_checkpoint(tmp_path / "m.safetensors", metadata(licence="Apache-2.0")))
        card = write_model_card(model, words=CardWords({"model.licence": "MIT"}))
        assert "| licence | Apache-2.0 |" in card
        assert "MIT" not in card

    def test_words_add_to_what_is_out_of_scope_and_take_nothing_away(self, run: CardModel) -> None:
        use = section(write_model_card(run, words=ALL_WORDS), "Intended use")
        assert "- any use in which an outline leads to a decision about a person\n" in use
        assert "- Words on intended_use out_of_scope." in use


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda content: content["dataset"].pop("fingerprint"), "KeyError"),
        (lambda content: content["dataset"].pop("photographs"), "KeyError"),
        (lambda content: content["dataset"].update(photographs=0), "no photographs"),
        (lambda content: content.update(dataset=[]), "TypeError|AttributeError"),
        (lambda content: content["isic"].update(jaccard="high"), r"isic\.jaccard is no number"),
        (lambda content: content["isic"].update(jaccard=True), r"isic\.jaccard is no number"),
        (lambda content: content["intervals"].update({"isic.dice": [0.1]}), "ValueError"),
        (lambda content: content["subgroups"].append({}), "KeyError"),
        (lambda content: content.update(origin=3), "TypeError"),
    ],
)
def test_a_broken_evaluation_gets_one_line(change: Any, problem: str, tmp_path: Path) -> None:
    content = record()
    change(content)
    with pytest.raises(InputError, match=r"evaluation\.json: is not as dermask evaluate wrote it") as caught:
        read_evaluation(write_evaluation(tmp_path / "a", content))
    assert re.search(problem, str(caught.value))
    assert "\n" not in str(caught.value)


class TestTheCardInTheRepository:
    @pytest.fixture
    def card(self) -> str:
        return (ROOT / "MODEL_CARD.md").read_text(encoding="utf-8")

    def test_it_is_of_the_packaged_file(self, card: str) -> None:
        assert headings_of(card) == list(HEADINGS)
        details = section(card, "Model details")
        assert f"`{model_fingerprint(PACKAGED_MODEL)}`" in details, "make it again: docs/model_card.md"

    def test_its_words_are_those_of_the_file_of_words_and_hold_no_figure(self, card: str) -> None:
        path = ROOT / "docs" / "model_card_words.toml"
        assert typed_numbers(path) == []
        for name, value in read_words(path).values.items():
            for text in (value,) if isinstance(value, str) else value:
                assert text in card, f"{name}: make the card again, see docs/model_card.md"

    def test_nothing_is_left_unsaid(self, card: str) -> None:
        assert NOT_STATED not in card

    def test_its_photographs_are_told_apart_from_those_of_the_training(self, card: str) -> None:
        data = section(card, "Evaluation data")
        assert re.search(r"^\| ISIC-2017_Validation_Data \|.* they chose the epoch \|$", data, re.MULTILINE)
        assert re.search(r"^\| ISIC-2017_Test_v2_Data \|.* other photographs \|$", data, re.MULTILINE)


def judged_squares(count: int, *, lesions: bool = True) -> Evaluation:
    """Photographs of one square each, found shifted by a pixel or more, or not at all; or of nothing."""
    size = ImageSize(40, 40)
    samples, found = [], []
    for index in range(count):
        mask = np.zeros(size, np.bool_)
        mask[8:28, 8 : 20 + index % 12] = True
        instances = (Instance(1, Bitmask(mask)),) if lesions else ()
        samples.append(Sample(f"p{index}", np.full((*size, 3), 180, np.uint8), None, instances))
        box = np.array([[9 + index % 3, 8, 24, 28]], np.float32)
        one = Detections(
            box,
            np.array([0.9], np.float32),
            np.ones(1, np.int64),
            np.ones((1, 14, 14), np.float32),
            size,
            image_id=f"p{index}",
        )
        found.append(one.above(0.95) if index % 9 == 8 or not lesions else one)
    return evaluate(found, Dataset(samples, name="drawn"), terms=Terms(num_resamples=100))


@pytest.mark.parametrize(("count", "lesions"), [(1, False), (1, True), (40, True)])
def test_what_an_evaluation_writes_a_card_reads(count: int, lesions: bool, run: CardModel, tmp_path: Path) -> None:
    judged = judged_squares(count, lesions=lesions)
    save(judged, tmp_path / "judged", origin={"command": "dermask evaluate", "sha256": run.file.sha256})
    found = read_evaluation(tmp_path / "judged")
    by_name = {name.replace("detection.", "detection.chosen."): value for name, value in judged.by_name().items()}
    for name in ("scores", "masks"):
        by_name[f"calibration.{name}.brier_score"] = by_name.pop(f"calibration.{name}_brier")
    known = {name: value for name, value in by_name.items() if not np.isnan(value)}
    assert {name: found.figures[name] for name in known} == known
    assert found.figures.keys() & (by_name.keys() - known.keys()) == set(), "what is not defined is not there"
    assert found.intervals == {name: (ends.low, ends.high) for name, ends in judged.intervals.items()}
    assert len(found.groups) == len(judged.subgroups)
    assert found.num_photographs == count
    below = sum(row.figures.jaccard < 0.65 for row in judged.rows)
    assert found.failures is not None
    assert found.failures.photographs == below
    card = write_model_card(run, [found])
    assert headings_of(card) == list(HEADINGS)
    assert ("Every photograph has a lesion" in card) == lesions
    assert f"| Jaccard index | {judged.figures.jaccard:.3f}" in card
    assert ("no interval: " in card) == (count < 30)
