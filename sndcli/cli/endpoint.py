"""What ``snd doctor --model http://…`` shows."""

from __future__ import annotations

import math
from dataclasses import asdict

from sndcli.cli.output import Shown
from sndcli.models.opaque import Facts, OpaqueModel
from sndcli.runs.examine import IMAGES, REPEATS, TOGETHER, Examined, examine, smooth
from sndcli.runs.listener import Listener

USUAL = 100 * 10_000  # queries of a run: 100 images, 10,000 each


def examined(model: OpaqueModel, listener: Listener) -> Shown:
    """Asks some 170 unpaid questions, and says what an attack may assume."""
    from sndcli.datasets import cifar10

    facts = model.facts
    if facts.input_size == (3, 32, 32) and facts.classes == 10:
        data = cifar10.load_shipped()
        x, what = data.images[:IMAGES].float() / 255, "test images of CIFAR-10"
    else:
        x, what = smooth(facts.input_size, IMAGES), "images of blurred noise"
    listener.note(f"{facts.name}: {IMAGES * REPEATS + TOGETHER} questions or a few more, about {what} ...")
    with listener.progress(IMAGES * REPEATS, "questions") as update:
        found = examine(model, x, lambda asked: update(asked, f"{asked} questions"))
    lines = [*_seen(facts, found), "", "An attack may assume:", *(f"- {line}" for line in assumptions(facts, found))]
    answer = {
        "schema": 1,
        "model": {"name": facts.name, "input_size": facts.input_size, "classes": facts.classes, "access": facts.access,
                  "score": facts.score, "rows_a_request": facts.rows_a_request, "digest": facts.digest},
        "seen": {name: None if isinstance(value, float) and math.isnan(value) else value
                 for name, value in asdict(found).items()},
        "assume": assumptions(facts, found), "sent": model.sent(),
    }  # fmt: skip
    return Shown(answer, lambda: lines)


def _seen(facts: Facts, found: Examined) -> list[str]:
    shape = " x ".join(map(str, facts.input_size))
    repeats = "differ" if found.differ else "are the same"
    flips = "not known" if math.isnan(found.flips) else f"{100 * found.flips:.1f} % of labels are not the majority's"
    bits = {True: "yes", False: "no", None: "not known"}[found.eight_bits]
    return [
        f"{'model':14} {facts.name}, {shape} to {facts.classes} classes, {facts.access}",
        f"{'repeated':14} answers to the same question {repeats}",
        f"{'flips':14} {flips}",
        f"{'8 bits':14} less than a grey level makes no difference: {bits}",
        f"{'latency':14} median {found.median_ms:.0f} ms, 95 % within {found.slowest_ms:.0f} ms",
        f"{'rate':14} {found.per_second:.0f} images/s",
        f"{'asked':14} {found.questions} questions, {found.unanswered} without an answer",
    ]


def assumptions(facts: Facts, found: Examined) -> list[str]:
    """What an attack on such a model may assume, a line each."""
    lines = []
    if facts.access == "labels":
        lines.append("labels alone: decision attacks run, score attacks are refused")
    else:
        lines.append(f"scores ({facts.score}) of all {facts.classes} classes: every attack runs")
    if found.differ:
        lines.append("answers are random: points are verified with --verify draws; noise-aware attacks are for this")
    elif facts.access == "labels":
        lines.append("no label changed, which does not mean that scores do not: randomness cannot be excluded")
    else:
        lines.append("answers repeat: no randomness was seen")
    if found.mates_share:
        lines.append("images of one request share a draw: say batch = 1 in the file of --endpoint")
    if found.eight_bits:
        lines.append("images are rounded to 8 bits: use --quantize")
    if found.unanswered:
        lines.append("some requests fail: the attack on their image ends without a result")
    seconds = USUAL / max(found.per_second, 1e-9)
    time = f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
    lines.append(f"100 images with 10,000 queries each take about {time}, without verification")
    return lines
