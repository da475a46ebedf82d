"""The words of `snd`, in plain sentences: what ``snd explain WORD`` and docs/glossary.md print. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sndcli.errors import unknown

IDEAS = {
    "query": "One image sent to the defended model, and its answer. Every query of an attack is counted and paid for.",
    "budget": "The most queries that an attack may spend on one image; in a report, the point it is read at.",
    "report point": "A number of queries at which success is reported. One run has several, up to its budget.",
    "victim": "The model that is attacked together with its defense.",
    "bare network": "The model without its defense. The attacker never sees it; it only serves to judge.",
    "defense": "What stands around the model and answers differently each time, such as noise added to every query.",
    "small noise defense": "Called snd: Gaussian noise of standard deviation sigma is added to every query.",
    "noise-aware": "An attack that knows answers are random: it asks with steps as large as the noise and asks again.",
    "probe": "A test step: a query a little beside the current point, to learn in which direction the boundary lies.",
    "boundary": "Where the model's answer changes. Under noise: where most answers do. As a column: if measured.",
    "epsilon": "Written eps: how far an image may be changed for the attack to count as a success.",
    "submitted point": "The image that the attacker would hand over after its queries.",
    "moved out": "The submitted point pushed along its line from the clean image to distance eps, for all alike.",
    "new answers": "Answers drawn after the attack, unpaid, to see whether its result was luck. Also: fresh draws.",
    "interval": "Where the true share lies with 95 % confidence, in square brackets behind the value.",
    "ladder": "One attack in steps: as published, with votes, with wider test steps, noise-aware, at one price.",
    "gate": "A condition on a figure, given to `snd report --fail-if`; where it fails the exit code is 1.",
    "baseline": "Earlier results that new ones are compared with, image by image.",
    "verdict": "What follows from a report in a sentence: gates, comparison, strongest attacks, flags.",
    "headline": "The success of the strongest attack on one victim.",
    "setting": "Everything that tells one row of a table from another: attack, victim, bound and options.",
    "audit": "A fixed battery of attacks on one defense: whether it holds, what it costs, how many queries it buys.",
    "battery": "The attacks of an audit, in a fixed order. It has a name and a version: snd-1.",
    "champion": "The attack of a battery whose queries are counted, with the defense and without it.",
    "yardstick": "A published attack in a battery: what an evaluation without noise-aware attacks would have said.",
    "confirmed point": "A point that enough new, unpaid answers say is wrong; the attack on its image ends.",
    "final draws": "New answers at the end of an audit, one test an image, that nothing before has seen.",
    "queries ratio": "How many times the queries the defense makes necessary, at the median image.",
    "inconsistent": "Share of clean images on which two answers of the defended model disagree.",
    "robust accuracy": "Share of images that are right, and that no attack has broken.",
    "league": "Audits of many defenses, on the same images, in one table.",
    "votes": "How many answers are asked for each question (T); the most frequent one counts and all are paid.",
    "flag": "A warning that an evaluation could flatter the defense. It never changes the exit code.",
    "unit": "Images that are attacked together and written to one part file.",
    "worker": "A process that does units of a run. How many there are (--workers) changes no figure.",
    "shard": "A fixed share of a run's units, for one job of many; `snd merge` makes the result of all.",
    "probe scale": "How far a test step reaches towards the boundary, compared with the noise.",
    "sigma_round": "How wide a noise on the image scatters the answers as much as the network's rounding does.",
    "rounding_share": "How large that is beside the noise of the defense.",
    "sigma_all": "Standard deviation of all noise on the image, where another defense adds some beside that of snd.",
}  # fmt: skip

MEASURES = {
    "n": "How many images were attacked, counted once for each seed.",
    "success_seen": "Share of images for which the attacker received a wrong answer within eps. Some of it is luck.",
    "success_seen_net": "The same without images whose clean version was already answered wrong.",
    "success_noisy": "Share of images whose final image, moved out to eps, is wrong in at least half of new answers.",
    "success_as_submitted": "As success_noisy, of the image as the attacker handed it over, not moved out.",
    "success_clean": "Share of images whose final image also fools the bare network.",
    "floor": "What merely sending the clean image again and again would reach: success without an attack.",
    "distance_last": "How far the last paid query was from the clean image; a table shows the mean.",
    "distance_best": "How far the closest wrong answer was from the clean image; infinite where there was none.",
    "distance_submitted": "How far the submitted point is from the clean image.",
    "distance_verified": "How far the closest submitted point is that at least half of new answers confirm.",
    "distance_boundary": "How far one must go along the submitted point's line until most answers are wrong.",
    "p_mis": "Share of paid queries that the defense answered otherwise than the bare network would have.",
    "p_mis_clean": "The same for the clean images: how often the noise alone changes an answer.",
    "blocked": "Paid queries that a stateful defense took for near-duplicates; as a reason: too many in a row.",
    "detected_at": "The first query of an image that a stateful defense took for a near-duplicate.",
    "queries_mean": "Paid queries an image, on average.",
    "queries_max": "Paid queries of the image that took most.",
    "initially_wrong": "Images whose first query, the clean image, was already answered wrong.",
    "failed": "Images whose attack could not start or broke off.",
}  # fmt: skip

FLAGS = {
    "seen_above_noisy": "Many wrong answers were received that new answers do not confirm: they were luck.",
    "success_falls": "Success is lower with more queries: the attack gives good points away.",
    "floor_explains": "Sending the clean image again would explain more than half of the success.",
    "probe_below_noise": "The attack's test steps are much smaller than the noise, so it cannot see.",
    "search_below_noise": "The attack's searches go on below the noise, where answers are coin flips.",
    "no_noise_aware": "A random defense was attacked by no attack that knows of the noise.",
    "too_few_images": "Two defenses differ by no more than chance explains for so few images.",
    "rounding_defends": "The network's rounding scatters its answers as a defense would: by more than a fifth of it.",
    "deterministic": "The defense's answers never change, so one answer decided each test of an audit.",
    "battery_disagrees": "In an audit, another attack alone breaks images that the main one should have broken.",
    "yardstick_far": "In an audit, a published attack alone breaks less than half of the images that break.",
    "optimism": "In an audit, images were confirmed as broken that the final answers do not hold.",
    "blocked": "In an audit, the defense took many queries for repeats, which no attack of the battery knows of.",
    "ratio_censored": "In an audit, half of the images stand at the last query: the price is only bounded below.",
    "defense_off": "The defense says that it is random, but its answers do not change.",
}  # fmt: skip

ATTACKS = {
    "hsja": "HopSkipJump: finds the boundary, estimates its direction from many small test steps, and walks along it.",
    "hsja-na": "HopSkipJump with test steps as large as the noise, and a final point that is confirmed.",
    "popskipjump": "HopSkipJump for random answers: asks as often as the noise makes necessary.",
    "ba": "Boundary Attack: a random walk along the boundary that keeps what comes closer.",
    "sign-opt": "Sign-OPT: looks for the direction with the nearest boundary, by the signs of test steps.",
    "geoda": "GeoDA: takes the boundary for flat and estimates its normal.",
    "cgba": "CGBA: estimates the boundary's normal as HopSkipJump does and looks for the next point on a half-circle.",
    "surfree": "SurFree: moves along circles in random directions, from one boundary point to a closer one.",
    "ars-opt": "ARS-OPT: Sign-OPT whose directions gain momentum.",
    "transfer": "Makes a point on networks of the attacker's own and sends it once; noise does not hinder it.",
    "rays": "RayS: looks for the direction with the nearest boundary among corners, in ever finer blocks.",
    "simba": "SimBA: changes one pixel after the other and keeps what lowers the score.",
    "simba-dct": "SimBA along low frequencies instead of pixels.",
    "bandit-td": "Bandits: estimates the gradient from scores, and remembers it over steps and neighbouring pixels.",
    "nes": "NES: estimates the gradient from scores of random test steps.",
    "nattack": "NATTACK: learns from scores which random changes fool the model, as a whole.",
    "nes-na": "NES with test steps as large as the noise allows, full steps, and a success that is confirmed.",
    "subspace": "Subspace: tries gradients of the attacker's own networks.",
    "square": "Square Attack: changes random squares and keeps what lowers the score.",
    "null": "No attack: sends the clean image again and again, which gives the floor.",
}  # fmt: skip

PRESETS = {
    "authors": "The numbers of the authors' paper or code.",
    "art": "As in the library ART.",
    "art12": "As in ART 1.2.0, which the paper cites.",
    "art13": "As in ART 1.3 to 1.5.",
    "foolbox": "As in Foolbox 3; as an engine: Foolbox's own code.",
    "na": "Noise-aware: the published attack changed so that it knows of the noise.",
    "sequential": "Of hsja-na: asks until it is sure. Its first preset.",
    "majority": "Of hsja-na: asks a fixed number of times and takes the majority.",
    "share": "Of popskipjump: no gradient takes more than a quarter of the queries left.",
    "saving": "Of sign-opt: gives a step up at the first answer against it.",
    "raw-224": "Of geoda: its numbers taken for pixels in [0, 1].",
    "step1": "Of geoda: as raw-224, with steps of length 1.",
    "full": "Of cgba and surfree: test points of all frequencies.",
    "h": "Of cgba: CGBA-H, for boundaries that curve.",
    "example": "Of surfree: the settings of its authors' example.",
    "orthogonal": "Of surfree: directions that repeat nothing, and angles searched to the end; ours.",
    "large": "Of ars-opt: its numbers for ImageNet.",
    "momentum": "Of transfer: its only one, gradient ascent with momentum.",
    "pixel": "Of simba: pixels one by one, as published.",
    "fitted": "Of simba: a step that fits the bound, ours.",
    "dct": "Of simba-dct: low frequencies, as published.",
    "dct-fitted": "Of simba-dct: a step that fits the bound, ours.",
    "dct-na": "Of simba-dct: noise-aware.",
    "l2": "Numbers for L2; as a norm: the length of the change as a vector.",
    "linf": "Numbers for L-infinity; as a norm: the largest change of any pixel.",
    "slow": "Of nattack: smaller steps, as its authors attack R&P.",
    "near": "Of nes-na: goes on after a confirmed success and brings the point nearer. Its first preset.",
    "first": "Of nes-na: ends at the first confirmed success.",
    "margin": "Of nes: wider test steps and another loss.",
    "paper": "Of square: as in its paper.",
    "autoattack": "Of square: as AutoAttack runs it.",
    "default": "Of null: its only one.",
}  # fmt: skip

VALUES = {
    "none": "No defense.",
    "snd": "The small noise defense: noise on every query (--sigma).",
    "rnp": "Every query is resized and padded at random.",
    "rse": "Noise before every convolution, and five passes a query.",
    "pni": "Learned noise on the weights, drawn for each query.",
    "pni-shared": "The same, drawn once for all queries of a pass, as its authors evaluate it.",
    "noise": "Noise on every query, of the kind that is asked for, such as uniform or salt-pepper.",
    "aug": "Every query is mirrored and moved at random, as pictures were in training.",
    "set": "Every query is answered by one of several networks, chosen at random.",
    "rfd": "Noise on what one layer of the network puts out, drawn for each query.",
    "smooth": "A vote of several noisy passes for every query: randomised smoothing.",
    "gate": "As a defense: another defense answers, but only where the bare model is unsure.",
    "logit": "Noise on the scores before they become probabilities.",
    "rls": "Scores are scaled by a random number. Labels stay.",
    "aaa-linear": "Scores that lead score attacks the wrong way, by a rule. Labels stay and nothing is random.",
    "aaa-sine": "The same with a smooth rule.",
    "jpeg": "Every query is written as JPEG of a random quality and read again.",
    "bits": "Every query is rounded to few grey levels, at a random offset.",
    "blacklight": "Near-duplicates of earlier queries about an image are blocked. A stateful defense.",
    "native": "Of --engine: our own code of the attack.",
    "process": "Of --executor: workers are processes of this machine.",
    "ray": "Of --executor: workers are those of a Ray cluster.",
    "seen": "Of --stop: an attack ends by its own rule, often at the first wrong answer.",
    "confirmed": "Of --stop: a score attack ends when paid answers confirm its success. As a reason: it was confirmed.",
    "verified": "Of --stop: an attack on an image ends when unpaid answers confirm its point.",
    "correct": "Of --select: only images that the bare model classifies correctly.",
    "all": "Of --select: any images.",
    "auto": "Chosen by measuring, or by what the machine has.",
    "cpu": "Of --device: the processor.",
    "cuda": "Of --device: an NVIDIA graphics card.",
    "fp32": "Of --precision: ordinary single precision.",
    "bf16": "Of --precision: half as many bits; faster on some machines.",
    "estimate": "Of --sigma-hat: the attack measures the noise and pays for it.",
    "cifar10": "Of --dataset: small pictures of ten classes; 1,200 of them are in the package.",
    "imagenet": "Of --dataset: large pictures of 1,000 classes, from a folder of yours.",
    "resnet20": "Of --model: a small network for CIFAR-10 that is in the package.",
    "resnet20-at": "Of --model: the same, trained on attacked images.",
    "resnet20-gf": "Of --model: the same, trained further on noisy images, for more noise at less loss (RND-GF).",
    "labels": "Access of an attack: it sees only the class that is answered.",
    "scores": "Access of an attack: it sees the score of every class.",
    "wilson": "Of --interval: the usual interval for a share.",
    "clopper-pearson": "Of --interval: a wider one that never covers too little.",
}  # fmt: skip

COLUMNS = {
    "run_id": "Names the run: a hash of everything that decides its figures.",
    "id": "The same, in a file's metadata.",
    "protocol": "Number of the rules that draws and definitions follow; runs of one protocol can be compared.",
    "attack": "Name of the attack.",
    "engine": "Whose code of the attack ran: native (ours) or foolbox.",
    "preset": "Set of numbers that the attack ran with; empty: its usual one.",
    "settings": "Numbers of the attack that were changed with --set.",
    "options": "All numbers of the attack, after preset and settings.",
    "dataset": "Name of the pictures.",
    "dataset_source": "Where the pictures came from.",
    "dataset_digest": "Which copy of them.",
    "model": "Name of the network.",
    "model_digest": "Which weights it had.",
    "defense": "What stood around the network; several joined by a plus, the outermost last.",
    "sigma": "Standard deviation of snd's noise, for pixels from 0 to 1; 0: none.",
    "beta": "The noise of each query is multiplied by a draw from Beta(a, a); empty: it is not.",
    "clip": "Whether the noisy image is cut to pixels from 0 to 1.",
    "weights": "Network of a trained defense.",
    "weights_digest": "Which copy of it.",
    "norm": "How a change is measured: l2 or linf.",
    "eps": "How much change counts as a success at most.",
    "eps_also": "Further bounds at which the results were verified.",
    "run_eps": "In an export: the bound of the run, where eps is that of the row.",
    "run_budget": "In an export: the budget of the run, where budget is that of the row.",
    "images": "How many images were asked for.",
    "select": "Which images were attacked: correct or all.",
    "select_by": "Another model that chose the images.",
    "image_ids": "The images, by their numbers, where they were named and not chosen.",
    "stop": "What ends an image's attack: its own rule (seen), paid answers (confirmed) or unpaid ones (verified).",
    "first_seed": "The first seed of the run.",
    "seed": "Decides all randomness of the row.",
    "repeats": "How many seeds were run.",
    "verify": "How many new answers were asked for to verify.",
    "verify_draws": "How many new answers were drawn to verify, at most: they end where the verdict is certain.",
    "quantize": "Whether queries were rounded to images of 8 bits.",
    "mismatch": "Whether it was counted how often the defense changed the answer.",
    "precision": "How the networks computed: fp32 or bf16.",
    "compiled": "Whether the networks were compiled.",
    "device": "The kind of device on which the networks computed: cpu or cuda.",
    "references": "The attacker's own networks.",
    "target": "Which label a targeted attack is after: next, random or a class; empty: any but the true one.",
    "target_label": "The label that a targeted attack is after for this image.",
    "start_image": "The image that a targeted attack was first offered to start from.",
    "plugins": "Packages or files from which attack and defense came.",
    "image_id": "The image's number in its data set.",
    "label": "The true class; in JSON, also what a row is called.",
    "status": "ok, or failed where the attack could not start or broke off.",
    "stop_reason": "Why the attack on this image ended.",
    "queries": "How many queries were paid.",
    "queries_by_phase": "What the queries were spent on.",
    "budgets": "The report points.",
    "seen": "Whether a wrong answer was received within eps; in tables, success_seen.",
    "seen_net": "The same, but not at the clean image.",
    "noisy": "Whether the final image, moved out to eps, is wrong in half of new answers; in tables, success_noisy.",
    "as_submitted": "The same of the image as it was handed over.",
    "clean": "Whether the final image fools the bare network too; in tables, success_clean.",
    "p_adv": "Share of new answers that are wrong at the final image, moved out to eps.",
    "p_adv_submitted": "The same, not moved out.",
    "p_adv_also": "As p_adv, at further bounds.",
    "adv_clean": "Whether the bare network is wrong at the final image, moved out to eps.",
    "adv_clean_submitted": "The same, not moved out.",
    "adv_clean_also": "As adv_clean, at further bounds.",
    "p0": "Share of new answers that are wrong at the clean image.",
    "clean_draws": "How many new answers at the clean image.",
    "mismatches": "Paid queries that the defense answered otherwise than the bare network would have.",
    "event_query": "At which queries a wrong answer came closer than all before.",
    "event_distance": "How close those were.",
    "config": "Everything that decides the run's figures.",
    "made": "When the run was finished.",
    "command": "The command as it was typed.",
    "commit": "Which source of snd it was.",
    "versions": "Versions of the packages, and the device.",
    "streams": "Whether each image has random draws of its own, or a whole unit shares them.",
    "fingerprint": "Tells machines apart whose arithmetic differs in the last bit.",
    "wall_s": "Seconds that the run took.",
    "scales": "How far the attack's test steps and searches reach.",
    "passes_differ": "Whether two answers to one image differed, as they should under a random defense.",
    "rounding": "How much noise the network's rounding alone makes.",
    "answers_to_choose": "Unpaid answers by which the images were chosen.",
    "sent": "What was sent to a remote model: requests, retries and failures.",
}  # fmt: skip

KINDS: Mapping[str, Mapping[str, str]] = {
    "idea": IDEAS, "measure": MEASURES, "flag": FLAGS, "attack": ATTACKS, "preset": PRESETS, "value": VALUES,
    "column": COLUMNS,
}  # fmt: skip
TITLES = {
    "idea": "Ideas", "measure": "Measures", "flag": "Flags", "attack": "Attacks", "preset": "Presets of attacks",
    "value": "Values of options", "column": "Columns of result files and exports",
}  # fmt: skip
PAGES = {
    "idea": "concepts.md", "measure": "reports.md", "flag": "flags.md", "attack": "attacks.md", "preset": "attacks.md",
    "value": "cli.md", "column": "data.md",
}  # fmt: skip
ALIASES = {"eps": "epsilon", "ε": "epsilon", "σ": "sigma", "t": "votes", "q": "budget", "l∞": "linf", "β": "beta"}


@dataclass(frozen=True)
class Term:
    """One entry.

    Attributes:
        word: as it stands in tables, files or options.
        kind: which of `KINDS`.
        meaning: in a plain sentence or two.
        page: of the documentation that says more.
    """

    word: str
    kind: str
    meaning: str
    page: str

    def as_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.word} ({self.kind}): {self.meaning} [docs/{self.page}]"


TERMS = tuple(Term(word, kind, text, PAGES[kind]) for kind, words in KINDS.items() for word, text in words.items())


def explain(word: str) -> list[Term]:
    """What a word means, in each of its senses; case, hyphens, underscores and spaces are alike.

    Raises:
        ConfigError: no such word; names the nearest.
    """
    wanted = {_plain(word), _plain(ALIASES.get(_plain(word), word))}
    wanted |= {f"success {name}" for name in wanted} | {f"distance {name}" for name in wanted}
    found = [term for term in TERMS if _plain(term.word) in wanted]
    if not found:
        raise unknown("word", word, [term.word for term in TERMS])
    return found


def markdown() -> str:
    """All of it as Markdown: a table a kind."""
    parts = []
    for kind, words in KINDS.items():
        lines = [f"| {word if kind == 'idea' else f'`{word}`'} | {text} |" for word, text in words.items()]
        parts.append("\n".join([f"## {TITLES[kind]}\n", "| word | meaning |", "| --- | --- |", *lines]))
    return "\n\n".join(parts)


def _plain(word: str) -> str:
    return re.sub(r"[\s_-]+", " ", word.strip().strip("`").removeprefix("--").lower())
