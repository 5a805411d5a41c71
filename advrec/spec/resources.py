"""The resources section of a study file."""

from typing import Annotated, Literal

from pydantic import Field

from advrec.spec.base import Strict


class ResourcesSpec(Strict):
    """Processes and processors. The same weights give the same rows, on any number of processes.

    Only cpus_per_actor, and whether GPUs are used, may change the last bits of a row.
    training_workers enters the weights of models that are still to be trained.
    """

    actors: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Processes that attack. auto: as many as there is room for: one a GPU, else one a core,
    as far as memory holds them.

    0: this process prepares and attacks, and trains too unless training_workers is a number above
    0. A debugger works then, and what is small is sooner done. A crash of the process ends the
    command; the same command goes on from there.
    """
    gpus_per_actor: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["auto"] = "auto"
    """Share of a GPU; auto: one where there are any. Where there are none, cores do the work."""
    cpus_per_actor: Annotated[int, Field(ge=1)] = 1
    """Cores, and threads of torch. Their number may change the last bits of a row, so it is part of
    what determines it.
    """
    training_workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Ray Train workers. auto: one a GPU, else one a core; with `actors: 0` as 0. 0: this process
    trains, on one core. Their number enters the weights; models that are trained stay as they are.
    """

    @property
    def trains_here(self) -> bool:
        """Models are trained in this process, without Ray."""
        alone = self.actors == 0 and self.training_workers == "auto"
        return alone or self.training_workers == 0
