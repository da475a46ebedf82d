"""What the page's template shows, in plain data."""

from __future__ import annotations

from dataclasses import dataclass

from sndcli.analysis.verdict import Verdict
from sndcli.reports.charts import Chart, Style


@dataclass(frozen=True)
class Head:
    """A heading of a table."""

    name: str
    left: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell: what stands there, what it is sorted by; of rates the interval and the length of a bar in percent."""

    text: str
    value: str | None = None
    left: bool = False
    ends: str = ""
    share: str | None = None


@dataclass(frozen=True)
class Part:
    """Lines of a table under a title of their own."""

    title: str
    lines: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Table:
    """A table that can be sorted within its parts."""

    title: str
    heads: tuple[Head, ...]
    parts: tuple[Part, ...]
    caption: str


@dataclass(frozen=True)
class Card:
    """A headline figure in words."""

    victim: str
    figure: str
    interval: str
    by: str
    beside: str


@dataclass(frozen=True)
class Curves:
    """One kind of curves: a picture, and where the extra is installed the charts that take its place on a screen."""

    title: str
    svg: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class CurveGroup:
    """The curves of settings that are drawn together, and a legend of them."""

    title: str
    members: tuple[Curves, ...]
    legend: tuple[Style, ...]


@dataclass(frozen=True)
class Image:
    """A picture and what it shows."""

    text: str
    source: str


@dataclass(frozen=True)
class Picture:
    """Clean, submitted and amplified perturbation of one image."""

    caption: str
    outside: bool
    images: tuple[Image, ...]


@dataclass(frozen=True)
class PictureGroup:
    """The pictures of a run."""

    title: str
    members: tuple[Picture, ...]


@dataclass(frozen=True)
class Run:
    """A run's config and provenance."""

    name: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Page:
    """All that the template shows, in its order."""

    written: str
    verdict: Verdict
    sentence: str
    headlines: tuple[Card, ...]
    tables: tuple[Table, ...]
    meanings: tuple[tuple[str, str], ...]
    baseline: Table | None
    curves: tuple[CurveGroup, ...]
    curve_notes: tuple[str, ...]
    gallery: tuple[PictureGroup, ...]
    gallery_note: str
    runs: tuple[Run, ...]
