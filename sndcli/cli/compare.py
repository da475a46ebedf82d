"""``snd compare A B``: any two settings on the images that both have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sndcli.cli import options as o

if TYPE_CHECKING:
    from rich.console import RenderableType

    from sndcli.analysis.frame import Frame
    from sndcli.cli.output import Shown
    from sndcli.reports.comparison import Section
    from sndcli.runs.listener import Listener

FORMATS = ("table", "md", "csv", "latex", "json")


@dataclass(frozen=True, kw_only=True)
class Compare(o.Talk):
    """Compare two settings, such as two attacks, defenses or models, on the images that both were run on.

    A and B are result files or folders, beginnings of run ids, names of attacks, or key=value,key=value as of
    `snd report --where`; the last three choose among FILES. Where A and B stand for several settings each, those that
    differ in nothing else are compared.

    Example: snd compare hsja hsja-na results --where sigma=0.01
    """

    a: Annotated[str, typer.Argument(metavar="A", help="One side.")]
    b: Annotated[str, typer.Argument(metavar="B", help="The other; differences are B minus A.")]
    files: Annotated[
        list[Path] | None, typer.Argument(help="Parquet files, or folders of them, to choose from. Default: results.")
    ] = None
    format: Annotated[str, typer.Option("--format", help="table, md, csv, latex or json.")] = "table"
    at: Annotated[str | None, typer.Option("--at", help="Budgets instead of the report points that both have.")] = None
    where: Annotated[list[str] | None, typer.Option(help="Only runs with key=value, on both sides; repeatable.")] = None

    def run(self, listener: "Listener") -> "Shown":
        """Chooses, pairs, tests."""
        from sndcli.analysis import frame, sides, where
        from sndcli.cli.output import Shown
        from sndcli.errors import DataError
        from sndcli.reports import comparison

        o.one_of(self.format, FORMATS, "--format")
        points, wanted = o.counts(self.at, "--at"), where.filters(self.where or ())
        chosen = [[] if sides.is_file(text) else sides.pairs_of(text) for text in (self.a, self.b)]
        pool: list[Frame] = self._load(self.files or [Path("results")], bool(points), listener) if any(chosen) else []
        if self.files and not any(chosen):
            raise DataError("A and B are files, so there is nothing to choose from: leave out the other files.")
        found = []
        for text, mine in zip((self.a, self.b), chosen, strict=True):
            runs = pool if mine else self._load([Path(text)], bool(points), listener)
            found.append(where.choose(runs, [*wanted, *mine]))
        told = frame.named([*found[0], *found[1]])
        keys = [key for mine in chosen for key, _ in mine if key != where.RUN]
        pairs, notes = sides.compare(told[: len(found[0])], told[len(found[0]) :], keys, points)
        for note in notes:
            listener.note(f"note: {note}")
        sentences = [pair.sentence() for pair in pairs]
        answer = {
            "schema": 1, "notes": notes,
            "pairs": [
                {**pair.as_dict(), "sentence": sentence, "rows": [c.as_dict() for c in pair.comparisons]}
                for pair, sentence in zip(pairs, sentences, strict=True)
            ],
        }  # fmt: skip
        sections = comparison.of_pairs(pairs)
        return Shown(answer, lambda: _body(self.format, sections, sentences))

    @property
    def as_json(self) -> bool:
        """Two ways to ask for it."""
        return self.json or self.format == "json"

    def _load(self, paths: list[Path], events: bool, listener: "Listener") -> "list[Frame]":
        from sndcli.analysis import frame

        found, problems = frame.load(paths, events=events)
        for problem in problems:
            listener.warn(f"{problem} Skipped.")
        return found


def _body(format: str, sections: "Sequence[Section]", sentences: "Sequence[str]") -> "Iterable[RenderableType]":
    from rich.text import Text

    from sndcli.reports import comparison

    if format == "md":
        return ["\n\n".join([*(comparison.filled(sentence) for sentence in sentences), comparison.markdown(sections)])]
    if format == "latex":
        return [comparison.latex(sections)]
    if format == "csv":
        return [comparison.csv_text(sections).removesuffix("\n")]
    return [*map(Text, sentences), comparison.rich_tables(sections)]
