"""What a figure of similar images shows of each scene and class."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_hex

from analysis.figures import drawing, similar
from analysis.figures.pictures import RIGHT, WRONG
from analysis.reading import records
from analysis.reading.records import RecordError
from tests.analysis.scenes import attention
from tests.analysis.scenes import similar as scenes


@pytest.fixture(scope="module")
def draw(store):
    """Log a sweep of one trial that left this file, and draw it."""

    def of(name, content, images=2):
        layout = {"rows": "variant", "columns": None, "value": "test/map"}
        figure = {"pictures": similar.NAME, "images": images}
        files = {similar.NAME: content}
        store.log(name, "51a", {("SST", None): [(1, 2.0)]}, seeds=[1], table=layout, figure=figure, artifacts=files)
        return drawing.draw(records.load(name, tracking_uri=store.uri))

    return of


@pytest.fixture(scope="module")
def figure(draw):
    return draw("similar", scenes())


def shown(axes):
    return axes.images[0].get_array()


def test_beside_a_scene_are_the_images_most_similar_in_each_class_the_nearest_first(figure):
    with np.load(io.BytesIO(scenes())) as file:
        images = file["images"].transpose(0, 2, 3, 1)
    assert len(figure.axes) == 5  # and none where there is no class or image
    for axes, image in zip(figure.axes, images[[0, 2, 1, 1, 3]], strict=True):
        np.testing.assert_array_equal(shown(axes), image)
    assert [text.get_text() for text in figure.texts if text.get_text() in ("1.00", "0.75", "0.50")] == [
        "1.00",
        "0.75",
        "0.50",
    ]


def test_a_similar_image_has_the_boxes_of_the_class_alone(figure):
    # A box is drawn twice, black on white.
    corners = [sorted({patch.get_xy() for patch in axes.patches}) for axes in figure.axes]
    assert corners == [[(1.5, 2.5), (14.5, 4.5)], [(3.5, 3.5)], [(0.5, 0.5)], [(4.5, 4.5)], []]
    assert [sorted(text.get_text() for text in axes.texts) for axes in figure.axes] == [
        ["a", "b"],
        [""],
        [""],
        [""],
        [],
    ]


def test_a_class_says_whether_it_is_in_the_scene_how_similar_it_is_and_whether_it_becomes_a_label(figure):
    said = {text.get_text(): to_hex(text.get_color()).upper() for text in figure.texts if "mean" in text.get_text()}
    assert said == {"car ✓  mean 0.88  → label": RIGHT, "banana ✗  mean 0.50": WRONG}


def test_below_a_scene_are_its_known_and_its_hidden_classes(figure):
    said = [text.get_text() for text in figure.texts]
    assert {"known: fire hydrant [a]", "hidden: car [b]"} <= set(said)
    assert said.count("known: none") == said.count("hidden: none") == 1


def test_as_many_scenes_are_drawn_as_the_space_says_and_another_file_is_refused(draw):
    assert len(draw("similar_one", scenes(), images=1).axes) == 4
    with pytest.raises(RecordError, match="similar_images.npz is no file of pictures with .*nearest"):
        draw("similar_other", attention())
