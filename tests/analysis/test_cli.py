"""The command line, and what it loads."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from analysis.cli import main


def test_a_table_goes_to_stdout_or_into_a_file(store, capsys, tmp_path):
    assert main(["table", "ll_delta", "--tracking-uri", store.uri, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "ll_delta"
    out = tmp_path / "new" / "table.tex"
    assert main(["table", "ll_delta", "--tracking-uri", store.uri, "--format", "latex", "--out", str(out)]) == 0
    assert out.read_text().startswith(r"\begin{table}")
    assert capsys.readouterr().out == ""


def test_a_figure_goes_to_runs_figures_unless_told_otherwise(store, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    assert main(["figure", "ll_delta"]) == 0
    assert (tmp_path / "runs" / "figures" / "ll_delta.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == "runs/figures/ll_delta.png"
    assert main(["figure", "ll_delta@0ld:default"]) == 0
    assert capsys.readouterr().out.strip() == "runs/figures/ll_delta.png"


@pytest.mark.parametrize("sweep", [["ll_delta@0ld"], ["ll_delta@0ld:default"], ["ll_delta:default", "--sweep", "0ld"]])
def test_a_sweep_is_named_with_its_space_or_by_options(store, capsys, sweep):
    assert main(["table", *sweep, "--tracking-uri", store.uri]) == 0
    assert "Profile default, sweep 0ld." in capsys.readouterr().out


def test_a_figure_of_a_table_shows_what_the_table_is_told_to(store, tmp_path):
    out = tmp_path / "figure.svg"
    results = {(row, None): [(1, 60.0)] * 2 for row in "AB"}
    of_rows = {"A": {"train.epochs": 12}, "B": {"train.epochs": 6}}
    layout = {"rows": "variant", "columns": None, "value": "test/map"}
    store.log("mixed_figure", "31f", results, seeds=[1, 2], of_rows=of_rows, table=layout)
    command = ["figure", "mixed_figure", "--value", "val/map", "--out", str(out), "--tracking-uri", store.uri]
    assert main(command) == 2
    assert main([*command, "--allow", "train.epochs", "--select", "best_val"]) == 0
    assert "val mAP (%)" in out.read_text() and "test mAP (%)" not in out.read_text()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["table", "ll_detla"], "the nearest are ll_delta"),
        (["table", "delta_of_ll"], "; there are "),
        (["table", "ll_delta", "--profile", "a'b"], "no sweep of 'll_delta' with profile a'b is recorded"),
        (["figure", "over_epochs", "--value", "val/map"], "the figure of 'over_epochs' is none of its table"),
        (["table", "never_run"], "python -m sweeper run search_spaces/never_run.yaml"),
        (["table", "ll_delta", "--sweep", "zzz"], "newest first: ae4f"),
        (["table", "over_epochs"], "python -m analysis figure over_epochs"),
        (["table", "ll_delta", "--against", "LL-S"], "its rows are Full label, Naive AN, LL-R, LL-Ct"),
        (["compare", "ll_delta", "ll_delta@zzz"], "newest first: ae4f"),
        (["compare", "ll_delta", "@zzz"], "give NAME, NAME@HASH"),
        (["figure", "ll_delta", "--out", "figure.docx"], ".png, .svg, .pdf"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_code_2(store, capsys, command, message):
    assert main([*command, "--tracking-uri", store.uri]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1


def test_an_unknown_format_is_exit_code_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["table", "ll_delta", "--format", "docx"])
    assert "latex" in capsys.readouterr().err


def test_without_a_database_it_says_to_run_a_sweep_and_creates_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["table", "ll_delta"]) == 2
    assert "run a sweep first" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_table_loads_neither_the_other_rooms_nor_torch_nor_ray_and_writes_nothing_else(store):
    program = f"""
import sys
from analysis import table
made = table("ll_delta", tracking_uri={store.uri!r}, select="best_val", against="Naive AN")
loaded = {{name.partition(".")[0] for name in sys.modules}} & {{"torch", "ray", "sweeper", "methods"}}
print(made.selected, sorted(loaded))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "best_val []\n"
    assert done.stderr == ""


def test_no_module_of_analysis_imports_torch_ray_or_another_room_anywhere():
    """Inside functions neither: their imports are in the text."""
    for file in Path(analysis.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.partition(".")[0] for name in names} & {"torch", "ray", "sweeper", "methods"}, file.name


def test_help_does_not_wait_for_mlflow():
    program = "import sys; from analysis.cli import _parser; _parser().format_help(); print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
