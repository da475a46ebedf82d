"""A setting: what tells the runs of one row of a table from those of another, and its name in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Setting:
    """Attack, victim and bound.

    Attributes:
        attack, engine, dataset, model, defense: names.
        sigma: of ``snd``.
        beta: a of Beta(a, a), or None.
        votes: T, answers to a question.
        norm, eps: the bound.
        preset, settings: the attack's parameters.
    """

    attack: str
    engine: str
    dataset: str
    model: str
    defense: str
    sigma: float
    beta: float | None
    votes: int
    norm: str
    eps: float
    preset: str | None = None
    settings: tuple[str, ...] = ()

    @property
    def defended(self) -> str:
        """The defense in words: ``snd 0.01``, ``snd 0.01 β=2``, ``none``; votes are added where there are any.

        Example:
            >>> Setting("hsja", "native", "cifar10", "resnet20", "snd", 0.01, 2.0, 10, "l2", 1.0).defended
            'snd 0.01 β=2, T=10'
        """
        text = self.defense
        if self.sigma or "snd" in text.split("+"):
            text += f" {self.sigma:g}"
        if self.beta is not None:
            text += f" β={self.beta:g}"
        return text + (f", T={self.votes}" if self.votes > 1 else "")

    @property
    def bound(self) -> str:
        """``l2 ≤ 1``."""
        return f"{self.norm} ≤ {self.eps:g}"

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self) | {"settings": list(self.settings)}
