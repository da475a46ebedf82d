"""The facts of ``snd evidence`` as tables, Parquet and a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from sndcli import __version__
from sndcli.analysis.league import AGREEMENT_AT, Price
from sndcli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sndcli.paper.evidence import Fact
from sndcli.runs.writing import replacing

TITLES = {
    "sigma_hat": "σ̂: spread of the margin of the probabilities over draws",
    "p_mis": "P_mis: share of answers that are not the undefended model's",
    "gradient_share": "share of the true gradient, at the boundary; theory: white noise",
    "cosine": "cosine of estimated and true gradient; theory: linear, at the boundary",
    "ratio": "σ√d/δ of each attack: above 1 the noise is larger than the probe",
    "margin_noise": "σ_m: how far a defense moves the margin at the boundary, in L2 of pixels",
    "agreement": "ρ: how far the gradients of two draws agree, over probes a",
    "curvature": "h: how much the undefended boundary bends, over probes a",
    "price": "price of a direction, in queries, beside narrow probes on the bare model; theory: from σ_m, ρ and h",
    "least_price": "the least price over probes a",
    "expectation_error": "error of averaging, E[F(x + η)] - F(x); theory: closed form",
}


def numbers(text: str, option: str) -> list[float]:
    """Positive numbers separated by commas.

    Raises:
        ConfigError: they are not.
    """
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < value < float("inf") for value in found):
        raise ConfigError(f"Expected `{option}` to be positive numbers separated by commas but got `{text}`.")
    return found


def tables(facts: Sequence[Fact]) -> list[Table]:
    """One table a quantity."""
    found = []
    for quantity, title in TITLES.items():
        members = [fact for fact in facts if fact.quantity == quantity]
        if not members:
            continue
        table = Table(title=title, title_justify="left")
        for column in ("what", "σ", "probe a", "n", "value", "std", "theory"):
            table.add_column(column, justify="left" if column == "what" else "right")
        for fact in members:
            cells = [fact.sigma, fact.probe, fact.n, fact.value, fact.std, fact.theory]
            table.add_row(fact.what, *("" if cell is None else f"{cell:.4g}" for cell in cells))
        found.append(table)
    return found


def write(facts: Sequence[Fact], path: Path) -> None:
    """One row a fact, columns as `Fact`'s attributes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("quantity", pa.string()), ("what", pa.string()), ("sigma", pa.float64()), ("probe", pa.float64()),
         ("n", pa.int64()), ("value", pa.float64()), ("std", pa.float64()), ("theory", pa.float64())],
        metadata={b"evidence": json.dumps({"version": __version__}).encode()},
    )  # fmt: skip
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_pylist([fact.as_dict() for fact in facts], schema=schema), temporary)


def read_prices(paths: Sequence[Path]) -> dict[str, Price]:
    """What files of ``snd evidence --price … --out`` say of each defense, by its words; a later file counts.

    Nothing in such a file says which network it was about: it has to be the league's.

    Raises:
        DataError: no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from sndcli.paper.evidence import Fact

    known: dict[str, dict[str, Fact]] = {}
    for path in paths:
        try:
            lines = pq.read_table(path).to_pylist()
            facts = [Fact(**line) for line in lines]
        except (OSError, pa.ArrowException, TypeError):
            raise DataError(f"{path} is no table of `snd evidence`.") from None
        found: dict[str, dict[str, Fact]] = {}
        for fact in facts:
            if fact.quantity != "agreement" or fact.probe == AGREEMENT_AT:
                found.setdefault(fact.what, {})[fact.quantity] = fact
        known |= found
    return {
        what: Price(
            facts["margin_noise"].value, facts["agreement"].value if "agreement" in facts else None, least.value,
            least.theory or math.inf,
        )
        for what, facts in known.items() if (least := facts.get("least_price")) and "margin_noise" in facts
    }  # fmt: skip


def draw(facts: Sequence[Fact], path: Path) -> None:
    """Cosine against probe scale, one line a σ, theory dashed; score attacks left, decision attacks right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2, sharey=True), ("score", "decision"), strict=True):
        members = [f for f in facts if f.quantity == "cosine" and f.what == what and f.probe is not None]
        for k, sigma in enumerate(sorted({f.sigma for f in members if f.sigma is not None})):
            mine = sorted((f for f in members if f.sigma == sigma), key=lambda f: f.probe or 0.0)
            places = [f.probe or 0.0 for f in mine]
            axes.plot(places, [f.value for f in mine], "osD^v"[k % 5] + "-", color=f"C{k}", label=f"σ = {sigma:g}")
            axes.plot(places, [f.theory or 0.0 for f in mine], "--", color=f"C{k}", alpha=0.6)
            axes.axvline(sigma, color=f"C{k}", linewidth=0.6)
        axes.set_xscale("log")
        axes.set_title(what)
        axes.set_xlabel("probe scale a = δ/√d (thin line: σ)")
        axes.grid(alpha=0.3)
    axes.legend()
    figure.supylabel("cosine of estimated and true gradient")
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=150)
