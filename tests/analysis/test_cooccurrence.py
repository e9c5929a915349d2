"""What a figure of co-occurrence shows of each scene."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from analysis.figures import cooccurrence, drawing
from analysis.reading import records
from analysis.reading.records import RecordError
from tests.analysis.scenes import CLASSES, completions, corrections

FIGURE = {"pictures": "cooccurrence.npz", "images": 6}
LAYOUT = {"rows": "variant", "columns": None, "value": "test/map"}
PER_SCENE = 4  # axes: the picture, the matrix, and the scores of two rules


@pytest.fixture(scope="module")
def scenes():
    return cooccurrence.read(completions(), "cooccurrence.npz")


@pytest.fixture(scope="module")
def draw(store):
    """Log a sweep whose trials left this file, and draw it."""

    def of(name, content, figure=FIGURE):
        results, artifacts = {("SST", None): [(1, 2.0)]}, {"cooccurrence.npz": content}
        store.log(name, "9ad", results, seeds=[1], table=LAYOUT, figure=figure, artifacts=artifacts)
        return drawing.draw(records.load(name, tracking_uri=store.uri))

    return of


@pytest.fixture(scope="module")
def figure(draw):
    return draw("co", completions())


def marks(axes) -> dict[int, str]:
    """Row and sign of what a rule completed."""
    return {int(text.get_position()[1]): text.get_text() for text in axes.texts if text.get_text() in "✓✗"}


def many(classes: int, **names) -> bytes:
    """Scenes of as many classes, where all is known to be or completed but every third, and every other is true."""
    given = np.array([[(1, 0, 0)[k % 3] for k in range(classes)]], np.int8)
    truth = np.array([[1 if k % 2 else -1 for k in range(classes)]], np.int8)
    completed = np.array([[[1, 1, 0][k % 3] for k in range(classes)]], np.int8)
    return completions(
        images=np.full((1, 3, 40, 40), 90, np.uint8),
        boxes=np.array([[0, k, x, x, x + 30, x + 30] for x, k in zip((1, 2, 1), (0, 1, 3), strict=True)], np.int32),
        classes=np.array([names.get("name", "class") + f" {k}" for k in range(classes)]),
        given=given,
        truth=truth,
        cooccurrence=np.full((1, classes, classes), 0.3, np.float32),
        scores=np.full((1, 2, classes), 0.9, np.float32),
        completed=np.repeat(completed[:, None], 2, axis=1),
    )


def test_below_a_picture_stands_what_was_given_and_what_each_rule_adds(scenes):
    assert scenes[0].lines() == ["given: 1 +, 1 −; unknown: 4, 2 true", "IST adds 1 ✓, 0 ✗", "CST adds 1 ✓, 1 ✗"]
    assert scenes[1].lines() == ["given: 0 +, 0 −; unknown: 6, 1 true", "IST adds none", "CST adds none"]


def test_the_matrix_has_a_row_and_a_column_per_class_and_frames_the_known_positives(figure):
    picture, matrix = figure.axes[:2]
    shown = matrix.images[0].get_array()
    assert shown.shape == (6, 6)
    assert shown.mask.tolist() == np.eye(6, dtype=bool).tolist()  # the diagonal is no prediction
    assert shown[1, 0] == pytest.approx(0.75) and shown[1, 2] == pytest.approx(0.1)
    assert matrix.images[0].get_clim() == (0, 0.8)
    assert [(patch.get_xy(), patch.get_width(), patch.get_height()) for patch in matrix.patches] == [
        ((-0.5, -0.5), 1, 6)
    ]
    rows = {text.get_text(): text.get_position()[1] for text in matrix.texts if text.get_text() in CLASSES}
    assert rows == {name: row for row, name in enumerate(CLASSES)}
    bold = {text.get_text() for text in matrix.texts if text.get_fontweight() == "bold"}
    assert bold == {"fire hydrant", "+", "−"}
    signs = [(text.get_text(), text.get_position()[1]) for text in matrix.texts if text.get_text() in "+−●"]
    assert sorted(signs) == sorted([("+", 0), ("−", 5), ("●", 0), ("●", 1), ("●", 2)])
    assert sorted(text.get_text() for text in picture.texts) == ["a", "b", "b"]  # as the rows and columns are lettered
    assert [label.get_text() for label in matrix.get_yticklabels()] == list("abcdef")


def test_scores_are_bars_beside_the_threshold_and_each_rules_additions_are_marked(figure):
    intra, inter = figure.axes[2:4]
    assert [bar.get_width() for bar in intra.patches] == pytest.approx([1, 0.75, 0.1, 0.1, 0.1, 0.1])
    assert [bar.get_width() for bar in inter.patches] == pytest.approx([0.25, 0.875, 0.25, 0.25, 0.875, 0.25])
    assert [axes.lines[0].get_xdata()[0] for axes in (intra, inter)] == [0.7, 0.8]
    assert marks(intra) == {1: "✓"}
    assert marks(inter) == {1: "✓", 4: "✗"}
    right, wrong = (to_hex(inter.patches[row].get_facecolor()) for row in (1, 4))
    assert len({right, wrong, to_hex(inter.patches[2].get_facecolor())}) == 3
    assert [bar.get_facecolor()[3] for bar in intra.patches] == [0, 1, 1, 1, 1, 0]  # open where a label was given
    heads = [text.get_text().partition(":")[0] for axes in (intra, inter) for text in axes.texts]
    assert [head for head in heads if head not in "✓✗"] == ["IST", "CST"]


def test_scores_that_are_all_zero_are_said_to_be(figure):
    assert "all 0" in [text.get_text() for text in figure.axes[PER_SCENE + 2].texts]


def test_what_is_off_has_no_bars(draw):
    off = completions(
        rules=np.array(["inter"]),
        scores=np.full((2, 1, 6), 0.5),
        thresholds=np.array([0.75]),
        completed=np.zeros((2, 1, 6), np.int8),
    )
    figure = draw("off", off)
    assert len(figure.axes) == 2 * (PER_SCENE - 1) + 1
    assert not any("IST adds" in text.get_text() for text in figure.texts)


def test_more_classes_than_can_be_read_are_cut_to_those_that_matter():
    (scene,) = cooccurrence.read(
        completions(
            images=np.full((1, 3, 40, 40), 90, np.uint8),
            boxes=np.zeros((0, 6), np.int32),
            classes=np.array([f"class {k}" for k in range(80)]),
            given=np.array([[1, *[0] * 79]], np.int8),
            truth=np.array([[1, *[-1] * 77, 1, -1]], np.int8),
            cooccurrence=np.full((1, 80, 80), 0.1, np.float32),
            scores=np.linspace(1, 0, 160, dtype=np.float32).reshape(1, 2, 80),
            completed=np.array([[[0] * 80, [*[0] * 70, 1, *[0] * 9]]], np.int8),
        ),
        "a.npz",
    )
    shown = scene.shown()
    assert len(shown) == 20 and shown == sorted(shown)
    assert {0, 70, 78} <= set(shown)  # known, completed, true
    assert set(shown) - {70, 78} == set(range(18))  # then the highest scores
    assert scene.lines()[-1] == "20 of 80 classes shown"


@pytest.mark.parametrize(
    "content",
    [completions(), many(20, name="blue"), many(45, name="a longish name of a class")],
    ids=["few classes", "many", "more than are shown"],
)
def test_no_text_reaches_over_another_or_out_of_the_figure(content):
    figure = cooccurrence._draw(cooccurrence.read(content, "a.npz"), "SST: " + 30 * "title ", "SST, seed 1")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    shown = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    boxes = {text: text.get_window_extent(renderer) for text in shown}
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width, text.get_text()
        assert box.y0 >= 0 and box.y1 <= figure.bbox.height, text.get_text()
    for (one, box), (other, another) in itertools.combinations(boxes.items(), 2):
        assert not box.overlaps(another), (one.get_text(), other.get_text())


def test_the_first_images_are_drawn_and_whose_they_are_is_said(draw):
    figure = draw("first", completions(), figure={"pictures": "cooccurrence.npz", "images": 1})
    assert len(figure.axes) == PER_SCENE + 1  # and the scale
    assert "SST, seed 1, digit_scenes" in [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("content", [b"no zip", corrections(), completions(rules=None)])
def test_another_file_is_refused(content):
    with pytest.raises(RecordError, match=r"a\.npz is no file of pictures with images, boxes, .* completed: "):
        cooccurrence.read(content, "a.npz")
