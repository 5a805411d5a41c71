"""PGD by several hands: ours, its limit, the loop of published code, Foolbox and torchattacks.

All take the same steps of epsilon / steps from the clean images and give the last iterate.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advrec.attacks import registry
from advrec.attacks.problem import Problem
from advrec.model.encoder import frozen
from advrec.model.fashionnet import FashionNet
from advrec.recommenders.losses import CosineDistance, cosine_distance

EPSILON = 0.03

Side = Callable[[], Tensor]
"""Makes adversarial images (N, 3, H, W)."""


class Case(NamedTuple):
    """The task of a side: as a user gives it, or with our network and memory format (`prepare`)."""

    network: FashionNet
    images: Tensor
    """Clean (N, 3, H, W)."""
    targets: Tensor
    """Embeddings (N, D) to come near to."""
    steps: int


def prepare(case: Case) -> Case:
    """The same task with the network and the memory format that we use."""
    return case._replace(
        network=frozen(case.network),
        images=case.images.contiguous(memory_format=torch.channels_last),
    )


def pgd_sides(case: Case, rivals: list[str]) -> dict[str, Side]:
    """Ours, the published loop, and the rivals with their network and with ours."""
    ready = prepare(case)
    sides = {
        "ours": partial(our_pgd, ready, ready.network.embed),
        "loop": partial(published_loop, case),
    }
    sides |= {name: RIVALS[name](case) for name in rivals}
    # Theirs with our network: how much of the difference is the network's preparation.
    return sides | {f"{name} with our network": RIVALS[name](ready) for name in rivals}


def limit(case: Case) -> Tensor:
    """Forward and gradient with respect to the images (N, 3, H, W), and nothing else."""
    for _ in range(case.steps):
        leaf = case.images.detach().requires_grad_(True)
        torch.autograd.grad(case.network.embed(leaf).sum(), leaf)
    return case.images


def our_pgd(case: Case, embed: Callable[[Tensor], Tensor]) -> Tensor:
    """Our PGD: adversarial images (N, 3, H, W)."""
    epsilons = torch.full(
        (len(case.images),), EPSILON, dtype=torch.float64, device=case.images.device
    )
    return registry.by_name(f"pgd-{case.steps}")(
        Problem(CosineDistance(embed, case.targets), case.images, epsilons)
    ).images


def published_loop(case: Case) -> Tensor:
    """The loop of published code: adversarial images (N, 3, H, W).

    Weight gradients come along. One more forward pass a step gives the progress bar's number.
    """
    images = case.images.clone()
    for _ in range(case.steps):
        images.requires_grad_()
        cosine_distance(case.network.embed(images), case.targets).sum().backward()
        moved = images.detach() - EPSILON / case.steps * images.grad.sign()
        images = torch.clamp(
            torch.clamp(moved, case.images - EPSILON, case.images + EPSILON), 0.0, 1.0
        )
        with torch.no_grad():
            cosine_distance(case.network.embed(images), case.targets).mean().item()
    return images


class Embedding(nn.Module):
    """A function of the embeddings, as a module."""

    def __init__(self, network: FashionNet, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, images: Tensor) -> Tensor:
        """The head's output (N, ...) for images (N, 3, H, W)."""
        return self.head(self.network.embed(images))


def foolbox_pgd(case: Case) -> Side:
    import eagerpy
    import foolbox

    class CosinePGD(foolbox.attacks.LinfProjectedGradientDescentAttack):
        def get_loss_fn(self, model: Any, labels: Any) -> Any:
            # An attack without a class to aim at ascends its loss: the loss is the negative
            # distance.
            return lambda inputs: eagerpy.astensor(
                -cosine_distance(model(inputs).raw, case.targets).sum()
            )

    model = foolbox.PyTorchModel(
        Embedding(case.network, nn.Identity()).eval(), bounds=(0, 1), device=case.images.device
    )
    attack = CosinePGD(rel_stepsize=1.0 / case.steps, steps=case.steps, random_start=False)
    # Calling the attack itself, not its `run`, would spend one more pass on classifying the result,
    # which nobody needs here.
    labels = torch.zeros_like(case.targets[:, 0]).long()
    return partial(attack.run, model, case.images, labels, epsilon=EPSILON)


def torchattacks_pgd(case: Case) -> Side:
    import torchattacks

    def two_logits(embeddings: Tensor) -> Tensor:
        """Logits (N, 2) of embeddings (N, D): the distance d and -d."""
        # The cross entropy of class 0 is log(1 + exp(-2 d)): to ascend it is to descend d, along
        # the same signs.
        distance = cosine_distance(embeddings, case.targets)
        return torch.stack([distance, -distance], dim=1)

    model = Embedding(case.network, two_logits).eval()
    attack = torchattacks.PGD(
        model, eps=EPSILON, alpha=EPSILON / case.steps, steps=case.steps, random_start=False
    )
    return partial(attack, case.images, torch.zeros_like(case.targets[:, 0]).long())


RIVALS: dict[str, Callable[[Case], Side]] = {
    "foolbox": foolbox_pgd,
    "torchattacks": torchattacks_pgd,
}
