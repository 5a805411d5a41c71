"""Factors of a hybrid score as their formula says, rank through the exact index, and outlive a
file.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advrec.errors import AdvrecError
from advrec.recommenders.bank import Seen
from advrec.recommenders.hybrid import SHAPES, Factors
from advrec.recommenders.ranks import ExactIndex

SIZES = {"N": 23, "U": 11, "k": 4, "m": 3, "D": 7}


def draw(seed=0, **changed):
    random, sizes = np.random.default_rng(seed), SIZES | changed
    arrays = {
        name: random.normal(size=[sizes[letter] for letter in letters]).astype(np.float32)
        for name, letters in SHAPES.items()
    }
    return Factors(**arrays), random.normal(size=(sizes["N"], sizes["D"])).astype(np.float32)


def score(factors, user, article, embedding):
    """The formula of the scores, in float64."""
    f = embedding.astype(np.float64)
    return (
        float(factors.item_bias[article])
        + factors.user_factors[user].astype(np.float64) @ factors.item_factors[article]
        + factors.user_visual[user].astype(np.float64) @ (factors.projection.astype(np.float64) @ f)
        + factors.visual_bias.astype(np.float64) @ f
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 5),
    m=st.integers(1, 5),
    ties=st.booleans(),
    seen_share=st.sampled_from([0.0, 0.3]),
)
def test_04_a_hybrid_ranks_as_a_loop_over_its_formula_does(seed, k, m, ties, seen_share):
    factors, embeddings = draw(seed, k=k, m=m)
    random = np.random.default_rng(seed)
    if ties:  # articles that are equal in all
        embeddings[10:] = embeddings[2]
        factors.item_bias[10:] = factors.item_bias[2]
        factors.item_factors[10:] = factors.item_factors[2]
    seen = [np.flatnonzero(random.random(23) < seen_share) for _ in range(11)]
    bank = factors.bank(embeddings, Seen.of(seen))
    users = np.arange(11, dtype=np.int32)
    attacked = np.full(11, 5, dtype=np.int32)
    image = (embeddings[5] if seed % 2 else embeddings[2])[None]  # its own, or that of a tie
    candidates = np.repeat(factors.candidates(image, attacked[:1]), 11, axis=0)
    ranks = ExactIndex(bank).ranks(users, attacked, candidates)
    for user in users:
        own = score(factors, user, 5, image[0])
        rivals = [score(factors, user, j, embeddings[j]) for j in range(23)]
        better = [
            rival > own + 1e-5
            for j, rival in enumerate(rivals)
            if j != 5 and j not in seen[user] and abs(rival - own) > 1e-5
        ]
        near = sum(
            0 < abs(rival - own) <= 1e-5
            for j, rival in enumerate(rivals)
            if j != 5 and j not in seen[user]
        )
        assert 1 + sum(better) <= ranks[user] <= 1 + sum(better) + near


def test_scores_are_the_product_of_queries_and_candidates():
    factors, embeddings = draw()
    items = factors.candidates(embeddings, np.arange(23, dtype=np.int32))
    scores = factors.queries().astype(np.float64) @ items.T.astype(np.float64)
    expected = [[score(factors, u, i, embeddings[i]) for i in range(23)] for u in range(11)]
    assert np.allclose(scores, expected, atol=1e-5)


def test_a_candidate_depends_on_its_own_embedding_alone():
    factors, embeddings = draw(D=129, m=9)
    ids = np.arange(23, dtype=np.int32)
    together = factors.candidates(embeddings, ids)
    alone = np.concatenate([factors.candidates(embeddings[i][None], ids[[i]]) for i in range(23)])
    assert together.tobytes() == alone.tobytes()
    turned = factors.candidates(np.asfortranarray(embeddings[::-1]), ids[::-1])
    assert turned[::-1].tobytes() == together.tobytes()


def test_the_twin_in_torch_has_the_same_values_and_the_gradient_of_the_formula():
    factors, embeddings = draw()
    ids = np.array([3, 1, 3], dtype=np.int32)
    images = torch.from_numpy(embeddings[[0, 1, 2]]).requires_grad_()
    items = factors.differentiable("cpu")(images, torch.from_numpy(ids).long())
    assert np.allclose(items.detach(), factors.candidates(embeddings[:3], ids), atol=1e-6)
    user = torch.from_numpy(factors.queries()[4])
    (items @ user).sum().backward()
    expected = factors.visual_bias + factors.user_visual[4] @ factors.projection
    assert np.allclose(images.grad, np.tile(expected, (3, 1)), atol=1e-5)


def test_07_interaction_vectors_that_are_zero_leave_the_visual_part_alone():
    factors, embeddings = draw()
    for name in ("item_bias", "user_factors", "item_factors"):
        getattr(factors, name)[:] = 0.0
    bank = factors.bank(embeddings, Seen.of([[]] * 11))
    visual = factors.user_visual @ factors.projection + factors.visual_bias
    scores = visual.astype(np.float64) @ embeddings.T
    users = np.arange(11, dtype=np.int32)
    assert (ExactIndex(bank).top_k(users, 5).ids == np.argsort(-scores, axis=1)[:, :5]).all()


def test_07_users_whose_vectors_are_zero_are_reached_by_no_change_of_an_image():
    factors, embeddings = draw()
    factors.visual_bias[:] = 0.0
    factors.user_factors[:], factors.user_visual[:] = 0.0, 0.0
    index = ExactIndex(factors.bank(embeddings, Seen.of([[]] * 11)))
    users, attacked = np.arange(11, dtype=np.int32), np.full(11, 5, dtype=np.int32)
    ranks = [
        index.ranks(users, attacked, np.repeat(factors.candidates(image, attacked[:1]), 11, axis=0))
        for image in (embeddings[[5]], embeddings[[5]] + 100.0, -embeddings[[5]])
    ]
    assert (ranks[0] == ranks[1]).all()
    assert (ranks[0] == ranks[2]).all()


def test_factors_outlive_a_file_bit_for_bit(tmp_path):
    factors, _ = draw()
    factors.save(tmp_path / "bank.safetensors")
    again = Factors.load(tmp_path / "bank.safetensors")
    assert all(
        getattr(again, name).tobytes() == getattr(factors, name).tobytes() for name in SHAPES
    )


def test_a_file_that_holds_no_factors_is_told(tmp_path):
    (tmp_path / "bank.safetensors").write_bytes(b"no such thing")
    with pytest.raises(AdvrecError, match="holds no factors of a hybrid"):
        Factors.load(tmp_path / "bank.safetensors")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("item_bias", np.zeros(22, np.float32), "item_bias has 22|where others have 22"),
        ("projection", np.zeros((3, 7)), "projection is float64"),
        ("visual_bias", np.full(7, np.nan, np.float32), "visual_bias holds a value"),
    ],
)
def test_factors_that_do_not_belong_together_are_refused(name, value, said):
    factors, _ = draw()
    arrays = {each: getattr(factors, each) for each in SHAPES}
    with pytest.raises(ValueError, match=said):
        Factors(**(arrays | {name: value}))


def test_ranks_are_those_of_exact_scores_also_where_all_embeddings_have_much_in_common():
    rng = np.random.default_rng(3)
    made, _ = draw(3)
    embeddings = rng.normal(size=(made.num_articles, made.projection.shape[1]))
    embeddings = (1e5 + embeddings).astype(np.float32)
    exact = made.item_bias + made.user_factors.astype(np.float64) @ made.item_factors.T
    visual = made.user_visual.astype(np.float64) @ made.projection + made.visual_bias
    exact = exact + visual @ embeddings.T.astype(np.float64)
    seen = Seen.of([()] * made.num_users)
    index = ExactIndex(made.centred(embeddings).bank(embeddings, seen))
    users, articles = np.divmod(np.arange(exact.size), made.num_articles)
    ranks = index.ranks(
        users.astype(np.int32), articles.astype(np.int32), index.bank.items[articles]
    )
    assert (ranks.reshape(exact.shape) == 1 + (exact[:, None] > exact[..., None]).sum(2)).all()
