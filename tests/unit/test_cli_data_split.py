"""`dermask data split`, and `--split` where photographs are learnt from or judged on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermask.cli.common import UsageMistake, open_data
from dermask.cli.data_split import parse_parts
from dermask.cli.main import run
from dermask.cli.train import Sources, is_split_file, open_sources
from dermask.data.coco import write_coco
from dermask.data.split_file import Split, read_split, write_split
from dermask.data.synthetic import synthetic_dataset
from dermask.errors import LabelError
from dermask.records import ImageSize

COUNT = 12
QUICK = ["--no-duplicates", "--processes", "1"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    write_coco(synthetic_dataset(COUNT, seed=5, size=ImageSize(64, 64)), folder / "labels.json")
    return folder


@pytest.fixture
def data(drawn, tmp_path, monkeypatch):
    """Twelve drawn scenes in the current folder."""
    shutil.copytree(drawn, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return Path("data/labels.json")


def names(data):
    return [sample.image_id for sample in open_data(data)]


def keep_only(data, count):
    """Take the last photographs out of the labels."""
    tree = json.loads(data.read_text())
    tree["images"] = tree["images"][:count]
    kept = {image["id"] for image in tree["images"]}
    tree["annotations"] = [one for one in tree["annotations"] if one["image_id"] in kept]
    data.write_text(json.dumps(tree))


def split(*options, data="data/labels.json", output="split.json"):
    return run(["data", "split", str(data), "-o", output, *QUICK, *options])


def test_a_data_set_is_divided_and_told(data, capsys):
    assert split() == 0
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert lines[0] == "split.json: 12 photographs in 3 parts, 12 of them new; seed 0"
    assert lines[3].split() == ["train", "8", *lines[3].split()[2:3], "66.7%", "70.0%"]
    assert lines[-1] == (
        "nothing to keep together: near-duplicates were not looked for, no lesion or patient with several photographs"
    )
    assert "no metadata.csv or the like beside the photographs" in output.err
    made = read_split(Path("split.json"))
    assert sorted(made.part_by_id) == sorted(names(data))
    assert [len(ids) for ids in made.parts.values()] == [8, 2, 2]
    assert str(data.parent.absolute()) not in Path("split.json").read_text()


def test_the_same_again_changes_nothing(data):
    assert split() == 0
    first = Path("split.json").read_bytes()
    assert split() == 0
    assert Path("split.json").read_bytes() == first
    assert split(output="other.json") == 0
    assert Path("other.json").read_bytes() == first
    assert split("--seed", "1", output="seeded.json") == 0
    assert read_split(Path("seeded.json")).digest() != read_split(Path("split.json")).digest()


def test_added_photographs_leave_the_others_where_they_were(data, capsys):
    whole = data.read_text()
    keep_only(data, 8)
    assert split("--parts", "train=0.5,test=0.5", "--seed", "3") == 0
    before = read_split(Path("split.json"))
    data.write_text(whole)
    capsys.readouterr()
    assert split() == 0  # seed and parts are the file's
    assert capsys.readouterr().out.startswith("split.json: 12 photographs in 2 parts, 4 of them new; seed 3")
    after = read_split(Path("split.json"))
    assert {image_id: after.part_by_id[image_id] for image_id in before.part_by_id} == before.part_by_id
    assert len(after.part_by_id) == COUNT
    keep_only(data, 10)
    assert split() == 0
    assert "warning: 2 photographs of the file not in the data now" in capsys.readouterr().err
    assert read_split(Path("split.json")).parts == after.parts


def test_a_table_beside_the_photographs_keeps_patients_together(data, capsys):
    ids = names(data)
    rows = [f"{image_id},{'CC-0' if index else ''},p{index // 3}\n" for index, image_id in enumerate(ids)]
    Path("data/metadata.csv").write_text("isic_id,copyright_license,patient_id\n" + "".join(rows))
    assert split("--parts", "a=0.5,b=0.5") == 0
    output = capsys.readouterr()
    assert "metadata.csv: knows 12 of 12 photographs" in output.err
    assert "kept together: 12 photographs in 4 groups, the largest of 3, for 4 patients" in output.out
    assert "licences: CC-0 (11)" in output.out
    made = read_split(Path("split.json"))
    for start in range(0, COUNT, 3):
        assert len({made.part_by_id[image_id] for image_id in ids[start : start + 3]}) == 1
    assert split("--no-metadata", output="other.json") == 0
    assert read_split(Path("other.json")).groups["patient"] == 0


def test_machines_are_told_everything(data, capsys):
    Path("kinds.csv").write_text("image_id,dx\n" + "".join(f"{name},nv\n" for name in names(data)))
    assert split("--folds", "3", "--metadata", "kinds.csv", "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["folds"] == 3
    assert tree["metadata"] == "kinds.csv"
    assert tree["all"]["diagnosis"] == {"nv": 12}
    assert sum(part["photographs"] for part in tree["parts"].values()) == tree["added"] == 12
    assert tree["left_out"] == {}
    assert tree["warnings"] == []


def test_copies_of_a_photograph_stay_together(data):
    ids = names(data)
    for copy, original in ((ids[1], ids[0]), (ids[3], ids[2])):
        with Image.open(f"data/images/{original}.png") as image:
            image.transpose(Image.Transpose.ROTATE_90).save(f"data/images/{copy}.png")
    assert run(["data", "split", str(data), "-o", "split.json", "--parts", "a=0.5,b=0.5", "--processes", "1"]) == 0
    made = read_split(Path("split.json"))
    assert made.groups["near_duplicates"] >= 2
    for copy, original in ((ids[1], ids[0]), (ids[3], ids[2])):
        assert made.part_by_id[copy] == made.part_by_id[original]


def test_a_damaged_mask_is_an_error_or_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks"):
        Path("mine", folder).mkdir(parents=True)
    for index in range(6):
        Image.new("RGB", (32, 32), (200, 160, 140)).save(f"mine/images/p{index}.png")
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, 8 : 12 + index] = 255
        Image.fromarray(mask).save(f"mine/masks/p{index}_segmentation.png")
    path = Path("mine/masks/p2_segmentation.png")
    path.write_bytes(path.read_bytes()[:60])  # the header is whole
    options = ("--parts", "a=0.5,b=0.5")
    assert split(*options, data="mine") == 1
    [line] = capsys.readouterr().err.splitlines()[-1:]
    assert "image 'p2': " in line
    assert "p2_segmentation.png" in line
    assert not Path("split.json").exists()
    assert split(*options, "--skip-bad", data="mine") == 0
    assert read_split(Path("split.json")).left_out == {"p2": "an outline cannot be read"}


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ("--parts train=1 --folds 3", 2, "--parts and --folds contradict each other; give one"),
        ("--folds 1", 2, "'--folds'"),
        ("--parts train", 2, "--parts train: give each name once with its share, as in train=0.7"),
        ("--parts a=1,a=1", 2, "give each name once"),
        ("--metadata a.csv --no-metadata", 2, "--metadata and --no-metadata contradict each other; give one"),
        ("--parts train=0.5,val=0.2", 1, "the shares add up to 0.7, not 1; such as train=0.7,val=0.15,test=0.15"),
        ("--folds 20", 1, "part fold13: would be empty: there are only 12 photographs; ask for fewer parts"),
        ("--metadata no.csv", 1, "no.csv: no such file; check the path"),
        ("--metadata other.csv", 1, "other.csv: knows none of the photographs; name their table with --metadata"),
        ("--part Training", 1, "a label file has no parts"),
    ],
)
def test_a_mistake_gets_one_line_and_no_file(data, capsys, options, status, message):
    Path("other.csv").write_text("image_id,dx\nsomeone,nv\n")
    assert split(*options.split()) == status
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not Path("split.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seed 4", "split.json: was made with seed 0, and 4 is asked for; leave the option out to add photographs"),
        ("--folds 3", "split.json: was made with folds None, and 3 is asked for"),
        ("--parts train=0.5,val=0.5", "split.json: was made with parts {"),
    ],
)
def test_a_file_is_not_added_to_in_another_way(data, capsys, options, message):
    assert split() == 0
    before = Path("split.json").read_bytes()
    assert split(*options.split()) == 1
    assert message in capsys.readouterr().err
    assert Path("split.json").read_bytes() == before
    assert split(*options.split(), "--overwrite") == 0
    assert Path("split.json").read_bytes() != before


def test_another_file_is_not_taken_for_a_split(data, capsys):
    before = data.read_bytes()
    for options in ((), ("--overwrite",)):
        assert split(*options, output=str(data)) == 1
        assert "is not a split file of dermask" in capsys.readouterr().err
    assert data.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "expected"), [("a=1", {"a": 1.0}), (" train = .8 , val=0.2", {"train": 0.8, "val": 0.2})]
)
def test_shares_are_read_from_text(text, expected):
    assert parse_parts(text) == expected


@pytest.mark.parametrize("text", ["", "a", "a=", "=1", "a=x", "a=nan", "a=1,,b=2"])
def test_other_shares_are_refused(text):
    with pytest.raises(UsageMistake, match="give each name once with its share"):
        parse_parts(text)


# Where a split is used


@pytest.mark.parametrize(
    ("text", "expected"), [(None, False), ("160/40", False), ("0.8/.2", False), ("half", False), ("gone.json", True)]
)
def test_counts_are_told_from_files(text, expected):
    assert is_split_file(text) is expected


class TestOpening:
    def test_a_part_is_opened_by_name(self, data):
        assert split() == 0
        made = read_split(Path("split.json"))
        part = open_data(data, split=Path("split.json"), part="test")
        assert sorted(sample.image_id for sample in part) == sorted(made.parts["test"])
        assert len(open_data(data, split=Path("split.json"))) == COUNT

    def test_photographs_of_another_size_are_noticed(self, data, capsys):
        assert split() == 0
        made = read_split(Path("split.json"))
        write_split(Split(made.parts, 0, made.fractions, data="other"), Path("split.json"))
        open_data(data, split=Path("split.json"), part="test")
        assert "some photographs had another size when it was made; is this the same data?" in capsys.readouterr().err


class TestTraining:
    def sources(self, data, **options):
        options = {"split_file": "split.json"} | options
        return open_sources(Sources(data=str(data), **options), seed=0)

    def test_train_and_val_are_taken(self, data, capsys):
        assert split() == 0
        made = read_split(Path("split.json"))
        train_set, val_set = self.sources(data)
        assert sorted(sample.image_id for sample in train_set) == sorted(made.parts["train"])
        assert sorted(sample.image_id for sample in val_set) == sorted(made.parts["val"])
        assert val_set.name == f"labels, val of split.json ({made.digest()[:12]})"
        assert "training on part train of split.json, validating on val" in capsys.readouterr().err

    def test_a_fold_is_validated_on_and_the_others_are_learnt(self, data, capsys):
        assert split("--folds", "3") == 0
        made = read_split(Path("split.json"))
        train_set, val_set = self.sources(data, fold=2)
        assert sorted(sample.image_id for sample in val_set) == sorted(made.parts["fold2"])
        assert sorted(sample.image_id for sample in train_set) == sorted(made.parts["fold1"] + made.parts["fold3"])
        assert "training on the other folds of split.json, validating on fold2" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("made", "options", "message"),
        [
            ((), {"fold": 1}, r"--fold 1: split\.json has no folds; name one of train, val, test"),
            (("--folds", "3"), {}, r"split\.json has 3 folds; name the one to validate on with --fold"),
            (("--folds", "3"), {"fold": 4}, r"--fold 4: split\.json has 3 folds"),
            ((), {"part": "train"}, r"says what to train and validate on; leave --part, --val, --val-part"),
            ((), {"val": "x.json"}, r"leave --part, --val"),
            ((), {"split": "0.5/0.5"}, r"--val-fraction out"),
            ((), {"split_file": None, "fold": 2}, r"--fold 2 needs --split, a file of dermask data split"),
        ],
    )
    def test_options_that_do_not_go_together_are_refused(self, data, made, options, message):
        assert split(*made) == 0
        with pytest.raises(UsageMistake, match=message):
            self.sources(data, **options)

    def test_other_parts_cannot_be_trained_on(self, data):
        assert split("--parts", "train=0.5,test=0.5") == 0
        with pytest.raises(LabelError, match=r"has the parts train, test; training takes train and val; make it with"):
            self.sources(data)

    def test_a_run_does_not_go_on_with_another_split(self, data):
        assert split() == 0
        digest = read_split(Path("split.json")).digest()
        self.sources(data, split_hash=digest)
        with pytest.raises(LabelError, match=r"has other parts than when the run began; restore it, or start a new"):
            self.sources(data, split_hash="0" * 64)

    def test_wrong_options_end_with_two(self, data, capsys):
        assert split("--folds", "2") == 0
        capsys.readouterr()
        assert run(["train", "--data", str(data), "--split", "split.json", "-o", "run"]) == 2
        assert "name the one to validate on with --fold" in capsys.readouterr().err
        assert run(["train", "--data", str(data), "--split", "gone.json", "-o", "run"]) == 1
        assert "gone.json: no such file" in capsys.readouterr().err
        assert not Path("run").exists()


class TestEvaluating:
    def predictions(self, data, tmp_path):
        """Each lesion found, as COCO results."""
        tree = json.loads(data.read_text())
        found = [
            {key: one[key] for key in ("image_id", "category_id", "segmentation", "bbox")} | {"score": 0.9}
            for one in tree["annotations"]
        ]
        for one in found:
            if isinstance(one["segmentation"], list):
                from dermask.masks import polygons_to_rle
                from dermask.records import Polygons

                rings = tuple(np.array(ring, float).reshape(-1, 2) for ring in one["segmentation"])
                rle = polygons_to_rle(Polygons(rings), ImageSize(64, 64))
                one["segmentation"] = {"counts": rle.counts.decode(), "size": list(rle.size)}
        path = tmp_path / "results.json"
        path.write_text(json.dumps(found))
        return path

    @pytest.mark.parametrize(("made", "chosen"), [((), ("--part", "test")), (("--folds", "3"), ("--fold", "2"))])
    def test_one_part_is_judged_on_and_the_figures_say_so(self, data, tmp_path, capsys, made, chosen):
        assert split(*made) == 0
        whole = read_split(Path("split.json"))
        part = "test" if chosen[1] == "test" else "fold2"
        path = tmp_path / "part.json"
        wanted = set(whole.parts[part])
        ids = {
            image["id"]
            for image in json.loads(data.read_text())["images"]
            if image["file_name"].rsplit("/")[-1].removesuffix(".png") in wanted
        }
        found = json.loads(self.predictions(data, tmp_path).read_text())
        path.write_text(json.dumps([one for one in found if one["image_id"] in ids]))
        capsys.readouterr()
        assert (
            run(
                [
                    "evaluate",
                    str(path),
                    "--data",
                    str(data),
                    "--split",
                    "split.json",
                    *chosen,
                    "--rule",
                    "union",
                    "--json",
                ]
            )
            == 0
        )
        tree = json.loads(capsys.readouterr().out)
        assert tree["dataset"]["photographs"] == len(whole.parts[part])
        assert tree["dataset"]["name"] == f"labels, {part} of split.json ({whole.digest()[:12]})"
        assert tree["isic"]["jaccard"] == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--fold 1", "--fold needs --split, a file of dermask data split"),
            ("--split split.json", "split.json has the parts train, val, test; name one with --part"),
            ("--split split.json --fold 1", "--fold 1: split.json has no folds; name one of train, val, test"),
            ("--split split.json --part val --fold 1", "--part and --fold both name a part of the split; give one"),
        ],
    )
    def test_options_that_do_not_go_together_end_with_two(self, data, capsys, options, message):
        assert split() == 0
        capsys.readouterr()
        assert run(["evaluate", "results.json", "--data", str(data), *options.split()]) == 2
        assert message in capsys.readouterr().err
