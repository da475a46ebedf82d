"""Summaries as LaTeX tables: one a comparison, for ``\\usepackage{booktabs}``."""

from __future__ import annotations

from collections.abc import Sequence

from sndcli.analysis.summary import Summary
from sndcli.reports.grid import Grid, caption, grids
from sndcli.reports.tables import cells_of

ESCAPED = str.maketrans(
    {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
     "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "∞": r"$\infty$", "≤": r"$\leq$",
     "×": r"$\times$", "±": r"$\pm$", "β": r"$\beta$", "σ": r"$\sigma$", "ε": r"$\varepsilon$", "√": r"$\surd$"}
)  # fmt: skip


def latex(rows: Sequence[Summary], method: str = "wilson") -> str:
    """One ``table`` a comparison, with the figures that fit a page: centred, labelled ``tab:…``."""
    return "\n\n".join(_table(grid, method) for grid in grids(rows))


def _table(grid: Grid, method: str) -> str:
    measures = grid.narrow()
    head = [*grid.keys, *(grid.heading(key) for key in measures)]
    columns = "".join("l" if name in ("attack", "defense") else "r" for name in head)
    body: list[str] = []
    for part in grid.parts:
        body += [r"\addlinespace"] if body and len(part) > 1 else []
        body += [_line(cells_of(line, measures, brief=True)) for line in part]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{grid.title.translate(ESCAPED)}; {caption(measures, method).translate(ESCAPED)}.}}",
            rf"\label{{tab:{grid.name}}}",
            r"\footnotesize",
            r"\setlength{\tabcolsep}{4pt}",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            _line(head),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cell.translate(ESCAPED) for cell in cells) + r" \\"
