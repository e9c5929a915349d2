from sweeper.space import load_space
from sweeper.tree import draw, duplicates

SPACE = """
train: {epochs: 4, schedule: constant}
data: {labels: single_positive}
variants:
  AN: {method: assume_negative}
  AN again: {method: assume_negative}
  AN longer: {method: assume_negative, train.epochs: 6}
  LL-R: {method: large_loss, delta_rel: 5}
seeds: [1, 2]
"""


def space(tmp_path):
    path = tmp_path / "tree.yaml"
    path.write_text(SPACE)
    loaded = load_space(path)
    return loaded, {trial.id: trial.config.keys() for trial in loaded.trials}


def test_a_stage_ends_where_trials_part_or_one_of_them_ends(tmp_path):
    assert draw(*space(tmp_path)) == [
        "stages of seed 1:",
        "  epoch 1: shared by 4 trials",
        "    epochs 2–4: AN = AN again",
        "      epochs 5–6: AN longer",
        "    epochs 2–4: LL-R",
    ]


def test_a_long_tree_is_cut_and_says_so(tmp_path):
    assert draw(*space(tmp_path), limit=1)[1:] == ["  epoch 1: shared by 4 trials", "  … and 3 more stages"]


def test_trials_that_are_one_computation_are_named_for_every_seed(tmp_path):
    assert duplicates(*space(tmp_path)) == [["AN seed=1", "AN again seed=1"], ["AN seed=2", "AN again seed=2"]]
