#!/bin/bash
# A sweep on several nodes: sbatch docs/slurm.sh search_spaces/sst_table1.yaml --profile paper
#
# The job ends cleanly before its time limit and is queued again until the sweep is done: the same command continues
# where it stopped. All nodes must see the folder from which the job is submitted, with .venv and the store.
#SBATCH --job-name=sweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sweep-%j.log
set -euo pipefail
: "${1:?give it a search space}"
: "${MLFLOW_TRACKING_URI:?name the MLflow server, such as http://mlflow.example.org:5000}"

# Less than --time, so that there is time for a clean end. Running epochs are not completed.
budget=11.5h

cd "${SLURM_SUBMIT_DIR:-.}"
source .venv/bin/activate
export SWEEPER_STORE=${SWEEPER_STORE:-$PWD/runs/store}
export RAY_AUTH_MODE=token
ray get-auth-token --generate > /dev/null # into ~/.ray/auth_token, which all nodes see

# This script runs on the first node. The IP address is used, because a node may resolve its own name to 127.0.1.1.
address=$(hostname -I | cut -d ' ' -f 1):$((20000 + SLURM_JOB_ID % 20000))

# Starts the head here and the workers on the other nodes, waits for all, runs the command here, and stops all.
code=0
srun --kill-on-bad-exit=0 ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    python -m sweeper run "$@" --address "$address" --time-budget "$budget" || code=$?

# Exit code 3: the budget is used up.
if [ "$code" = 3 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
