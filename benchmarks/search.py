"""What searches find: TPE and random search against a grid of as many trials, and what ASHA saves and loses.

    python benchmarks/search.py points [--out docs/search.png]
    python benchmarks/search.py asha

On digit scenes, on few images and epochs, in folders of its own. A search follows from its settings and the variant's
name alone, so repetitions are variants of one method that differ in nothing but their names.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from itertools import accumulate
from pathlib import Path
from typing import Any

import pandas as pd

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder, which has an analysis.py of its own

REPETITIONS = 5
SMALL = """
data: {labels: single_positive, train_images: 500, val_images: 300, test_images: 32}
seeds: [1]
"""
RATE, DELTA = (1e-4, 1e-1), (0.5, 20.0)
SIDE = 5  # of the grid, ends included
ASHA_TRIALS, ASHA_EPOCHS = 9, 9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("points", "asha"))
    parser.add_argument("--out", type=Path, default=Path("docs/search.png"), help="the figure of `points`")
    options = parser.parse_args()
    out = options.out.absolute()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["SWEEPER_STORE"] = f"{folder}/runs/store"
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/runs/mlflow.db"
        os.chdir(folder)
        from sweeper.running import start_ray

        start_ray()  # once for all sweeps
        _points(out) if options.what == "points" else _asha()
    return 0


def _points(out: Path) -> None:
    """The best val mAP so far against the number of trials."""
    ranges = f"axes: {{train.learning_rate: {{loguniform: {[*RATE]}}}, delta_rel: {{loguniform: {[*DELTA]}}}}}\n"
    values = [f"{axis}: {_geometric(*ends)}" for axis, ends in (("train.learning_rate", RATE), ("delta_rel", DELTA))]
    repeated = ", ".join(f"{n}: {{method: large_loss, scheme: reject}}" for n in range(1, REPETITIONS + 1))
    common = f"{SMALL}train: {{epochs: 6}}\nvariants: {{{repeated}}}\n"
    once = f"{SMALL}train: {{epochs: 6}}\nvariants: {{1: {{method: large_loss, scheme: reject}}}}\n"
    grid, _ = _run("grid", f"{once}axes: {{{', '.join(values)}}}\n")
    top = grid["val/map"].max()
    print(f"grid, {len(grid)} trials: {top:.1f} ({_where(grid)})", flush=True)
    curves = {}
    for algorithm in ("tpe", "random"):
        trials, _ = _run(algorithm, f"{common}{ranges}search: {{algorithm: {algorithm}, trials: {len(grid)}}}\n")
        of_each = [list(of["val/map"]) for _, of in trials.groupby("variant", sort=False)]
        curves[algorithm] = [list(accumulate(values, max)) for values in of_each]
        best = [curve[-1] for curve in curves[algorithm]]
        first = [next((n for n, v in enumerate(curve, 1) if v >= top), None) for curve in curves[algorithm]]
        print(
            f"{algorithm}: {statistics.fmean(best):.1f} ± {statistics.stdev(best):.1f} (worst {min(best):.1f}); "
            f"{sum(value >= top for value in best)} of {REPETITIONS} reach the grid's best, after {first} trials",
            flush=True,
        )
    _draw(curves, list(accumulate(grid["val/map"], max)), out)
    print(out.name)


def _asha() -> None:
    """A search over three of `ll_table1`'s methods, stopped early, then the same points whole."""
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
        # A variant of which no trial was left to its end has found nothing.
        losses = {variant: best[variant] - found.get(variant, float("nan")) for variant in best.index}
        saved.append(1 - trained / (ASHA_EPOCHS * len(whole)))
        lost += [best.max() - found.max()]
        cells = [f"{best[f'{row} {repetition}']:.1f}, {losses[f'{row} {repetition}']:.1f}" for row in rows]
        print(f"| {repetition} | {trained} | {saved[-1]:.0%} | {' | '.join(cells)} |", flush=True)
    print(f"saved: mean {statistics.fmean(saved):.0%}; best of all: lost {statistics.fmean(lost):.2f} on average, "
          f"{max(lost):.2f} at most")  # fmt: skip


def _run(name: str, text: str) -> tuple[pd.DataFrame, int]:
    """A space's trials, in the order in which they were suggested, and how many epochs were trained."""
    from analysis import records
    from sweeper import load_space, run

    path = Path(f"{name}.yaml")
    path.write_text(text)
    outcome = run(load_space(path))
    if outcome.exit_code:
        raise SystemExit(f"{name}: exit code {outcome.exit_code}, {outcome.failed}")
    return records.load(name).trials, outcome.epochs_trained


def _geometric(low: float, high: float) -> list[float]:
    return [float(f"{low * (high / low) ** (step / (SIDE - 1)):.3g}") for step in range(SIDE)]


def _where(trials: pd.DataFrame) -> str:
    best = trials.loc[trials["val/map"].idxmax()]
    return ", ".join(f"{axis} {best[axis]:g}" for axis in ("train.learning_rate", "delta_rel"))


def _draw(curves: dict[str, list[list[float]]], grid: list[float], out: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from analysis.figures import LINES, STYLE, save

    with rc_context(STYLE):
        figure = Figure(figsize=(3.5, 2.6), dpi=300, layout="constrained")
        axes: Any = figure.add_subplot()
        numbers = range(1, len(grid) + 1)
        for (algorithm, repeated), (colour, marker, dashes) in zip(curves.items(), LINES, strict=False):
            mean = [statistics.fmean(values) for values in zip(*repeated, strict=True)]
            spread = [statistics.stdev(values) for values in zip(*repeated, strict=True)]
            style = {"color": colour, "marker": marker, "linestyle": dashes, "markevery": 3}
            axes.plot(numbers, mean, **style, label={"tpe": "TPE"}.get(algorithm, algorithm))
            low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(numbers, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(grid[-1], color="#333333", linestyle="--", label=f"best of the grid's {len(grid)}")
        axes.set(xlabel="trials", ylabel="best val mAP (%) so far", ylim=(grid[-1] - 12, None))
        axes.grid(axis="y", linewidth=0.4, color="#dddddd")
        title = f"mean ± sd of {REPETITIONS} repetitions"
        figure.legend(loc="outside lower center", ncols=3, frameon=False, title=title, title_fontsize=7)
        save(figure, out)


if __name__ == "__main__":
    sys.exit(main())
