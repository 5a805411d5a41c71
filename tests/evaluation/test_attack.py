"""The Python call attacks a module and an array of a user's own, as the evaluation would."""

import numpy as np
import pytest
import torch

import advrec
from advrec.attacks import registry
from advrec.errors import ConfigError
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block


def tiny(seed=0, inputs=3 * 6 * 5):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(inputs, 12), torch.nn.Tanh(), torch.nn.Linear(12, 4)
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)


def of_catalog(articles, width, *, detached=False):
    """The recommender of a catalog of its own, whose images have another width."""
    images = np.random.default_rng(1).integers(0, 256, (articles, 6, width, 3), dtype=np.uint8)
    network = tiny(inputs=3 * 6 * width)
    encoder = (lambda images: network(images).detach()) if detached else network
    return advrec.Recommender.of(encoder, images)


def cosine_rank(encoder, images, target, article, image):
    """1 + the number of other articles nearer to the target than the image, by a plain loop."""
    with torch.inference_mode():
        embeddings, own = encoder(images).double(), encoder(image[None])[0].double()
    cosine = torch.nn.functional.cosine_similarity
    score = cosine(own, embeddings[target], dim=0)
    return 1 + sum(
        bool(cosine(other, embeddings[target], dim=0) > score)
        for j, other in enumerate(embeddings)
        if j not in (target, article)
    )


OWN = "tests.attacks.test_own:sign_gradient"


@pytest.mark.parametrize("name", ["auto", "pgd-8", "square-20", "fgsm", OWN])
def test_ranks_and_images_are_what_a_plain_loop_finds(pixels, name):
    encoder = tiny()
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255.0
    recommender = advrec.Recommender.of(encoder, pixels)
    result = advrec.attack(recommender, target=[3, 4], article=[7, 9], attack=name, epsilon=0.05)
    assert result.images.shape == (2, 3, 6, 5)
    for place, (target, article) in enumerate(((3, 7), (4, 9))):
        image, clean = result.images[place], images[article]
        assert float((image - clean).abs().max()) <= 0.05 + 1e-7
        assert 0.0 <= float(image.min()) <= float(image.max()) <= 1.0
        assert result.ranks[place] == cosine_rank(encoder, images, target, article, image)
        assert result.clean_ranks[place] == cosine_rank(encoder, images, target, article, clean)
    assert (result.distances <= result.clean_distances + 1e-6).all()


def test_floating_images_give_the_same_as_their_bytes(pixels):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255.0)
    both = [
        advrec.attack(advrec.Recommender.of(tiny(), given), target=1, article=2, attack="pgd-4")
        for given in (pixels, images)
    ]
    assert torch.equal(both[0].images, both[1].images)
    assert both[0].ranks.tolist() == both[1].ranks.tolist()


def test_a_budget_in_levels_is_its_float(pixels):
    recommender = advrec.Recommender.of(tiny(), pixels)
    both = [
        advrec.attack(recommender, target=1, article=2, attack="pgd-2", epsilon=epsilon)
        for epsilon in ("2/255", 2 / 255)
    ]
    assert torch.equal(both[0].images, both[1].images)


def test_one_target_serves_many_articles_and_no_budget_changes_nothing(pixels):
    recommender = advrec.Recommender.of(tiny(), pixels)
    result = advrec.attack(recommender, target=0, article=[1, 2, 3], attack="apgd-3", epsilon=0.0)
    assert result.ranks.tolist() == result.clean_ranks.tolist()
    assert result.rows["attack_id"].to_pylist() == [1, 2, 3]


def test_it_is_the_harness_of_the_evaluation_with_transfer_and_delivery(pixels):
    recommender, source = (advrec.Recommender.of(tiny(seed), pixels) for seed in (0, 1))
    block = Block(
        tuple_ids=np.arange(2, dtype=np.int32),
        target_ids=np.array([3, 4], dtype=np.int32),
        attack_ids=np.array([7, 9], dtype=np.int32),
        pixels=pixels[[7, 9]],
        epsilons=(0.04,),
        batch=64,
        examples=0,
        label="apgd-5",
        seed=11,
        deliveries=("png",),
        through=("png",),
    )
    rows = evaluate_block(recommender, registry.by_name("apgd-5"), block, source).rows
    result = advrec.attack(
        recommender,
        target=[3, 4],
        article=[7, 9],
        attack="apgd-5",
        epsilon=0.04,
        source=source,
        delivery=("png",),
        seed=11,
    )
    assert result.rows.drop(["seconds"]).equals(rows.drop(["seconds"]))


