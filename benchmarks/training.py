"""Adversarial training: python -m benchmarks.training [64|224] [ROUNDS] [--json FILE].

Prints ratios of throughput, alternating, medians and spread of 5 rounds:

- ours / as published: steps of adversarial training with PGD-8, on one thread. Ours attacks a
  frozen, folded copy of the network. The published way attacks the trainable network in contiguous
  memory: every backward pass makes gradients of the weights, too.
- Ray Train / plain loop: an epoch of the same training by one worker, and by the loop in this
  process.
- two workers / one: the same, one thread each.
"""

# Ray's environment comes before anything that imports ray.
from advrec.distributed import session  # noqa: I001

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from advrec.spec import study as study_file
from advrec.catalog.dataset import Catalog
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.run.directory import Run
from advrec.training import data
from advrec.training.loop import Training, fit
from advrec.training.start import initial_network
from benchmarks import ratios

STEPS, BATCH, ARTICLES = 8, 32, 400
WIDTH = {64: 0.5, 224: 1.0}
BATCHES = {64: 6, 224: 1}

Rates = dict[str, list[float]]
"""Throughput of each side, by round."""


def main() -> None:
    args = ratios.arguments(WIDTH)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        run, study = prepared(Path(directory), args.size)
        rates = steps(run, study, args.size, args.rounds)
        found = show(rates, "images/s", ("ours", "as published"))
        found |= show(
            epochs(run, study, args.rounds),
            "epochs/s",
            ("Ray Train, 1 worker", "plain loop"),
            ("Ray Train, 2 workers", "Ray Train, 1 worker"),
        )
    ratios.write(args.json, found)


def steps(run: Run, study: study_file.Study, size: int, rounds: int) -> Rates:
    """Images per second of steps of adversarial training."""
    spec, catalog = study.models["at"], Catalog(run)
    order = data.shuffled(catalog.ids_of("train"), BATCH, seed=0, epoch=0, rank=0, world=1)
    batches = [data.load(catalog, ids, torch.device("cpu")) for ids in order][: BATCHES[size]]
    training = Training(initial_network(run, spec, catalog, 0), spec, catalog, seed=0)
    training.network.train()
    generator = torch.Generator()
    sides = {
        "ours": lambda batch: training.train_on(batch, generator),
        "as published": AsPublished(size, catalog),
    }
    rates: Rates = {name: [] for name in sides}
    for side in sides.values():
        side(batches[0])  # kernels are chosen
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.monotonic()
            for batch in batches:
                side(batch)
            rates[name].append(len(batches) * BATCH / (time.monotonic() - start))
    return rates


def epochs(run: Run, study: study_file.Study, rounds: int) -> Rates:
    """Epochs per second of a plain loop and of Ray Train's workers."""
    from advrec.distributed.train import train_models

    spec, catalog = study.models["at"], Catalog(run)
    rates: Rates = {"plain loop": [], "Ray Train, 1 worker": [], "Ray Train, 2 workers": []}
    with session.session():
        for _ in range(rounds):
            fitted = fit(initial_network(run, spec, catalog, 0), spec, catalog, seed=0)
            rates["plain loop"].append(1.0 / fitted.history[-1].seconds)
            for workers in (1, 2):
                resources = study.resources.model_copy(update={"training_workers": workers})
                changed = study.model_copy(update={"resources": resources})
                run.weights("at").unlink(missing_ok=True)
                train_models(run, changed, {"at": "bench"}, grows=False)
                name = f"Ray Train, {workers} worker{'s' if workers > 1 else ''}"
                rates[name].append(1.0 / data_of(run)[-1])
    return rates


def prepared(directory: Path, size: int) -> tuple[Run, study_file.Study]:
    from advrec.stages import study

    content = {
        "name": "bench",
        "catalog": {"source": "synthetic", "articles": ARTICLES, "image_size": size},
        "models": {
            "at": {
                "defense": "at",
                "steps": STEPS,
                "epochs": 2,
                "batch": BATCH,
                "width": WIDTH[size],
            }
        },
        "evaluation": {"attacks": ["fgsm"]},
    }
    made = study_file.resolve(content, "bench", directory)
    study.run_study(made, directory / "run", stages=("prepare",))
    return Run(directory / "run"), made


class AsPublished:
    """A step as the published code describes it: .backward() on the network in training, contiguous
    memory, Adam.
    """

    def __init__(self, size: int, catalog: Catalog) -> None:
        torch.manual_seed(0)
        architecture = Architecture(
            backbone="mobilenet_v2",
            width=WIDTH[size],
            categories=catalog.categories,
            textures=catalog.textures,
        )
        self.network = FashionNet(architecture).train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.001)

    def __call__(self, batch: data.Batch) -> None:
        clean = batch.images.contiguous()
        images = clean.clone()
        for _ in range(STEPS):
            images.requires_grad_(True)
            self.loss(batch, images).backward()
            assert images.grad is not None
            moved = images.detach() + 0.03 / STEPS * images.grad.sign()
            images = torch.min(torch.max(moved, clean - 0.03), clean + 0.03).clamp(0.0, 1.0)
        self.optimizer.zero_grad()
        self.loss(batch, images).backward()
        self.optimizer.step()

    def loss(self, batch: data.Batch, images: torch.Tensor) -> torch.Tensor:
        """The loss () of images (B, 3, H, W)."""
        category, texture = self.network(images)
        loss = torch.nn.functional.cross_entropy(category, batch.categories)
        return loss + torch.nn.functional.binary_cross_entropy_with_logits(texture, batch.textures)


def data_of(run: Run) -> list[float]:
    from advrec.run import schema
    from advrec.run.tables import read_table

    return read_table(run.history("at"), schema.HISTORY)["seconds"].to_pylist()


def show(rates: Rates, unit: str, *pairs: tuple[str, str]) -> dict[str, Any]:
    for name, found in rates.items():
        print(f"{name:22} {median(found):8.3g} {unit}")
    return ratios.pairs(rates, *pairs)


if __name__ == "__main__":
    main()
