"""Schedules say when training goes on, steps up or ends: pure state machines over validation
scores, the same on every worker.

They hold plain numbers, so that `dataclasses.asdict` is all there is to save.
"""

import dataclasses
from typing import NamedTuple, Protocol


class Stage(NamedTuple):
    """The attack that training defends against at the moment."""

    steps: int
    """k"""
    epsilon: float
    rank: int = 0
    """This worker, whose batch is every world-th image of the whole one."""
    world: int = 1


class Verdict(NamedTuple):
    """The decision after an epoch."""

    best: bool
    """Keep this epoch's weights: they are the best at this k."""
    restore: bool
    """Go back to the best weights, at the end or before the next k."""
    finished: bool


class Schedule(Protocol):
    @property
    def attack_steps(self) -> int:
        """The k of the attack that epochs are now compared under, and that training makes where
        it has steps.
        """

    @property
    def epsilon(self) -> float:
        """The budget that training now defends against."""

    def update(self, score: float) -> Verdict:
        """Move on by the validation score (larger is better) of the epoch just finished."""


@dataclasses.dataclass(kw_only=True)
class Fixed:
    """So many epochs at one k and one budget; the best epoch's weights stay."""

    epochs: int
    attack_steps: int
    epsilon: float
    epoch: int = 0
    best_score: float | None = None

    def update(self, score: float) -> Verdict:
        self.epoch += 1
        best = self.best_score is None or score > self.best_score
        self.best_score = score if best else self.best_score
        finished = self.epoch >= self.epochs
        return Verdict(best=best, restore=finished, finished=finished)


@dataclasses.dataclass(kw_only=True)
class Curriculum:
    """Curriculum adversarial training (Cai et al. 2018) as the study ran it: one k after the other.

    The next k begins from the best weights of the last one. It begins after `patience` epochs
    without a gain of the validation accuracy under PGD-k, or after `epochs` epochs at one k.

    Args:
        ks: the k of each stage; the study's are 0, 1, ... 8.
        epsilons: the budget of each stage; the study's are all the same.
    """

    ks: tuple[int, ...]
    epsilons: tuple[float, ...]
    patience: int
    epochs: int
    stage: int = 0
    epoch: int = 0
    since_gain: int = 0
    best_score: float | None = None

    @property
    def attack_steps(self) -> int:
        return self.ks[self.stage]

    @property
    def epsilon(self) -> float:
        return self.epsilons[self.stage]

    def update(self, score: float) -> Verdict:
        self.epoch += 1
        best = self.best_score is None or score > self.best_score
        self.best_score = score if best else self.best_score
        self.since_gain = 0 if best else self.since_gain + 1
        if self.since_gain < self.patience and self.epoch < self.epochs:
            return Verdict(best=best, restore=False, finished=False)
        if self.stage == len(self.ks) - 1:
            return Verdict(best=best, restore=True, finished=True)
        self.stage += 1
        self.epoch, self.since_gain, self.best_score = 0, 0, None
        return Verdict(best=best, restore=True, finished=False)
