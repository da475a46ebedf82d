"""Foolbox's own attacks, unmodified, behind the oracle (``--engine foolbox``).

Foolbox's HopSkipJump normalises its gradient over the whole batch and its loops and assertions speak for the whole
batch, so each image runs in an attack of its own, with a batch of one. A broker runs them in turns: each goes on
until it asks something, then the questions of all images travel in one batch. Only one ever runs at a time, and
each has its own state of torch's global CPU generator, from which Foolbox then draws; the caller's is restored.

An attack that raises (Foolbox asserts on single labels, which a random model breaks) ends that image alone, as a
row with its reason. What is submitted is the closest paid query that was answered wrong, because Foolbox does
not tell its own incumbent; for its Boundary Attack the two are the same.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor, nn

from sndcli.attacks.common.geometry import active
from sndcli.errors import ConfigError
from sndcli.queries.oracle import REFUSED, Oracle
from sndcli.streams import Streams


class BudgetSpent(Exception):
    """Ends a Foolbox attack from inside its model."""


class _Attacker(threading.Thread):
    """One image's attack; runs only between `resume` and its next question."""

    def __init__(self, attack: Any, image: int, x: Tensor, y: Tensor, seed: int) -> None:
        super().__init__(daemon=True)
        self.attack, self.image, self.x, self.y = attack, image, x, y
        self.question: Tensor | None = None
        self.answer: Tensor | None = None
        self.reason: str | None = None
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        torch.manual_seed(seed)
        self._random_state = torch.get_rng_state()

    def resume(self) -> None:
        """Lets the attack run until it asks or ends; `question` is then set, or `reason`."""
        torch.set_rng_state(self._random_state)
        if self.ident is None:
            self.start()
        else:
            self._go.release()
        self._paused.acquire()
        self._random_state = torch.get_rng_state()

    def run(self) -> None:
        """Thread body."""
        import foolbox

        try:
            model = foolbox.PyTorchModel(_Door(self), bounds=(0, 1), device=self.x.device)
            self.attack.run(model, self.x[None], foolbox.criteria.Misclassification(self.y[None]))
            self.reason = "exhausted"
        except BudgetSpent:
            self.reason = "budget"
        except Exception as error:
            text = str(error).strip().splitlines()
            self.reason = f"raised: {type(error).__name__} {text[0] if text else ''}".strip()
        self.question = None
        self._paused.release()

    def ask(self, points: Tensor) -> Tensor:
        """Called inside the attack: hands the turn over and comes back with labels."""
        self.question = points
        self._paused.release()
        self._go.acquire()
        answer, self.answer = self.answer, None
        if answer is None or bool((answer == REFUSED).any()):
            raise BudgetSpent
        return answer


class _Door(nn.Module):
    """The model as Foolbox sees it: labels only, as one-hot scores."""

    def __init__(self, attacker: _Attacker) -> None:
        super().__init__()
        self.attacker = attacker
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        label = self.attacker.ask(x)
        classes = int(torch.maximum(label.max(), self.attacker.y)) + 1
        return nn.functional.one_hot(label, classes).to(x.dtype)


def build(name: str, norm: str) -> Any:
    """Foolbox's attack `name` with all its defaults.

    Raises:
        ConfigError: Foolbox is not installed.
    """
    try:
        from foolbox.attacks import BoundaryAttack, HopSkipJumpAttack
    except ImportError:
        raise ConfigError("`--engine foolbox` needs the package foolbox: pip install foolbox.") from None
    return HopSkipJumpAttack(constraint=norm) if name == "hsja" else BoundaryAttack()


def run(oracle: Oracle, streams: Streams, name: str) -> None:
    """Attacks every active image of the oracle with Foolbox's attack `name`."""
    attack = build(name, oracle.norm)
    images = active(oracle).tolist()
    seeds = streams.seeds(torch.arange(len(oracle.x0)))
    with torch.random.fork_rng(devices=[]):
        live = [_Attacker(attack, i, oracle.x0[i].cpu(), oracle.y[i].cpu(), seeds[i]) for i in images]
        while live:
            for attacker in live:
                attacker.resume()
            for attacker in live:
                if attacker.reason is not None:
                    _end(oracle, attacker)
            live = [attacker for attacker in live if attacker.reason is None]
            _answer(oracle, live)


def _answer(oracle: Oracle, live: list[_Attacker]) -> None:
    """One batch with everybody's questions."""
    questions = [attacker.question for attacker in live if attacker.question is not None]
    if not questions:
        return
    sizes = [len(question) for question in questions]
    device = oracle.x0.device
    image = torch.tensor([attacker.image for attacker in live], device=device)
    before = oracle.ledger.best[image].clone()
    rows = image.repeat_interleave(torch.tensor(sizes, device=device))
    answers = oracle.labels(torch.cat(questions).to(device), rows, "attack").cpu()
    improved = image[oracle.ledger.best[image] < before]
    oracle.submit(oracle.ledger.best_point[improved], improved)
    for attacker, answer in zip(live, answers.split(sizes), strict=True):
        attacker.answer = answer


def _end(oracle: Oracle, attacker: _Attacker) -> None:
    if attacker.reason != "budget":
        oracle.retire(torch.tensor([attacker.image], device=oracle.x0.device), attacker.reason or "")
