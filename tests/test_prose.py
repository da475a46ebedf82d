"""Figures that stand on several pages agree: each measured quantity has one source, and prose is checked against it.

Values are read from the pages, so that a new measurement needs no change here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
COUNTED = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
WORDS = {word: k for k, word in enumerate(COUNTED)}
NUMBER = rf"(?:\d+(?:\.\d+)?|{'|'.join(WORDS)})"
NAMES = {"HopSkipJump": "hsja", "Boundary Attack": "ba", "Sign-OPT": "sign-opt", "GeoDA": "geoda"}


def text_of(page: Path) -> str:
    """Without tables and code, one space between words."""
    plain = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return " ".join(line for line in plain.splitlines() if not line.lstrip().startswith("|")).replace("  ", " ")


def rows_of(page: Path) -> list[list[str]]:
    """The cells of every table row, without emphasis."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found = [[cell.strip().strip("*") for cell in line.strip().strip("|").split("|")] for line in lines if "|" in line]
    return [cells for cells in found if not all(re.fullmatch(r":?-+:?", cell) for cell in cells)]


def number(text: str) -> float:
    return float(WORDS[text]) if text in WORDS else float(text)


def says(text: str, value: float) -> bool:
    """Whether a number, as written, is `value` rounded."""
    digits = len(text.partition(".")[2])
    return abs(number(text) - value) <= 0.5 * 10.0**-digits + 1e-9


def first_number(cell: str) -> str:
    found = re.search(r"-?\d+(?:\.\d+)?", cell)
    assert found, cell
    return found.group()


def accuracies() -> dict[str, tuple[float, float]]:
    """Defense -> accuracy and the points that it costs, as measured (docs/results/accuracy.md)."""
    head, *rows = rows_of(RESULTS / "accuracy.md")
    rows = [row for row in rows if len(row) == len(head)]  # the page's first table
    value, change = head.index("measured"), head.index("change measured")
    return {row[0]: (float(first_number(row[value])), -float(first_number(row[change]))) for row in rows}


def test_rounding_is_told_from_another_figure() -> None:
    assert says("4.4", 4.37)
    assert says("four", 4.37)
    assert not says("three", 4.37)
    assert not says("4.3", 4.37)
    assert not says("0", 0.51)


def test_what_a_defense_costs() -> None:
    """``costs X points`` and ``cost X to Y points`` are of the defenses named last before."""
    costs, checked = {name: cost for name, (_, cost) in accuracies().items()}, 0
    for page in PAGES:
        text = text_of(page)
        for match in re.finditer(rf"\bcosts? ({NUMBER})(?: to ({NUMBER}))? points\b", text):
            before = re.findall(r"σ = \d\.\d+|\bRSE\b|\bPNI\b", text[max(0, match.start() - 400) : match.start()])
            stated = [figure for figure in match.groups() if figure]
            named = [f"SND {name}" if name.startswith("σ") else name for name in before[-len(stated) :]]
            assert len(named) == len(stated), f"{page}: {match[0]} of what?"
            for figure, cost in zip(stated, sorted(costs[name] for name in named), strict=True):
                assert says(figure, cost), f"{page}: {match[0]}, measured {cost}"
            checked += 1
    assert checked >= 3


def test_accuracies_agree() -> None:
    found, checked = accuracies(), 0
    for page in PAGES:
        for stated in re.findall(r"ResNet-20 as shipped \((\d+\.\d+) %\)", text_of(page)):
            assert says(stated, found["none"][0]), page
            checked += 1
    for row in rows_of(RESULTS / "decision.md"):
        label = re.fullmatch(r"snd ([\d.]+)", row[0])
        if label and len(row) == 5:  # Table 7: accuracy and length of the noise
            assert says(first_number(row[2]), found[f"SND σ = {label[1]}"][0]), row
            checked += 1
    assert checked >= 3


