"""The command `data`, and sweeps on data sets in files."""

from __future__ import annotations

import json
import shutil

import pytest
from mlflow import MlflowClient

from methods.data.check import SIZES
from sweeper.cli import main
from tests.methods import miniatures
from tests.sweeper.commands import command

SPACE = """
data: {labels: single_positive}
network: {pretrain_epochs: 0}
train: {epochs: 2}
diagnostics: {pointing_game: true, modifications: true, pictures: 2}
variants:
  Naive AN: {method: assume_negative}
  LL-R: {method: large_loss, scheme: reject}
seeds: [1]
"""


@pytest.fixture(autouse=True)
def images_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_IMAGES", str(tmp_path / "images"))
    monkeypatch.delenv("SWEEPER_DATA", raising=False)


def test_check_reports_lists_classes_labels_missing_images_and_what_the_papers_have(tmp_path, capsys):
    root = miniatures.write("coco2014", tmp_path / "data")
    assert main(["data", "check", "coco2014", "--root", str(root)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"coco2014 in {root}"
    assert "classes  4 (the papers have 80)" in lines
    assert "train    8 images (the papers have 82,783)" in lines
    assert "test     4 images (the papers have 40,504)" in lines
    assert "9 positives (1.125 an image), 23 negatives, 0 unknown" in lines
    assert lines.count("1 classes without a positive, left out of its mAP: stop sign") == 2
    assert lines[-1] == "missing  none"
    (root / "train2014/COCO_train2014_000000000031.jpg").unlink()
    assert main(["data", "check", "coco2014", "--root", str(root), "--set", "data.images=annotated"]) == 2
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "train    7 images (the papers have 82,081)" in lines
    assert lines[-1] == "missing  1 of 12 images: train2014/COCO_train2014_000000000031.jpg"


def test_a_list_without_an_image_is_refused(tmp_path, capsys):
    root = miniatures.write("coco2014", tmp_path / "data", train={})
    assert main(["data", "check", "coco2014", "--root", str(root)]) == 2
    assert capsys.readouterr().err == f"error: {root}: the train list has no image\n"


def test_the_checksum_of_the_label_matrix_tells_other_labels_and_another_order(tmp_path, capsys):
    def checksums(*options: str) -> list[str]:
        main(["data", "check", "coco2014", "--root", str(root), *options])
        return [line.split()[-1] for line in capsys.readouterr().out.splitlines() if "sha256" in line]

    root = miniatures.write("coco2014", tmp_path / "one")
    first = checksums()
    assert len(first) == 2 and all(len(checksum) == 64 for checksum in first)
    assert not set(first) & set(checksums("--set", "images=annotated"))
    root = miniatures.write("coco2014", tmp_path / "other")
    assert checksums() == first
    miniatures.relabel("coco2014", root)
    assert checksums()[0] != first[0]


def test_check_says_so_where_sizes_are_those_of_the_papers(tmp_path, capsys, monkeypatch):
    root = miniatures.write("voc2007", tmp_path / "data")
    monkeypatch.setitem(SIZES, "voc2007", {"classes": 20, "train": 6, "test": 3})
    assert main(["data", "check", "voc2007", "--root", str(root)]) == 0
    assert capsys.readouterr().out.count("(as the papers have)") == 3


def test_cache_tells_its_size_beforehand_decodes_and_the_second_time_verifies(tmp_path, capsys):
    root = miniatures.write("voc2007", tmp_path / "data")
    for decoded in (9, 0):
        assert main(["data", "cache", "voc2007", "--root", str(root)]) == 0
        output = capsys.readouterr()
        assert output.err.startswith(f"9 images take 7.1 MB: {tmp_path / 'images' / 'voc2007-'}")
        assert "9/9" in output.err
        assert output.out.endswith(f": 9 images, all as they were written; {decoded} decoded now\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "coco2015"], "data set: 'coco2015' is not allowed; allowed is coco2014 | voc2007"),
        (["check", "digit_scenes"], "data set: 'digit_scenes' is not allowed"),
        (["check", "voc2007"], "voc2007: nothing says where it is; set data.root (--root DIR), or SWEEPER_DATA"),
        (["cache", "voc2007", "--root", "nowhere"], "not found together in nowhere, which is no folder"),
        (["check", "voc2007", "--set", "data.imags=all"], "--set: 'data.imags' is not allowed; allowed is data."),
        (
            ["check", "coco", "--root", ".", "--set", "images=some"],
            "images: 'some' is not allowed; allowed is all | anno",
        ),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error


@pytest.mark.parametrize("layout", ["coco", "voc"])
def test_a_folder_of_ones_own_is_swept_over_with_the_classes_of_its_annotations(layout, tmp_path, empty_database):
    root = tmp_path / "own"
    found = {number: [(7, 0)] * (number % 2) + [(3, 0)] * (number % 3 == 0) + [(5, 0)] for number in range(1, 31)}
    names = {7: "zebra crossing", 3: "ant", 5: "moon"}
    if layout == "coco":
        for part in ("train", "val"):
            miniatures.coco_json(root / f"annotations/objects_{part}.json", found, "{}.png", names)
            for number in found:
                miniatures.picture(root / part / f"{number}.png", number)
    else:
        things = {number: [(names[category], hard) for category, hard in each] for number, each in found.items()}
        lists = {part: {f"{part}{n}": each for n, each in things.items()} for part in ("trainval", "test")}
        miniatures.voc(root / "VOCdevkit/VOC2007", lists)
    (tmp_path / "space.yaml").write_text(SPACE)
    given = {"data.dataset": "coco", "data.root": root, "data.image_size": 48}
    options = [part for name, value in given.items() for part in ("--set", f"{name}={value}")]
    (tmp_path / "runs").mkdir()
    shutil.copy(empty_database, tmp_path / "runs" / "mlflow.db")
    ended = command("run", "space.yaml", "--json", "--inline", *options, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (told["succeeded"], told["trials"], told["epochs_trained"]) == (2, 2, 3)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("decoding images, once: ")]
    assert [line.split()[3] for line in lines] == [str(number) for number in range(0, 61, 6)]
    planned = json.loads(command("plan", "space.yaml", "--json", *options, cwd=tmp_path).stdout)
    assert planned["epochs"] == {"naive": 4, "unique": 3, "stored": 3}


def test_a_plan_without_the_data_at_hand_says_so_and_counts_nothing_as_stored(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    ended = command("plan", "space.yaml", "--json", "--set", "data.dataset=voc2007", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "voc2007: not at hand; what is stored is not known" in ended.stderr
    assert json.loads(ended.stdout)["epochs"] == {"naive": 4, "unique": 3, "stored": None}


def test_what_is_wrong_with_the_data_is_said_before_anything_is_trained(tmp_path):
    root = miniatures.write("coco", tmp_path / "own")
    picture = root / "images/train/3.png"
    (tmp_path / "space.yaml").write_text(SPACE)
    options = ["--set", "data.dataset=coco", "--set", f"data.root={root}"]
    whole = picture.read_bytes()
    for change, message in [
        (picture.unlink, "error: coco: 1 of 16 images are not in"),
        (lambda: picture.write_bytes(whole[:200]), "error: coco: 1 of 16 images cannot be used, the others are kept:"),
    ]:
        change()
        ended = command("run", "space.yaml", "--inline", *options, cwd=tmp_path)
        assert ended.returncode == 2
        assert message in ended.stderr and "3.png" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not list((tmp_path / "runs/store/entries").glob("*/*/training*"))
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
        assert client.get_experiment_by_name("space") is None, "nothing is left of a sweep that never was"
