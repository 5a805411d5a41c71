"""What a source says it holds, before any image is opened."""

import dataclasses
from pathlib import Path

from advrec.config import Split
from advrec.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed:
    """One image that a source lists."""

    name: str
    """Path relative to the source's root."""
    category: str
    textures: tuple[str, ...]
    split: Split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listing:
    root: Path
    articles: tuple[Listed, ...]
    has_textures: bool
    """Whether the source knows textures at all; if so, an image without one is dropped in preparation."""

    def checked(self) -> "Listing":
        """Itself, if tuples are possible in principle.

        Raises:
            ConfigError: fewer than two categories.
        """
        categories = sorted({article.category for article in self.articles})
        if not categories:
            raise ConfigError(f"{self.root}: holds no images; root must hold category directories of images, see the README")
        if len(categories) == 1:
            raise ConfigError(
                f"{self.root}: all images are of one category ({categories[0]}), so no tuples are possible: target and attack article "
                f"are of different categories; add a second category"
            )
        return self
