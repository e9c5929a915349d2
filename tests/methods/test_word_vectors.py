"""Vectors of class names: made of the names, read from files, and what is said of a file that does not fit."""

import shutil
from itertools import combinations

import numpy as np
import pytest

from methods import data
from methods.contract.settings import SettingError
from methods.data.digit_scenes import CLASSES
from methods.data.word_vectors import class_vectors, content, file_of
from methods.training.config import resolve
from methods.training.fit import fit
from tests.methods import tiny

NAMES = ("traffic light", "hot_dog", "Dog", "hair-dryer")
WORDS = sorted({word for name in CLASSES for word in name.split()})


ALLOWED = "one_hot | words | glove (glove.6B.300d.txt in the folder SWEEPER_DATA), or a file that exists"


def vectors_of(words, width=3):
    random = np.random.default_rng(5)
    return {word: random.normal(size=width).round(4) for word in words}


def write_glove(path, vectors):
    lines = [f"{word} {' '.join(str(number) for number in row)}\n" for word, row in vectors.items()]
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def glove(tmp_path):
    """A file in GloVe's format with all words of the digit scenes' classes."""
    return write_glove(tmp_path / "glove.txt", vectors_of(WORDS))


def config(source, method="assume_negative"):
    return resolve(tiny.tiny(method, **{"data.word_vectors": str(source)}))


def refused(source):
    """What `resolve` says of a file: the field's name, what was given, and what is allowed."""
    with pytest.raises(SettingError) as caught:
        config(source)
    assert caught.value.name == "data.word_vectors"
    return caught.value.given, caught.value.allowed


# Made of the names alone


def test_one_hot_vectors_tell_all_classes_apart_and_relate_none():
    np.testing.assert_array_equal(class_vectors(NAMES, "one_hot"), np.eye(4))


def test_words_have_a_dimension_each_and_a_name_the_mean_of_its_words():
    # dog, dryer, hair, hot, light, traffic
    expected = [[0, 0, 0, 0, 0.5, 0.5], [0.5, 0, 0, 0.5, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0.5, 0.5, 0, 0, 0]]
    vectors = class_vectors(NAMES, "words")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected)


def test_words_of_the_digit_scenes_compose_as_colour_and_digit():
    vectors = class_vectors(CLASSES, "words")
    assert vectors.shape == (20, 12)
    names = [set(name.split()) for name in CLASSES]
    for i, j in combinations(range(20), 2):
        assert vectors[i] @ vectors[j] == 0.25 * len(names[i] & names[j])
    row = dict(zip(CLASSES, vectors, strict=True))
    np.testing.assert_array_equal(row["red one"] - row["blue one"], row["red nine"] - row["blue nine"])


# Read from files


