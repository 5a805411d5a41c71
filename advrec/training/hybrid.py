"""Training of hybrid recommenders: purchases and embeddings to factors. Plain PyTorch, on one core
of this process.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import softplus

from advrec.recommenders.bank import Floats
from advrec.recommenders.hybrid import Factors, spread
from advrec.recommenders.purchases import Purchases
from advrec.spec.hybrids import Amr, Bpr, Vbpr
from advrec.spec.models import AnyHybrid
from advrec.training import state
from advrec.training.state import Epoch, State

SPREAD = 0.02
"""Standard deviation of the values that a training starts from."""


Pair = tuple[Tensor, Tensor]
"""Features (B, D) of the articles that were bought, and of the others."""


class Triple(NamedTuple):
    """Users (B,), an article (B,) that each has bought, and one (B,) that it has not; int64."""

    users: Tensor
    bought: Tensor
    others: Tensor


class Preferences(nn.Module):
    """Scores of a hybrid while it is trained; parameters that its kind has not are None.

    Args:
        dimension: D, the number of values of an embedding.
        generator: of the values that the training starts from.
    """

    def __init__(
        self,
        spec: AnyHybrid,
        num_users: int,
        num_articles: int,
        dimension: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(SPREAD * torch.randn(shape, generator=generator))

        self.spec, self.dimension = spec, dimension
        self.user_factors = drawn(num_users, spec.factors)
        self.item_factors = drawn(num_articles, spec.factors)
        self.item_bias = self.user_visual = self.projection = self.visual_bias = None
        if isinstance(spec, Bpr | Vbpr):
            self.item_bias = nn.Parameter(torch.zeros(num_articles))
        if isinstance(spec, Vbpr):
            self.user_visual = drawn(num_users, spec.visual_factors)
            self.projection = drawn(spec.visual_factors, dimension)
            self.visual_bias = nn.Parameter(torch.zeros(dimension))
        if isinstance(spec, Amr):
            self.projection = drawn(spec.factors, dimension)

    def forward(self, users: Tensor, articles: Tensor, features: Tensor) -> Tensor:
        """Scores (B,) of articles (B,) with the features (B, D) for users (B,)."""
        own = self.user_factors[users]
        scores = (own * self.item_factors[articles]).sum(1)
        if self.item_bias is not None:
            scores = scores + self.item_bias[articles]
        if self.projection is not None:
            visual = own if self.user_visual is None else self.user_visual[users]
            scores = scores + (visual * (features @ self.projection.T)).sum(1)
        if self.visual_bias is not None:
            scores = scores + features @ self.visual_bias
        return scores

    def penalty(self, triple: Triple) -> Tensor:
        """The decay (B,) of all values that the scores of a triple are made of."""
        spec, (users, bought, others) = self.spec, triple
        vectors = [self.user_factors[users]]
        vectors += [self.item_factors[articles] for articles in (bought, others)]
        if self.user_visual is not None:
            vectors.append(self.user_visual[users])
        squares = torch.stack([vector.square().sum(1) for vector in vectors])
        penalty = spec.decay * squares.sum(0)
        if isinstance(spec, Bpr | Vbpr) and self.item_bias is not None:
            squares = self.item_bias[bought].square() + self.item_bias[others].square()
            penalty = penalty + spec.bias_decay * squares
        if isinstance(spec, Vbpr | Amr):
            shared = [each for each in (self.projection, self.visual_bias) if each is not None]
            squares = torch.stack([each.square().sum() for each in shared])
            penalty = penalty + spec.visual_decay * squares.sum()
        return penalty

    def factors(self, spread: float) -> Factors:
        """Factors for raw embeddings; the features are these divided by `spread`."""
        num_users, dimension = len(self.user_factors), self.dimension
        visual = self.user_factors if isinstance(self.spec, Amr) else self.user_visual
        projection, bias = self.projection, self.visual_bias
        return Factors(
            item_bias=_array(self.item_bias, len(self.item_factors)),
            user_factors=_array(self.user_factors),
            item_factors=_array(self.item_factors),
            user_visual=_array(visual, num_users, 1),
            projection=_array(
                projection if projection is None else projection / spread, 1, dimension
            ),
            visual_bias=_array(bias if bias is None else bias / spread, dimension),
        )


def margins(preferences: Preferences, triple: Triple, features: Pair) -> Tensor:
    """Margins (B,) of the scores of bought articles over the others'."""
    bought: Tensor = preferences(triple.users, triple.bought, features[0])
    others: Tensor = preferences(triple.users, triple.others, features[1])
    return bought - others


def ranking_losses(preferences: Preferences, triple: Triple, features: Pair) -> Tensor:
    """-log sigmoid of the margins (B,) (Rendle et al. 2009, equation 4)."""
    return softplus(-margins(preferences, triple, features))


