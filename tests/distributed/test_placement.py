"""How many processes a cluster takes, by hand-counted examples."""

import pytest

from advrec.distributed.placement import (
    left_out,
    place,
    place_preparation,
    place_training,
    within_memory,
)
from advrec.errors import AdvrecError
from advrec.spec.resources import ResourcesSpec

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
    assert place(ResourcesSpec(**resources), nodes, grows=False)[:3] == expected


def test_more_than_there_is_room_for_is_refused_here_and_waited_for_on_a_cluster_that_grows():
    resources = ResourcesSpec(actors=4, gpus_per_actor=1.0)
    with pytest.raises(
        AdvrecError,
        match=r"resources.actors asks for 4 processes of 1 core each, there is room for 2",
    ):
        place(resources, LAPTOP, grows=False)
    assert place(resources, [DRIVER_ONLY], grows=True)[:3] == (4, 1.0, 1)
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


GIB = 2.0**30


@pytest.mark.parametrize(
    ("nodes", "each", "expected"),
    [
        ([{"CPU": 8.0, "memory": 16 * GIB}], 1 * GIB, (8, 1 * GIB)),
        ([{"CPU": 8.0, "memory": 16 * GIB}], 5 * GIB, (3, 5 * GIB)),
        # each on one node: the smaller one has no room, whatever the sum says
        (
            [{"CPU": 4.0, "memory": 16 * GIB}, {"CPU": 4.0, "memory": 4 * GIB}],
            5 * GIB,
            (3, 5 * GIB),
        ),
        # one is tried where even that should not fit, with what the largest node has
        ([{"CPU": 8.0, "memory": 4 * GIB}, {"CPU": 8.0, "memory": 2 * GIB}], 5 * GIB, (1, 4 * GIB)),
        ([{"CPU": 8.0}], 5 * GIB, (8, 5 * GIB)),
    ],
)
def test_no_more_actors_than_memory_holds(nodes, each, expected):
    wanted = place(ResourcesSpec(), nodes, grows=False)
    placement = within_memory(wanted, nodes, each, grows=False)
    assert (placement.actors, placement.memory) == expected
    assert within_memory(wanted._replace(actors=40), nodes, each, grows=True).actors == 40


def test_actors_that_are_left_out_are_counted_for_the_user():
    nodes = [{"CPU": 8.0, "memory": 16 * GIB}]
    wanted = place(ResourcesSpec(actors=8), nodes, grows=False)
    said = left_out(wanted, within_memory(wanted, nodes, 5 * GIB, grows=False), nodes, 5 * GIB)
    assert "memory for 3 of 8 processes: each takes about 5,120 MiB of 16,384" in said
