"""Adversarial training: python benchmarks/training.py [64|224] [ROUNDS]. Ratios of throughput,
alternating, medians of 3 rounds.

    ours / as published     steps of adversarial training of PGD-8, of one thread: attacks on a
                            frozen, folded copy, against attacks on the trainable network in
                            contiguous memory, whose every backward pass also makes gradients of the
                            weights Ray Train / plain loop  an epoch of the same training by one
                            worker, and by the loop in this process two workers / one       the
                            same, one thread each
"""

from advrec.distributed import session  # noqa: I001  (sets Ray's environment before anything imports ray)

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from advrec.spec import study as study_file
from advrec.catalog.dataset import Catalog
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.run.directory import Run
from advrec.training import data
from advrec.training.loop import Training, fit
from advrec.training.start import initial_network

STEPS, BATCH, ARTICLES = 8, 32, 400
WIDTH = {64: 0.5, 224: 1.0}
BATCHES = {64: 6, 224: 1}


def main(size: int = 64, rounds: int = 3) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        run, study = prepared(Path(directory), size)
        spec = study.models["at"]
        catalog = Catalog(run)
        batches = [
            data.load(catalog, ids, torch.device("cpu"))
            for ids in data.shuffled(
                catalog.ids_of("train"),
                BATCH,
                seed=0,
                epoch=0,
                rank=0,
                world=1,
            )
        ][: BATCHES[size]]
        training, generator = (
            Training(initial_network(run, spec, catalog, 0), spec, catalog, seed=0),
            torch.Generator(),
        )
        training.network.train()
        sides = {
            "ours": lambda batch: training.train_on(batch, generator),
            "as published": AsPublished(size, catalog),
        }
        steps: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            side(batches[0])  # kernels are chosen
        for _ in range(rounds):
            for name, side in sides.items():
                start = time.monotonic()
                for batch in batches:
                    side(batch)
                steps[name].append(len(batches) * BATCH / (time.monotonic() - start))
        show(steps, "images/s", ("ours", "as published"))

        from advrec.distributed.train import train_model

        epochs: dict[str, list[float]] = {
            "plain loop": [],
            "Ray Train, 1 worker": [],
            "Ray Train, 2 workers": [],
        }
        with session.session():
            for _ in range(rounds):
                fitted = fit(initial_network(run, spec, catalog, 0), spec, catalog, seed=0)
                epochs["plain loop"].append(1.0 / fitted.history[-1].seconds)
                for workers in (1, 2):
                    made = study.model_copy(
                        update={
                            "resources": study.resources.model_copy(
                                update={"training_workers": workers}
                            )
                        }
                    )
                    run.weights("at").unlink(missing_ok=True)
                    train_model(run, made, "at", spec, "bench", grows=False)
                    history = data_of(run)
                    name = f"Ray Train, {workers} worker{'s' if workers > 1 else ''}"
                    epochs[name].append(1.0 / history[-1])
        show(
            epochs,
            "epochs/s",
            ("Ray Train, 1 worker", "plain loop"),
            ("Ray Train, 2 workers", "Ray Train, 1 worker"),
        )


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
    """Written after the published code's description: .backward() on the network in training,
    contiguous memory, Adam.
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
        category, texture = self.network(images)
        loss = torch.nn.functional.cross_entropy(category, batch.categories)
        return loss + torch.nn.functional.binary_cross_entropy_with_logits(texture, batch.textures)


def data_of(run: Run) -> list[float]:
    from advrec.run import schema
    from advrec.run.tables import read_table

    return read_table(run.history("at"), schema.HISTORY)["seconds"].to_pylist()


def show(rates: dict[str, list[float]], unit: str, *pairs: tuple[str, str]) -> None:
    for name, found in rates.items():
        print(f"{name:22} {median(found):8.3g} {unit}")
    for first, second in pairs:
        ratios = [a / b for a, b in zip(rates[first], rates[second], strict=True)]
        print(
            f"{first} / {second}: {median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
