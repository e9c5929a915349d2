"""Results of searches: TPE and random search compared with a grid of as many trials; savings and losses of ASHA.

    python benchmarks/search.py points [--out docs/search.png]
    python benchmarks/search.py asha

It uses digit scenes with few images and epochs, in its own folder. A search depends only on its settings and the name
of the variant, so repetitions are variants that differ only in their names. Suggestions do not depend on how trials
are run: `points` trains in this process, without Ray and MLflow; `asha` runs real sweeps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd

from sweeper.spaces.search import Result
from sweeper.spaces.trial import Trial

REPETITIONS = 5
SMALL = """
data: {labels: single_positive, train_images: 256, val_images: 500, test_images: 32}
seeds: [1]
"""
METHOD = "{method: large_loss, scheme: reject}"
SIDE = 5  # of the grid, ends included: by default decades of the rate, as one would begin, and ll_delta's values
ASHA_TRIALS, ASHA_EPOCHS = 9, 9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("points", "asha"))
    parser.add_argument("--out", type=Path, default=Path("docs/search.png"), help="the figure of `points`")
    for axis, ends in (("rate", (1e-5, 1e-1)), ("delta", (0.1, 10.0))):
        parser.add_argument(f"--{axis}", type=float, nargs=2, default=ends, metavar=("LOW", "HIGH"), help="of `points`")
    options = parser.parse_args()
    out = options.out.absolute()
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder, which has an analysis.py of its own
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["SWEEPER_STORE"] = f"{folder}/runs/store"
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/runs/mlflow.db"
        os.chdir(folder)
        _points(options.rate, options.delta, out) if options.what == "points" else _asha()
    return 0


def _points(rate: Sequence[float], delta: Sequence[float], out: Path) -> None:
    """Measures and draws the best val mAP so far against the number of trials."""
    train = "train: {epochs: 4, batch_size: 8}"
    grid = _measured(
        f"{SMALL}{train}\nvariants: {{1: {METHOD}}}\n"
        f"axes: {{train.learning_rate: {_geometric(*rate)}, delta_rel: {_geometric(*delta)}}}\n"
    )["1"]
    top, number = max(grid), len(grid)
    print(f"grid, {number} trials: {top:.1f}", flush=True)
    curves = {}
    for algorithm in ("tpe", "random"):
        repeated = ", ".join(f"{n}: {METHOD}" for n in range(1, REPETITIONS + 1))
        found = _measured(
            f"{SMALL}{train}\nvariants: {{{repeated}}}\n"
            f"axes: {{train.learning_rate: {{loguniform: {[*rate]}}}, delta_rel: {{loguniform: {[*delta]}}}}}\n"
            f"search: {{algorithm: {algorithm}, trials: {number}}}\n"
        )
        curves[algorithm] = [list(accumulate(values, max)) for values in found.values()]
        best = [curve[-1] for curve in curves[algorithm]]
        first = [next((n for n, value in enumerate(curve, 1) if value >= top), None) for curve in curves[algorithm]]
        print(
            f"{algorithm}: {statistics.fmean(best):.1f} ± {statistics.stdev(best):.1f}, {min(best):.1f} to "
            f"{max(best):.1f}; the grid's best or more in {sum(value >= top for value in best)} of {REPETITIONS}, "
            f"first at trials {', '.join(map(str, first))}",
            flush=True,
        )
    _draw(curves, top, number, out)


def _measured(text: str) -> dict[str, list[float]]:
    """The best val mAP of each trial of each variant, in the order of suggestion."""
    from methods.training.fit import Training
    from sweeper import load_space
    from sweeper.planning.studies import Studies

    path = Path("space.yaml")
    path.write_text(text)
    space = load_space(path)
    values: dict[str, float] = {}

    def train(trial: Trial) -> Result:
        history = [metrics for _, metrics in Training(trial.config).epochs()]
        measured = history[space.select.choose(history) - 1]
        values[trial.id] = measured["val/map"]
        return space.search.result(measured) if space.search else Result(None)

    if space.search:
        trials: Sequence[Trial] = Studies(space.search, space.variants, space.seeds).replay(train)
    else:
        trials = space.trials
        for trial in trials:
            train(trial)
    return {row: [values[trial.id] for trial in trials if trial.variant == row] for row in space.variants}


def _asha() -> None:
    """Runs a search over three methods of `ll_table1` with early stopping, then the same points without it."""
    rows = {
        "Naive AN": "{method: assume_negative}",
        "LL-R": "{method: large_loss, scheme: reject}",
        "LL-Ct": "{method: large_loss, scheme: correct_temporary}",
    }
    print("| repetition | epochs | saved | " + " | ".join(f"best {row}, lost" for row in rows) + " |")
    saved, lost = [], []
    for repetition in range(1, REPETITIONS + 1):
        variants = ", ".join(f"{row} {repetition}: {settings}" for row, settings in rows.items())
        text = f"{SMALL}train: {{epochs: {ASHA_EPOCHS}}}\nvariants: {{{variants}}}\n"
        text += "axes: {train.learning_rate: {loguniform: [1e-4, 1e-1]}, delta_rel: {loguniform: [0.2, 10]}}\n"
        text += f"search: {{algorithm: random, trials: {ASHA_TRIALS}}}\n"
        stopped, trained = _run(f"asha_{repetition}", f"{text}stop: {{rule: asha, grace: 1, reduction: 3}}\n")
        whole, _ = _run(f"whole_{repetition}", text)
        finished = stopped[stopped["status"] == "FINISHED"]
        best, found = (of.groupby("variant")["val/map"].max() for of in (whole, finished))
        # A variant without a trial that ran to its end has no result.
        losses = {variant: best[variant] - found.get(variant, float("nan")) for variant in best.index}
        saved.append(1 - trained / (ASHA_EPOCHS * len(whole)))
        lost += [best.max() - found.max()]
        cells = [f"{best[f'{row} {repetition}']:.1f}, {losses[f'{row} {repetition}']:.1f}" for row in rows]
        print(f"| {repetition} | {trained} | {saved[-1]:.0%} | {' | '.join(cells)} |", flush=True)
    print(f"saved: mean {statistics.fmean(saved):.0%}; best of all: lost {statistics.fmean(lost):.2f} on average, "
          f"{max(lost):.2f} at most")  # fmt: skip


def _run(name: str, text: str) -> tuple[pd.DataFrame, int]:
    """The trials of a space in the order of suggestion, and the number of epochs that were trained."""
    from analysis.reading import records
    from sweeper import load_space, run

    path = Path(f"{name}.yaml")
    path.write_text(text)
    outcome = run(load_space(path))
    if outcome.exit_code:
        raise SystemExit(f"{name}: exit code {outcome.exit_code}, {outcome.failed}")
    return records.load(name).trials, outcome.epochs_trained


def _geometric(low: float, high: float) -> list[float]:
    return [float(f"{low * (high / low) ** (step / (SIDE - 1)):.3g}") for step in range(SIDE)]


def _draw(curves: dict[str, list[list[float]]], top: float, number: int, out: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from analysis.figures.drawing import LINES, STYLE, save

    with rc_context(STYLE):
        figure = Figure(figsize=(3.5, 2.6), dpi=300, layout="constrained")
        axes: Any = figure.add_subplot()
        numbers = range(1, number + 1)
        for (algorithm, repeated), (colour, marker, dashes) in zip(curves.items(), LINES, strict=False):
            mean = [statistics.fmean(values) for values in zip(*repeated, strict=True)]
            spread = [statistics.stdev(values) for values in zip(*repeated, strict=True)]
            style = {"color": colour, "marker": marker, "linestyle": dashes, "markevery": 3}
            axes.plot(numbers, mean, **style, label={"tpe": "TPE"}.get(algorithm, algorithm))
            low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(numbers, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(top, color="#333333", linestyle="--", label=f"best of the grid's {number}")
        axes.set(xlabel="trials", ylabel="best val mAP (%) so far", ylim=(0.6 * top, None))
        axes.grid(axis="y", linewidth=0.4, color="#dddddd")
        title = f"mean ± sd of {REPETITIONS} repetitions"
        figure.legend(loc="outside lower center", ncols=3, frameon=False, title=title, title_fontsize=7)
        save(figure, out)


if __name__ == "__main__":
    sys.exit(main())
