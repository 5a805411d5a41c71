"""The catalog section of a study file."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from advrec.spec.base import Strict

Square = Literal["pad", "trim-pad", "crop"]


class Source(NamedTuple):
    """A kind of catalog, as a study may name it."""

    module: str
    """Its `read(spec, seed)` returns a Listing."""
    keys: tuple[str, ...] = ()
    """Keys of CatalogSpec that belong to it alone."""


SYNTHETIC = "synthetic"
SOURCES = {
    SYNTHETIC: Source("advrec.catalog.sources.synthetic", keys=("articles",)),
    "deepfashion": Source(
        "advrec.catalog.sources.deepfashion",
        keys=(
            "annotations",
            "boxes",
            "unknown_is_positive",
            "published_split",
            "published_counts",
        ),
    ),
    "folder": Source("advrec.catalog.sources.folder", keys=("manifest",)),
}
"""Every source by the word that a study has for it."""


def _registered(name: str) -> str:
    if name not in SOURCES:
        words = " or ".join(f"'{word}'" for word in SOURCES)
        raise PydanticKnownError("literal_error", {"expected": words})
    return name


class CatalogSpec(Strict):
    source: Annotated[
        str, AfterValidator(_registered), Field(json_schema_extra={"enum": list(SOURCES)})
    ]
    """Kind of the source: drawn garments, DeepFashion as downloaded, or a folder of photographs."""
    root: str | None = None
    """Place of the images, but for synthetic: a directory, relative to the study file, or
    a URL (s3://, gs://, https://, ...).
    """
    image_size: Annotated[int, Field(ge=32, le=512)] = 64
    """Side of the prepared square image, in pixels."""
    square: Square = "pad"
    """Rule by which an image becomes a square: pad (scaled to fit, on white), trim-pad (a border of
    one colour goes first, as in the thesis), crop (its centre).
    """
    duplicates: Annotated[int, Field(ge=0, le=4)] | Literal["keep"] = 0
    """Bits of 64 in which the perceptual hashes of one article's images differ at most: 0 as in the
    thesis, 2, 4, or keep all images. Runs before 0.3.0 may have 1 or 3, which are 0 and 2.
    """
    articles: Annotated[int, Field(ge=1)] | None = None
    """synthetic: how many articles are drawn (duplicates and images without a label come on top);
    by default 2000.
    """
    manifest: str | None = None
    """folder: a CSV or Parquet file with a column path and, if they are known, category, textures
    and split; paths are relative to root.
    """
    annotations: Literal["coarse", "fine"] | None = None
    """deepfashion: Anno_coarse (also called Anno), the thesis', or Anno_fine; by default the one
    that is there, coarse first.
    """
    boxes: bool = False
    """deepfashion: cut each image to its annotated box before anything else."""
    unknown_is_positive: bool = False
    """deepfashion: read an attribute of value 0, unknown, as present, as the published code does.
    """
    published_split: bool = False
    """deepfashion: train on train and val together, as the thesis did; there is no validation split
    then.
    """
    published_counts: bool = False
    """deepfashion: refuse a catalog that does not have the thesis' counts."""

    @model_validator(mode="after")
    def _keys_of_the_source(self) -> "CatalogSpec":
        if self.drawn and self.root is not None:
            others = " or ".join(name for name in SOURCES if name != SYNTHETIC)
            raise ValueError(
                f"root is not used by the {self.source} source; "
                f"remove it or choose source: {others}"
            )
        for name, source in SOURCES.items():
            for key in source.keys:
                if name != self.source and getattr(self, key) not in (None, False):
                    raise ValueError(
                        f"{key} belongs to source: {name}, the study says {self.source}; remove it"
                    )
        if not self.drawn and self.root is None and self.manifest is None:
            raise ValueError(f"source {self.source} needs root, the directory of its images")
        if self.root is None and self.manifest is not None and "://" in self.manifest:
            raise ValueError(
                "root is missing: where a manifest is a URL, "
                "root says what its paths are relative to"
            )
        if self.published_counts and (self.boxes or self.duplicates != 0):
            raise ValueError(
                "published_counts are those of whole images and duplicates: 0; "
                "set boxes and duplicates so"
            )
        if self.published_counts and self.annotations == "fine":
            raise ValueError(
                "published_counts are those of annotations: coarse; "
                "Anno_fine labels other images with other attributes"
            )
        return self

    @property
    def drawn(self) -> bool:
        """The run draws the images itself, so the source has no root."""
        return self.source == SYNTHETIC

    def resolved(self, directory: Path) -> "CatalogSpec":
        """Defaults explicit, local paths absolute; `directory` is what they are relative to."""
        manifest = self.manifest and absolute(self.manifest, directory)
        root = self.root and absolute(self.root, directory)
        return self.model_copy(
            update={
                "manifest": manifest,
                "root": root or (manifest and str(Path(manifest).parent)),
                "articles": self.articles or (2000 if self.drawn else None),
            }
        )


def absolute(path: str, directory: Path) -> str:
    """A local path made absolute; a URL as it is, but for a local path at the end of a chained one:
    zip://::photos.zip.
    """
    if "://" not in path:
        return str((directory / path).resolve())
    chain, double, last = path.rpartition("::")
    return f"{chain}::{absolute(last, directory)}" if double else path
