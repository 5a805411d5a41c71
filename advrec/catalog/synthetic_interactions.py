"""Drawn interactions: a truth of who likes what, made of labels alone, and purchases by it.

User u likes article i by s*_ui = b_i + a_u . labels_i + g_u . g_i: its popularity, the user's taste
for its category and textures, and what no label explains.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from advrec.catalog.dataset import Catalog
from advrec.catalog.interactions import Ids, Interactions
from advrec.errors import StudyError
from advrec.spec.interactions import InteractionsSpec

Doubles = npt.NDArray[np.float64]

POPULARITY, TASTE = 0.5, 1.85
"""Standard deviations over articles of b_i, and of a user's liking of their labels."""
SHARED = 0.8
"""Share of the variance of tastes that the users of a group have in common."""
FACTORS = 8  # of what no label explains
USERS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """Liking of N articles by U users, kept in parts."""

    popularity: Doubles
    """(N,), b_i."""
    labels: Doubles
    """(N, L), one-hot categories, then textures; of several textures each counts a share."""
    tastes: Doubles
    """(U, L), a_u."""
    user_factors: Doubles
    """(U, FACTORS), g_u."""
    item_factors: Doubles
    """(N, FACTORS), g_i."""
    groups: Ids
    """(U,), the taste group of each user."""
    cold: npt.NDArray[np.bool_]
    """(N,), articles that come last: at most a held-out purchase is of them."""

    @classmethod
    def of(cls, labels: Doubles, spec: InteractionsSpec, seed: int) -> Self:
        """Draw a truth for articles of these labels (N, L), by a resolved section of a study."""
        assert spec.users, "the section is resolved"
        assert spec.groups
        assert spec.personal is not None
        assert spec.cold is not None
        random = np.random.default_rng([seed, 0xB0067])
        articles, kinds = labels.shape
        groups = random.integers(spec.groups, size=spec.users)
        common = random.normal(size=(spec.groups, kinds))[groups] * np.sqrt(SHARED)
        own = random.normal(size=(spec.users, kinds)) * np.sqrt(1 - SHARED)
        tastes = common + own
        # over the articles, of each user's liking of their labels; none where all labels are one
        variances = np.einsum("ul,lm,um->u", tastes, _covariance(labels), tastes)
        deviations = np.where(variances > 1e-9, np.sqrt(np.maximum(variances, 0)), np.inf)
        popularity: Doubles = random.normal(size=(articles,))
        cold = np.zeros(articles, dtype=bool)
        cold[random.permutation(articles)[: round(spec.cold * articles)]] = True
        scale = np.sqrt(spec.personal / np.sqrt(FACTORS))
        return cls(
            popularity=POPULARITY * popularity / (popularity.std() or 1.0),
            labels=labels,
            tastes=tastes * (TASTE / deviations)[:, None],
            user_factors=random.normal(size=(spec.users, FACTORS)) * scale,
            item_factors=random.normal(size=(articles, FACTORS)) * scale,
            groups=groups.astype(np.int32),
            cold=cold,
        )

    def scores(self, users: slice = slice(None)) -> Doubles:
        """Scores s* (u, N) of some users, by default of all."""
        return np.asarray(
            self.popularity
            + self.tastes[users] @ self.labels.T
            + self.user_factors[users] @ self.item_factors.T
        )


def truth(catalog: Catalog, spec: InteractionsSpec, seed: int) -> Truth:
    """The truth that the interactions of a catalog with categories are drawn by."""
    assert catalog.labelled, "plan.check_labels refuses it"
    categories = np.eye(len(catalog.categories))[catalog.category_labels]
    textures = catalog.texture_labels.astype(np.float64)
    textures /= np.maximum(textures.sum(axis=1, keepdims=True), 1)
    parts = [categories, textures] if textures.any() else [categories]
    return Truth.of(np.concatenate(parts, axis=1), spec, seed)


def _covariance(labels: Doubles) -> Doubles:
    centred = labels - labels.mean(axis=0)
    return np.asarray(centred.T @ centred / len(labels))


def draw(truth: Truth, purchases: int, seed: int) -> Interactions:
    """Draw so many purchases of each user.

    All but the last are drawn without replacement from the articles that are not cold, by Gumbel
    noise on the scores. The last is drawn likewise from all that are left, and is held out.

    Raises:
        StudyError: there are too few articles.
    """
    users, articles = len(truth.tastes), len(truth.popularity)
    warm = int((~truth.cold).sum())
    if purchases > min(articles, warm + 1):
        raise StudyError(
            f"interactions.purchases is {purchases}, but a user can buy {min(articles, warm + 1)} "
            f"of the {articles} articles, of which {articles - warm} are cold; lower it, or cold"
        )
    random = np.random.default_rng([seed, 0x6CB31])
    bought = np.empty((users, purchases), dtype=np.int64)
    for start in range(0, users, USERS_AT_ONCE):
        some = slice(start, start + USERS_AT_ONCE)
        scores = truth.scores(some)
        noise = random.gumbel(size=(len(scores), 2, articles))
        first = np.where(truth.cold, -np.inf, scores + noise[:, 0])
        bought[some, :-1] = np.argsort(-first, axis=1, kind="stable")[:, : purchases - 1]
        last = scores + noise[:, 1]
        np.put_along_axis(last, bought[some, :-1], -np.inf, axis=1)
        bought[some, -1] = last.argmax(axis=1)
    return Interactions.of(
        np.repeat(np.arange(users, dtype=np.int32), purchases),
        bought.ravel().astype(np.int32),
        num_users=users,
        num_articles=articles,
    )
