"""Images of the page with their captions: examples, strips of neighbours, the gallery."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from advrec.reports.kept import KEY
from advrec.reports.page import images
from advrec.reports.page.visible import told
from advrec.reports.pictures.gallery import NEIGHBOURS, Example, Injection, Place
from advrec.reports.pictures.images import perturbation, to_pixels
from advrec.reports.results import Results
from advrec.reports.tables.rows import made_on, records


class Tile(NamedTuple):
    """An image with its caption and its alternative text."""

    uri: str
    caption: str
    alt: str
    kind: str = "plain"
    """plain, query or attacked: the colour of its frame."""


class ExampleFigure(NamedTuple):
    """One adversarial image beside its article, perturbation and target."""

    title: str
    tiles: Sequence[Tile]
    caption: str


class StripRow(NamedTuple):
    """A row of images under a heading."""

    heading: str
    tiles: Sequence[Tile]


class Strip(NamedTuple):
    """Rows of images under a title."""

    title: str
    rows: Sequence[StripRow]


class GalleryTile(NamedTuple):
    """One kept image, with what it can be filtered by."""

    uri: str
    alt: str
    model: str
    attack: str
    epsilon: str
    delivery: str
    rank: int
    visible: str
    """Its distance from its article, in words; empty where that was not measured."""


class GalleryGroup(NamedTuple):
    """All kept images of one tuple."""

    title: str
    category: str
    clean: str
    target: str
    tiles: Sequence[GalleryTile]


def example_figure(results: Results, example: Example) -> ExampleFigure:
    """One adversarial image of the section Examples."""
    attacked, target = _attacked(example), _target(example)
    change = perturbation(example.clean, example.adversarial)
    adversarial = to_pixels(example.adversarial)
    tiles = [
        Tile(
            images.example(example.clean), "attack article", f"Attack article {attacked}, unchanged"
        ),
        Tile(images.example(change), "perturbation", "Perturbation, scaled to the full range"),
        Tile(
            images.example(adversarial),
            "adversarial",
            f"Attack article {attacked} after {example.attack}",
        ),
        Tile(images.example(example.target), "target", f"Target article {target}"),
    ]
    origin = made_on(results, example.attack)
    source = f" ({origin})" if origin else ""
    title = (
        f"{example.attack}{source} on {example.model}, "
        f"ε = {example.budget}, tuple {example.tuple_id}"
    )
    caption = (
        f"{attacked} towards {target}: "
        f"distance {example.clean_distance:.4f} → {example.adversarial_distance:.4f}, "
        f"rank {example.clean_rank:,} → {example.adversarial_rank:,}{_as_before(example)}"
    )
    return ExampleFigure(title, tiles, caption)


def injection_strip(injection: Injection) -> Strip:
    """A target's list before and after the attack."""
    example = injection.example
    query = _query(example)
    rank = f"rank {example.adversarial_rank:,}"
    title = (
        f"{example.model}: {example.attack}, ε = {example.budget}, tuple {example.tuple_id}, {rank}"
    )
    beyond = example.adversarial_rank > NEIGHBOURS
    gone = f"; {rank} is beyond these {NEIGHBOURS}" if beyond else ""
    rows = [("before", injection.before), (f"after{gone}", injection.after)]
    return Strip(
        title,
        [StripRow(name, [query, *(_place(place) for place in places)]) for name, places in rows],
    )


def budget_strip(results: Results, model: str, examples: Sequence[Example]) -> Strip:
    """One article under the strongest attack on a model, at each budget."""
    first = examples[0]
    clean = images.thumbnail(first.clean)
    tiles = [Tile(clean, "ε = 0", f"Article {first.attack_name}, unchanged")]
    for each in examples:
        tiles.append(
            Tile(
                images.thumbnail(each.adversarial),
                f"ε = {each.budget}, rank {each.adversarial_rank:,}{_as_before(each)}",
                f"The same at epsilon {each.budget}",
                "attacked" if each.adversarial_rank <= results.rank else "plain",
            )
        )
    return Strip(
        f"{model}: {first.attack}, tuple {first.tuple_id}",
        [StripRow("", [*tiles, _query(first)])],
    )


def gallery(kept: Sequence[Example], measured: pd.DataFrame) -> list[GalleryGroup]:
    """All kept images, a group a tuple.

    Args:
        measured: visibility.visibility.
    """
    words = {tuple(row[key] for key in KEY): told(row) for row in records(measured)}
    tuples = groupby(kept, key=lambda example: example.tuple_id)
    return [_group(list(examples), words) for _, examples in tuples]


def filters(kept: Sequence[Example]) -> dict[str, list[str]]:
    """The choices of each filter of the gallery; a filter with one choice is left out."""
    choices = {
        "category": sorted({example.attack_category for example in kept}),
        "model": list(dict.fromkeys(example.model for example in kept)),
        "attack": list(dict.fromkeys(example.attack for example in kept)),
        "epsilon": list(
            dict.fromkeys(each.budget for each in sorted(kept, key=lambda each: each.epsilon))
        ),
        "delivery": list(dict.fromkeys(example.delivery for example in kept)),
    }
    return {name: values for name, values in choices.items() if len(values) > 1}


def _attacked(example: Example) -> str:
    return _titled(example.attack_name, example.attack_category)


def _target(example: Example) -> str:
    return _titled(example.target_name, example.target_category)


def _titled(name: str, category: str) -> str:
    """An article's name, and its category where that is known."""
    return f"{name} ({category})" if category else name


def _query(example: Example) -> Tile:
    target = images.thumbnail(example.target)
    return Tile(target, "target", f"Target article {_target(example)}", "query")


def _as_before(example: Example) -> str:
    """A note on the image that a nested attack keeps from a smaller budget."""
    return "; the image of a smaller budget" if example.inherited else ""


def _place(place: Place) -> Tile:
    role = "Attacked article" if place.attacked else "Neighbour"
    return Tile(
        images.thumbnail(place.image),
        f"{place.distance:.4f}",
        f"{role} {_titled(place.name, place.category)}, distance {place.distance:.4f}",
        "attacked" if place.attacked else "plain",
    )


def _group(examples: Sequence[Example], visible: Mapping[tuple[Any, ...], str]) -> GalleryGroup:
    first = examples[0]
    tiles = [
        GalleryTile(
            images.thumbnail(each.adversarial),
            f"{first.attack_name} after {each.attack} on {each.model}, epsilon {each.budget}",
            each.model,
            each.attack,
            each.budget,
            each.delivery,
            each.adversarial_rank,
            visible.get(tuple(getattr(each, key) for key in KEY), ""),
        )
        for each in examples
    ]
    return GalleryGroup(
        f"Tuple {first.tuple_id}: {_attacked(first)} towards {_target(first)}",
        first.attack_category,
        images.thumbnail(first.clean),
        images.thumbnail(first.target),
        tiles,
    )
