"""How figures were measured, as a paragraph for a paper in LaTeX, and the BibTeX of what it cites."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from sndcli.analysis.frame import Frame
from sndcli.attacks import registry
from sndcli.defenses import terms
from sndcli.reports import citations
from sndcli.reports.citations import Paper
from sndcli.reports.latex import ESCAPED
from sndcli.runs.results import Metadata

Cite = Callable[[Paper | None], str]
CODE = {"Adversarial Robustness Toolbox": "art", "AutoAttack": "autoattack"}  # source of a preset -> what to cite


def methods(frames: Sequence[Frame]) -> str:
    """The paragraph, and after an empty line the BibTeX entries.

    Args:
        frames: the runs; all that the files say of them is told once.
    """
    papers: dict[str, Paper] = {}

    def cite(paper: Paper | None) -> str:
        if paper is None:
            return ""
        papers[paper.key] = paper
        return rf"~\cite{{{paper.key}}}"

    runs = [frame.run for frame in frames]
    told = [
        _victims(frames, cite),
        f"The attacks are {_list(_attack(frame, cite) for frame in frames)}.",
        _defenses(frames, cite),
        *_unique(_images(frame) for frame in frames),
        *_unique(_budget(frame) for frame in frames),
        _successes(frames),
        _versions(runs),
    ]
    entries = [citations.software(), *(paper.bibtex for paper in papers.values())]
    return "\n\n".join([" ".join(told), *entries])


def _victims(frames: Sequence[Frame], cite: Cite) -> str:
    models = _list(
        _named(f.setting.model, f.setting.model_digest) + cite(citations.network(f.setting.model)) for f in frames
    )
    data = _list(
        _named(f.setting.dataset, f.setting.dataset_digest) + cite(citations.DATASETS.get(f.setting.dataset))
        for f in frames
    )
    versions = _list(_text(f.run.get("versions", {}).get("sndcli", "of an unknown version")) for f in frames)
    tool = rf"sndcli {versions}~\cite{{{citations.SOFTWARE.key}}}"
    about = f"a program made to test the Small Noise Defense{cite(citations.DEFENSES['snd'])} and its like"
    return f"We measured with {tool}, {about}, on the model {models} and images of {data}."


def _named(name: str, digest: str) -> str:
    return rf"\texttt{{{_text(name)}}}" + (rf" (digest \texttt{{{_text(digest)}}})" if digest else "")


TARGETS = {"next": "the label after the true one", "random": "a random other label"}
CHANGED = {"hsja-na": "HopSkipJump", "nes-na": "NES"}  # attacks of ours -> what they change


def _attack(frame: Frame, cite: Cite) -> str:
    """Name, preset and options of an attack, with its paper and that of the code it follows."""
    s = frame.setting
    spec = registry.find(s.attack)
    text = rf"\texttt{{{_text(s.attack)}}}"
    if s.engine == "foolbox":
        return (
            text + cite(citations.ATTACKS.get(s.attack)) + f" in the form of Foolbox{cite(citations.CODE['foolbox'])}"
        )
    preset = s.preset or (spec.default_preset(s.norm) if spec else None)
    facts = spec.presets.get(preset or "") if spec else None
    paper = cite(citations.ATTACKS.get(s.attack))
    if s.attack in CHANGED:
        text += f", {CHANGED[s.attack]}{paper} made to expect noise"
    elif s.attack == "null":
        text += ", which sends the clean image again and again"
    else:
        text += paper
    known = [rf"preset \texttt{{{_text(preset)}}}" if preset else ""]
    known += ["set by us" if facts.ours else ""] if facts and s.attack not in citations.OURS else []
    known += [rf"\texttt{{{_text(setting)}}}" for setting in s.settings]
    known += [f"reference models {_text(', '.join(s.references))}"] if s.references else []
    known += [f"targeted, at {TARGETS.get(s.target, f'class {s.target}')}"] if s.target else []
    code = CODE.get(facts.source if facts else "")
    known += [f"after {_text(facts.source)}{cite(citations.CODE[code])}"] if facts and code else []
    known += [f"{s.votes} answers to each question, of which the majority counts"] if s.votes > 1 else []
    return f"{text} ({', '.join(filter(None, known))})" if s.attack != "null" else text


def _defenses(frames: Sequence[Frame], cite: Cite) -> str:
    found = []
    for frame in frames:
        s = frame.setting.pooled
        if s.defense == "none":
            found.append("none")
            continue
        parts = [
            rf"\texttt{{{_text(part)}}}{cite(citations.DEFENSES.get(terms.name_of(part)))}"
            for part in terms.parts(s.defense)
        ]
        text = " followed by ".join(reversed(parts)) if len(parts) > 1 else parts[0]
        if s.sigma:
            text += rf" with Gaussian noise of $\sigma = {s.sigma:g}$ on the $[0, 1]$ pixel scale, new for each query"
        text += rf", multiplied by draws of Beta({s.beta:g}, {s.beta:g})" if s.beta is not None else ""
        text += ", clipped" if s.clip else ""
        text += f", weights {_named(s.weights, s.weights_digest or '')}" if s.weights else ""
        found.append(text)
    return f"The defenses are: {'; '.join(_unique(found))}."


def _images(frame: Frame) -> str:
    config, s = frame.run["config"], frame.setting
    seeds = f"seed {config['seed']}" if config["repeats"] == 1 else (
        f"seeds {config['seed']} to {config['seed'] + config['repeats'] - 1}"
    )  # fmt: skip
    which = "whether or not the model is right on them"
    if s.select == "correct":
        which = f"among those that {_text(s.select_by or 'the undefended model')} classifies correctly"
    source = config.get("dataset_source") or "the data set"
    return (
        f"Each run takes {config['images']} images, chosen at random ({seeds}), {which} ({_text(source)}); "
        "the choice is the same for every defense and attack."
    )


def _budget(frame: Frame) -> str:
    s = frame.setting
    points = _list(f"{budget:,}" for budget in frame.budgets)
    norm = {"l2": r"$\ell_2$", "linf": r"$\ell_\infty$"}.get(s.norm, s.norm)
    eight = ", each an 8-bit image" if s.quantize else ", each an image that is not rounded to 8 bits"
    return (
        f"An attack has at most {frame.budget:,} queries an image{eight}; results are given at {points} queries, "
        f"within {norm} distance {_text(s.radius)}."
    )


def _successes(frames: Sequence[Frame]) -> str:
    draws = _list(str(frame.run["config"]["verify"]) for frame in frames)
    return (
        r"\emph{Seen} counts images for which a query within the bound was answered with a wrong label; \emph{noisy} "
        "counts those whose final image, moved out to the bound, the defended model misclassifies in at least half of "
        rf"{draws} new answers; \emph{{clean}}, those whose final image the undefended model misclassifies. Intervals "
        r"are 95\,\%."
    )


def _versions(runs: Sequence[Metadata]) -> str:
    found = _unique(
        ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items() if name != "sndcli")
        for run in runs
    )
    precision = _list(run["config"].get("precision", "fp32") for run in runs)
    made = sorted(run["made"][:10] for run in runs if run.get("made"))
    when = f"between {made[0]} and {made[-1]}" if made and made[0] != made[-1] else f"on {made[0]}" if made else ""
    ids = ", ".join(_unique(run["id"] for run in runs))
    software = f" with {_text('; '.join(filter(None, found)))}" if any(found) else ""
    return f"Runs ({_text(ids)}) were made {when}{software}, in {_text(precision)}.".replace("made  ", "made ")


def _list(parts: Iterable[str]) -> str:
    """Each once, joined as in a sentence."""
    found = _unique(parts)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}" if found else ""


def _unique(parts: Iterable[str]) -> list[str]:
    return [*dict.fromkeys(parts)]


def _text(text: str) -> str:
    """For LaTeX, which breaks lines at no underscore by itself."""
    return re.sub(r"\s+", " ", text).translate(ESCAPED)
