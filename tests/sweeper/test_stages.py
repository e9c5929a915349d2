from sweeper.planning.stages import draw, duplicates, same
from sweeper.spaces.reading import load_space

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


def test_people_read_the_groups_once_for_all_seeds_and_the_values_together(tmp_path):
    assert same(*space(tmp_path)) == ["AN and AN again are the same computation in 4 epochs"]
    path = tmp_path / "axes.yaml"
    path.write_text("""
train: {epochs: 1}
variants: {LL-R: {method: large_loss}, AN: {method: assume_negative, network.pooling: max}}
axes: {delta_rel: [0.2, 0.5, 1.0], network.pooling: [mean, max]}
seeds: [1, 2]
""")
    loaded = load_space(path)
    assert same(loaded, {trial.id: trial.config.keys() for trial in loaded.trials}) == [
        "LL-R network.pooling=mean: delta_rel 0.2, 0.5 and 1.0 are the same computation in 1 epoch",
        "LL-R delta_rel=0.2 network.pooling=max, LL-R delta_rel=0.5 network.pooling=max, "
        "LL-R delta_rel=1.0 network.pooling=max and AN are the same computation in 1 epoch",
    ]


def test_groups_that_not_every_seed_has_name_their_seeds(tmp_path):
    loaded, keys = space(tmp_path)
    first = {trial.id: keys[trial.id] for trial in loaded.trials if trial.config.seed == 1}
    apart = {trial.id: [trial.id] for trial in loaded.trials if trial.config.seed == 2}
    assert same(loaded, first | apart) == ["AN and AN again are the same computation in 4 epochs (seed 1)"]
