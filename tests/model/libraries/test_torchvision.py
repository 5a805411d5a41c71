"""Encoders of torchvision by name, against torchvision itself."""

import pytest
import torch
import torchvision

from advrec.errors import AdvrecError
from advrec.model import adoption
from advrec.spec.models import OwnModel
from tests.model.libraries.images import is_as_the_librarys, pictures, taken

SMALL = "shufflenet_v2_x0_5"


@pytest.mark.parametrize("size", [96, 300])
def test_an_encoder_prepares_images_and_embeds_them_as_torchvision_does(tmp_path, size):
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(SMALL).eval()
    for layer in theirs.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = taken(size, model=f"torchvision/{SMALL}", checkpoint=str(tmp_path / "w.pth"))
    theirs.fc = torch.nn.Identity()
    transform = torchvision.models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1.transforms()
    is_as_the_librarys(ours, theirs, transform, pictures(3, size))


def test_the_newest_weights_come_with_their_own_preparation(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.ResNet50_Weights
    name = weights.DEFAULT.url.rpartition("/")[2]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / name).write_bytes(b"no weights")
    with pytest.raises(AdvrecError, match=f"resnet50 cannot be loaded .*{name}"):
        adoption.adopt(OwnModel(model="torchvision/resnet50", weights="pretrained"), 64)
