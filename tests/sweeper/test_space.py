"""What a search space file means: profiles, `--set`, axes, overrides, and what names a trial and a sweep."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from methods.training.registry import methods
from sweeper.planning.plan import plan
from sweeper.spaces.reading import load_space
from sweeper.spaces.space import Select
from sweeper.spaces.yaml_file import SpaceError

SPACE = """
title: two methods
source: {paper: large_loss_matters, year: 2022-06}
data: {labels: single_positive}
train: {epochs: 3, learning_rate: 1e-3}
variants:
  Full label: {method: assume_negative, data.labels: full}
  Naive AN: {method: assume_negative}
  LL-R: {method: large_loss, scheme: reject}
  LL-Ct: {method: large_loss, scheme: correct_temporary}
axes:
  delta_rel: [0.5, 2]
seeds: [1, 2]
table: {columns: delta_rel, reference: Full label}
profiles:
  smoke:
    train: {epochs: 1}
    variants: {LL-Ct: null}
    axes: {delta_rel: null}
    seeds: [7]
  paper:
    data: {labels: full}
    variants: {Naive AN: {weak: true}, Full label: {data: {labels: null}}}
"""


@pytest.fixture
def load(tmp_path):
    def of(text: str = SPACE, profile: str | None = None, sets: tuple[str, ...] = ()):
        path = tmp_path / "two_methods.yaml"
        path.write_text(text)
        return load_space(path, profile, sets)

    return of


def values(space, setting: str) -> dict[str, set]:
    """The values that a setting takes in the trials of each variant that has it."""
    taken: dict[str, set] = {}
    for trial in space.trials:
        if setting in trial.config.flat():
            taken.setdefault(trial.variant, set()).add(trial.config.flat()[setting])
    return taken


def ids(space) -> list[str]:
    return [trial.id for trial in space.trials]


def one(method: str = "{method: large_loss}", **parts: str) -> str:
    """A space of one variant and one seed."""
    return "\n".join([f"variants: {{A: {method}}}", "seeds: [1]", *(f"{key}: {part}" for key, part in parts.items())])


def test_a_space_is_its_variants_crossed_with_the_axes_they_have_for_every_seed(load):
    space = load()
    assert [(trial.variant, dict(trial.axes), trial.config.seed) for trial in space.trials] == [
        (variant, axes, seed)
        for seed in (1, 2)
        for variant, axes in [
            ("Full label", {}),
            ("Naive AN", {}),
            ("LL-R", {"delta_rel": 0.5}),
            ("LL-R", {"delta_rel": 2.0}),
            ("LL-Ct", {"delta_rel": 0.5}),
            ("LL-Ct", {"delta_rel": 2.0}),
        ]
    ]
    assert (space.name, space.title, space.profile, space.seeds) == ("two_methods", "two methods", "default", (1, 2))
    assert space.trials[2].title == "LL-R delta_rel=0.5 seed=1"
    assert values(space, "data.labels")["Full label"] == {"full"}
    assert values(space, "data.labels")["LL-R"] == {"single_positive"}


def test_what_is_left_out_has_a_default(load):
    space = load("variants: {A: {method: assume_negative}}")
    assert (space.title, space.source, space.axes, space.seeds) == ("two_methods", {}, {}, (1, 2, 3))
    assert space.select == Select("val/map", "best")
    assert space.table == {"rows": "variant", "columns": None, "value": "test/map", "reference": []}
    assert space.resources == {"cpu": 1, "gpu": 0}


@pytest.mark.parametrize(("text", "number"), [("1e-3", 0.001), ("1E+1", 10.0), ("2", 2.0), (".5", 0.5)])
def test_a_number_is_a_number_however_it_is_written(load, text, number):
    rate = load(one(train=f"{{learning_rate: {text}}}")).trials[0].config.train.learning_rate
    assert type(rate) is float
    assert rate == number


def test_a_date_and_a_yes_are_texts(load):
    assert load(one(title="2022-06-21")).title == "2022-06-21"
    assert load(one(title="yes")).title == "yes"


def test_a_profile_is_merged_into_the_space_and_null_takes_out(load):
    space = load(profile="smoke")
    assert (space.profile, space.seeds, space.axes) == ("smoke", (7,), {})
    assert [trial.variant for trial in space.trials] == ["Full label", "Naive AN", "LL-R"]
    config = space.trials[0].config
    assert (config.train.epochs, config.train.learning_rate, config.data.labels) == (1, 0.001, "full")


def test_a_profile_may_start_from_a_file_that_several_spaces_share(load, tmp_path):
    (tmp_path / "shared.yaml").write_text(
        "note: null\nseeds: [4, 5]\ntrain: {epochs: 3, batch_size: 8}\naxes: {data.known: [0.1]}\noverrides:\n"
        "- {when: {method: assume_negative}, set: {train.batch_size: 4}}\n"
        "- {when: {scheme: reject}, set: {train.batch_size: 2}}\n"  # made for other spaces
    )
    text = one(
        "{method: assume_negative}",
        note="of the default alone",
        data="{labels: proportion}",
        train="{epochs: 1}",
        profiles="{big: {from: shared.yaml, train: {epochs: 9}, axes: null}}",
    )
    space = load(text, "big")
    assert (space.note, space.seeds, space.axes) == ("", (4, 5), {})
    assert values(space, "train.epochs") == {"A": {9}}, "what the profile says itself comes last"
    assert values(space, "train.batch_size") == {"A": {4}}
    assert load(text).note == "of the default alone"


def test_a_profile_may_write_a_section_nested_where_the_space_has_it_dotted(load):
    space = load(SPACE.replace("data: {labels: null}", "data: {labels: proportion}"), "paper")
    assert values(space, "data.labels")["Full label"] == {"proportion"}
    assert values(space, "weak") == {"Full label": {False}, "Naive AN": {True}}
    assert values(load(profile="paper"), "data.labels")["Full label"] == {"full"}


def test_a_default_profile_applies_unless_another_is_asked_for(load):
    text = one(profiles="{default: {train: {epochs: 2}}, long: {train: {epochs: 9}}}", train="{batch_size: 8}")
    assert values(load(text), "train.epochs") == {"A": {2}}
    assert values(load(text, "long"), "train.epochs") == {"A": {9}}


def test_nested_and_dotted_settings_are_the_same(load):
    nested = load(one("{method: large_loss, data: {labels: full, known: 0.2}}", train="{epochs: 2}"))
    dotted = load(one("{method: large_loss, data.labels: full, data.known: 0.2}", **{"train.epochs": "2"}))
    assert ids(nested) == ids(dotted)
    assert nested.sweep == dotted.sweep


def test_set_wins_over_sections_variants_profiles_and_axes(load):
    space = load(profile="smoke", sets=("train.epochs=5", "data.labels=proportion", "delta_rel=0.7"))
    assert values(space, "train.epochs") == {"Full label": {5}, "Naive AN": {5}, "LL-R": {5}}
    assert set.union(*values(space, "data.labels").values()) == {"proportion"}
    assert values(space, "delta_rel") == {"LL-R": {0.7}}


def test_set_of_a_swept_setting_removes_its_axis(load):
    space = load(sets=("delta_rel=0.7",))
    assert len(space.trials) == 8
    assert all(trial.axes == {} for trial in space.trials)
    assert space.axes == {}
    assert values(space, "delta_rel") == {"LL-R": {0.7}, "LL-Ct": {0.7}}
    own = one("{method: large_loss, axes: {delta_rel: [1, 2]}}")
    assert values(load(own, sets=("delta_rel=3",)), "delta_rel") == {"A": {3.0}}


def test_set_changes_the_space_itself_as_a_profile_does(load):
    space = load(sets=("axes.delta_rel=[0.5]", "seeds=[4]", "select.epoch=last", "title=1 of 4", "table.columns=null"))
    assert (space.axes, space.seeds, space.select.epoch, space.title) == ({"delta_rel": [0.5]}, (4,), "last", "1 of 4")
    assert space.table["columns"] is None
    assert len(space.trials) == 4
    assert load(sets=("axes.data.known=[0.1, 0.9]",)).axes == {"delta_rel": [0.5, 2], "data.known": [0.1, 0.9]}
    assert load(sets=("axes.delta_rel=null",)).axes == {}


def test_the_last_of_two_sets_wins_and_a_section_can_be_set_whole(load):
    sets = ("train.epochs=4", "train={epochs: 6, batch_size: 8}")
    config = load(sets=sets).trials[0].config
    assert (config.train.epochs, config.train.batch_size) == (6, 8)
    assert load(sets=sets[::-1]).trials[0].config.train.epochs == 4


def test_null_can_be_a_value(load):
    assert load(one(data="{mask_seed: 5}"), sets=("data.mask_seed=null",)).trials[0].config.data.mask_seed == 1


PUBLISHED = """
variants:
  SST: {method: sst}
  GCN-ML: {method: gcn_ml, reweight: 0.5}
  AN: {method: assume_negative}
