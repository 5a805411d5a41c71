"""How many processes a cluster takes, by hand-counted examples."""

import pytest

from advrec.distributed.placement import place, place_preparation, place_training
from advrec.errors import AdvrecError
from advrec.spec.study import ResourcesSpec

LAPTOP = [{"CPU": 2.0}]
GPU_NODE = {"CPU": 16.0, "GPU": 4.0}
DRIVER_ONLY = {"CPU": 0.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("resources", "nodes", "expected"),
    [
        ({}, LAPTOP, (2, 0.0, 1)),
        ({"actors": 1}, LAPTOP, (1, 0.0, 1)),
        ({"cpus_per_actor": 2}, LAPTOP, (1, 0.0, 2)),
        ({}, [DRIVER_ONLY, GPU_NODE, GPU_NODE], (8, 1.0, 1)),
        ({"gpus_per_actor": 0.5}, [GPU_NODE], (8, 0.5, 1)),
        # two thirds of a GPU's remainder is of no use
        ({"gpus_per_actor": 0.4}, [GPU_NODE], (8, 0.4, 1)),
        # cores run out first
        ({"gpus_per_actor": 0.25, "cpus_per_actor": 4}, [GPU_NODE], (4, 0.25, 4)),
        ({"gpus_per_actor": 0.5}, LAPTOP, (2, 0.0, 1)),  # the same study without a GPU
        ({"gpus_per_actor": 0.0}, [GPU_NODE], (16, 0.0, 1)),
        # no process lies on two nodes
        ({"cpus_per_actor": 2}, [{"CPU": 3.0}, {"CPU": 3.0}], (2, 0.0, 2)),
    ],
)
def test_actors_and_their_shares(resources, nodes, expected):
    assert tuple(place(ResourcesSpec(**resources), nodes, grows=False)) == expected


def test_more_than_there_is_room_for_is_refused_here_and_waited_for_on_a_cluster_that_grows():
    resources = ResourcesSpec(actors=4, gpus_per_actor=1.0)
    with pytest.raises(
        AdvrecError,
        match=r"resources.actors asks for 4 processes of 1 core each, there is room for 2",
    ):
        place(resources, LAPTOP, grows=False)
    assert tuple(place(resources, [DRIVER_ONLY], grows=True)) == (4, 1.0, 1)
    assert place_training(
        ResourcesSpec(training_workers=4, gpus_per_actor=1.0), [DRIVER_ONLY], grows=True
    ) == (4, True)
    assert place_preparation(resources, [DRIVER_ONLY], grows=True) == 4


def test_auto_where_nothing_is_there_yet_says_what_to_set():
    for where in (place, place_preparation, place_training):
        with pytest.raises(
            AdvrecError,
            match=r"no room for one process .* set resources.actors and training_workers to num",
        ):
            where(ResourcesSpec(), [DRIVER_ONLY], grows=True)


def test_training_takes_gpus_where_there_are_any_else_cores():
    assert place_training(ResourcesSpec(), [GPU_NODE], grows=False) == (4, True)
    assert place_training(ResourcesSpec(), LAPTOP, grows=False) == (2, False)
    assert place_preparation(ResourcesSpec(), [GPU_NODE, DRIVER_ONLY], grows=True) == 16
