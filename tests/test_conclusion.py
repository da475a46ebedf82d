"""The sentence under the tables of ``snd attack``: what can be concluded, and what cannot."""

from __future__ import annotations

from typing import Any

import pytest
from test_flags import rate
from test_flags import row as aware

from sndcli.analysis.advice import next_command
from sndcli.analysis.conclusion import conclude
from sndcli.analysis.summary import Summary
from sndcli.reports.tables import rich_tables


def row(broken: int, n: int = 100, **changes: Any) -> Summary:
    """A published attack that breaks so many of n images within 2,000 queries."""
    told = {"attack": "hsja", "preset": None, "budget": 2000, "n": n, "success_noisy": rate(broken, n)} | changes
    return aware(**told)


def bare(broken: int, n: int = 100, **changes: Any) -> Summary:
    return row(broken, n, defense="none", sigma=0.0, passes_differ=None, **changes)


def test_bare_published_and_aware_side_by_side() -> None:
    assert conclude([bare(100), bare(100, attack="hsja-na"), row(10), row(93, attack="hsja-na")]) == (
        "Within 2,000 queries an image, without a defense hsja breaks 100 of 100 images; snd 0.01 stops the published "
        "attack hsja (10 of 100), but hsja-na, which knows of the noise, breaks 93 of 100 images."
    )


def test_queries_of_8_bits_are_told_as_a_condition() -> None:
    assert "without a defense (8-bit) hsja breaks 20 of 100 images" in conclude([bare(20, quantize=True)])
    assert "against snd 0.01, 8-bit hsja" in conclude([row(30, quantize=True)])


@pytest.mark.parametrize(
    ("attack", "norm", "command"),
    [
        ("hsja", "l2", "snd attack hsja-na"),
        ("hsja", "linf", "snd attack rays --preset na"),
        ("simba", "l2", "snd attack nes-na"),
        ("square", "linf", "snd attack nes-na --norm linf"),
    ],
)
def test_the_failure_of_an_attack_that_does_not_know_of_the_noise_is_no_evidence(
    attack: str, norm: str, command: str
) -> None:
    sentence = conclude([row(10, attack=attack, norm=norm)])
    assert f"{attack} does not know of the noise, so its failure is no evidence for the defense" in sentence
    assert sentence.endswith(f"run `{command}`.")
    assert next_command(row(10, attack=attack, norm=norm).setting) == command


def test_where_all_is_broken_or_nothing_draws_there_is_no_such_warning() -> None:
    for rows in ([row(97)], [bare(30)], [row(10), row(40, attack="hsja-na")]):
        assert "no evidence" not in conclude(rows)


def test_an_aware_attack_that_fails_is_told_as_it_is() -> None:
    sentence = conclude([bare(100), row(5), row(8, attack="hsja-na")])
    assert sentence.endswith("stops the published attack hsja (5 of 100) and also hsja-na, which knows of the noise "
                             "(8 of 100).")  # fmt: skip


def test_where_the_bare_network_holds_too_nothing_is_said_of_the_noise() -> None:
    sentence = conclude([bare(3), row(0), row(2, attack="hsja-na")])
    assert "stops" not in sentence
    assert sentence.endswith("so this tells nothing about the noise: raise `--budget`.")


def test_few_images_settle_little() -> None:
    assert "4 images settle little: raise `--images`" in conclude([row(4, 4)])
    assert "settle" not in conclude([row(25, 25)])


def test_ours_is_not_called_published() -> None:
    fitted = row(5, attack="simba", preset="fitted")
    assert "stops simba fitted (5 of 100)" in conclude([fitted, row(60, attack="square", preset="na")])


def test_bounds_and_budgets_are_named_where_they_differ() -> None:
    sentence = conclude([row(10), row(50, attack="rays", norm="linf", eps=8 / 255, budget=1000)])
    assert "Against snd 0.01 (L2 ≤ 1) hsja breaks 10 of 100 images in 2,000 queries" in sentence
    assert "against snd 0.01 (L∞ ≤ 8/255) rays breaks 50 of 100 images in 1,000 queries" in sentence


def test_votes_are_the_attackers_and_make_no_other_victim() -> None:
    climbed = [row(5), row(30, votes=10), row(93, attack="hsja-na", preset=None)]
    assert conclude(climbed) == (
        "Within 2,000 queries an image, against snd 0.01 hsja breaks 30 of 100 images, and hsja-na, which knows of the "
        "noise, 93 of 100."
    )
    assert "against snd 0.01, T=10 hsja breaks 97" in conclude([row(97, votes=10)])


def test_many_victims_are_counted() -> None:
    rows = [row(10 * k, sigma=0.01 * k) for k in range(1, 6)]
    assert "2 more are in the table" in conclude(rows)


def test_nothing_but_the_clean_image_resent() -> None:
    assert conclude([row(0, attack="null")]) == "No attack was run, so nothing can be concluded about the defense."


def test_attack_shows_four_figures_and_details_the_rest() -> None:
    (brief,), (full,) = (rich_tables([row(10)], details=details) for details in (False, True))
    assert brief.grid.measures == ("success_seen", "success_noisy", "success_clean", "floor")  # type: ignore[union-attr]
    assert {"distance_best", "distance_last"} <= {*full.grid.measures}  # type: ignore[union-attr]
