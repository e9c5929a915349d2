"""What may import what (`[tool.importlinter]` in pyproject.toml), and that names of the record stand in one place."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from analysis.record import names

ROOT = Path(__file__).parents[1]
ROOMS = ("analysis", "sweeper", "methods")
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder), "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", LINT], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_no_import_runs_up_or_in_a_circle():
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "imported", "contract", "complaint"),
    [
        ("analysis.record.names", "analysis.tables.table", "Layers of analysis", ""),
        ("analysis.figures.sheets", "analysis.claims.kinds", "Layers of analysis", ""),
        ("analysis.reading.runs", "sweeper.errors", "analysis needs the record alone", ""),
        ("sweeper.units", "sweeper.running.run", "Layers of sweeper", ""),
        ("sweeper.planning.stages", "analysis.reading.records", "Of analysis, sweeper uses record and claims", ""),
        ("methods.contract.schedules", "methods.training.fit", "Layers of methods", ""),
        ("methods.cache.files", "mlflow", "methods can be used alone", ""),
        ("analysis.record.names", "pandas", "analysis.record imports MLflow alone", ""),
        ("analysis.tables.writing", "analysis.tables.build", "No circles", "No cycles are allowed in analysis.tables."),
    ],
)
def test_an_import_that_runs_up_is_found_and_named(copy, module, imported, contract, complaint):
    file = copy / f"{module.replace('.', '/')}.py"
    file.write_text(f"{file.read_text('utf-8')}\n\nimport {imported}\n", encoding="utf-8")
    done = _lint(copy)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout
    assert (complaint or f"{module} -> {imported} (l.") in done.stdout


def _misplaced(graph: grimp.ImportGraph) -> set[tuple[str, str]]:
    """Imports of methods by what they are built of, and by methods of what is made of them, as (module, imported)."""
    methods = {module for module in graph.find_children("methods") if not graph.find_children(module)}
    assert "methods.large_loss" in methods
    found = {(module, other) for module in graph.modules for other in graph.find_modules_directly_imported_by(module)}
    above = ("methods.training", "methods.testing", "methods.evaluation")
    return {
        (module, other)
        for module, other in found
        if (module.count(".") > 1 and other in methods) or (module in methods and other.startswith(above))
    }


def test_a_method_stands_between_training_and_what_methods_are_built_of():
    graph = grimp.build_graph("methods", cache_dir=None)
    assert _misplaced(graph) == set()
    up = {("methods.sst", "methods.training.fit"), ("methods.components.losses", "methods.sst")}
    for module, other in up:
        graph.add_import(importer=module, imported=other)
    assert _misplaced(graph) == up


def _texts(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and text of every string constant of a module that is no docstring."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return [(node.lineno, node.value) for node in constants if isinstance(node.value, str)]


def test_names_of_the_record_stand_in_one_place():
    constants = {name: value for name, value in vars(names).items() if isinstance(value, str) and name.isupper()}
    tags = [value for value in constants.values() if value.startswith(("sweeper.", "mlflow."))]
    files = [value for value in constants.values() if value.endswith((".json", ".txt"))]
    assert {"sweeper.sweep", "mlflow.parentRunId", "space.json", "traceback.txt"} <= {*tags, *files}
    metrics = (names.KNOWN_LABELS, names.SECONDS, names.SELECTED)
    found = []
    for file in (file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        if file == Path(names.__file__):
            continue
        for line, text in _texts(ast.parse(file.read_text("utf-8"))):
            parts = [part for part in (*files, names.EPOCH, *(f"`{tag}`" for tag in tags)) if part in text]
            if parts or text in (*tags, *metrics, "sweeper."):
                found.append(f"{file.relative_to(ROOT)}:{line}: {text!r}")
    assert found == []
