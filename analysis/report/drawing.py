"""Figures inside the page: SVG in the colours of its theme, photographs as PNG, and whiskers of intervals."""

from __future__ import annotations

import base64
import io
import math
import re

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.claims import judging
from analysis.figures.drawing import STYLE
from analysis.statistics import Estimate

# What matplotlib writes for white and black, greys, and a blue that is too dark on black; the page gives them by theme.
_COLOURS = {
    "#000000": "currentColor", "#ffffff": "var(--paper)", "#0072b2": "var(--blue)", "#dddddd": "var(--rule)",
    "#333333": "var(--grey-1)", "#555555": "var(--grey-2)", "#777777": "var(--grey-3)", "#bbbbbb": "var(--grey-4)",
}  # fmt: skip


def reach(claim: judging.Judged) -> float:
    """How far the intervals of a claim's tests reach from 0."""
    ends = [abs(end) for test in claim.tests for end in (test.found.mean, test.found.low, test.found.high)]
    return max((end for end in ends if math.isfinite(end)), default=0) or 1.0


def whisker(found: Estimate, reach: float) -> Markup:
    """A difference with its interval beside the line at 0, as claimed to the right."""

    def at(value: float) -> str:
        return f"{60 + 58 * value / reach:.1f}"

    finite = math.isfinite(found.low)
    line = f'<line class="interval" x1="{at(found.low)}" x2="{at(found.high)}" y1="6" y2="6"/>' if finite else ""
    return Markup(
        '<svg class="whisker" width="120" height="12" aria-hidden="true"><line x1="60" x2="60" y1="0" y2="12"/>'
        f'{line}<circle cx="{at(found.mean)}" cy="6" r="2.5"/></svg>'
    )


def svg(figure: Figure, salt: str, label: str) -> Markup:
    """A figure to stand in the page: in its colours and typeface, with names of parts that no other figure has."""
    for axes in figure.axes[:1]:
        axes.set_title("", loc="left")  # the page has it as a heading
    figure.suptitle("")
    out = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": salt}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda colour: _COLOURS.get(colour[0], colour[0]), text)
    text = re.sub(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1var(--sans)", text)
    text = re.sub(r' id="(?:figure|axes|patch|line2d|text|legend|matplotlib|xtick|ytick)[^"]*"', "", text)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)  # would hold for the page
    wide = ' class="wide"' if figure.get_figwidth() > 5 else ""
    opening = f'<svg role="img" aria-label="{escape(label)}"{wide} style="width: {figure.get_figwidth() * 8.5:.0f}rem"'
    return Markup(
        re.sub(r'<svg (.*?)width="[\d.]+pt" height="[\d.]+pt"', lambda found: f"{opening} {found[1]}", text, count=1)
    )


def png(figure: Figure, label: str) -> Markup:
    out = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(out, format="png", dpi=160, facecolor="white")
    content = base64.b64encode(out.getvalue()).decode()
    return Markup('<img class="wide" alt="{}" src="data:image/png;base64,{}">').format(label, content)