def test_spread_and_mismatch_on_clean_images() -> None:
    """evidence.md measures them; decision.md quotes them."""
    rows = rows_of(RESULTS / "evidence.md")
    (head,) = [row for row in rows if row[0] == "" and row[1].startswith("σ =")]
    sigmas = [cell.removeprefix("σ = ") for cell in head[1:]]
    (spread,) = [row[1:] for row in rows if row[0].startswith("σ̂")]
    (missed,) = [row[1:] for row in rows if row[0].startswith("P_mis") and "clean" in row[0]]
    (counted,) = {re.sub(r"\D", "", row[0]) for row in rows if "clean images" in row[0] and len(row) == len(head)}
    text = text_of(RESULTS / "decision.md")
    sentence = text[text.index("The paper's σ̂") :].split("At boundary points")[0]
    stated = re.findall(r"(\d\.\d+) ± (\d\.\d+)[^;]*?at σ = (\d+\.\d+)", sentence)
    assert len(stated) == 2
    for value, error, sigma in stated:
        assert f"{value} ± {error}" == spread[sigmas.index(sigma)]
    page = rows_of(RESULTS / "decision.md")
    (clean,) = [row for row in page if row[0] == "clean images"]
    (columns,) = [row for row in page if row[0] == "attack" and any(cell.startswith("σ =") for cell in row)]
    for k, cell in enumerate(columns):
        if cell.startswith("σ ="):
            sigma = cell.removeprefix("σ = ").split()[0]
            assert says(clean[k + 1], float(first_number(missed[sigmas.index(sigma)]))), clean
    assert f"{int(counted):,} of the shipped" in text


def test_evidence_tells_old_figures_from_new() -> None:
    """What the paper has is quoted alike on both pages."""
    said = re.search(r"σ̂ = ([\d.]+\d) and P_mis = ([\d.]+\d) at σ = 0.01", text_of(RESULTS / "evidence.md"))
    assert said
    assert f"where the paper has {said[1]}" in text_of(RESULTS / "decision.md")
    (clean,) = [row for row in rows_of(RESULTS / "decision.md") if row[0] == "clean images"]
    assert said[2] in clean


def readme_table() -> list[dict[str, str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text.split("<!-- figures -->")[1].split("<!-- /figures -->")[0].splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def first_page() -> dict[tuple[str, str, str], list[str]]:
    """(attack, defense, measure) -> cells by budget, of docs/results/first.md; and the budgets."""
    found: dict[tuple[str, str, str], list[str]] = {}
    attack = defense = ""
    for line in (RESULTS / "first.md").read_text(encoding="utf-8").splitlines():
        title = re.match(r"\*\*([\w-]+) on ", line)
        attack = title[1] if title else attack
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or len(cells) < 3 or cells[0].startswith("-"):
            continue
        if cells[0] == "defense":
            found[attack, "", ""] = [cell.removeprefix("Q=") for cell in cells[2:]]
            continue
        defense = cells[0] or defense
        found[attack, defense.split(" (")[0].replace("snd ", "σ = "), cells[1]] = cells[2:]
    return found


def budget_of(row: dict[str, str]) -> str:
    (budget,) = re.findall(r"attack, ([\d,]+) queries", next(iter(row)))
    return str(budget)


@pytest.mark.parametrize("row", readme_table(), ids=lambda row: " ".join([*row.values()][:2]))
def test_the_readmes_table_is_that_of_its_page(row: dict[str, str]) -> None:
    source, cells = first_page(), list(row.values())
    attack = NAMES[cells[0]]
    at = source[attack, "", ""].index(budget_of(row))
    for measure in ("seen", "noisy", "clean", "floor"):
        assert row[f"{measure} %"] == source[attack, row["defense"], measure][at], measure


def aware_cell(attack: str, defense: str, images: str, budget: str) -> str:
    """A success of docs/results/noise-aware.md's main table, noisy."""
    rows = rows_of(RESULTS / "noise-aware.md")
    head = next(row for row in rows if row[0] == "attack" and budget in row)
    (cell,) = {
        row[head.index(budget)]
        for row in rows
        if row[:4] == [f"`{attack}`", defense, images, "noisy"] and len(row) == len(head)
    }
    return cell


def test_the_readmes_sentences_are_those_of_its_tables() -> None:
    text = text_of(ROOT / "README.md")
    said = re.search(
        r"(?P<rate>\d+) % (?P<interval>\[\d+, \d+\]) of (?P<n>\d+) images fall within (?P<q>[\d,]+) queries and "
        r"(?P<later>all|[\d.]+ %) within (?P<q2>[\d,]+), where the published attack gets (?P<published>[\d.]+) %",
        text,
    )
    assert said
    assert aware_cell("hsja-na", "σ = 0.01", said["n"], said["q"]) == f"{said['rate']} {said['interval']}"
    later = first_number(aware_cell("hsja-na", "σ = 0.01", said["n"], said["q2"]))
    assert later == ("100" if said["later"] == "all" else said["later"].split()[0])
    (row,) = [row for row in readme_table() if [*row.values()][:2] == ["HopSkipJump", "σ = 0.01"]]
    assert budget_of(row) == said["q2"]
    assert said["published"] == first_number(row["noisy %"])
