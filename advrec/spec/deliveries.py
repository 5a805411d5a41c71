"""Names of deliveries: what a shop does to an image that is uploaded, in order. Free of torch."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, BeforeValidator

from advrec.spec.base import FLOAT

Filter = Literal["nearest", "bilinear", "bicubic", "area", "linear-plain"]
FILTERS: tuple[Filter, ...] = get_args(Filter)
"""Ways to scale. All but nearest and linear-plain average what lies between, as Pillow does;
linear-plain looks at two pixels a side alone, as OpenCV's INTER_LINEAR does.
"""
DEFAULT_FILTER: Filter = "bicubic"
QUALITY = "([1-9][0-9]?|100)"
LARGEST = 4096  # pixels a side
LARGEST_BLUR = 32  # pixels
SUBSAMPLING = {"": "4:2:0", "420": "4:2:0", "422": "4:2:2", "444": "4:4:4"}
"""Resolution at which a JPEG stores colours, by the end of its name."""
FORMS = (
    "float, png, jpeg-Q, jpeg-Q-422, jpeg-Q-444, webp-Q, avif-Q with Q from 1 to 100, "
    "scale-X or scale-X-FILTER, X a factor, and first of all upload-N or upload-N-FILTER, "
    f"N pixels a side; FILTER is {', '.join(FILTERS)}; blur-S, S pixels; median-K, K odd; bits-N, "
    "N from 1 to 8; several are joined by +"
)
"""Forms that may be written, for messages."""
INGEST = "ingest"
"""The word of `through` for what a model does to every image itself."""


class Step(NamedTuple):
    """One thing that is done."""

    kind: str
    """png, jpeg, webp, avif, scale, upload, blur, median, bits or smooth"""
    number: float = 0.0
    """Quality, factor, pixels, bits a value, or the size of noise."""
    option: str = ""
    """Subsampling of a JPEG, the filter of what scales, or samples of noise."""

    @property
    def name(self) -> str:
        """The step as it is written out: a filter is always said, a JPEG's 420 never."""
        number = f"-{self.number:g}" if self.kind != "png" else ""
        return f"{self.kind}{number}" + (f"-{self.option}" if self.option else "")


_FILTER = f"(?:-(?P<option>{'|'.join(FILTERS)}))?"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_STEPS = {
    "png": re.compile("png"),
    "jpeg": re.compile(rf"jpeg-(?P<number>{QUALITY})(?:-(?P<option>420|422|444))?"),
    "webp": re.compile(rf"webp-(?P<number>{QUALITY})"),
    "avif": re.compile(rf"avif-(?P<number>{QUALITY})"),
    "scale": re.compile(rf"scale-(?P<number>{_NUMBER}){_FILTER}"),
    "upload": re.compile(rf"upload-(?P<number>[1-9][0-9]*){_FILTER}"),
    "blur": re.compile(rf"blur-(?P<number>{_NUMBER})"),
    "median": re.compile(r"median-(?P<number>[1-9][0-9]?)"),
    "bits": re.compile(r"bits-(?P<number>[1-8])"),
    "smooth": re.compile(rf"smooth-(?P<number>{_NUMBER})-(?P<option>[1-9][0-9]{{0,2}})"),
}


def steps(delivery: str) -> tuple[Step, ...]:
    """The steps of a delivery, in order; none of float.

    Raises:
        ValueError: it is none.
    """
    if delivery == FLOAT:
        return ()
    found = tuple(_step(part) for part in delivery.split("+"))
    for number, step in enumerate(found):
        if step.kind == "upload" and number:
            raise ValueError(f"upload-{step.number:g} says how the image is handed in: it is first")
        if step.kind == "smooth":
            raise ValueError(
                f"{step.name} averages embeddings: it belongs to the ingest of a model"
            )
    return found


def ingest_steps(ingest: str) -> tuple[Step, ...]:
    """The steps of a model's ingest, in order.

    Raises:
        ValueError: it is none.
    """
    found = tuple(_step(part) for part in ingest.split("+"))
    for number, step in enumerate(found, start=1):
        if step.kind == "upload":
            raise ValueError(f"{step.name} is how an image is handed in: it belongs to a delivery")
        if step.kind == "smooth" and number < len(found):
            raise ValueError(f"{step.name} averages embeddings: it is last")
    return found


def ingest_written_out(ingest: str) -> str:
    """The name of an ingest with the filters that it does not say.

    Raises:
        ValueError: there is no such ingest.
    """
    return "+".join(step.name for step in ingest_steps(ingest))


def written_out(delivery: str) -> str:
    """The name of a delivery with the filters that it does not say.

    Raises:
        ValueError: there is no such delivery.
    """
    return "+".join(step.name for step in steps(delivery)) or FLOAT


def round_trips(deliveries: Sequence[str]) -> tuple[str, ...]:
    """The deliveries other than float, which is always there."""
    return tuple(delivery for delivery in deliveries if delivery != FLOAT)


def refuse_size(delivery: str, size: int) -> None:
    """Refuse an upload whose pixels are no multiple of the catalog's images of `size` pixels a
    side.

    Raises:
        ValueError: it is one.
    """
    for step in steps(delivery):
        if step.kind == "upload" and step.number % size:
            near = max(1, round(step.number / size)) * size
            raise ValueError(
                f"upload-{step.number:g} is no multiple of the catalog's {size} pixels a side; "
                f"write upload-{near}"
            )


def _step(part: str) -> Step:
    for kind, pattern in _STEPS.items():
        if not (match := pattern.fullmatch(part)):
            continue
        said = match.groupdict()
        number, option = float(said.get("number") or 0.0), said.get("option") or ""
        if kind in ("scale", "upload"):
            if kind == "scale" and not 0.0 < number <= 8.0:
                raise ValueError(f"{part}: a factor lies above 0 and is 8 at most")
            if kind == "upload" and number > LARGEST:
                raise ValueError(f"{part}: an upload has {LARGEST} pixels a side at most")
            option = option or DEFAULT_FILTER
        elif option == "420":
            option = ""
        if kind == "blur" and not 0.0 < number <= LARGEST_BLUR:
            raise ValueError(f"{part}: a blur has above 0 and at most {LARGEST_BLUR} pixels")
        if kind == "median" and number % 2 == 0:
            raise ValueError(f"{part}: a median has a middle; write an odd number of pixels")
        if kind == "smooth" and not 0.0 < number <= 1.0:
            raise ValueError(f"{part}: noise has a size above 0 and at most 1, as pixels have")
        return Step(kind, number, option)
    raise ValueError(f"{part!r} is nothing that is done to an image (allowed: {FORMS})")


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _passed(name: str) -> str:
    return name if name == INGEST else written_out(name)


Delivery = Annotated[str, AfterValidator(written_out)]
Ingest = Annotated[str, AfterValidator(ingest_written_out)]
Deliveries = Annotated[tuple[Delivery, ...], BeforeValidator(_listed)]
"""One delivery or several."""
Passed = Annotated[
    tuple[Annotated[str, AfterValidator(_passed)], ...],
    BeforeValidator(_listed),
    AfterValidator(round_trips),
]
"""Deliveries, of which float is left out, and the word ingest."""
