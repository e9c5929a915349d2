"""The embedded data set: what a scene holds, and what it depends on."""

import hashlib
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from methods.contract.task import Split
from methods.data import digit_scenes
from methods.data.digit_scenes import CLASSES, CROP_CLASSES, instances, load, pretraining_crops, scenes, themes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def train() -> Split:
    return scenes(0, "train", 1500)


def fingerprint(split: Split) -> str:
    arrays = (split.images, split.labels, split.boxes)
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays) + repr(split.names).encode()).hexdigest()


def test_every_handwritten_digit_serves_exactly_one_purpose():
    rows = np.concatenate([part for parts in instances().values() for part in parts])
    assert sorted(rows) == list(range(1797))


@pytest.mark.parametrize("purpose, share", [("pretrain", 0.35), ("train", 0.35), ("val", 0.10), ("test", 0.20)])
def test_each_purpose_has_its_share_of_every_digit(purpose, share):
    target = load_digits().target
    for digit, rows in enumerate(instances()[purpose]):
        assert (target[rows] == digit).all()
        assert abs(len(rows) - share * (target == digit).sum()) <= 1


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_scene_draws_its_digits_from_its_own_split(split, monkeypatch):
    expected = fingerprint(scenes(3, split, 10))
    only = {split: instances()[split]}  # asking for another split's digits would be a KeyError
    monkeypatch.setattr(digit_scenes, "instances", lambda: only)
    assert fingerprint(scenes(3, split, 10)) == expected


def test_arrays_have_the_shapes_and_types_of_a_split(train):
    assert (train.images.shape, train.images.dtype) == ((1500, 3, 48, 48), np.uint8)
    assert (train.labels.shape, train.labels.dtype) == ((1500, 20), np.int8)
    assert (train.boxes.shape[1], train.boxes.dtype) == (6, np.int32)
    assert len(set(train.names)) == len(train) == 1500
    assert len(set(CLASSES)) == 20 and CLASSES[3] == "red three" and CLASSES[17] == "blue seven"


def test_scenes_can_be_held_to_fewer_objects_in_the_same_proportions_and_six_is_no_limit():
    few = scenes(0, "train", 300, max_objects=2)
    counts = np.bincount(np.bincount(few.boxes[:, 0], minlength=300), minlength=3)
    assert counts[0] == 0 and len(counts) == 3
    assert counts[1] / 300 == pytest.approx(0.20 / 0.45, abs=0.1)
    assert fingerprint(scenes(0, "train", 20, max_objects=6)) == fingerprint(scenes(0, "train", 20))


def test_a_class_is_labelled_exactly_where_it_has_a_box(train):
    boxed = {(image, index) for image, index, *_ in train.boxes.tolist()}
    assert {tuple(pair) for pair in np.argwhere(train.labels == 1).tolist()} == boxed
    assert set(np.unique(train.labels)) == {-1, 1}


def test_scenes_hold_one_to_six_objects_of_12_to_20_pixels_inside_the_canvas(train):
    image, _, x0, y0, x1, y1 = train.boxes.T
    assert set(np.bincount(image, minlength=len(train))) == {1, 2, 3, 4, 5, 6}
    assert set(np.maximum(x1 - x0, y1 - y0)) == set(range(12, 21))
    assert (np.minimum(x0, y0) >= 0).all() and (np.maximum(x1, y1) <= 48).all() and ((x1 > x0) & (y1 > y0)).all()


def test_no_two_boxes_overlap_by_more_than_15_percent_of_the_smaller(train):
    touching = 0
    for image in range(len(train)):
        covers = []
        for _, _, x0, y0, x1, y1 in train.boxes[train.boxes[:, 0] == image]:
            cover = np.zeros((48, 48), bool)
            cover[y0:y1, x0:x1] = True
            covers.append(cover)
        for one, other in combinations(covers, 2):
            shared = (one & other).sum()
            touching += shared > 0
            assert shared <= 0.15 * min(one.sum(), other.sum())
    assert touching > 0


