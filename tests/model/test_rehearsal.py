"""Kinds of module that people have: each is attacked in the fastest form that changes nothing, or
refused when it is adopted, in a sentence that names the layer and the remedy.
"""

import dataclasses

import numpy as np
import pytest
import torch

import advrec
from advrec.errors import ConfigError
from advrec.model import adoption, checkpoint, own
from advrec.model.encoder import embed_all, frozen, in_few_sizes, to_images
from advrec.spec.models import OwnModel
from tests.shop import kinds

FORMS = {
    "plain": "fused",
    "colour_safe": "fused",
    "holder": "fused",
    "tied": "fused",
    "zero_on_white": "fused",
    "standardised": "fast",
    "table": "fast",
    "lazy_linear": "fast",
    "spectral_conv": "unfolded",
    "flat_view": "contiguous",
    "shifted_rows": "contiguous",
    "strided": "contiguous",
    "flat_backward": "contiguous",
    "volume": "contiguous",
    "weight_norm": "uncopied",
    "hooked": "uncopied",
    "locked": "uncopied",
}
REFUSED = {
    "lazy": r"makes 1\.table in its first forward pass only.* register it in __init__",
    "no_backward": r"raised NotImplementedError, first in layer 1 \(Fn\)",
    "again": "use_reentrant=False",
    "batch_norm_2d": r"among other images, first in layer 2 \(BatchNorm2d\); .*running statistics",
    "batch_norm_1d": r"for an image alone of 32 pixels in layer 3 \(BatchNorm1d\)",
    "batch_centred": r"among other images, first in layer 1 \(Fn\)",
    "colour": r"not finite at a white image, first in layer net\.0\.0 \(Conv2d\); .*small number",
    "saturation": r"not finite at a white image, first in layer 0 \(Fn\)",
    "dropout": r"differently each time, first in layer 1 \(Fn\); remove what it draws",
    "counting": "differently each time, first in layer net",
    "inferring": "without a gradient .*; remove no_grad",
    "pair": "gives tuple for 2 images of 32 pixels; it must give embeddings",
    "extra_state": "keeps _extra_state, a dict, in its state dict",
    "tiny_embeddings": "embeddings of length .*e-1., .*: multiply the embedding by a constant",
    "huge_embeddings": r"embeddings of length .*e\+.., .*: multiply the embedding by a constant",
}


def adopt(kind):
    return adoption.adopt(OwnModel(model=f"tests.shop.kinds:{kind}"), 32)


def alone(module, images):
    """Embeddings (N, D) and gradients (N, 3, H, W) of each one's first value, image by image."""
    rows = []
    for image in images:
        start = image[None].contiguous().requires_grad_()
        embedding = module(start)
        rows.append((embedding.detach(), torch.autograd.grad(embedding[0, 0], start)[0]))
    return (torch.cat(parts) for parts in zip(*rows, strict=True))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Lazy modules")
@pytest.mark.parametrize("kind", FORMS)
def test_a_module_is_attacked_as_it_is_in_the_fastest_form_that_changes_nothing(tmp_path, kind):
    network = adopt(kind).network
    assert network.architecture.form == FORMS[kind]
    checkpoint.save(tmp_path / "m.safetensors", network)
    plain = network.module
    network = frozen(checkpoint.load(tmp_path / "m.safetensors"))
    pixels = np.random.default_rng(5).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    images = to_images(pixels)
    embeddings, gradients = alone(plain, images)
    found = embed_all(network.embed, pixels, batch=4)
    torch.testing.assert_close(torch.from_numpy(found), embeddings, rtol=1e-3, atol=1e-5)
    start = images.clone().requires_grad_()
    values = in_few_sizes(network.embed)(start)[:, 0].sum()
    (gradient,) = torch.autograd.grad(values, start)
    torch.testing.assert_close(gradient, gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", ["resnet18", "activated_first", "narrow"])
def test_rows_of_a_model_that_an_older_run_adopted_do_not_change(model):
    """Bit for bit: such a model has no form in its file."""
    network = adoption.adopt(OwnModel(model=f"tests.shop.resnet:{model}"), 32).network
    if network.architecture.form == "fused":  # since 0.3
        network.architecture = dataclasses.replace(network.architecture, form="fast")
    older = own.OwnNetwork(dataclasses.replace(network.architecture, form=None), network.module)
    images = to_images(np.random.default_rng(5).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8))
    made = []
    for one in (network, older):
        start = images.clone().requires_grad_()
        embeddings = frozen(one).embed(start)
        made.append((embeddings, *torch.autograd.grad(embeddings.square().sum(), start)))
    assert all(torch.equal(new, old) for new, old in zip(*made, strict=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_attacked_is_refused_by_its_layer_and_with_the_remedy(kind):
    with pytest.raises(ConfigError, match=REFUSED[kind]) as refused:
        adopt(kind)
    said = str(refused.value)
    assert said.startswith(f"tests.shop.kinds:{kind} ")
    assert "\n" not in said


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Lazy modules")
@pytest.mark.parametrize("kind", [*FORMS, "lazy"])
def test_python_attacks_a_module_of_any_of_these_kinds(pixels, kind):
    module = getattr(kinds, kind)()
    recommender = advrec.Recommender.of(module.train(), pixels)
    result = advrec.attack(recommender, target=3, article=7, attack="apgd-5", epsilon=0.1)
    module.eval()
    with torch.no_grad():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous() / 255.0
        embeddings = module(images).double()
        own = module(result.images.contiguous()).double()
    cosine = torch.nn.functional.cosine_similarity
    others = [j for j in range(12) if j not in (3, 7)]
    nearer = cosine(embeddings[others], embeddings[3:4]) > cosine(own, embeddings[3:4])
    assert result.ranks[0] == 1 + int(nearer.sum())
    assert result.distances[0] < result.clean_distances[0]


@pytest.mark.parametrize("kind", ["batch_norm_1d", "batch_centred", "dropout", "tiny_embeddings"])
def test_python_refuses_an_encoder_that_embeds_no_image_for_itself(pixels, kind):
    said = REFUSED[kind].partition(" ")[2]
    with pytest.raises(ConfigError, match=f"the encoder .*{said}"):
        advrec.Recommender.of(getattr(kinds, kind)(), pixels)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["colour", "no_backward", "again"])
def test_an_attack_by_gradients_is_refused_where_there_are_none_that_count(pixels, kind):
    recommender = advrec.Recommender.of(getattr(kinds, kind)(), pixels)
    with pytest.raises(ConfigError, match=r"gradient.*take square-K, which needs no gradient"):
        advrec.attack(recommender, target=3, article=7, attack="pgd-2")
    result = advrec.attack(recommender, target=3, article=7, attack="square-5", epsilon=0.1)
    assert (
        0.0
        < (result.images[0] - torch.from_numpy(pixels[7]).permute(2, 0, 1) / 255.0).abs().max()
        <= 0.1001
    )


def test_a_module_that_python_copies_stays_as_it_is(pixels):
    module = kinds.plain()
    module[0].train()
    module[1].eval()
    advrec.Recommender.of(module, pixels)
    assert [part.training for part in module.children()] == [True, False]
    assert all(value.requires_grad and value.grad is None for value in module.parameters())
