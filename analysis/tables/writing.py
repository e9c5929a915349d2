"""How a table of texts is written: as Markdown, LaTeX, CSV or JSON. What the texts say is not known here."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_WIDEST = 12  # columns of numbers side by side in Markdown
# LaTeX, in points: the width of the text of an `article`, of a character of \footnotesize (a digit is narrower) and of
# the space between two columns. Then the lines of \footnotesize on a page, and the characters in a line.
_POINTS, _CHARACTER, _BETWEEN = 345, 4.4, 8
_LINES, _CHARACTERS = 52, 85
_SMALL = r"\footnotesize\setlength{\tabcolsep}{4pt}"
_LATEX = {c: f"\\{c}" for c in "{}$&#_%"} | {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "—": "---", "–": "--", "“": "``", "”": "''",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$", "Δ": r"$\Delta$", "α": r"$\alpha$",
    "β": r"$\beta$", "γ": r"$\gamma$", "θ": r"$\theta$", "λ": r"$\lambda$", "τ": r"$\tau$", "ρ": r"$\rho$",
    "∞": r"$\infty$", "…": r"\dots{}",
}  # fmt: skip

_NO_WIDTH = str.maketrans("", "", "{}$\\")


Lines = Sequence[Sequence[str]]


class Bold(str):
    """A text to print in bold."""


def as_markdown(caption: str, lines: Lines, notes: Sequence[str], published: tuple[str, Lines] | None) -> str:
    """Caption, table and notes; then the caption and lines of a published table. The first line is the header."""
    written = [caption, "", *_markdown(lines), *([""] if notes else []), *(f"- {note}" for note in notes)]
    if published:
        block = _markdown(published[1])
        written += ["", published[0], *([""] if block else []), *block]
    return "\n".join(written) + "\n"


def as_latex(name: str, caption: str, lines: Lines, notes: Sequence[str], published: tuple[str, Lines] | None) -> str:
    """The same as table environments, the first with the label `tab:<name>`; the document loads booktabs. A table
    wider than the text is split into parts below one another, one longer than a page into several environments."""
    label = "tab:" + re.sub(r"[^\w-]", "-", name, flags=re.ASCII)  # characters that LaTeX allows in a label
    title = [rf"\caption{{{escaped(caption)}}}", rf"\label{{{label}}}", _SMALL]
    # Blocks that stay whole, and how many lines each takes.
    blocks = [(title, len(escaped(caption)) / _CHARACTERS + 1), *_tabulars(lines)]
    blocks += [([rf"\par {escaped(note)}."], len(note) / _CHARACTERS + 1) for note in notes]
    if published:
        text = escaped(published[0])
        blocks.append(([rf"\par\medskip {text}"], len(text) / _CHARACTERS + 2))
        blocks += _tabulars(published[1])
    return "\n".join(_floats(blocks, rf"Table~\ref{{{label}}}, continued")) + "\n"


def as_csv(lines: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> str:
    """A header of the fields, then the lines; a field that a line lacks is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def as_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _markdown(lines: Lines) -> list[str]:
    """A table of texts, the first line its header."""
    written: list[str] = []
    lines = [[f"**{text}**" if isinstance(text, Bold) else text for text in line] for line in lines]
    for header, *rows in _parts(lines, lambda columns: len(columns) <= _WIDEST + 1):
        ruled = [header, ["---", *("---:" for _ in header[1:])], *rows]
        written += [""] if written else []
        written += ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in ruled]
    return written


def _tabulars(lines: Lines) -> list[tuple[list[str], float]]:
    """Tabulars of texts, the first line their header, and how many lines each takes."""
    made = []
    for header, *rows in _parts([[*map(escaped, line)] for line in lines], _fits):
        for start in range(0, len(rows), _LINES // 2):
            some = rows[start : start + _LINES // 2]
            texts = [" & ".join(row) + r" \\" for row in some]
            begin, end = rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\end{tabular}"
            top = [r"\par\smallskip", begin, r"\toprule", " & ".join(header) + r" \\", r"\midrule"]
            made.append(([*top, *texts, r"\bottomrule", end], len(some) + 3.0))
    return made


def _floats(blocks: Sequence[tuple[list[str], float]], continued: str) -> list[str]:
    """Table environments of the blocks, each as many as fit on a page."""
    written, taken = [r"\begin{table}[tp]", r"\centering"], 0.0
    for lines, length in blocks:
        if taken and taken + length > _LINES:
            again = [r"\begin{table}[tp]", rf"\centering{_SMALL}", continued]
            written, taken = [*written, r"\end{table}", *again], 1.0
        written, taken = [*written, *lines], taken + length
    return [*written, r"\end{table}"]


def _fits(columns: Lines) -> bool:
    """Whether columns of LaTeX texts fit side by side; a command is as wide as a character."""
    widths = [max(len(re.sub(r"\\[A-Za-z]+", "0", text).translate(_NO_WIDTH)) for text in texts) for texts in columns]
    return sum(_CHARACTER * width + _BETWEEN for width in widths) <= _POINTS


def _parts(lines: Lines, fit: Callable[[Lines], bool]) -> list[list[list[str]]]:
    """A table of many columns in as few parts as `fit` allows, each with the names of the rows and about as wide as the
    others: thirty columns in three parts of ten, say."""
    names, *columns = list(zip(*lines, strict=True)) or [()]
    for width in range(len(columns), 0, -1):
        width = math.ceil(len(columns) / math.ceil(len(columns) / width))
        parts = [[names, *columns[start : start + width]] for start in range(0, len(columns), width)]
        if width == 1 or all(map(fit, parts)):
            return [[list(line) for line in zip(*part, strict=True)] for part in parts]
    return []


def escaped(text: str) -> str:
    """LaTeX that prints this text. A character that pdfLaTeX does not know becomes the plain ones it stands for (⁺ is
    +)."""
    latex = "".join(_LATEX.get(character) or _known(character) for character in text)
    return rf"\textbf{{{latex}}}" if isinstance(text, Bold) else latex


def _known(character: str) -> str:
    if ord(character) < 0x180:  # Latin letters with accents among them
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_LATEX.get(one, one) for one in plain) or character
