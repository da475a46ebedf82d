"""A verdict as workflow commands of GitHub Actions, which shows them as annotations of the run."""

from __future__ import annotations

from typing import Literal

from sndcli.analysis.verdict import Verdict

Level = Literal["error", "warning", "notice"]


def commands(verdict: Verdict) -> str:
    """A line each: the verdict first, then what failed, what could not be checked, flags and gaps."""
    passed = verdict.state in ("passed", "none")
    lines = [_line("notice" if passed else "error", verdict.title, verdict.sentence)]
    for gate in verdict.gates:
        lines += [_line("error", "gate failed", line.removeprefix("gate failed: ")) for line in gate.lines()]
        lines += [_line("error", "gate not checked", gate.reason)] if gate.state == "unchecked" else []
        lines += [_line("warning", "gate", gap) for gap in gate.gaps]
    lines += [_line("error", "regression", c.line().removeprefix("regression: ")) for c in verdict.regressions]
    lines += [_line("warning", flag.name, f"{flag.where}: {flag.text}") for flag in verdict.flags]
    lines += [_line("notice", "note", note) for note in verdict.notes]
    return "\n".join(lines)


def _line(level: Level, title: str, message: str) -> str:
    return f"::{level} title={_property(f'snd: {title}')}::{_data(message)}"


def _data(text: str) -> str:
    """Escaped as the runner unescapes it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