seeds: [1]
profiles:
  published: {defaults: published}
  wider: {defaults: published, variants: {SST: {pair_width: 64}}}
  narrower: {defaults: published, overrides: [{when: {method: sst}, set: {pair_width: 16}}]}
  swept: {defaults: published, axes: {pair_width: [8, 32]}}
"""


def test_published_values_take_the_place_of_defaults_where_nothing_gives_a_value(load):
    def of(profile, *sets):
        space = load(PUBLISHED, profile, sets)
        return [values(space, name) for name in ("pair_width", "hidden_width", "reweight")]

    assert of("default") == [{"SST": {32}}, {"GCN-ML": {64}}, {"GCN-ML": {0.5}}]
    assert (
        of("published")
        == of("default", "defaults=published")
        == [{"SST": {512}}, {"GCN-ML": {1024}}, {"GCN-ML": {0.5}}]
    )
    assert [of(profile)[0]["SST"] for profile in ("wider", "narrower", "swept")] == [{64}, {16}, {8, 32}]
    assert of("published", "pair_width=7")[0] == {"SST": {7}}
    assert of("published", "defaults=default") == of("default")


def test_published_values_are_those_that_are_written_out(load):
    written = PUBLISHED.replace("{method: sst}", "{method: sst, pair_width: 512, attention_width: 512}")
    published, same = (load(text, "published").trials for text in (PUBLISHED, written))
    assert [trial.id for trial in published] == [trial.id for trial in same]
    assert [trial.keys for trial in published] == [trial.keys for trial in same]


def test_an_ablation_starts_from_the_published_values(load):
    text = PUBLISHED + "one_at_a_time: {pair_width: [32, 512]}\n"
    assert [row for row in load(text).variants if row.startswith("SST,")] == ["SST, pair_width=512"]
    assert [row for row in load(text, "published").variants if row.startswith("SST,")] == ["SST, pair_width=32"]


def test_an_axis_applies_to_the_variants_that_have_it_and_do_not_set_it(load):
    text = """
    variants:
      Naive AN: {method: assume_negative}
      LL-R: {method: large_loss}
      LL-R at 1: {method: large_loss, delta_rel: 1}
      Full label: {method: assume_negative, data: {labels: full}}
    axes:
      delta_rel: {grid: [0.5, 2]}
      data.labels: {choice: [single_positive, proportion]}
    seeds: [1]
    """
    space = load(text)
    assert values(space, "delta_rel") == {"LL-R": {0.5, 2.0}, "LL-R at 1": {1.0}}
    assert values(space, "data.labels")["Full label"] == {"full"}
    assert values(space, "data.labels")["LL-R at 1"] == {"single_positive", "proportion"}
    assert [trial.variant for trial in space.trials] == ["Naive AN"] * 2 + ["LL-R"] * 4 + ["LL-R at 1"] * 2 + [
        "Full label"
    ]


def test_an_axis_wins_over_the_value_that_all_variants_share(load):
    space = load(one(data="{known: 0.5}", axes="{data.known: [0.1, 0.9]}"))
    assert values(space, "data.known") == {"A": {0.1, 0.9}}


def test_a_variant_may_have_axes_of_its_own(load):
    text = """
    variants:
      LL-R: {method: large_loss}
      LL-Cp:
        method: large_loss
        scheme: correct_permanent
        axes: {delta_rel: [5], permanent: [corrected, release_2022_03]}
    axes: {delta_rel: [0.5, 2]}
    seeds: [1]
    """
    space = load(text)
    assert [trial.point for trial in space.trials] == [
        "delta_rel=0.5",
        "delta_rel=2.0",
        "delta_rel=5.0 permanent=corrected",
        "delta_rel=5.0 permanent=release_2022_03",
    ]


def test_overrides_apply_to_the_trials_that_match_in_order(load):
    space = load(
        SPACE
        + """
