"""What an attack gains that sees the delivery: python -m benchmarks.delivery [--out | --run DIR].

1. The study beside this file, run as a user would: `auto` through JPEG 90 at 0.03 must bring 95 %
   of 32 tuples to rank 3 with at most 100 forward passes a tuple in the mean; exit code 1 if not.
2. The same tuples and model at 0.03 and 0.01 after each delivery: attacks that do not see it,
   whose stop alone tests it, and that go through it. Success at rank 3, forward passes a tuple;
   last what `auto` gains by going through it, paired over tuples, with 95 % interval.

With --run the second is of the model `unsecured` of a run that is there, and the first is left out.
A run that is there already is not made again. Minutes, most of them for the training.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

import advrec
from advrec.attacks import registry
from advrec.catalog.dataset import Catalog
from advrec.delivery.chain import chain
from advrec.evaluation.block import Block, Outcomes, block_of
from advrec.evaluation.bootstrap import means
from advrec.evaluation.harness import evaluate_block
from advrec.model.arithmetic import exact_arithmetic
from advrec.model.encoder import to_images
from advrec.model.memory import keep_freed
from advrec.recommenders import load
from advrec.recommenders.recommender import Recommender
from advrec.run import cells, schema
from advrec.run.directory import Run
from advrec.run.tables import read_table
from advrec.spec.deliveries import written_out
from advrec.spec.study import Study

STUDY = Path(__file__).with_suffix(".yaml")
RANK, ENOUGH, PASSES = 3, 95.0, 100.0
ATTACKS = ("apgd-50", "auto")
DELIVERIES = tuple(
    map(
        written_out,
        (
            *("jpeg-90", "jpeg-75", "jpeg-75-444", "webp-80", "avif-60"),
            *("scale-0.5+jpeg-85", "upload-512+jpeg-75"),
        ),
    )
)
EPSILONS = (0.03, 0.01)
TUPLES = 32
say = partial(print, flush=True)


class Cell(NamedTuple):
    won: np.ndarray
    """(n,) bool, of the tuples."""
    passes: float
    """Forward passes a tuple, those for the image as computed not among them."""

    @property
    def success(self) -> float:
        """Percent of the tuples."""
        return 100.0 * float(self.won.mean())

    def __str__(self) -> str:
        return f"{self.success:.0f} %, {self.passes:.0f} passes"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/bench/delivery"))
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    study, out = advrec.load_study(STUDY), options.out
    if options.run is not None:
        for line in table(Run(options.run), study):
            say(line)
        return
    advrec.run_study(study, out, stages=("prepare", "train", "evaluate"))
    rows = advrec.read_results(out)
    kept = Cell(
        (rows["adversarial_rank_jpeg_90"] <= RANK).to_numpy(), float(rows["forward_passes"].mean())
    )
    say(f"\n1. auto through JPEG 90 at 0.03, n = {len(rows)}: {kept} (with those for float)")
    say(f"\n2. success at rank {RANK} after the delivery, n = {len(rows)}\n")
    for line in table(Run(out), study):
        say(line)
    sys.exit(kept.success < ENOUGH or kept.passes > PASSES)


def table(run: Run, study: Study) -> Iterator[str]:
    """Lines of the table, in Markdown, as they are measured."""
    keep_freed()
    catalog = Catalog(run)
    recommender = load.from_run(run, "unsecured", catalog)
    tuples = read_table(run.tuples, schema.TUPLES).slice(0, TUPLES)
    block = block_of(study, cells.cells(study)[0], tuples, catalog)
    names = ["`auto`, blind", "`auto`, stop tests it"]
    names += [*(f"`{attack}` through it" for attack in ATTACKS), "gain of `auto`, points"]
    yield f"| delivery | epsilon | {' | '.join(names)} |"
    yield f"|---{'|---' * (len(names) + 1)}|"
    with exact_arithmetic(1):
        for epsilon in EPSILONS:
            one = dataclasses.replace(block, epsilons=(epsilon,), stop="rank-1", nested=False)
            float_ = dataclasses.replace(one, deliveries=(), through=(), examples=sys.maxsize)
            make = partial(evaluate_block, recommender)
            alone = {attack: make(registry.build(attack), float_) for attack in ATTACKS}
            for delivery in DELIVERIES:
                found = [blind(recommender, one, delivery, alone["auto"])]
                found.append(tested(recommender, one, delivery))
                for attack in ATTACKS:
                    found.append(through(recommender, one, attack, delivery, alone[attack].rows))
                gain = means(100.0 * (found[-1].won.astype(float) - found[0].won)[:, None])
                bounds = f"{gain.low[0]:.0f} to {gain.high[0]:.0f}"
                shown = [*map(str, found), f"{gain.value[0]:+.0f} ({bounds})"]
                yield f"| {delivery} | {epsilon:g} | {' | '.join(shown)} |"


def blind(recommender: Recommender, block: Block, delivery: str, alone: Outcomes) -> Cell:
    """The image as computed, delivered; nothing of the attack looks at the delivery."""
    rows, examples = alone.rows, alone.examples
    size = block.pixels.shape[1:]
    pixels = np.frombuffer(b"".join(examples["pixels"].to_pylist()), "<f4").reshape(-1, *size)
    embeddings = recommender.embeddings(chain(delivery)(to_images(pixels.copy())))
    ranks = recommender.index.ranks(block.target_ids, block.attack_ids, embeddings)
    return cell(ranks, rows)


def tested(recommender: Recommender, block: Block, delivery: str) -> Cell:
    """The gradients do not see the delivery, but an image is solved only if it is after it."""
    block = dataclasses.replace(block, deliveries=(delivery,), through=())
    rows = evaluate_block(recommender, registry.build("auto"), block).rows
    return cell(rows[schema.delivered(delivery)[1]].to_numpy(), rows)


def through(
    recommender: Recommender, block: Block, attack: str, delivery: str, alone: pa.Table
) -> Cell:
    """The gradients are those after the delivery. The passes of the image as computed, which are
    those of `alone`, do not count.
    """
    block = dataclasses.replace(block, deliveries=(delivery,), through=(delivery,))
    both = evaluate_block(recommender, registry.build(attack), block).rows
    return cell(both[schema.delivered(delivery)[1]].to_numpy(), both, alone)


def cell(ranks: np.ndarray, rows: pa.Table, without: pa.Table | None = None) -> Cell:
    """Success of ranks (n,), and the passes of rows beyond those of others."""
    passes = rows["forward_passes"].to_numpy()
    if without is not None:
        passes = passes - without["forward_passes"].to_numpy()
    return Cell(ranks <= RANK, float(passes.mean()))


if __name__ == "__main__":
    main()
