"""Memory of attackers: layers counted by hand, and what is said before embeddings go to disk."""

import pytest
from torch import nn

from advrec.distributed import memory
from advrec.distributed.embed import UnusableModelError
from advrec.distributed.models import Models
from advrec.distributed.pool import InProcess
from tests.conftest import random_network, study


class Squares(nn.Module):
    """Keeps its input and nothing else for the backward pass."""

    def bare(self, images):
        return (images**2).flatten(1)


@pytest.mark.parametrize("size", [8, 32])
def test_activations_are_those_of_one_image_more(size):
    assert memory.activations(Squares(), size) == 3 * size * size * 4


class KeptTwice(nn.Module):
    """Two layers keep the same result of a third one."""

    def bare(self, images):
        positive = images.relu()
        return (positive * positive).flatten(1)


def test_what_two_layers_keep_takes_its_memory_once():
    assert memory.activations(KeptTwice(), 8) == 3 * 8 * 8 * 4


def test_a_batch_is_counted_with_what_fills_it_up():
    asked = study(evaluation={"attacks": ["fgsm"], "tuples": 40, "block": 33, "epsilons": [0.1]})
    assert memory.batch_of(asked) == 40


def test_a_process_takes_itself_its_weights_and_the_activations_of_a_batch():
    network = random_network()
    small, large = study(), study(evaluation={"attacks": ["fgsm"], "tuples": 12, "block": 8})
    assert (memory.batch_of(small), memory.batch_of(large)) == (4 * 2, 8 * 3)
    own = sum(value.nbytes for value in network.state_dict().values())
    rest = [
        memory.process_bytes(network, one) - memory.PROCESS_BYTES - own for one in (small, large)
    ]
    assert rest[1] == 3 * rest[0] > 0


def test_embeddings_that_do_not_fit_are_told_before_they_are_made(
    ready, catalog, monkeypatch, capsys
):
    def stop(*_):
        raise UnusableModelError("embedded now")

    monkeypatch.setattr("advrec.distributed.models.embed_catalog", stop)
    monkeypatch.setattr(type(ready), "claim", lambda *_, **__: None)
    needed = 4 * len(catalog) * random_network().dimension
    for room, told in ((needed, False), (needed - 1, True)):
        models = Models(ready, study(), catalog, InProcess(object), "cpu", room)
        with pytest.raises(UnusableModelError, match="embedded now"):
            models.reference("unsecured")
        assert ("goes to disk" in capsys.readouterr().out) == told
