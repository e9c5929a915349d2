"""The commands and files of docs/cluster.md are such as Ray, MLflow and the sweeper take."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
from mlflow.cli import server
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli as ray_cli
from ruamel.yaml import YAML

from sweeper.cli import _parser
from sweeper.planning.plan import slots_here
from sweeper.spaces.reading import load_space

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "cluster.md").read_text(encoding="utf-8")
SLURM = (DOCS / "slurm.sh").read_text(encoding="utf-8")
COMMANDS = re.sub(r"\\\n", "", "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)) + SLURM)


def commands(start: str) -> list[list[str]]:
    """What follows `start` in each line that has it, as words."""
    found = [line.partition(" -- ")[0] for line in re.findall(rf"{start} ([^|&>\n]*)", COMMANDS)]
    return [shlex.split(line.replace('"$@"', "SPACE").replace('"$budget"', "11.5h")) for line in found]


def options(command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def test_every_command_of_the_sweepers_parses():
    found = commands("python -m sweeper")
    assert {words[0] for words in found} == {"doctor", "run"} and len(found) == 5
    for words in found:
        _parser().parse_args(words)


def test_every_option_of_rays_and_mlflows_commands_exists():
    used = {
        name: {word.partition("=")[0] for words in commands(f"ray {name}") for word in words if word.startswith("--")}
        for name in ("start", "get-auth-token", "symmetric-run")
    }
    assert all(used.values())
    for name, names in used.items():
        assert names <= options(ray_cli.commands[name])
    ((*words,),) = commands("mlflow server")
    assert {word for word in words if word.startswith("--")} <= options(server)


def test_the_autoscalers_file_is_what_ray_takes():
    config = YAML(typ="safe").load(DOCS / "autoscaler.yaml")
    schema = Path(ray.autoscaler.__file__).parent / "ray-schema.json"
    jsonschema.validate(config, json.loads(schema.read_text()))
    validate_config(prepare_config(config))
    head, worker = (config["available_node_types"][name] for name in ("head", "worker"))
    # One platform, and a head that can hold a trial when there is no worker yet.
    assert head["resources"] == worker["resources"]
    assert {**worker["node_config"], "InstanceMarketOptions": {}} == {
        **head["node_config"],
        "InstanceMarketOptions": {},
    }


# Slurm's commands are stood in for: there is none here.
def test_a_slurm_job_stopped_by_its_budget_is_queued_again_and_one_that_failed_is_not(tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    for name, does in {
        "ray": "true",
        "srun": 'echo "$@" > started; exit "$CODE"',
        "scontrol": 'echo "$@" >> queue',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "4", "SLURM_SUBMIT_DIR": str(tmp_path), "CODE": "1"}
    environment = {**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}", "MLFLOW_TRACKING_URI": "http://a"}
    script = ["bash", str(DOCS / "slurm.sh"), "a.yaml", "--profile", "paper"]
    assert subprocess.run(script, env=environment).returncode == 1
    assert not (tmp_path / "queue").exists()
    started = (tmp_path / "started").read_text()
    assert "symmetric-run --address" in started and ":20007 --min-nodes 4 -- python -m sweeper run a.yaml" in started
    assert subprocess.run(script, env={**environment, "CODE": "3"}).returncode == 3
    assert (tmp_path / "queue").read_text() == "requeue 7\n"


@pytest.mark.parametrize("resources", re.findall(r"^(resources: .*?)(?: +#.*)?$", PAGE, flags=re.MULTILINE))
def test_the_resources_shown_are_valid(tmp_path, resources):
    path = tmp_path / "space.yaml"
    path.write_text(f"variants: {{A: {{method: assume_negative}}}}\n{resources}\n")
    assert slots_here(load_space(path)) >= 1
