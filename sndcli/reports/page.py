"""One self-contained HTML page: no script, no network, readable on paper."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape

import numpy as np

from sndcli import __version__
from sndcli.analysis.comparison import Comparison
from sndcli.analysis.flags import flags
from sndcli.analysis.frame import Frame
from sndcli.analysis.measures import MEASURES
from sndcli.analysis.summary import Summary
from sndcli.errors import DataError, SndError
from sndcli.reports import gallery, tables

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #111; background: #fff; max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; margin: .8rem 0 1.4rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem }
th, td { padding: .15rem .7rem; text-align: right; white-space: nowrap }
th { border-bottom: 1px solid #888 }
th:nth-child(-n+2), td:nth-child(-n+2), table.left th, table.left td { text-align: left }
table.left td { white-space: normal; overflow-wrap: anywhere }
tr.first td { border-top: 1px solid #ddd }
.scroll { overflow-x: auto }
.note { color: #555; font-size: .9em }
.flag { border-left: .3rem solid #D55E00; padding-left: .8rem }
svg { max-width: 100%; height: auto }
figure { margin: 1rem 0; break-inside: avoid }
.trio { display: flex; gap: .6rem }
.trio img { width: 9rem; height: 9rem; object-fit: contain; image-rendering: pixelated }
@media print {
  body { max-width: none; margin: 0; font-size: 9pt }
  .scroll { overflow: visible }
  h2 { break-after: avoid }
  th, td { padding: .1rem .35rem }
  tr { break-inside: avoid }
  figure.images { display: inline-block; width: 48% }
  .trio img { width: 5rem; height: 5rem }
}
"""


def render(
    frames: Sequence[Frame],
    rows: Sequence[Summary],
    notes: Sequence[str] = (),
    comparisons: Sequence[Comparison] = (),
    method: str = "wilson",
    eps: float | None = None,
) -> str:
    """The page.

    Args:
        frames: the runs, with their events where curves are wanted.
        rows: their summaries.
        notes: lines that the reader must know, such as files that were skipped.
        comparisons: with a baseline, if there is one.
        method: of the intervals.
        eps: the bound of the rows where it is not the runs' own.
    """
    parts = [
        "<h1>Query-based attacks</h1>",
        f"<p class=note>{len(frames)} result file{'s' * (len(frames) != 1)}, written by snd {escape(__version__)}.</p>",
        *(f"<p class=note>Note: {escape(note)}</p>" for note in notes),
        "<h2>Flags</h2>" + _flags(rows),
        "<h2>Success and distance</h2>", _meaning(rows),
        *(_table(title, *tables.grid(members)) for title, members in tables.sections(rows).items()),
        f"<p class=note>{escape(tables.caption(rows, method))}</p>",
        "<h2>Against the baseline</h2>" + _comparisons(comparisons) if comparisons else "",
        "<h2>Curves</h2>" + _curves(frames, eps),
        "<h2>Gallery</h2>" + _gallery(frames),
        "<h2>Runs</h2>" + "".join(_run(frame) for frame in frames),
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>snd report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _meaning(rows: Sequence[Summary]) -> str:
    """What the measures of the tables are."""
    told = [f"<b>{escape(MEASURES[key].label)}</b>: {escape(MEASURES[key].meaning)}." for key in tables.shown(rows)]
    return f"<p class=note>{' '.join(told)}</p>"


def _table(title: str, header: Sequence[str], body: Sequence[Sequence[str]], left: bool = False) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    lines = []
    for line in body:
        kind = " class=first" if line[0] and not left else ""
        lines.append(f"<tr{kind}>" + "".join(f"<td>{escape(text)}</td>" for text in line) + "</tr>")
    caption = f"<caption>{escape(title)}</caption>" if title else ""
    table = f"<table{' class=left' if left else ''}>{caption}<thead><tr>{head}</tr></thead>"
    return f"<div class=scroll>{table}<tbody>{''.join(lines)}</tbody></table></div>"


def _flags(rows: Sequence[Summary]) -> str:
    lines = [
        f"<p class=flag><b>{escape(flag.name)}</b>: {escape(flag.where)}: {escape(flag.text)}</p>"
        for flag in flags(rows)
    ]
    return "".join(lines) or "<p>None.</p>"


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    header = ["attack", "measure", "old", "new", "Q", "n", "old %", "new %", "Δ points [95 %]", "worse/better", "p", ""]
    body = [
        [
            c.attack, c.measure.removeprefix("success_"), c.old, c.new, f"{c.budget:,}", str(c.n),
            f"{100 * c.old_rate:.1f}", f"{100 * c.new_rate:.1f}",
            f"{100 * c.difference:+.1f} [{100 * c.lo:+.1f}, {100 * c.hi:+.1f}]", f"{c.worse}/{c.better}",
            f"{c.p_adjusted:.2g}", "REGRESSION" if c.regression else "",
        ]
        for c in comparisons
    ]  # fmt: skip
    note = "<p class=note>p: exact McNemar test on the same images, adjusted for the number of comparisons (Holm).</p>"
    return _table("", header, body) + note


def _curves(frames: Sequence[Frame], eps: float | None) -> str:
    from sndcli.reports import plots

    try:
        plots.check(None)
    except SndError as error:
        return f"<p class=note>{escape(str(error))}</p>"
    found = []
    titles = {"queries": "Success against queries", "distance": "Distance against queries", "eps": "Success against ε"}
    for kind, title in titles.items():
        try:
            picture = plots.inline_svg(plots.draw(frames, kind, eps=eps), title)
        except DataError as error:
            picture = f"<p class=note>{escape(str(error))}</p>"
        found.append(f"<figure><figcaption>{title}</figcaption>{picture}</figure>")
    return "".join(found)


def _gallery(frames: Sequence[Frame]) -> str:
    try:
        shown = gallery.choose(frames)
    except DataError as error:
        return f"<p class=note>{escape(str(error))}</p>"
    figures = []
    for image in shown:
        pictures = (
            (image.clean, f"clean image, {image.was}"),
            (image.submitted, "image submitted"),
            (image.amplified, f"perturbation times {image.gain:.3g}"),
        )
        trio = "".join(f'<img alt="{escape(text)}" title="{escape(text)}" src="{_png(p)}">' for p, text in pictures)
        caption = f"{image.run}: {image.caption()}; perturbation × {image.gain:.3g}"
        figures.append(
            f"<figure class=images><div class=trio>{trio}</div><figcaption>{escape(caption)}</figcaption></figure>"
        )
    return "<p class=note>Clean, submitted, perturbation amplified.</p>" + "".join(figures)


def _png(pixels: gallery.Pixels) -> str:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8).squeeze()).save(out, "png")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _run(frame: Frame) -> str:
    run = frame.run
    known = {key: run.get(key) for key in ("id", "made", "command", "commit", "wall_s")}
    known |= {f"version of {k}": v for k, v in run.get("versions", {}).items()}
    lines = [[str(k), v if isinstance(v, str) else json.dumps(v)] for k, v in {**known, **run["config"]}.items()]
    name = frame.path.name if frame.path else run["id"]
    return f"<details><summary>{escape(name)}</summary>{_table('', ['what', 'value'], lines, left=True)}</details>"
