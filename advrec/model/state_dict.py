"""State dicts found in files, fitted to a network whatever prefix they have, and loaded whole."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from advrec.model.weight_files import State, WeightsFile, listed

SHOWN = 160  # characters of torch's reason
# Names that torch's wrappers put into those of weights, wherever they wrap.
WRAPPERS = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AVERAGED = re.compile(r"(^|_)(ema|swa|avg|averaged?|shadow|teacher|momentum)(_|$)")
PLAIN = frozenset(
    ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
)
# torchvision's files of densenets are older than its names: norm.1 is norm1.
OLDER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
COUNTERS = ("n_averaged", "num_batches_tracked")
# An adversarially trained network of MadryLab's robustness has one.
NORMALISER = re.compile(r"(^|\.)normali[sz]er?\.(?:new_)?(mean|std)$")


class MisfitError(Exception):
    """A file of another network; the message says in what, on one line."""


class Layout(NamedTuple):
    """A way in which a file may hold a network."""

    inner: str = ""
    """The beginning of the network's names in the file, after a prefix that all share."""
    left_out: tuple[str, ...] = ()
    """Names that may stand beside them and that the network has not; all below one ending in ."""
    own_normaliser: bool = False
    """The names mean and std beside them are a normaliser, as in our files."""

    def leaves_out(self, name: str) -> bool:
        """Say that a name of the file is known to be no part of the network."""
        below = tuple(known for known in self.left_out if known.endswith("."))
        return name in self.left_out or bool(below and name.startswith(below))


class Normaliser(NamedTuple):
    """The mean and standard deviation of each channel that a network subtracts and divides by."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def put_into(self, network: nn.Module) -> None:
        """Set the buffers mean and std (1, 3, 1, 1) of a network."""
        for name, values in self._asdict().items():
            network.get_buffer(name).copy_(torch.tensor(values).view(1, 3, 1, 1))


class Loaded(NamedTuple):
    """A file as it was loaded."""

    taken: str
    """Words about what was taken of the file and what was not; empty where it is the network
    alone.
    """
    normaliser: Normaliser | None
    """The file's, where it has one."""


class _Found(NamedTuple):
    """A network's names in a file."""

    key: str
    """Leads to the state dict."""
    root: str
    """The prefix that all share."""
    layout: Layout
    state: State
    """The whole state dict."""
    names: dict[str, str]
    """Names in the state dict by those of the network, as many as are there."""
    is_whole: bool

    @property
    def place(self) -> str:
        """The words that a user may call it by."""
        return ".".join(filter(None, (self.key, self.root.rstrip("."))))

    @property
    def rank(self) -> int:
        """The order in which they are taken: 0 plain, 1 of a name that says nothing, 2 averaged."""
        words = [word for word in self.place.split(".") if word and not WRAPPERS.match(f"{word}.")]
        if any(AVERAGED.search(word) for word in words):
            return 2
        return 0 if PLAIN.issuperset(words) else 1

    def tensors(self) -> State:
        """The weights by the names of the network."""
        return {own: self.state[name] for own, name in self.names.items()}


def load(file: WeightsFile, module: nn.Module, layouts: Sequence[Layout] = (Layout(),)) -> Loaded:
    """Load the weights of a network, such as (D, C, h, w) of a convolution, from a file: whole, and
    nothing but what a layout leaves out is ignored.

    Raises:
        MisfitError: the file does not hold this network, holds more, or holds it more than once.
    """
    found = sorted(
        (one for key, state in file.parts.items() for one in _find(key, state, module, layouts)),
        key=lambda one: (not one.is_whole, one.rank, len(one.root)),
    )
    best, whole = found[0], [one for one in found if one.is_whole]
    if not best.is_whole:
        best = max(found, key=lambda one: len(one.names))
        state, left_out, surplus = _older(best)
        _load_strictly(module, state, file)
        _refuse(surplus)
        return Loaded(_taken(best, [], left_out), None)
    others = [one for one in whole[1:] if not _same(one, best)]
    rivals = [other.place for other in others if other.rank == best.rank]
    if rivals:
        raise MisfitError(
            f"it holds {best.place} and {listed(rivals)}, which both fit; "
            "save the one that you mean alone"
        )
    left_out, normaliser = _besides(best, whole)
    _load_strictly(module, best.tensors(), file)
    return Loaded(_taken(best, [other.place for other in others], left_out), normaliser)


def _clean(name: str) -> str:
    """The name of a weight without torch's wrappers, as torchvision calls it today."""
    return OLDER.sub(r"\1\2", WRAPPERS.sub("", name))


def _find(key: str, state: State, module: nn.Module, layouts: Sequence[Layout]) -> Iterator[_Found]:
    """The network's names in a state dict, below each prefix; where there are none, an empty find
    for the message.
    """
    clean = {_clean(name): name for name in state}
    own = {_clean(name): name for name in module.state_dict()}
    ties = _ties(module)
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    for layout in layouts:
        wanted = {layout.inner + name for name in own}
        roots: Counter[str] = Counter()
        for name in clean:
            parts = name.split(".")
            for start in range(len(parts)):
                if ".".join(parts[start:]) in wanted:
                    roots["".join(f"{part}." for part in parts[:start])] += 1
        most = max(roots.values(), default=0)
        for root, count in roots.items() if roots else [("", 0)]:
            names = {
                own[name]: clean[root + layout.inner + name]
                for name in own
                if root + layout.inner + name in clean
            }
            for name, tied in ties.items():
                kept = [names[other] for other in tied if other in names]
                if kept:
                    names.setdefault(name, kept[0])
            is_whole = bool(names) and all(own[name] in names for name in needed)
            if is_whole or count == most:
                yield _Found(key, root, layout, state, names, is_whole)


