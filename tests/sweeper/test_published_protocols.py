"""What every `paper` profile resolves to, against the protocols with which published numbers are stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from analysis.tables.published import METRIC, PROFILE, RULE, protocol, published
from sweeper.spaces.reading import load_space

SPACES = {path.stem: path for path in sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))}
SOURCES = {name: YAML(typ="safe").load(path.read_text("utf-8"))["source"] for name, path in SPACES.items()}
BESIDE = [name for name, source in SOURCES.items() if "table" in source]
# Parts that a reader of the table chooses
ASKED = (PROFILE, METRIC, RULE)


@pytest.mark.parametrize("name", BESIDE)
def test_a_paper_profile_has_the_protocol_of_the_published_table_that_stands_beside_it(name):
    paper, table = published(SOURCES[name]["paper"]), SOURCES[name]["table"]
    trials = load_space(SPACES[name], profile="paper", sets=["seeds=[1]"]).trials
    compared = 0
    for row in {trial.variant for trial in trials} & paper["tables"][table]["rows"].keys():
        flat = [trial.config.flat() for trial in trials if trial.variant == row]
        for column, settings in paper["tables"][table]["columns"].items():
            own = {key: value for key, value in settings.items() if key not in ("metric", "average")}
            at = [values for values in flat if all(values.get(key) == value for key, value in own.items())]
            assert at, f"{row} has no trial in {column}"
            stated = protocol(paper, table, row, column)
            for setting, value in (
                (s, v) for part in stated if part not in ASKED for s, v in (stated[part] or {}).items()
            ):
                if "/" not in setting:  # a size of the data, which a plan does not know
                    expected = value if isinstance(value, list) else [value]
                    assert sorted({values[setting] for values in at}) == expected, (row, column, setting)
                    compared += 1
    assert compared or table == "highest_loss"  # whose rows are kinds of labels
