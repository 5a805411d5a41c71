"""Small real things that many tests share: a drawn catalog, a network, a run directory."""

from advrec.distributed import session  # noqa: F401, I001  (sets Ray's environment before anything imports ray)

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray.cluster_utils import Cluster

from advrec.spec import study as study_file
from advrec.catalog.sources import deepfashion, synthetic
from advrec.catalog import files, shards
from advrec.catalog.dataset import Catalog
from advrec.catalog.decide import Decision, decide
from advrec.catalog.write import write
from advrec.catalog.listing import Listing
from advrec.spec.catalog import CatalogSpec
from advrec.model.encoder import Encoder, embed_all
from advrec.model.fashionnet import Architecture, FashionNet
from advrec.recommenders.ranks import similar_articles
from advrec.recommenders.recommender import Recommender
from advrec.run.directory import Run
from advrec.run.files import write_table

STUDY = {
    "name": "tiny",
    "catalog": {"source": "synthetic", "articles": 132, "image_size": 32},
    "models": {"unsecured": {"defense": "none", "epochs": 1}},
    "evaluation": {
        "tuples": 12,
        "block": 4,
        "epsilons": [0.01, 0.05],
        "attacks": ["fgsm", "pgd-2"],
        "examples": 2,
        "checks": 0,
    },
    "resources": {"actors": 0},
}


def study(**changes: object) -> study_file.Study:
    """STUDY with whole sections replaced."""
    return study_file.resolve(STUDY | changes, "test", Path.cwd())


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c() -> None:
    """Bear Ctrl-C as in a terminal: a shell's background job, and so tests in one, ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_ray_unless_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Ray out of tests that run beside others: `make quick` and pytest-xdist rely on it."""
    if request.node.get_closest_marker("ray") is None:
        monkeypatch.setattr("ray.init", lambda **_: pytest.fail("mark this test with `ray`"))


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of one Ray of two cores, which all tests share whose subject is not its start."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run directory with a prepared catalog of drawn garments. Read only: shared by tests."""
    run = Run(tmp_path_factory.mktemp("prepared"))
    draw_catalog(run)
    return run


def draw_catalog(run: Run) -> None:
    """Draw 132 garments and prepare them, in this process."""
    plan = synthetic.plan(132, 7)
    synthetic.write_images(run.directory / "synthetic", plan.entries)
    synthetic.write_annotations(run.directory / "synthetic", plan)
    spec = CatalogSpec(source="deepfashion", root=str(run.directory / "synthetic"), image_size=32)
    prepare_alone(run, spec, deepfashion.read(spec, 7))


def prepare_alone(run: Run, spec: CatalogSpec, listing: Listing) -> Decision:
    """Prepare a catalog in this process, without Ray."""
    root = files.at(listing.root, listing.base)
    for shard, (start, articles) in enumerate(shards.cut(listing, spec.image_size)):
        write_table(
            run.shard(shard),
            shards.prepare_shard(root, start, articles, spec.image_size, spec.square),
        )
    decision = decide(spec, listing, shards.read_shards(run))
    write(run, decision)
    return decision


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with everything but tuples, embeddings and outcomes. Read only: copy it."""
    from tests.runs import ready_run  # which imports this module

    return ready_run(tmp_path_factory.mktemp("ready") / "run")


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory, ready: Run) -> Path:
    """A directory with the study tiny.yaml and its finished evaluation, results/tiny. Read only."""
    from tests.commands import advrec
    from tests.runs import write_study

    directory = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(ready.directory, directory / "results" / "tiny")
    write_study(directory / "tiny.yaml", ready, evaluation={})
    done = advrec("evaluate", "tiny.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="session")
def catalog(prepared: Run) -> Catalog:
    return Catalog(prepared)


def random_network(categories: int = 5, textures: int = 3, seed: int = 0) -> FashionNet:
    """A network with random weights and BatchNorm statistics that are not those of a new one."""
    torch.manual_seed(seed)
    network = FashionNet(
        Architecture(
            backbone="mobilenet_v2",
            width=0.35,
            categories=tuple(f"category {n}" for n in range(categories)),
            textures=tuple(f"texture {n}" for n in range(textures)),
        )
    )
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain average of what is seen: statistics of real activations
    with torch.no_grad():
        for _ in range(10):
            network.train()(torch.rand(16, 3, 32, 32))
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


def recommender(catalog: Catalog, embed: Encoder) -> Recommender:
    """The recommender of similar articles with an encoder as it is, which pads no batch."""
    embeddings = embed_all(embed, catalog.pixels(range(len(catalog))), batch=len(catalog))
    return Recommender(embed=embed, index=similar_articles(embeddings))


def small_network(catalog: Catalog, seed: int = 0) -> FashionNet:
    """A network with a backbone of two convolutions, which learns the drawn garments in seconds."""
    torch.manual_seed(seed)
    network = random_network(len(catalog.categories), len(catalog.textures), seed)
    network.backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 5, stride=2, padding=2),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 64, 5, stride=2, padding=2),
        torch.nn.BatchNorm2d(64),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Unflatten(1, (1024, 1, 1)),
    )
    network.dimension = 1024
    network.category_head = torch.nn.Linear(1024, len(catalog.categories))
    network.texture_head = torch.nn.Linear(1024, len(catalog.textures))
    return network