def _ties(module: nn.Module) -> dict[str, list[str]]:
    """The other names of each tensor that has several: safetensors keeps one of them."""
    groups: dict[int, list[str]] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        groups.setdefault(id(value), []).append(name)
    return {
        name: [other for other in names if other != name]
        for names in groups.values()
        for name in names
    }


def _same(first: _Found, second: _Found) -> bool:
    ours, others = first.tensors(), second.tensors()
    return ours.keys() == others.keys() and all(
        torch.equal(value, others[name]) for name, value in ours.items()
    )


def _besides(best: _Found, whole: Sequence[_Found]) -> tuple[list[str], Normaliser | None]:
    """Sort what a state dict holds beside the network: names that are known to be left out, and a
    normaliser.

    Raises:
        MisfitError: it holds anything else.
    """
    here = [one for one in whole if one.key == best.key]
    taken = {name for one in here for name in one.names.values()}
    left_out: list[str] = []
    surplus: list[str] = []
    normalising: dict[str, tuple[float, ...]] = {}
    for name, value in best.state.items():
        clean = _clean(name)
        owners = [one for one in here if clean.startswith(one.root)]
        if name in taken or clean.rpartition(".")[2] in COUNTERS:
            continue
        if any(one.layout.leaves_out(clean.removeprefix(one.root)) for one in owners):
            if clean.removeprefix(best.root) != clean or not best.root:
                left_out.append(f"{name} {tuple(value.shape)}")
        elif (part := _of_normaliser(best, clean)) and value.numel() == 3:
            numbers = tuple(value.flatten().tolist())
            if normalising.setdefault(part, numbers) != numbers:
                raise MisfitError(f"it holds normalisers that differ, {name} and another")
        else:
            surplus.append(f"{name} {tuple(value.shape)}")
    exact = {best.root + name for name in best.layout.left_out}
    left_out.sort(key=lambda said: said.partition(" ")[0] not in exact)  # the last layer first
    _refuse(surplus)
    if len(normalising) == 1:
        raise MisfitError(f"it holds the {next(iter(normalising))} of a normaliser alone")
    return left_out, Normaliser(**normalising) if normalising else None


def _of_normaliser(best: _Found, name: str) -> str | None:
    """Say which part of a normaliser bears a name: mean or std."""
    if best.layout.own_normaliser and name.removeprefix(best.root) in Normaliser._fields:
        return name.removeprefix(best.root)
    match = NORMALISER.search(name)
    return match and match[2]


def _older(best: _Found) -> tuple[State, list[str], list[str]]:
    """A network that is not whole by its names, some of which torch may know as older ones: its
    state dict; names that are left out; names besides.
    """
    state, left_out, surplus = best.tensors(), [], []
    begin = best.root + best.layout.inner
    for name, value in best.state.items():
        clean = _clean(name)
        if best.layout.leaves_out(clean.removeprefix(best.root)):
            left_out.append(f"{name} {tuple(value.shape)}")
        elif clean.startswith(begin):
            state.setdefault(clean.removeprefix(begin), value)
        elif clean.rpartition(".")[2] not in COUNTERS:
            surplus.append(f"{name} {tuple(value.shape)}")
    return state, left_out, surplus


def _refuse(surplus: Sequence[str]) -> None:
    """Refuse names that nothing takes: raises MisfitError."""
    if surplus:
        raise MisfitError(
            f"it holds {listed(surplus, 4)} besides, which would be ignored; remove that from the "
            "file, or write a module:function of the whole network"
        )


def _taken(best: _Found, others: Sequence[str], left_out: Sequence[str]) -> str:
    """Say what is taken and what is not; nothing where it is all of the file."""
    said = []
    if best.place:
        averaged = ", averaged weights" if best.rank == 2 else ""
        said.append(f"taken are the weights of {best.place}{averaged}")
    if any(name.endswith("n_averaged") for name in best.state):
        said.append("they are averaged (n_averaged)")
    if others:
        said.append(f"{listed(others)} would fit too and is not taken")
    if left_out:
        doubt = " (if it makes your embedding, write a module:function)"
        of_imagenet = "(1000," in left_out[0]
        said.append(f"left out: {listed(left_out, 4)}{'' if of_imagenet else doubt}")
    return "; ".join(said)


def _load_strictly(module: nn.Module, state: State, file: WeightsFile) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise MisfitError(
            f"{_reason(error, module, state)}; its keys are {listed(file.keys)}"
        ) from None


def _reason(error: RuntimeError, module: nn.Module, state: State) -> str:
    """Say how a state dict differs from a network's: names, else torch's first line about it."""
    wanted = module.state_dict()
    said = []
    if missing := [name for name in wanted if name not in state]:
        said.append(f"it lacks {listed(missing, 3)}")
    if surplus := [name for name in state if name not in wanted]:
        said.append(f"it has {listed(surplus, 3)} in place")
    if said:
        return " and ".join(said)
    lines = str(error).splitlines()  # the first says only that there is an error
    reason = lines[1].strip() if len(lines) > 1 else str(error)
    return reason if len(reason) < SHOWN else f"{reason[:SHOWN]}..."
