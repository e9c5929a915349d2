"""The command line: what its commands print, what they load, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from methods.contract.settings import fields
from methods.data.registry import ABOUT
from methods.large_loss import LargeLoss
from methods.training.registry import methods
from sweeper.cli import _next, main
from sweeper.spaces.reading import load_space
from sweeper.spaces.schema import schema
from sweeper.spaces.search import RANGES
from sweeper.spaces.sections import EXAMPLES, FILE
from sweeper.spaces.vocabulary import SELECTING, TABLE_VALUES

LL_DELTA = Path(__file__).parents[2] / "search_spaces" / "ll_delta.yaml"
COMMANDS = ["run", "plan", "methods", "datasets", "schema", "ui", "doctor"]


def loaded(arguments: list[str], folder: Path) -> tuple[set[str], str]:
    """The top-level modules that a command loads in a process of its own, and its stdout."""
    program = """if True:
        import sys
        from sweeper.cli import main
        try:
            code = main(sys.argv[1:])
        except SystemExit as exit:
            code = exit.code
        print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
        sys.exit(code)
    """
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return set(result.stderr.splitlines()[-1].split()), result.stdout


def test_help_names_every_command_and_loads_nothing_heavy(tmp_path):
    modules, out = loaded(["--help"], tmp_path)
    assert all(f"\n    {command} " in out for command in COMMANDS)
    assert "sweeper" in modules
    assert not modules & {"torch", "ray", "mlflow", "pandas", "numpy", "ruamel"}


def test_a_plan_loads_neither_ray_nor_mlflow(tmp_path):
    modules, out = loaded(["plan", str(LL_DELTA), "--profile", "smoke"], tmp_path)
    assert "16 trials (16 different)" in out
    assert not modules & {"ray", "mlflow", "pandas", "optuna"}


def test_what_is_to_do_next_is_to_look_at_the_table_or_where_none_is_printed_at_the_figure():
    assert _next(load_space(LL_DELTA)) == "python -m analysis table ll_delta"
    assert _next(load_space(LL_DELTA.with_name("ll_precision.yaml"))) == "python -m analysis figure ll_precision"


def test_methods_lists_every_method_with_a_line(capsys):
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    listed = [line.split()[0] for line in out.splitlines() if line and not line.startswith("settings")]
    assert listed == list(methods())
    assert "(LL-R, LL-Ct, LL-Cp)" in out
    assert out.endswith("python -m sweeper methods NAME\n")


def test_a_methods_page_has_its_equations_its_source_and_every_setting(capsys):
    assert main(["methods", "large_loss"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Large Loss Matters (Kim et al., CVPR 2022)")
    assert "* LL-R (`reject`): their loss counts 0" in out
    assert f"\nsource: {LargeLoss.source}\n" in out
    for field in fields(LargeLoss.Settings):
        assert f"\n  {field.name} = " in out
        assert field.metadata["doc"] in out
    assert (
        "  delta_rel = 0.2    (a number at least 0 and at most 100)\n"
        "      percent of labels modified more per epoch (LL-Cp: percent modified)\n"
        "      worth trying: 0.1, 0.2, 0.4, 0.8, 1.6, 3.2\n"
        "      published: 0.2\n"
        "      source: slides, R(t); release config.py:48\n"
    ) in out
    assert "  protect_observed = true    (true | false)\n" in out
    assert "      acts when scheme is correct_permanent\n" in out
    assert "  data.mask_seed = null    (an integer at least 0 and at most 4294967295 or null)\n" in out
    assert "      acts when train.optimizer is sgd or rmsprop\n" in out


def test_datasets_lists_each_with_what_it_is(capsys):
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(ABOUT)
    assert all(len(line.partition(": ")[2]) > 20 for line in lines)


def test_the_page_on_the_space_file_is_what_the_command_prints(capsys):
    assert main(["schema", "--format", "md"]) == 0
    page = capsys.readouterr().out
    assert page == (Path(__file__).parents[2] / "docs" / "space_file.md").read_text(encoding="utf-8")
    for key, field in FILE.items():
        assert f"\n## {key}\n" in page
        assert field.metadata["doc"] in page
    for section in ("data", "train", "search", "search.confirm", "stop", "table", "resources", "overrides", "figure"):
        assert f"\n  {section}." in page
    assert not [key for key, field in FILE.items() if field.allowed == "a mapping" or "anything" in field.allowed]
    assert page.count(" | ".join(TABLE_VALUES)) == 1
    assert f"  select.metric = val/map    ({' | '.join(SELECTING)})\n" in page
    for way in ("grid", "choice", *RANGES):
        assert f"{{{way}: [" in page
    of_key = {part.partition("\n")[0]: part for part in page.split("\n## ")}
    assert all(f"```yaml\n{text}\n```" in of_key[key] for key, text in EXAMPLES.items())


def test_schema_prints_the_schema(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["methods", "larg_loss"],
            f"error: method: 'larg_loss' is not allowed; allowed is {' | '.join(methods())}\n",
        ),
        (["plan", "none.yaml"], "error: none.yaml: cannot be read: No such file or directory\n"),
        (
            ["plan", str(LL_DELTA), "--set", "seeds"],
            "error: --set seeds: give it as key=value, such as --set train.epochs=2\n",
        ),
    ],
)
def test_bad_input_ends_with_code_2_and_one_line_on_stderr(capsys, tmp_path, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == message


@pytest.mark.parametrize("command", [[], ["sweep"], ["plan"], ["plan", "x.yaml", "--max-concurrent", "0"]])
def test_a_command_that_is_none_ends_with_code_2_and_its_usage(capsys, command):
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: sweeper")
