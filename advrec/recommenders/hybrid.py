"""Hybrid recommenders: what their trainings leave, and the bank of queries that it makes.

A user u scores article i, whose image has the embedding f, by

    item_bias[i] + user_factors[u] . item_factors[i] + user_visual[u] . (projection f)
        + visual_bias . f

(He & McAuley 2016, equation 4). A kind of recommender that has no such part has zeros there.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import safetensors
import safetensors.numpy
import torch
from torch import Tensor

from advrec.errors import AdvrecError
from advrec.recommenders.bank import Bank, Doubles, Floats, Ids, Seen
from advrec.run.files import write_atomically

ROWS = 1024  # embeddings at once in float64


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """The trained values of a hybrid for U users and N articles, k factors of interactions, m of
    images, embeddings of D values. All are float32 and finite.

    Raises:
        ValueError: shapes do not belong together, or a value is not finite.
    """

    item_bias: Floats
    """(N,)"""
    user_factors: Floats
    """(U, k)"""
    item_factors: Floats
    """(N, k)"""
    user_visual: Floats
    """(U, m)"""
    projection: Floats
    """(m, D), of embeddings as they are stored: any scaling is folded in."""
    visual_bias: Floats
    """(D,), the same."""
    origin: Doubles | None = None
    """(D,), embedding that counts as 0; it is no part of the file. See `centred`."""

    def __post_init__(self) -> None:
        sizes: dict[str, int] = {}
        for name, letters in SHAPES.items():
            array = getattr(self, name)
            if array.dtype != np.float32 or array.ndim != len(letters):
                form = ", ".join(letters)
                raise ValueError(
                    f"{name} is {array.dtype} {array.shape}; it needs float32 ({form})"
                )
            for letter, size in zip(letters, array.shape, strict=True):
                if sizes.setdefault(letter, size) != size:
                    raise ValueError(
                        f"{name} has {size} for {letter}, where others have {sizes[letter]}"
                    )
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds a value that is not finite")

    @property
    def num_users(self) -> int:
        return len(self.user_factors)

    @property
    def num_articles(self) -> int:
        return len(self.item_factors)

    def save(self, path: Path) -> None:
        """Write them as safetensors, under the names they have here; whole or not at all."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in SHAPES}
        write_atomically(path, lambda temporary: safetensors.numpy.save_file(arrays, temporary))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read them.

        Raises:
            AdvrecError: the file holds something else.
        """
        try:
            arrays = safetensors.numpy.load_file(path)
            return cls(**{name: arrays[name] for name in SHAPES})
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise AdvrecError(
                f"{path}: holds no factors of a hybrid ({error}); "
                "delete it, and `advrec train` makes it again"
            ) from None

    def centred(self, embeddings: Floats) -> Self:
        """The same factors, of embeddings less their mean over the catalog (N, D).

        Every score of a user changes by the same, so no rank does. But without the mean, which may
        be a million times the spread, float32 holds the differences between articles.
        """
        return dataclasses.replace(self, origin=embeddings.mean(axis=0, dtype=np.float64))

    def queries(self) -> Floats:
        """The users as queries (U, k + 1 + m): user_factors, 1, user_visual."""
        ones = np.ones((self.num_users, 1), dtype=np.float32)
        return np.hstack([self.user_factors, ones, self.user_visual])

    def candidates(self, embeddings: Floats, article_ids: Ids) -> Floats:
        """Articles (n,) with the raw embeddings (n, D) as items (n, k + 1 + m), whose product with
        `queries` are the scores: item_factors, item_bias + visual_bias . f, projection f, where f
        is the embedding less the origin.

        A row depends on its own embedding alone, bit for bit: ties stay ties. Sums are in float64.
        """
        items = np.empty((len(embeddings), self._width), dtype=np.float32)
        for start in range(0, len(embeddings), ROWS):
            rows = slice(start, start + ROWS)
            features, ids = embeddings[rows].astype(np.float64, order="C"), article_ids[rows]
            features -= self._origin
            # einsum sums each row for itself; a matrix product may not.
            visual = np.einsum("nd,md->nm", features, self._weights)
            visual[:, 0] += self.item_bias[ids]
            items[rows] = np.hstack([self.item_factors[ids], visual])
        return items

    def differentiable(self, device: str | torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """The same in torch on `device`, for gradients: embeddings (n, D) and articles (n,), int64,
        to items (n, k + 1 + m). Its last bits may depend on the batch.
        """
        weights = torch.from_numpy(self._weights).to(device).T
        origin = torch.from_numpy(self._origin).to(device)
        bias = torch.from_numpy(self.item_bias).to(device).double()
        factors = torch.from_numpy(self.item_factors).to(device)

        def candidates(embeddings: Tensor, article_ids: Tensor) -> Tensor:
            """Embeddings (n, D) and articles (n,) to items (n, k + 1 + m)."""
            visual = (embeddings.double() - origin) @ weights
            offset = visual[:, :1] + bias[article_ids, None]
            return torch.cat([factors[article_ids], offset.float(), visual[:, 1:].float()], dim=1)

        return candidates

    def bank(self, embeddings: Floats, seen: Seen) -> Bank:
        """The bank of the catalog's raw embeddings (N, D); what a user has seen does not compete
        for that user.

        Raises:
            ValueError: a value is not finite, or the shapes do not belong together.
        """
        if embeddings.shape != (self.num_articles, self.projection.shape[1]):
            raise ValueError(
                f"embeddings have the shape {embeddings.shape}; "
                f"the factors need ({self.num_articles}, {self.projection.shape[1]})"
            )
        items = self.candidates(embeddings, np.arange(self.num_articles, dtype=np.int32))
        return Bank(items=items, queries=self.queries(), seen=seen, unit=False)

    @property
    def _origin(self) -> Doubles:
        return np.zeros(self.projection.shape[1]) if self.origin is None else self.origin

    @property
    def _width(self) -> int:
        factors: int = self.item_factors.shape[1]
        return factors + 1 + len(self.projection)

    @property
    def _weights(self) -> Doubles:
        """Those of an embedding (1 + m, D): visual_bias, projection."""
        return np.vstack([self.visual_bias, self.projection]).astype(np.float64)


def spread(embeddings: Floats) -> float:
    """The root mean square distance of embeddings (N, D) from their mean; 1 where all are equal.
    Trainings take it for the unit of length.
    """
    return float(np.sqrt(embeddings.var(axis=0, dtype=np.float64).sum())) or 1.0


SHAPES = {
    "item_bias": "N",
    "user_factors": "Uk",
    "item_factors": "Nk",
    "user_visual": "Um",
    "projection": "mD",
    "visual_bias": "D",
}
"""Letters of the lengths of each array."""