def test_a_glove_file_gives_the_mean_of_the_words_vectors(tmp_path):
    vectors = vectors_of(["the", "traffic", "light", "hot", "dog", "hair", "dryer"])
    found = class_vectors(NAMES, write_glove(tmp_path / "glove.6B.3d.txt", vectors))
    expected = [
        (vectors["traffic"] + vectors["light"]) / 2,
        (vectors["hot"] + vectors["dog"]) / 2,
        vectors["dog"],
        (vectors["hair"] + vectors["dryer"]) / 2,
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_lines_of_words_that_no_class_has_may_be_anything(tmp_path, glove):
    odd = tmp_path / "odd.txt"
    with open(glove, "rb") as file:
        odd.write_bytes(b"400000 3\n\n. . . 0.1 nan\n\xff\xfe 1 2 3\nshorter 1\n" + file.read())
    np.testing.assert_array_equal(class_vectors(CLASSES, str(odd)), class_vectors(CLASSES, glove))


def test_an_npy_file_has_a_row_per_class_in_their_order(tmp_path):
    rows = np.random.default_rng(2).normal(size=(4, 5))
    np.save(tmp_path / "vectors.npy", rows)
    found = class_vectors(NAMES, str(tmp_path / "vectors.npy"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows.astype(np.float32))


def test_what_is_done_to_vectors_does_not_reach_those_who_ask_later(glove):
    first = class_vectors(CLASSES, glove)
    kept = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(class_vectors(CLASSES, glove), kept)


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    path, before, after = tmp_path / "glove.txt", vectors_of(WORDS), vectors_of(WORDS, width=4)
    shapes, contents = [], []
    for vectors in (before, after):
        write_glove(path, vectors)
        shapes.append(class_vectors(CLASSES, str(path)).shape)
        contents.append(content(str(path)))
    assert shapes == [(20, 3), (20, 4)]
    assert contents[0] != contents[1]


def test_glove_is_a_file_beside_the_data_and_vg_200_has_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_DATA", str(tmp_path))
    assert refused("glove") == (str(tmp_path / "glove.6B.300d.txt"), ALLOWED)
    for folder in ("", "glove", "digit_scenes"):  # the nearer to the data set, the rather it is taken
        (tmp_path / folder).mkdir(exist_ok=True)
        write_glove(tmp_path / folder / "glove.6B.300d.txt", vectors_of(WORDS))
        assert config("glove").data.vectors == str(tmp_path / folder / "glove.6B.300d.txt")
    assert config("glove").keys() == config(tmp_path / "glove.6B.300d.txt").keys()
    np.save(tmp_path / "vg_200_vector.npy", np.ones((200, 3)))
    assert file_of("glove", "vg200") == str(tmp_path / "vg_200_vector.npy")


def test_compounds_that_glove_lacks_have_the_vector_of_one_of_their_words(tmp_path):
    vectors = vectors_of(["table", "tv", "dog"])
    names = ("diningtable", "tvmonitor", "dog")
    path = write_glove(tmp_path / "glove.txt", vectors)
    np.testing.assert_allclose(class_vectors(names, path), list(vectors.values()), rtol=1e-6)
    known = vectors | vectors_of(["tvmonitor"])
    path = write_glove(tmp_path / "glove.txt", known)
    np.testing.assert_allclose(class_vectors(names, path)[1], known["tvmonitor"], rtol=1e-6)


# In a trial


def test_a_task_carries_the_vectors_of_its_classes(glove):
    task = data.load(config(glove).data)
    np.testing.assert_array_equal(task.word_vectors, class_vectors(task.classes, glove))


def test_keys_follow_a_files_content_and_not_where_it_is(tmp_path, glove):
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(glove, tmp_path / "elsewhere" / "another-name.txt")
    other = write_glove(tmp_path / "other.txt", vectors_of(WORDS, width=4))
    assert config(glove).keys() == config(copy).keys()
    assert config(glove).keys()[0] != config(other).keys()[0]
    assert len({config(source).keys()[0] for source in ("one_hot", "words", glove)}) == 3


# What is wrong with a file is said before anything starts


def test_a_missing_file_is_refused_before_anything_starts(tmp_path):
    missing = str(tmp_path / "glove.6B.300d.txt")
    assert refused(missing) == (missing, ALLOWED)
    with pytest.raises(SettingError, match=r"^data.word_vectors: '.*' is not allowed; allowed is one_hot | words"):
        fit("assume_negative", {"data.word_vectors": missing})


def test_a_folder_is_not_a_file(tmp_path):
    assert refused(tmp_path)[1] == ALLOWED


def test_words_that_a_file_lacks_are_named_in_alphabetical_order(tmp_path):
    vectors = vectors_of([word for word in WORDS if word not in ("seven", "blue")])
    path = write_glove(tmp_path / "glove.txt", vectors)
    assert refused(path) == (path, "a file with all words of the class names; it lacks blue, seven")


def test_a_line_without_numbers_is_named_by_its_number(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2 3\nred 1 two 3\n")
    assert refused(path) == (f"{path}:2", "a word and its numbers per line")


@pytest.mark.parametrize("line", ["red 1 2\n", "red\n", "red \n"])
def test_lines_of_different_lengths_are_refused(tmp_path, line):
    path = tmp_path / "glove.txt"
    write_glove(path, vectors_of(word for word in WORDS if word != "red"))
    path.write_text(path.read_text() + line)
    assert refused(path) == (str(path), "a file with as many numbers on each line")


def test_a_file_of_words_alone_is_refused(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS) + "\n")
    assert refused(path) == (str(path), "a file with as many numbers on each line")


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, number):
    path = write_glove(tmp_path / "glove.txt", {**vectors_of(WORDS), "red": [1, number, 2]})
    assert refused(path) == (path, "a file of finite numbers")


@pytest.mark.parametrize("shape", [(19, 3), (21, 3), (20,), (20, 3, 1)])
def test_an_npy_file_of_another_shape_is_refused(tmp_path, shape):
    np.save(tmp_path / "vectors.npy", np.ones(shape))
    path = str(tmp_path / "vectors.npy")
    assert refused(path) == (path, "a file of 20 rows, one per class")


def test_what_is_called_npy_and_is_none_is_refused(tmp_path, glove):
    path = shutil.copy(glove, tmp_path / "vectors.npy")
    assert refused(path) == (str(path), "a .npy file of numbers")
    np.save(tmp_path / "texts.npy", np.array([["red"]] * 20))
    assert refused(tmp_path / "texts.npy")[1] == "a .npy file of numbers"
    np.save(tmp_path / "objects.npy", np.array([{}] * 20), allow_pickle=True)
    assert refused(tmp_path / "objects.npy")[1] == "a .npy file of numbers", "nothing is unpickled"