def test_a_box_encloses_its_ink_tightly(monkeypatch):
    seen = []
    draw_object = digit_scenes._object
    monkeypatch.setattr(digit_scenes, "_object", lambda *a: seen.append(draw_object(*a)) or seen[-1])
    scenes(1, "train", 200)
    outermost = [edge.max() for ink in seen for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1])]
    assert min(outermost) > 0.25


def test_an_object_has_the_colour_of_its_class(train):
    image, index, x0, y0, x1, y1 = train.boxes[train.boxes[:, 0] < 300].T
    redder = []
    for i, left, top, right, bottom in zip(image, x0, y0, x1, y1):
        red, _, blue = train.images[i, :, top:bottom, left:right].mean((1, 2))
        redder.append(red > blue)
    assert np.mean(np.array(redder) == (index < 10)) > 0.98


def test_an_image_has_about_2_4_labels(train):
    assert 2.2 < (train.labels == 1).sum(1).mean() < 2.6


def test_classes_of_a_theme_occur_together_more_than_by_chance(train):
    present = (train.labels == 1).astype(float)
    chance = np.outer(present.mean(0), present.mean(0))
    lift = present.T @ present / len(train) / chance
    together = np.zeros((20, 20), bool)
    for theme in themes():
        together[np.ix_(theme, theme)] = True
    distinct = ~np.eye(20, dtype=bool)
    assert lift[together & distinct].mean() > 1.5 and lift[together & distinct].min() > 1
    assert 0.1 < lift[~together].mean() < 0.8  # the leak: rare, not absent


def test_every_class_belongs_to_two_themes_of_five():
    assert themes().shape == (8, 5)
    assert all(len(set(theme)) == 5 for theme in themes())
    assert (np.bincount(themes().ravel()) == 2).all()


def test_the_first_scenes_do_not_depend_on_how_many_follow(train):
    few = scenes(0, "train", 7)
    assert np.array_equal(few.images, train.images[:7]) and np.array_equal(few.labels, train.labels[:7])
    assert np.array_equal(few.boxes, train.boxes[train.boxes[:, 0] < 7]) and few.names == train.names[:7]


def test_one_split_does_not_depend_on_the_size_of_another():
    classes, *splits = load(2, 5, 4, 3)
    _, *others = load(2, 5, 8, 9)
    assert classes == CLASSES and [len(split) for split in splits] == [5, 4, 3]
    assert fingerprint(splits[0]) == fingerprint(others[0])


def test_draws_and_splits_differ():
    parts = [(draw, split) for draw in (0, 1) for split in ("train", "val", "test")]
    images = {scenes(draw, split, 3).images.tobytes() for draw, split in parts}
    assert len(images) == len(parts)


def test_a_draw_is_bit_identical_in_another_process():
    script = "from tests.methods.test_digit_scenes import *; print(fingerprint(scenes(4, 'val', 20)))"
    other = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == fingerprint(scenes(4, "val", 20))


def test_the_global_generator_is_neither_read_nor_moved():
    np.random.seed(5)
    before = np.random.get_state()[1:3]
    first = fingerprint(scenes(0, "test", 5)), pretraining_crops(5)[0].tobytes()
    after = np.random.get_state()[1:3]
    assert np.array_equal(before[0], after[0]) and before[1] == after[1]
    np.random.seed(6)
    assert first == (fingerprint(scenes(0, "test", 5)), pretraining_crops(5)[0].tobytes())


def test_pretraining_crops_show_ten_digits_in_four_colours():
    images, labels = pretraining_crops(1200)
    assert (images.shape, images.dtype) == ((1200, 3, 24, 24), np.uint8)
    assert set(labels) == set(range(40)) and len(set(CROP_CLASSES)) == 40
    assert CROP_CLASSES[:20] == CLASSES and CROP_CLASSES[25] == "green five"
    few_images, few_labels = pretraining_crops(10)
    assert np.array_equal(few_images, images[:10]) and np.array_equal(few_labels, labels[:10])