def perturbed(preferences: Preferences, triple: Triple, features: Tensor, epsilon: float) -> Pair:
    """The features of both articles, of those of all (N, D): each article is moved by `epsilon` in
    the direction in which the loss of the whole batch rises fastest (Tang et al. 2019, equation 7).
    No gradient flows through the direction.
    """
    distinct, places = torch.unique(torch.cat([triple.bought, triple.others]), return_inverse=True)
    clean = features[distinct].requires_grad_()
    with torch.enable_grad():
        losses = ranking_losses(preferences, triple, _both(clean, places))
        (slopes,) = torch.autograd.grad(losses.sum(), clean)
    return _both(clean.detach() + epsilon * functional.normalize(slopes, dim=1), places)


def _both(features: Tensor, places: Tensor) -> Pair:
    """Features at places (2B,) as those of what was bought and of the others."""
    bought, others = features[places].chunk(2)
    return bought, others


class Training:
    """A training between two epochs.

    Args:
        embeddings: (N, D), raw.
    """

    def __init__(
        self, spec: AnyHybrid, embeddings: Floats, purchases: Purchases, *, seed: int
    ) -> None:
        self.spec, self._purchases, self._seed = spec, purchases, seed
        self._spread = spread(embeddings)
        # The mean of all embeddings changes no margin, and costs digits.
        mean = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._features = torch.from_numpy((embeddings - mean) / np.float32(self._spread))
        self.preferences = Preferences(
            spec,
            purchases.num_users,
            purchases.num_articles,
            embeddings.shape[1],
            torch.Generator().manual_seed(seed),
        )
        self._optimizer = torch.optim.Adam(
            self.preferences.parameters(), lr=spec.learning_rate, fused=True
        )
        self.history: list[Epoch] = []

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.spec.total_epochs

    def epoch(self) -> Epoch:
        """Meet every purchase once.

        Raises:
            FloatingPointError: the training diverges.
        """
        start, number = time.monotonic(), len(self.history) + 1
        random = np.random.default_rng((self._seed, number))
        total, seen = 0.0, 0
        for triples in self._purchases.epoch(random, self.spec.batch):
            losses = self.losses(Triple(*(torch.from_numpy(each).long() for each in triples)))
            self._optimizer.zero_grad(set_to_none=True)
            losses.mean().backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            total, seen = total + float(losses.detach().sum()), seen + len(losses)
        loss = total / max(seen, 1)
        values = [loss, *(float(each.detach().sum()) for each in self.preferences.parameters())]
        if not all(map(math.isfinite, values)):
            raise FloatingPointError(f"after epoch {number} its values are not finite")
        self.history.append(
            Epoch(
                epoch=number,
                attack_steps=int(self._is_attacked),
                train_loss=loss,
                learning_rate=self.spec.learning_rate,
                seconds=time.monotonic() - start,
            )
        )
        return self.history[-1]

    def losses(self, triple: Triple) -> Tensor:
        """Losses (B,) of a triple, whose mean is made small."""
        features = self._features[triple.bought], self._features[triple.others]
        losses = ranking_losses(self.preferences, triple, features)
        if isinstance(self.spec, Amr) and self._is_attacked:
            moved = perturbed(self.preferences, triple, self._features, self.spec.epsilon)
            losses = losses + self.spec.weight * ranking_losses(self.preferences, triple, moved)
        return losses + self.preferences.penalty(triple)

    def factors(self) -> Factors:
        """Factors as they are after this epoch, for raw embeddings."""
        return self.preferences.factors(self._spread)

    def state(self) -> State:
        """Return all that the training needs to go on after this epoch."""
        weights = self.preferences.state_dict()
        optimizer = state.optimizer_tensors(self._optimizer)
        return State(
            network=weights,
            average={},
            best={},
            optimizer=optimizer,
            schedule={},
            history=self.history,
        )

    def resume(self, saved: State) -> None:
        """Go on after the last epoch of `saved`."""
        self.preferences.load_state_dict(saved.network)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": saved.optimizer, "param_groups": groups})
        self.history = list(saved.history)

    @property
    def _is_attacked(self) -> bool:
        """Say whether the next epoch meets perturbed features."""
        return isinstance(self.spec, Amr) and len(self.history) >= self.spec.clean_epochs


def fit(
    spec: AnyHybrid,
    embeddings: Floats,
    purchases: Purchases,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Training:
    """Train a hybrid, or go on with its training.

    Args:
        embeddings: (N, D) of the catalog, raw.
        checkpoint: a file written after each epoch, which an interrupted training goes on from; it
            ends with the very factors of an undisturbed one.

    Raises:
        FloatingPointError: it diverges; the file is that of the epoch before.
    """
    training = Training(spec, embeddings, purchases, seed=seed)
    if checkpoint is not None and checkpoint.exists():
        training.resume(state.load(checkpoint))
    while not training.finished:
        epoch = training.epoch()
        if checkpoint is not None:
            state.save(checkpoint, training.state())
        on_epoch(epoch)
    return training


def _array(values: Tensor | None, *shape: int) -> Floats:
    """Trained values, or zeros of that shape where there are none."""
    if values is None:
        return np.zeros(shape, dtype=np.float32)
    array: Floats = values.detach().numpy().copy()
    return array
