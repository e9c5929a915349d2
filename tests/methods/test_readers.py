"""Readers of real formats, on miniature copies: lists, orders, classes, labels, boxes, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from pycocotools.coco import COCO

from methods import data
from methods.data import DataSettings, content, registry
from methods.data.in_files import split_rows
from methods.data.label_regimes import proportion
from methods.data.listing import Annotations, DataError
from methods.training.config import resolve
from methods.training.fit import Training
from tests.methods import miniatures
from tests.methods.tiny import tiny


def read(dataset: str, root: Path, **settings) -> Annotations:
    return registry.reader(dataset).read(DataSettings(dataset=dataset, root=str(root), **settings))


def refused(dataset: str, root: Path, **settings) -> str:
    with pytest.raises(DataError) as error:
        read(dataset, root, **settings)
    return str(error.value)


def _rows(annotations: Annotations, part: str) -> tuple[tuple[str, ...], np.ndarray]:
    return annotations.lists[part].names, annotations.lists[part].labels


def positives(annotations: Annotations, part: str) -> dict[str, set[str]]:
    """Classes that are labelled +1, by image."""
    listing = annotations.lists[part]
    rows = [{annotations.classes[k] for k in np.flatnonzero(row == 1)} for row in listing.labels]
    return dict(zip(listing.names, rows, strict=True))


def test_every_data_set_can_be_set_is_described_and_has_a_reader():
    assert get_args(get_type_hints(DataSettings)["dataset"]) == (registry.EMBEDDED, *registry.IN_FILES)
    assert list(registry.ABOUT) == [registry.EMBEDDED, *registry.IN_FILES]
    assert list(miniatures.WRITERS) == list(registry.IN_FILES)


@pytest.mark.parametrize("dataset", registry.IN_FILES)
def test_a_miniature_of_every_data_set_becomes_a_task(dataset, tmp_path):
    settings = DataSettings(dataset=dataset, root=str(miniatures.write(dataset, tmp_path)), image_size=64, mask_seed=0)
    task = data.load(settings)
    for split in (task.train, task.val, task.test):
        assert split.labels.shape == (len(split), task.num_classes) and split.labels.dtype == np.int8
        assert split.images[:].shape == split.images.shape == (len(split), 3, 64, 64)
        assert len(split.names) == len(split)
        for image, index, x0, y0, x1, y1 in split.boxes:
            assert split.labels[image, index] == 1
            assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 64
    assert len(set(task.train.names) | set(task.val.names) | set(task.test.names)) == len(
        task.train.names + task.val.names + task.test.names
    )


# COCO


def test_coco_lists_all_images_in_the_order_of_the_file_and_classes_in_that_of_its_categories(tmp_path):
    annotations = read("coco2014", miniatures.write("coco2014", tmp_path))
    assert annotations.classes == ("person", "toothbrush", "bottle", "stop sign")
    assert [int(name[-16:-4]) for name in annotations.lists["train"].names] == list(miniatures.COCO_TRAIN)
    assert annotations.lists["test"].names[0] == "val2014/COCO_val2014_000000000003.jpg"
    for part, images in (("train", miniatures.COCO_TRAIN), ("test", miniatures.COCO_TEST)):
        expected = [{miniatures.CATEGORIES[category] for category, _ in found} for found in images.values()]
        assert list(positives(annotations, part).values()) == expected  # crowds count
    assert annotations.notes == (
        "instances_train2014.json: 1 images have no annotation",
        "instances_val2014.json: 1 images have no annotation",
    )


def test_coco_lists_annotated_images_with_their_ids_sorted_as_texts(tmp_path):
    annotations = read("coco2014", miniatures.write("coco2014", tmp_path), images="annotated")
    assert [int(name[-16:-4]) for name in annotations.lists["train"].names] == [10, 100, 31, 4, 55, 8, 9]
    assert [int(name[-16:-4]) for name in annotations.lists["test"].names] == [12, 20, 3]
    assert not annotations.notes


def test_both_lists_of_coco_have_one_cache_of_images(tmp_path):
    root = miniatures.write("coco2014", tmp_path)
    assert read("coco2014", root).images == read("coco2014", root, images="annotated").images


def test_a_coco_box_is_in_pixels_of_the_image_as_it_is_given_to_the_network(tmp_path):
    root = str(miniatures.write("coco2014", tmp_path))
    task = data.load(DataSettings(dataset="coco2014", root=root, image_size=64, val_fraction=0.0, mask_seed=0))
    # x 4 to 16.5 of 40 and y 6 to 16 of 30, at 64 by 64 pixels: 6.4 to 26.4 and 12.8 to 34.1.
    assert task.train.boxes[0].tolist() == [0, 0, 6, 12, 27, 35]
    assert len(task.val) == 0 and len(task.train) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["annotations"][0].update(category_id=2),
            "annotation 1 has category_id 2, which is none of the file",
        ),
        (lambda c: c["annotations"][3].update(image_id=77), "annotation 4 has image_id 77"),
        (lambda c: c["annotations"][0].pop("category_id"), "an entry lacks 'category_id'"),
        (lambda c: c.pop("images"), "an entry lacks 'images'"),
        (lambda c: c["images"].append(c["images"][0]), "of its 9 images only 8 have ids of their own"),
        (lambda c: c["categories"][0].update(name="bottle"), "several of its categories have the same name"),
        (lambda c: c["categories"].reverse(), "its categories are not those of"),
    ],
)
def test_coco_annotations_that_do_not_hold_together_are_refused_by_file_and_entry(change, message, tmp_path):
    root = miniatures.write("coco2014", tmp_path)
    path = root / "annotations/instances_train2014.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    told = refused("coco2014", root)
    assert message in told and "instances_train2014.json" in told


def test_a_file_that_is_no_json_is_refused_with_its_line(tmp_path):
    root = miniatures.write("coco2014", tmp_path)
    path = root / "annotations/instances_val2014.json"
    path.write_text(path.read_text()[:-40])
    assert "instances_val2014.json:" in refused("coco2014", root)


# A folder of one's own


def test_a_folder_like_coco_has_the_classes_of_its_annotations(tmp_path):
    annotations = read("coco", miniatures.write("coco", tmp_path))
    assert annotations.classes == ("zebra crossing", "ant")
    assert annotations.lists["train"].names[:2] == ("images/train/1.png", "images/train/2.png")
    assert positives(annotations, "train")["images/train/3.png"] == {"zebra crossing", "ant"}
    assert (annotations.lists["train"].labels == -1).any() and not (annotations.lists["train"].labels == 0).any()


@pytest.mark.parametrize("dataset", ["coco", "coco2014"])
def test_an_annotation_file_like_coco_s_is_parsed_once(dataset, tmp_path, monkeypatch):
    parsed = []
    real = COCO.__init__
    monkeypatch.setattr(COCO, "__init__", lambda self, path: parsed.append(Path(path).stem) or real(self, path))
    read(dataset, miniatures.write(dataset, tmp_path))
    assert [name.removeprefix("instances_")[:3] for name in parsed] == ["tra", "val"]


def test_what_a_folder_does_not_list_is_negative_unless_it_is_said_to_be_unknown(tmp_path):
    root = miniatures.write("coco", tmp_path)
    negative, unknown = (read("coco", root, unlisted=what).lists["train"].labels for what in ("negative", "unknown"))
    np.testing.assert_array_equal(negative, np.where(unknown == 0, -1, unknown))
    assert set(np.unique(unknown)) == {0, 1}


@pytest.mark.parametrize("unlisted", ["negative", "unknown"])
def test_lvis_says_which_classes_are_absent_and_all_others_are_unknown(unlisted, tmp_path):
    root = miniatures.write("coco", tmp_path, image={"neg_category_ids": [3]})
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    for entry in content["images"]:
        entry["coco_url"] = f"http://images.example.org/{'train'}/{entry.pop('file_name')}"
        entry["neg_category_ids"] = [3] if entry["id"] % 3 else []
    path.write_text(json.dumps(content))
    annotations = read("coco", root, unlisted=unlisted)
    assert annotations.lists["train"].names[0] == "images/train/1.png"
    expected = [[id % 2, 1 if id % 3 == 0 else -1] for id in range(1, 9)]
    assert annotations.lists["train"].labels.tolist() == expected


def test_a_folder_with_val_and_test_chooses_on_val(tmp_path):
    root = miniatures.write("coco", tmp_path)
    (root / "annotations/instances_val.json").rename(root / "annotations/instances_test.json")
    (root / "images/val").rename(root / "images/test")
    miniatures.coco_json(root / "annotations/own_val.json", {5: [(7, 0)]}, "{}.png", {7: "zebra crossing", 3: "ant"})
    miniatures.picture(root / "images/val/5.png")
    settings = DataSettings(dataset="coco", root=str(root), image_size=32, mask_seed=0, labels="single_positive")
    task = data.load(settings)
    assert [len(split) for split in (task.train, task.val, task.test)] == [8, 1, 8]
    assert task.observed_val.tolist() == [[1, 0]]


def test_a_folder_like_voc_has_the_classes_of_its_annotations(tmp_path):
    miniatures.voc(tmp_path, {"train": {"a": [("yak", 0)], "b": [("emu", 0), ("yak", 1)]}, "val": {"c": [("gnu", 0)]}})
    annotations = read("coco", tmp_path)
    assert annotations.classes == ("emu", "gnu", "yak")
    assert positives(annotations, "train") == {"JPEGImages/a.jpg": {"yak"}, "JPEGImages/b.jpg": {"emu"}}
    assert "'yak' is no class of voc2012; allowed are aeroplane" in refused("voc2012", tmp_path)


def test_a_folder_that_is_neither_is_refused_with_what_is_looked_for(tmp_path):
    assert "annotations are looked for, and not found together in" in refused("coco", tmp_path)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/all.json").write_text("{}")
    assert "has all.json; allowed is one with 'train' in its name" in refused("coco", tmp_path)


# VOC


@pytest.mark.parametrize("dataset", ["voc2007", "voc2012"])
def test_voc_keeps_the_order_of_its_lists_and_difficult_objects_alone_are_negative(dataset, tmp_path):
    annotations = read(dataset, miniatures.write(dataset, tmp_path))
    assert len(annotations.classes) == 20 and list(annotations.classes) == sorted(annotations.classes)
    for part, images in (("train", miniatures.VOC_TRAIN), ("test", miniatures.VOC_TEST)):
        expected = {f"JPEGImages/{i}.jpg": {name for name, hard in found if not hard} for i, found in images.items()}
        assert positives(annotations, part) == expected
        assert list(positives(annotations, part)) == list(expected)
    assert annotations.notes == ("4 difficult objects: a class with no other is negative",)


def test_difficult_objects_alone_are_unknown_where_it_is_said_so_and_no_mask_gives_them(tmp_path):
    root = miniatures.write("voc2007", tmp_path)
    labels = read("voc2007", root, difficult="unknown").lists["train"].labels
    classes = {name: k for k, name in enumerate(registry.reader("voc2007").CLASSES)}
    assert [labels[0, classes["chair"]], labels[1, classes["car"]], labels[4, classes["person"]]] == [1, 0, 0]
    assert (labels == 0).sum() == 2
    fixed = {"dataset": "voc2007", "root": str(root), "image_size": 32, "mask_seed": 0, "val_fraction": 0.0}
    plain, unknown = (
        data.load(DataSettings(**fixed, labels="proportion", known=0.7, difficult=what)).observed
        for what in ("negative", "unknown")
    )
    np.testing.assert_array_equal(unknown, np.where(labels == 0, 0, plain))
    assert (unknown != plain).any()


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_the_root_of_voc_is_where_the_download_was_unpacked_or_a_folder_of_it(inside, tmp_path):
    root = miniatures.write("voc2007", tmp_path)
    assert read("voc2007", root / inside).folder == root / "VOCdevkit/VOC2007"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "Annotations/000009.xml").unlink(), "000009.xml: is not there, and"),
        (lambda f: (f / "Annotations/000009.xml").write_text("<annotation>\n<size>\n"), "000009.xml:3: is no XML"),
        (lambda f: miniatures.voc_xml(f / "Annotations/000009.xml", [("ufo", 0)]), "000009.xml: 'ufo' is no class of"),
        (lambda f: miniatures.voc_xml(f / "Annotations/000009.xml", [("dog", 0)], (0, 5)), "lacks a number above 0"),
        (lambda f: (f / "ImageSets/Main/test.txt").write_text("\n"), "test.txt: lists no image"),
        (
            lambda f: (f / "ImageSets/Main/test.txt").write_text("000001\n000001\n"),
            "test.txt:2: 000001 is listed twice",
        ),
        (lambda f: (f / "ImageSets/Main/test.txt").unlink(), "ImageSets/Main/test.txt and Annotations are looked for"),
    ],
)
def test_voc_annotations_that_do_not_hold_together_are_refused_by_file(change, message, tmp_path):
    root = miniatures.write("voc2007", tmp_path)
    change(root / "VOCdevkit/VOC2007")
    assert message in refused("voc2007", root)


# VG-200, NUS-WIDE, CUB-200-2011


def test_vg_200_is_the_first_200_classes_of_vg_500_in_the_order_of_its_lists(tmp_path):
    annotations = read("vg200", miniatures.write("vg200", tmp_path))
    assert len(annotations.classes) == 200
    found = {name: set(np.flatnonzero(row == 1)) for name, row in zip(*_rows(annotations, "train"), strict=True)}
    assert found == {"VG_100K/7.jpg": {0}, "VG_100K/1.jpg": {0, 199}, "VG_100K/3.jpg": set(), "VG_100K_2/9.jpg": {199}}
    assert next(iter(found)) == "VG_100K/7.jpg"
    found = {name: set(np.flatnonzero(row == 1)) for name, row in zip(*_rows(annotations, "test"), strict=True)}
    assert found == {"VG_100K/2.jpg": {3}, "VG_100K/4.jpg": {3}}
    (tmp_path / "data/VG/test_list_500.txt").write_text("2.jpg\n55.jpg\n")
    assert "test_list_500.txt:2: 55.jpg has no labels in" in refused("vg200", tmp_path)
    (tmp_path / "data/VG/vg_category_500_labels_index.json").unlink()
    assert "has neither vg_category_200_labels_index.json nor" in refused("vg200", tmp_path)


def test_nus_wide_is_what_the_release_lists_and_an_image_without_a_concept_keeps_no_label(tmp_path):
    root = miniatures.write("nus_wide", tmp_path)
    annotations = read("nus_wide", root)
    assert annotations.lists["train"].labels.shape == (5, 81) and annotations.lists["test"].labels.shape == (3, 81)
    assert annotations.lists["train"].names[1] == "Flickr/actor/0001_1.jpg"
    assert [set(np.flatnonzero(row == 1)) for row in annotations.lists["test"].labels] == [{0}, {20}, set()]
    settings = DataSettings(
        dataset="nus_wide", root=str(root), labels="single_positive", mask_seed=1200, val_fraction=0
    )
    assert data.load(settings).observed.any(1).tolist() == [True, True, True, True, False]
    (root / "Concepts81.txt").write_text("".join(f"{name}\n" for name in ["airport", "animal"] + ["x"] * 79))
    assert read("nus_wide", root).classes[:2] == ("airport", "animal")
    np.save(root / "formatted_val_labels.npy", np.full((3, 81), 2))
    assert "formatted_val_labels.npy: a value other than 0 and 1" in refused("nus_wide", root)
    np.save(root / "formatted_val_labels.npy", np.zeros((2, 81)))
    assert "shape (2, 81) is not allowed; allowed is a row for each of 3 images" in refused("nus_wide", root)


def test_cub_has_the_attributes_of_every_image_whatever_the_lines_hold_besides(tmp_path):
    root = miniatures.write("cub200", tmp_path)
    annotations = read("cub200", root)
    assert annotations.classes == ("has_bill_shape::curved (up or down)", "has_crest::yes", "has_tail::no")
    assert annotations.lists["test"].names == ("images/002.Bird/Bird_2.jpg", "images/005.Bird/Bird_5.jpg")
    assert annotations.lists["train"].labels.tolist() == [[-1, 1, -1], [-1, 1, -1], [1, -1, 1], [1, -1, 1]]
    path = root / "CUB_200_2011/attributes/image_attribute_labels.txt"
    whole = path.read_text()
    path.write_text(whole.replace("3 1 0", "3 9 0"))
    assert "image_attribute_labels.txt:7: '3 9 0 3 1.25' is not allowed; allowed is an image of" in refused(
        "cub200", root
    )
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    assert "says nothing of attribute 3 of image 6" in refused("cub200", root)


# OpenImages


def test_open_images_has_the_labels_of_trainable_classes_and_all_others_are_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_IMAGES", str(tmp_path / "images"))
    monkeypatch.setattr(registry.reader("open_images_v3"), "_AT_ONCE", 2)
    root = miniatures.write("open_images_v3", tmp_path / "data")
    annotations = read("open_images_v3", root)
    assert annotations.classes == ("Sea", "Dog, wet", "Tree")
    assert list(annotations.lists) == ["train", "val", "test"]
    for part, folder, first in (("train", "train_0", 0xF0), ("val", "validation", 0x20), ("test", "test", 0x30)):
        listing = annotations.lists[part]
        assert listing.names == tuple(f"{folder}/{first + number:016x}.jpg" for number in range(3))
        assert listing.labels.tolist() == [[-1, 0, 1], [1, 0, 0], [0, 1, -1]]
        assert isinstance(listing.labels, np.memmap), "17 GB of labels are not held in memory"


def test_open_images_labels_are_given_as_they_are_and_classes_are_grouped_by_how_many_there_are(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_IMAGES", str(tmp_path / "images"))
    root = miniatures.write("open_images_v3", tmp_path / "data")
    values = tiny(
        "assume_negative", **{"data.dataset": "open_images_v3", "data.root": str(root), "data.image_size": 32}
    )
    training = Training(resolve({**values, "data.labels": "human_verified"}))
    assert isinstance(training.task.observed, np.memmap)
    np.testing.assert_array_equal(training.task.observed, read("open_images_v3", root).lists["train"].labels)
    assert training._annotations().tolist() == [2, 1, 2]
    assert len(training.task.val) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("xyz,verification,/m/01,1", "annotations-human.csv:2: 'xyz,verification,/m/01,1' is not allowed"),
        ("00ff,verification,/m/01,0.4", "allowed is a hexadecimal image id, a source, a class, and 0 or 1"),
        ("00ff,/m/01,1", "annotations-human.csv:2: '00ff,/m/01,1' is not allowed"),
        ("00ff,verification,/m/77,1", "annotations-human.csv: no line of it is about a class of classes-trainable.txt"),
    ],
)
def test_a_line_of_open_images_that_says_no_label_is_refused(line, message, tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_IMAGES", str(tmp_path / "images"))
    root = miniatures.write("open_images_v3", tmp_path / "data")
    (root / "2017_11/test/annotations-human.csv").write_text(f"ImageID,Source,LabelName,Confidence\n{line}\n")
    assert message in refused("open_images_v3", root)
    assert len(list((tmp_path / "images").iterdir())) == 2, "nothing half-made is left behind"


# Labels in CSV files


def test_labels_in_csv_files_are_known_only_where_a_line_says_so(tmp_path):
    annotations = read("labels_csv", miniatures.write("labels_csv", tmp_path))
    assert annotations.classes == ("boat", "sea", "sky")
    assert annotations.lists["train"].names == ("b.png", "a.png", "c d.png", "e.png", "f.png")
    expected = [[-1, 1, 1], [1, 0, 0], [0, 0, 0], [0, -1, 0], [0, 0, 1]]
    assert annotations.lists["train"].labels.tolist() == expected
    assert annotations.lists["test"].labels.tolist() == [[0, 1, -1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.png,sea,1", "a.png,sea,-1"], "train.csv:3: 'sea' of a.png is -1 here and 1 in line 2"),
        (["a.png,sea,0"], "train.csv:2: class 'sea' with label '0' is not allowed; allowed is a name with 1 or -1"),
        (["a.png,,1"], "train.csv:2: class '' with label '1' is not allowed"),
        ([",sea,1"], "train.csv:2: ',sea,1' is not allowed; allowed is an image, a class and 1 or -1"),
        (["a.png,sea,1,2"], "train.csv:2: 'a.png,sea,1,2' is not allowed"),
        ([], "train.csv: lists no image"),
    ],
)
def test_a_line_that_says_no_label_is_refused(rows, message, tmp_path):
    miniatures.write("labels_csv", tmp_path)
    miniatures.labels_csv(tmp_path / "train.csv", rows)
    assert message in refused("labels_csv", tmp_path)


def test_another_header_is_refused(tmp_path):
    miniatures.write("labels_csv", tmp_path)
    (tmp_path / "test.csv").write_text("file,class,label\na.png,sea,1\n")
    assert "test.csv:1: 'file,class,label' is not allowed; allowed is 'image,class,label'" in refused(
        "labels_csv", tmp_path
    )


# Where they are looked for


@pytest.mark.parametrize("dataset", registry.IN_FILES)
def test_a_wrong_root_is_refused_with_what_is_looked_for_and_where(dataset, tmp_path, monkeypatch):
    for root in (tmp_path, tmp_path / "none"):
        told = refused(dataset, root)
        assert told.startswith(f"{dataset}: ") and str(root) in told
    monkeypatch.delenv("SWEEPER_DATA", raising=False)
    with pytest.raises(DataError, match=r"set data.root \(--root DIR\), or SWEEPER_DATA"):
        registry.reader(dataset).read(DataSettings(dataset=dataset))


@pytest.mark.parametrize("dataset", registry.IN_FILES)
def test_sweeper_data_holds_every_data_set_under_its_name_and_root_wins_over_it(dataset, tmp_path, monkeypatch):
    miniatures.write(dataset, tmp_path / "all" / dataset)
    other = miniatures.write(dataset, tmp_path / "other")
    monkeypatch.setenv("SWEEPER_DATA", str(tmp_path / "all"))
    assert registry.reader(dataset).read(DataSettings(dataset=dataset)).folder.is_relative_to(tmp_path / "all")
    assert read(dataset, other).folder.is_relative_to(other)


# Keys


def key(dataset: str, root: Path | None, **values) -> str:
    given = {f"data.{name}": value for name, value in values.items()}
    return resolve(
        tiny("assume_negative", **{"data.dataset": dataset, "data.root": root and str(root)}, **given)
    ).keys()[0]


@pytest.mark.parametrize("dataset", registry.IN_FILES)
def test_a_key_holds_what_is_in_the_annotations_and_not_where_they_are(dataset, tmp_path):
    one, other = (miniatures.write(dataset, tmp_path / name) for name in ("one", "other"))
    assert key(dataset, one) == key(dataset, other) != key(dataset, None)
    miniatures.relabel(dataset, other)
    assert key(dataset, one) != key(dataset, other)


def test_annotations_are_looked_at_once_while_many_trials_ask(tmp_path, monkeypatch):
    root = miniatures.write("voc2007", tmp_path)
    asked = []
    real = registry.reader("voc2007").files
    monkeypatch.setattr(registry.reader("voc2007"), "files", lambda settings: asked.append(settings) or real(settings))
    with content.steady():
        first = key("voc2007", root)
        miniatures.relabel("voc2007", root)
        assert key("voc2007", root, labels="full") != first == key("voc2007", root)
    assert len(asked) == 1
    assert key("voc2007", root) != first


def test_a_key_holds_the_code_of_its_own_reader_and_of_no_other(monkeypatch):
    from methods.cache import keys

    everything = {name: key(name, None) for name in (registry.EMBEDDED, *registry.IN_FILES)}
    real = keys._code

    def changed_by(module: str) -> set[str]:
        monkeypatch.setattr(
            keys, "_code", lambda name: ("mended" if name == module else real(name)[0], *real(name)[1:])
        )
        for cached in (keys.fingerprint, keys.sources, keys.recipe_digest):
            cached.cache_clear()
        return {name for name, before in everything.items() if key(name, None) != before}

    found = {
        module: changed_by(f"methods.data.{module}") for module in ("coco", "voc", "labels_csv", "in_files", "registry")
    }
    monkeypatch.setattr(keys, "_code", real)
    for cached in (keys.fingerprint, keys.sources, keys.recipe_digest):
        cached.cache_clear()
    assert found == {
        "coco": {"coco2014", "coco"},
        "voc": {"voc2007", "voc2012", "coco"},
        "labels_csv": {"labels_csv"},
        "in_files": set(registry.IN_FILES),
        "registry": set(),
    }


# Splits and masks at their true sizes


@pytest.mark.parametrize(
    ("images", "train", "val"), [(5_717, 4_574, 1_143), (82_081, 65_665, 16_416), (150_000, 120_000, 30_000)]
)
def test_the_split_for_validation_has_the_sizes_of_the_release_and_its_order(images, train, val):
    rows, val_rows = split_rows(images, 0.2)
    assert (len(rows), len(val_rows)) == (train, val)
    np.random.seed(1200)
    order = np.random.permutation(images)
    np.testing.assert_array_equal(rows, sorted(order[: images - val]))
    np.testing.assert_array_equal(val_rows, sorted(order[images - val :]))


# Figures of the release: images without any known label at 10 %, without any unknown one at 80 and 90 %.
@pytest.mark.parametrize(
    ("known", "unlabelled", "complete"), [(0.1, 533, 0), (0.8, 0, 0.0128 * 5_011), (0.9, 0, 0.120 * 5_011)]
)
def test_masks_of_voc_2007_have_the_figures_of_the_released_ones(known, unlabelled, complete):
    mask = proportion(np.ones((5_011, 20), np.int8), known, 0)
    assert (~mask.any(1)).sum() == unlabelled or known > 0.1
    assert mask.all(1).sum() == pytest.approx(complete, abs=3)


@pytest.mark.parametrize(
    ("shape", "known", "checksum"),
    [
        ((5_011, 20), 0.1, "90b9d4d26415ab74"),
        ((82_783, 80), 0.1, "3ea88acaa7d827d0"),
        ((82_904, 200), 0.5, "3f2a1fe9a291c58c"),
    ],
)
def test_masks_of_the_true_sizes_are_the_released_ones_to_the_bit(shape, known, checksum):
    mask = proportion(np.ones(shape, np.int8), known, 0)
    np.random.seed(0)
    assert ((np.random.random(shape) < known) == mask).all()
    assert hashlib.sha256(mask.tobytes()).hexdigest()[:16] == checksum
