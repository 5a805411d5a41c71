"""When training goes on, steps up or ends: pure state machines over validation scores, the same on every worker."""

import dataclasses
from typing import NamedTuple, Protocol


class Verdict(NamedTuple):
    """What to do after an epoch."""

    best: bool
    """Keep this epoch's weights: they are the best at this k."""
    restore: bool
    """Go back to the best weights, at the end or before the next k."""
    finished: bool


class Schedule(Protocol):
    attack_steps: int
    """k: the steps of the attack that training now defends against."""

    def update(self, score: float) -> Verdict:
        """Move on by the validation score (larger is better) of the epoch just finished."""


@dataclasses.dataclass(kw_only=True)
class Fixed:
    """So many epochs at one k; the best epoch's weights stay."""

    epochs: int
    attack_steps: int
    epoch: int = 0
    best_score: float = float("-inf")

    def update(self, score: float) -> Verdict:
        self.epoch += 1
        best = score > self.best_score
        self.best_score = max(score, self.best_score)
        finished = self.epoch >= self.epochs
        return Verdict(best=best, restore=finished, finished=finished)


@dataclasses.dataclass(kw_only=True)
class Curriculum:
    """Curriculum adversarial training (Cai et al. 2018) as the study ran it: k = 0..max_steps, the next k after `patience` epochs
    without a gain of the validation accuracy under PGD-k (or after `epochs` epochs at one k), from the best weights of the last k.
    """

    max_steps: int
    patience: int
    epochs: int
    attack_steps: int = 0
    epoch: int = 0
    since_gain: int = 0
    best_score: float = float("-inf")

    def update(self, score: float) -> Verdict:
        self.epoch += 1
        best = score > self.best_score
        self.best_score = max(score, self.best_score)
        self.since_gain = 0 if best else self.since_gain + 1
        if self.since_gain < self.patience and self.epoch < self.epochs:
            return Verdict(best=best, restore=False, finished=False)
        if self.attack_steps >= self.max_steps:
            return Verdict(best=best, restore=True, finished=True)
        self.attack_steps += 1
        self.epoch, self.since_gain, self.best_score = 0, 0, float("-inf")
        return Verdict(best=best, restore=True, finished=False)
