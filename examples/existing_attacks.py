"""Attacks of other libraries behind the oracle of `snd`: exact budgets, a batch of many images, one rule for success.

    snd attack py:examples.existing_attacks:art_hsja --sigma 0.01 --images 20 --budget 2000
    snd attack py:examples.existing_attacks:foolbox_ba --sigma 0.01 --images 20 --budget 2000

Each function attacks one image and asks `predict` for labels; `snd` does the rest. They need
``pip install adversarial-robustness-toolbox`` and ``pip install foolbox``. Their native twins are ``hsja --preset art``
and ``ba``.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sndcli.attacks.one_image import Predict

CLASSES = 10


def art_hsja(
    predict: Predict, x: Tensor, y: int, *, iterations: int = 64, max_eval: int = 10_000
) -> NDArray[np.float32]:
    """HopSkipJump of the Adversarial Robustness Toolbox, with its defaults but more iterations."""
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import BlackBoxClassifier

    def one_hot(points: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.eye(CLASSES, dtype=np.float32)[predict(points)]

    victim = BlackBoxClassifier(one_hot, tuple(x.shape), CLASSES, clip_values=(0.0, 1.0))
    attack = HopSkipJump(victim, batch_size=1, max_iter=iterations, max_eval=max_eval, verbose=False,
                         norm=2 if predict.norm == "l2" else np.inf)  # fmt: skip
    found: NDArray[np.float32] = attack.generate(x[None].numpy(), np.array([y]))[0]
    return found


class _Door(nn.Module):
    """Labels as one-hot scores, as Foolbox wants them."""

    def __init__(self, predict: Predict) -> None:
        super().__init__()
        self.predict = predict
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``[M, CLASSES]``."""
        return nn.functional.one_hot(self.predict(x), CLASSES).float()


def foolbox_ba(predict: Predict, x: Tensor, y: int, *, steps: int = 25_000) -> None:
    """Boundary Attack of Foolbox. It does not tell its incumbent, so the closest wrong answer is submitted."""
    import foolbox

    model = foolbox.PyTorchModel(_Door(predict), bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.BoundaryAttack(steps=steps)
    attack.run(model, x[None], foolbox.criteria.Misclassification(torch.tensor([y])))