overrides:
- {when: {method: large_loss}, set: {train.batch_size: 8, train.momentum: 0.5}}
- {when: {variant: LL-R, delta_rel: 2, seed: 1}, set: {train: {batch_size: 16}}}
- {when: {data: {labels: full}}, set: {train.epochs: 1}}
"""
    )
    assert {trial.title: trial.config.train.batch_size for trial in space.trials if trial.config.seed == 1} == {
        "Full label seed=1": 32,
        "Naive AN seed=1": 32,
        "LL-R delta_rel=0.5 seed=1": 8,
        "LL-R delta_rel=2.0 seed=1": 16,
        "LL-Ct delta_rel=0.5 seed=1": 8,
        "LL-Ct delta_rel=2.0 seed=1": 8,
    }
    assert values(space, "train.momentum")["LL-R"] == {0.5}
    assert values(space, "train.epochs") == {"Full label": {1}, "Naive AN": {3}, "LL-R": {3}, "LL-Ct": {3}}


def test_axes_and_set_win_over_overrides(load):
    text = (
        SPACE + "\noverrides: [{when: {method: large_loss}, set: {delta_rel: 9, train.epochs: 9, train.momentum: 0.1}}]"
    )
    space = load(text, sets=("train.epochs=2",))
    assert values(space, "delta_rel")["LL-R"] == {0.5, 2.0}
    assert values(space, "train.epochs")["LL-R"] == {2}
    assert values(space, "train.momentum")["LL-R"] == {0.1}


def test_the_mask_follows_the_seed_and_the_scenes_do_not_unless_told_otherwise(load):
    def drawn(*sets):
        trials = [trial for trial in load(sets=sets).trials if trial.variant == "LL-R"]
        return [(trial.config.data.mask_seed, trial.config.data.draw) for trial in trials]

    assert drawn() == [(1, 1), (1, 1), (2, 1), (2, 1)]
    assert drawn("data.mask_seed=1200", "data.draw=0") == [(1200, 0)] * 4
    assert drawn("data.draw=follows_seed") == [(1, 1), (1, 1), (2, 2), (2, 2)]


def test_the_record_says_what_follows_the_seed_and_names_no_other_sweep_by_it(load, monkeypatch):
    space = load()
    assert space.resolved()["follow_seed"] == ["data.mask_seed"]
    assert load(sets=("data.draw=follows_seed",)).resolved()["follow_seed"] == ["data.draw", "data.mask_seed"]
    assert load(sets=("data.mask_seed=1200",)).resolved()["follow_seed"] == []
    monkeypatch.setattr("sweeper.spaces.space.follow_seed", lambda method, given: ())
    assert load().resolved()["follow_seed"] == []
    assert load().sweep == space.sweep


@pytest.mark.parametrize(
    "changed",
    [
        "variants: {B: {method: large_loss}}\nseeds: [1]",
        "variants: {A: {method: large_loss}}\nseeds: [2]",
        one("{method: large_loss, delta_rel: 0.3}"),
        one("{method: large_loss, scheme: correct_permanent}"),
        one(data="{labels: proportion}"),
        one(data="{test_images: 8}"),
        one(network="{frozen_blocks: 1}"),
        one(train="{epochs: 4}"),
    ],
)
def test_a_trials_id_differs_by_its_variant_its_seed_and_every_setting(load, changed):
    assert ids(load(changed)) != ids(load(one()))


@pytest.mark.parametrize(
    "same",
    [
        one("{delta_rel: 0.2, method: large_loss}"),
        one("{method: large_loss, delta_rel: 2e-1}", title="another"),
        one(axes="{delta_rel: [0.2]}"),
        one(data="{mask_seed: 1}"),
        one(resources="{cpu: 2, gpu: 0.5}", select="{epoch: last}"),
        one(profiles="{other: {seeds: [3]}}"),
    ],
)
def test_a_trials_id_is_that_of_its_resolved_settings_however_they_are_written(load, same):
    assert ids(load(same)) == ids(load(one()))


def test_ids_tell_all_trials_apart_and_fit_a_tag(load):
    assert len(set(ids(load()))) == len(load().trials) == 12
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in [*ids(load()), load().sweep])


def test_the_sweep_changes_with_the_profile_and_not_with_how_it_is_shown_or_where_it_runs(load):
    text = SPACE + "  other: {title: two methods}\n"
    sweep = load(text).sweep
    assert load(text, "other").sweep != sweep
    assert ids(load(text, "other")) == ids(load(text))
    assert load(text, sets=("seeds=[1]",)).sweep != sweep
    assert load(text, sets=("select.epoch=last",)).sweep != sweep
    assert load(text, sets=("resources.cpu=4", "resources={gpu: 1}")).sweep == sweep
    shown = ("title=another", "note=simplified", "table.columns=null", "figure={y: train/loss}")
    assert load(text, sets=shown).sweep == sweep


def test_the_same_space_has_the_same_names_in_another_process(load, tmp_path):
    space = load()
    program = """if True:
        from sweeper import load_space
        space = load_space("two_methods.yaml")
        print(space.sweep, *(trial.id for trial in space.trials))
    """
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.split() == [space.sweep, *ids(space)]


def test_a_resolved_space_is_json_and_lists_its_trials(load):
    space = load()
    plain = json.loads(json.dumps(space.resolved(), allow_nan=False))
    assert plain["source"] == {"paper": "large_loss_matters", "year": "2022-06"}
    assert plain["variants"]["LL-R"] == {
        "data.labels": "single_positive",
        "train.epochs": 3,
        "train.learning_rate": 0.001,
        "method": "large_loss",
        "scheme": "reject",
    }
    assert plain["select"] == {"metric": "val/map", "epoch": "best"}
    assert plain["table"] == {
        "rows": "variant", "columns": "delta_rel", "value": "test/map", "reference": ["Full label"]
    }  # fmt: skip
    assert "average" not in plain["table"]  # it is there only where it is asked for
    assert load(sets=["table.average=data.known"]).resolved()["table"]["average"] == "data.known"
    assert plain["figure"] == {}
    assert plain["trials"][3] == {
        "trial": space.trials[3].id,
        "variant": "LL-R",
        "seed": 1,
        "axes": {"delta_rel": 2.0},
    }


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        ("{y: train/loss}", {"x": "epoch", "y": "train/loss"}),
        ("{pictures: corrections.npz}", {"pictures": "corrections.npz", "images": 6}),
        ("{pictures: cooccurrence.npz, images: 4}", {"pictures": "cooccurrence.npz", "images": 4}),
        ("{pictures: a.npz, failures: 2}", {"pictures": "a.npz", "images": 6, "failures": 2}),
    ],
)
def test_a_figure_is_resolved_with_its_defaults(load, given, resolved):
    assert load(one(figure=given)).resolved()["figure"] == resolved


def test_a_figure_draws_what_any_method_of_the_space_reports(load, monkeypatch):
    monkeypatch.setattr(methods()["large_loss"], "reports", ("alpha", "threshold"))
    given = "{x: epoch, y: [train/threshold, train/loss, train/alpha]}"
    assert load(one(figure=given)).figure["y"] == ["train/threshold", "train/loss", "train/alpha"]


@pytest.mark.parametrize(
    ("history", "best"),
    [
        ([1.0, 3.0, 2.0], 2),
        ([3.0, 1.0, 3.0], 1),
        ([math.nan, 1.0, 2.0], 3),
        ([5.0, math.nan], 1),
        ([math.nan, math.nan, math.nan], 3),
        ([0.0], 1),
    ],
)
def test_the_best_epoch_is_the_earliest_of_the_largest_and_nan_is_none(history, best):
    metrics = [{"val/map": value, "val/cf1": -value} for value in history]
    assert Select("val/map", "best").choose(metrics) == best
    assert Select("val/map", "last").choose(metrics) == len(history)


@pytest.mark.parametrize(
    ("history", "end", "best"),
    [
        ([50.0, 60.0, 57.0, 70.0], None, 4),  # 3 below is not more than 3 below
        ([50.0, 60.0, 56.9, 70.0], 3, 2),
        ([50.0, 60.0, 58.0, 56.5, 70.0], 4, 2),  # below the best, not below the epoch before
        ([50.0, math.nan, 46.0], 3, 1),
        ([math.nan, 50.0, 49.0], None, 2),
        ([50.0], None, 1),
    ],
)
def test_a_trial_ends_where_its_own_metric_is_too_far_below_its_best_and_reports_an_epoch_up_to_there(
    history, end, best
):
    metrics = [{"val/map": value} for value in history]
    select = Select("val/map", "best", 3)
    assert [select.ends(metrics[:epoch]) for epoch in range(len(metrics) + 1)] == [
        end if end and epoch >= end else None for epoch in range(len(metrics) + 1)
    ]
    assert select.choose(metrics) == best
    assert Select("val/map", "last", 3).choose(metrics) == (end or len(history))


def test_where_trials_end_is_part_of_the_sweep_only_where_it_is_given(load):
    plain, ended = load(SARB), load(SARB + "select: {end_below_best: 3}\n")
    assert plain.resolved()["select"] == {"metric": "val/map", "epoch": "best"}
    assert ended.resolved()["select"] == {"metric": "val/map", "epoch": "best", "end_below_best": 3}
    assert plain.sweep != ended.sweep
    assert [trial.keys for trial in plain.trials] == [trial.keys for trial in ended.trials]


def test_the_selecting_metric_is_the_one_asked_for():
    history = [{"val/map": 1.0, "val/cf1": 9.0}, {"val/map": 2.0, "val/cf1": 8.0}]
    assert Select("val/map").choose(history) == 2
    assert Select("val/cf1").choose(history) == 1


SARB = """
data: {labels: proportion}
train: {epochs: 7}
variants: {SSGRL: {method: ssgrl}, SARB: {method: sarb, alpha: fixed}}
seeds: [1]
"""


def changed(space, full: str) -> dict[str, dict]:
    """By row, in which settings its one trial differs from that of a full method."""
    values = {trial.variant: trial.config.flat() for trial in space.trials}
    return {row: {k: v for k, v in own.items() if values[full].get(k, v) != v} for row, own in values.items()}


def test_leaving_one_out_makes_a_row_of_each_component_that_is_switched_off(load):
    space = load(SARB + "leave_one_out: [ilrb, plrb, contrastive_weight, {blended_classes: all}]\n")
    assert {row: change for row, change in changed(space, "SARB").items() if row != "SSGRL"} == {
        "SARB": {},
        "SARB − ilrb": {"ilrb": False},
        "SARB − plrb": {"plrb": False},
        "SARB − contrastive_weight": {"contrastive_weight": 0.0},
        "SARB, blended_classes=all": {"blended_classes": "all"},
    }
    assert list(space.variants)[:3] == ["SSGRL", "SARB", "SARB − ilrb"]
    assert {trial.id for trial in load(SARB).trials} < {trial.id for trial in space.trials}
    planned = plan(space)
    assert (planned.naive_epochs, planned.unique_trials) == (6 * 7, 6)
    assert planned.unique_epochs < 6 * 7, "blending begins in epoch 6"


def test_one_at_a_time_varies_each_setting_alone_and_leaves_out_what_the_method_has_already(load):
    space = load(SARB + "one_at_a_time: {train.learning_rate: [1e-3, 3e-3], alpha_start: {grid: [0.3, 0.5, 0.7]}}\n")
    rows = {row: change for row, change in changed(space, "SARB").items() if row.startswith("SARB")}
    assert rows == {
        "SARB": {},
        "SARB, train.learning_rate=0.001": {"train.learning_rate": 1e-3},
        "SARB, alpha_start=0.3": {"alpha_start": 0.3},
        "SARB, alpha_start=0.7": {"alpha_start": 0.7},
    }
    assert [row for row in space.variants if row.startswith("SSGRL")] == ["SSGRL", "SSGRL, train.learning_rate=0.001"]
    assert len(space.trials) == 6


def test_what_is_set_on_the_command_line_is_not_ablated(load):
    assert list(load(SARB + "leave_one_out: [ilrb]\n", sets=("ilrb=false",)).variants) == ["SSGRL", "SARB"]
    assert len(load(SARB, sets=("leave_one_out=[ilrb, plrb]",)).variants) == 4


def test_ablations_are_crossed_with_axes_and_can_be_references(load):
    text = SARB + "leave_one_out: [ilrb]\naxes: {data.known: [0.1, 0.5]}\ntable: {reference: SARB − ilrb}\n"
    assert len(load(text).trials) == 3 * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leave_one_out: [ilrb,\n  irlb]", "7: no variant has the setting irlb (did you mean 'ilrb'?)"),
        ("leave_one_out: [ilrb, delta_rel]", "6: no variant has the setting delta_rel"),
        ("leave_one_out: [alpha]", "6: leave_one_out: alpha has no value that is off; write {alpha: VALUE}; allowed "),
        ("leave_one_out: [{alpha: off}]", "6: alpha: 'off' is not allowed; allowed is learned | fixed"),
        ("leave_one_out: [{alpha: fixed}]", "6: leave_one_out: alpha of SARB is 'fixed' already; take one out"),
        ("leave_one_out: [ilrb, ilrb]", "6: variant SARB − ilrb is there already: an ablation makes a row of this na"),
        ("leave_one_out: {ilrb: false, plrb: false}", "6: leave_one_out: give a list of settings, each by its name"),
        ("leave_one_out: [3]", "6: leave_one_out: give a list of settings, each by its name"),
        ("one_at_a_time: {alpha_strat: [0.3]}", "6: no variant has the setting alpha_strat (did you mean 'alpha_star"),
        ("one_at_a_time: {alpha_start: [3]}", "6: alpha_start: 3 is not allowed; allowed is a number at least 0 and a"),
        ("one_at_a_time: {alpha_start: {uniform: [0, 1]}}", "6: one_at_a_time: give alpha_start a list of values; ran"),
    ],
)
def test_what_is_wrong_with_an_ablation_is_said_with_its_line(load, tmp_path, text, expected):
    with pytest.raises(SpaceError) as caught:
        load(SARB + text + "\n")
    assert str(caught.value).startswith(f"{tmp_path}/two_methods.yaml:{expected}")
