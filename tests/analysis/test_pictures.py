"""What a figure of pictures shows of each scene."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.figures import drawing, pictures
from analysis.reading import records
from analysis.reading.records import RecordError
from tests.analysis.scenes import CLASSES, corrections

FIGURE = {"pictures": "corrections.npz", "images": 6}
LAYOUT = {"rows": "variant", "columns": None, "value": "test/map"}


@pytest.fixture(scope="module")
def scenes():
    return pictures.read(corrections(), "corrections.npz")


@pytest.fixture(scope="module")
def draw(store):
    """Log a sweep whose trials left these files, and draw it."""

    def of(name, artifacts, results=None, figure=FIGURE, **changes):
        results = results or {("LL-Ct", None): [(1, 2.0)] * 2}
        store.log(name, "9ad", results, seeds=[1, 2], table=LAYOUT, figure=figure, artifacts=artifacts, **changes)
        return drawing.draw(records.load(name, tracking_uri=store.uri))

    return of


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_below_a_picture_stand_the_given_labels_those_turned_by_epoch_and_the_truth(scenes):
    assert [(text.replace("\xa0", " "), right) for text, right in scenes[0].lines(width=60)] == [
        ("given: fire hydrant [a]", None),
        ("→ epoch 2: person [b] ✓", True),
        ("→ epoch 5: car [c] ✓", True),
        ("→ epoch 5: banana [d] ✗", False),
        ("truth: fire hydrant [a], person [b], car [c], bicycle [e]", None),
    ]


def test_a_scene_without_corrections_says_what_it_was_given_and_has(scenes):
    assert [(text.replace("\xa0", " "), right) for text, right in scenes[1].lines()] == [
        ("given: car [a]", None),
        ("truth: car [a]", None),
    ]


def test_classes_that_are_neither_given_nor_turned_nor_true_are_not_shown(scenes):
    assert {label.name for label in scenes[0].labels} == set(CLASSES) - {"dining table"}


def test_many_labels_turned_positive_are_counted_instead_of_listed():
    content = corrections(
        classes=np.array([f"class {k}" for k in range(8)]),
        given=np.zeros((2, 8), np.int8),
        positive_since=np.array([range(1, 9), [0] * 8], np.int16),
        truth=np.array([[1, 1, 1, -1, -1, -1, 1, -1], [-1] * 8], np.int8),
        attention=np.full((2, 8, 2), -1, np.int16),
    )
    lines = [text for text, _ in pictures.read(content, "a.npz")[0].lines()]
    assert sum(line.startswith("→ epoch") for line in lines) == 6
    assert "→ and 2 more: 1 ✓, 1 ✗" in lines
    assert lines[0] == "given: none"


def test_every_object_has_its_box_and_maxima_that_coincide_share_a_mark(draw):
    figure = draw("boxes", {"corrections.npz": corrections()})
    first, second = figure.axes
    assert len(first.patches) == 2 * 4  # white below black
    corners = {tuple(patch.get_xy()) for patch in second.patches}
    assert corners == {(0.5, 0.5), (19.5, 19.5)}
    marks = {text.get_position(): text.get_text() for text in first.texts if text.get_ha() == "center"}
    assert marks == {(7, 10): "a", (26, 10): "bc", (30, 30): "d"}  # none for the bicycle, which has no maximum


def test_right_and_wrong_ones_differ_in_sign_and_slant_besides_colour(draw):
    figure = draw("signs", {"corrections.npz": corrections()})
    looks = {t.get_text()[-1]: (t.get_fontstyle(), t.get_color()) for t in figure.texts if "→" in t.get_text()}
    assert looks["✓"][0] == "normal"
    assert looks["✗"][0] == "italic"
    assert looks["✓"][1] != looks["✗"][1]


def test_no_text_reaches_over_another_or_out_of_the_figure(draw):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = draw("overlaps", {"corrections.npz": corrections()})
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.texts]
    boxes += [axes.get_window_extent(renderer) for axes in figure.axes]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0
        assert not any(box.overlaps(other) for other in boxes[:number])


def test_the_first_images_are_drawn_and_whose_they_are_is_said(draw):
    figure = draw("some", {"corrections.npz": corrections()}, figure={"pictures": "corrections.npz", "images": 1})
    assert len(figure.axes) == 1
    assert "LL-Ct, seed 1, digit_scenes" in texts(figure)


def test_pictures_are_of_the_setting_that_the_table_reports(draw):
    results = {("LL-Ct", 0.1): [(1, 2.0)] * 2, ("LL-Ct", 0.4): [(3, 4.0)] * 2}
    figure = draw("setting", {"corrections.npz": corrections()}, results)
    assert "LL-Ct, Δrel 0.4, chosen on val, seed 1, digit_scenes" in " ".join(texts(figure))


def test_a_trial_that_failed_has_no_pictures_and_the_next_seed_shows_its_own(draw):
    figure = draw("next_seed", {"corrections.npz": corrections()}, {("LL-Ct", None): [None, (1, 2.0)]})
    assert "LL-Ct, seed 2, digit_scenes" in texts(figure)


def test_without_the_artifact_there_is_nothing_to_draw(draw):
    with pytest.raises(RecordError, match=r"no finished run of 'none' has an artifact 'corrections\.npz'"):
        draw("none", {"others.npz": corrections()})


@pytest.mark.parametrize(
    "content",
    [b"no zip", corrections(given=None), corrections(classes=np.array([CLASSES], dtype=object))],
    ids=["no zip", "an array missing", "pickles"],
)
def test_another_file_is_refused_and_pickles_are_never_read(content):
    with pytest.raises(RecordError, match=r"a\.npz is no file of pictures with images, boxes, "):
        pictures.read(content, "a.npz")
