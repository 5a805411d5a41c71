"""A source's list of its images, before any is opened."""

import dataclasses
import hashlib
from collections import Counter
from typing import NamedTuple

from advrec.errors import ConfigError
from advrec.spec.base import SPLITS, Split
from advrec.spec.names import alike


class Box(NamedTuple):
    """A part of an image: left and top are its first pixels, right and bottom the first beyond."""

    left: int
    top: int
    right: int
    bottom: int


class Listed(NamedTuple):
    """One image that a source lists."""

    name: str
    """Path relative to the source's root."""
    category: str
    """Empty where the source knows none."""
    textures: tuple[str, ...]
    split: Split
    box: Box | None = None
    """The part of the image to use; None: all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing:
    root: str
    """Directory or URL of the source."""
    base: str = ""
    """The directory below root that the names are relative to."""
    articles: tuple[Listed, ...]
    has_textures: bool
    """True if the source knows textures at all: then an image without one is dropped in
    preparation.
    """
    ignored: tuple[str, ...] = ()
    """Files beside the images that are not listed, with the reason."""
    links: int = 0
    """Images that are links, which will be set aside."""

    @property
    def labelled(self) -> bool:
        """The source knows categories: then every image has one."""
        return any(article.category for article in self.articles)

    def checked(self, where: str) -> "Listing":
        """Itself, if tuples are possible in principle; `where` is what an error names.

        Raises:
            ConfigError: no image, one category alone, or two that differ in case alone.
        """
        categories = sorted({article.category for article in self.articles})
        if not categories:
            beside = f" (ignored: {self.ignored[0]})" if self.ignored else ""
            raise ConfigError(
                f"{where}: holds no images{beside}; docs/guide/catalogs.md says what a catalog is"
            )
        if not self.labelled:
            return self
        if len(categories) == 1:
            raise ConfigError(
                f"{where}: all images are of one category ({categories[0]}), "
                "so no tuples are possible: target and attack article are of different categories; "
                "add a second category, or list the images without any"
            )
        for one, other, *_ in alike(categories):
            raise ConfigError(
                f"{where}: the categories {one} and {other} differ in case or accents' encoding "
                "alone, so that tuples would lie within one category; give both one name"
            )
        return self

    def sha256(self) -> str:
        """Hash of everything that determines the prepared images: names and boxes, in order."""
        digest = hashlib.sha256()
        for article in self.articles:
            digest.update(repr((article.name, article.box)).encode())
        return digest.hexdigest()

    def summary(self) -> list[str]:
        """Counts of the listed images, as lines of text."""
        splits = Counter(article.split for article in self.articles)
        categories = len({article.category for article in self.articles})
        lines = [
            f"{len(self.articles):,} images listed "
            + (f"of {categories} categories: " if self.labelled else "without categories: ")
            + ", ".join(f"{splits[split]:,} {split}" for split in SPLITS)
        ]
        if self.has_textures:
            textured = sum(bool(article.textures) for article in self.articles)
            names = {texture for article in self.articles for texture in article.textures}
            lines.append(
                f"{textured:,} images with textures, of {len(names)} kinds; the others are dropped"
            )
        if self.links:
            lines.append(
                f"{self.links:,} of {len(self.articles):,} images are links, which are not "
                "followed: they will be set aside"
            )
        if self.ignored:
            shown = [*self.ignored[:3], *(["..."] if len(self.ignored) > 3 else [])]
            lines.append(f"{len(self.ignored):,} ignored: {', '.join(shown)}")
        return lines
