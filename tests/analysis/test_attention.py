"""What a figure of attention shows of each scene and variant."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from sklearn.metrics import average_precision_score

from analysis.figures import attention, drawing
from analysis.reading import records
from analysis.reading.records import RecordError
from tests.analysis.scenes import CLASSES, completions
from tests.analysis.scenes import attention as scenes

LAYOUT = {"rows": "variant", "columns": None, "value": "test/map"}
PER_VARIANT = attention.MAPS + 1  # axes


@pytest.fixture(scope="module")
def draw(store):
    """Log a sweep of two variants whose trials left this file, and draw it."""

    def of(name, content, images=2, **more):
        results, figure = {("CoOp", None): [(1, 2.0)], ("Ours", None): [(1, 3.0)]}, {"pictures": "attention.npz"} | more
        store.log(
            name,
            "a77",
            results,
            seeds=[1],
            table=LAYOUT,
            figure=figure | {"images": images},
            artifacts={"attention.npz": content},
        )
        return drawing.draw(records.load(name, tracking_uri=store.uri))

    return of


@pytest.fixture(scope="module")
def figure(draw):
    return draw("attention", scenes())


def test_each_variant_shows_the_maps_of_its_three_most_likely_classes(figure):
    assert len(figure.axes) == 2 * (1 + 2 * PER_VARIANT)
    coop, ours = figure.axes[1:4], figure.axes[1 + PER_VARIANT :][:3]
    for maps in (coop, ours):
        assert [axes.get_title() for axes in maps] == ["car ✓", "banana ✗", "fire hydrant ✓"]
    image, over = coop[0].images
    assert image.get_array().shape == (40, 40)
    np.testing.assert_array_equal(over.get_array(), [[0, 1], [0, 0]])
    assert over.get_extent() == image.get_extent()  # cells lie where they are in the image


def test_the_five_highest_scores_are_bars_coloured_by_what_is_true(figure):
    bars = figure.axes[PER_VARIANT]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([0.9, 0.75, 0.5, 0.25, 0.2])
    right, wrong = attention.RIGHT.lower(), attention.WRONG.lower()
    assert [to_hex(bar.get_facecolor()) for bar in bars.patches] == [right, wrong, right, wrong, wrong]
    names = [label.get_text() for label in bars.get_yticklabels()]
    assert names == ["car ✓", "banana ✗", "fire hydrant ✓", "person ✗", "bicycle ✗"]


def test_objects_are_lettered_as_the_line_below_says(figure):
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["a", "b"]
    assert "fire hydrant [a], car [b]" in {text.get_text() for text in figure.texts}


def test_as_many_scenes_are_drawn_as_the_space_says(draw):
    assert len(draw("attention_one", scenes(), images=1).axes) == 1 + 2 * PER_VARIANT


def test_failures_are_beside_successes_by_the_last_variants_ranking_and_how_many_succeed_is_said(draw):
    truth = np.array([[1, 1, -1], [1, -1, -1], [-1, -1, 1], [-1, 1, -1], [-1, -1, -1]], np.int8)
    scores = np.array([[3, 2, 1], [2, 3, 1], [3, 2, 1], [1, 3, 2], [1, 2, 3]], np.float32) / 4
    content = scenes(
        images=np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 3, 40, 40), np.uint8),
        boxes=np.zeros((0, 6), np.int32),
        classes=np.array(CLASSES[:3]),
        truth=truth,
        scores=scores,
        attention=np.zeros((5, 3, 2, 2), np.float32),
    )
    read = attention.read([content], "attention.npz")
    # As scikit-learn has it, of the classes of one scene.
    expected = [average_precision_score(t > 0, s) for t, s in zip(truth[:4], scores[:4], strict=True)]
    assert [attention.precision(scene, scene.seen[0]) for scene in read] == pytest.approx([*expected, 1])
    figure = draw("attention_failures", content, images=1, failures=2)
    pictures = [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes[:: 1 + 2 * PER_VARIANT]]
    assert pictures == [0, 2, 1], "the first of the best, then the worst first"
    said = [text.get_text() for text in figure.texts]
    assert "Successes. Ours ranks the classes in the scene above all others in 3 of 5 scenes" in said
    assert "Failures. The scenes in which Ours ranks them worst" in said


def test_scenes_that_differ_between_the_variants_are_not_set_side_by_side():
    other = scenes(images=np.zeros((2, 3, 40, 40), np.uint8))
    with pytest.raises(RecordError, match="of different scenes; give them one data.draw"):
        attention.read([scenes(), other], "attention.npz")


def test_another_file_is_refused(draw):
    with pytest.raises(RecordError, match="attention.npz is no file of pictures with .*scores"):
        draw("attention_other", completions())
    assert len(CLASSES) == 6