def test_the_users_module_stays_as_it_is(pixels):
    encoder = tiny().train()
    advrec.Recommender.of(encoder, pixels)
    assert encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attack": "pdg-8"}, "did you mean pgd-8"),
        ({"attack": ["fgsm"]}, r"attack is \['fgsm'\]; give the name of one attack"),
        ({"source": tiny()}, r"source is a Sequential; give Recommender\.of"),
        ({"epsilon": 1.5}, "epsilon is 1.5: input should be less than or equal to 1"),
        ({"epsilon": float("nan")}, "epsilon is 'nan'"),
        ({"epsilon": "0.1"}, "epsilon: '0.1' is no budget"),
        ({"seed": 2**40}, f"seed is {2**40}: input should be less than {2**31}"),
        ({"seed": -1}, "seed is -1"),
        ({"target": 30}, "0..29"),
        ({"target": 7}, "itself"),
        ({"target": 0.5}, "number"),
        ({"target": [1, 2], "article": [3, 4, 5]}, "2 targets do not fit 3 articles"),
        ({"batch": 0}, "batch is 0"),
        ({"delivery": ("gif",)}, "delivery: 'gif' is nothing .*float, png, jpeg-Q"),
        ({"delivery": "jpeg-101"}, "delivery: 'jpeg-101' is nothing"),
        ({"delivery": 5}, "delivery is 5"),
        ({"delivery": ("png", "png")}, "delivery lists png twice"),
        (
            {"source": of_catalog(30, 8)},
            "source does not embed .* images of 5 x 6 pixels: RuntimeError",
        ),
        ({"source": of_catalog(29, 5)}, "source knows 29 articles, the recommender 30"),
        ({"source": of_catalog(30, 5, detached=True)}, "source gives .* without a gradient"),
    ],
)
def test_what_cannot_be_attacked_is_refused_in_one_sentence(pixels, changes, said):
    recommender = advrec.Recommender.of(tiny(), pixels)
    with pytest.raises(ConfigError, match=said) as error:
        advrec.attack(recommender, **{"target": 3, "article": 7} | changes)
    assert "\n" not in str(error.value)


def test_an_encoder_without_a_gradient_is_attacked_by_queries_alone(pixels):
    network = tiny()

    def encoder(images):
        with torch.no_grad():
            return network(images)

    blind = advrec.Recommender.of(encoder, pixels)
    with pytest.raises(ConfigError, match="the recommender gives embeddings without a gradient"):
        advrec.attack(blind, target=3, article=7, attack="auto")
    seen = advrec.Recommender.of(network, pixels)
    both = [
        advrec.attack(victim, target=3, article=7, attack="square-20") for victim in (blind, seen)
    ]
    assert torch.equal(both[0].images, both[1].images)


def test_a_delivery_and_numbers_of_numpy_mean_what_they_mean_in_a_study(pixels):
    recommender = advrec.Recommender.of(tiny(), pixels)
    pair = {"target": 3, "article": 7, "attack": "apgd-3"}
    one = advrec.attack(recommender, **pair, delivery="png", epsilon=0.5, seed=5)
    listed = advrec.attack(
        recommender,
        **pair,
        delivery=["float", "png"],
        epsilon=np.float32(0.5),
        seed=np.int64(5),
    )
    assert "adversarial_rank_png" in one.rows.column_names
    assert one.rows.drop(["seconds"]).equals(listed.rows.drop(["seconds"]))
    plain = advrec.attack(recommender, **pair, delivery="float", epsilon=0.5, seed=5)
    assert plain.rows.column_names == advrec.attack(recommender, **pair).rows.column_names


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((4, 3, 6, 5), dtype=np.uint8), r"uint8 needs \(N, H, W, 3\)"),
        (torch.zeros(4, 6, 5, 3), r"needs \(N, 3, H, W\)"),
        (torch.full((4, 3, 6, 5), 255.0), r"outside \[0, 1\]"),
        (np.zeros((1, 6, 5, 3), dtype=np.uint8), "at least 2"),
        (np.zeros((4, 6, 5, 3)), "float64"),
        ([[0]], "images are a list"),
        ([np.zeros((6, 5, 3), dtype=np.uint8)] * 4, "a list; .*np.stack or torch.stack makes one"),
    ],
)
def test_images_of_another_form_are_refused(images, said):
    with pytest.raises(ConfigError, match=said):
        advrec.Recommender.of(tiny(), images)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (torch.nn.Conv2d, "the encoder is the class Conv2d; give a module"),
        (None, "the encoder is a NoneType; give a torch module"),
        (
            tiny(inputs=3),
            r"raised RuntimeError for 2 images of 5 x 6 pixels in layer 1 \(Linear\): ",
        ),
        (lambda images: images.mean(), r"must give embeddings \(2, D\)"),
        (lambda images: images.flatten(1).numpy(), "gives ndarray"),
        (lambda images: 0.0 * images.flatten(1), "article 0 is zero or not finite"),
    ],
)
def test_an_encoder_that_cannot_recommend_is_refused(pixels, encoder, said):
    with pytest.raises(ConfigError, match=said):
        advrec.Recommender.of(encoder, pixels)


def test_what_is_no_recommender_is_not_attacked():
    with pytest.raises(ConfigError, match="recommender is a Sequential; give"):
        advrec.attack(tiny(), target=3, article=7)


def test_results_and_recommenders_are_shown_in_a_line(pixels):
    recommender = advrec.Recommender.of(tiny(), pixels)
    assert repr(recommender) == "Recommender(30 articles, 4 values each, on cpu)"
    result = advrec.attack(recommender, target=3, article=[7, 9], attack="fgsm")
    before, after = (sum(ranks) / 2 for ranks in (result.clean_ranks, result.ranks))
    assert repr(result) == f"AttackResult(pairs=2, median rank {before:g} -> {after:g})"


def test_a_batch_of_no_image_is_refused(pixels):
    with pytest.raises(ConfigError, match="batch is 0"):
        advrec.Recommender.of(tiny(), pixels, batch=0)
