"""Questions to a shop that an adversary may ask who knows nothing else of it."""

from typing import Protocol, Self

from torch import Tensor


class Oracle(Protocol):
    """A shop, as it shows itself to N attacked images: lists of articles by number, nearest first.
    It counts every list.
    """

    target_ids: Tensor
    """(N,) int64"""
    article_ids: Tensor
    """(N,) int64, the articles whose images are attacked"""
    asked: Tensor
    """(N,) int32, lists so far, on the host"""

    def of_articles(self, rows: Tensor, article_ids: Tensor) -> Tensor:
        """Lists (n, 10) of articles (n,) as they stand, each asked for by an image (n,)."""

    def of_images(self, rows: Tensor, images: Tensor) -> Tensor:
        """Lists (n, 10) of images (n, C, H, W), each in the place of the attacked article of a row
        (n,).
        """

    def of_targets(self, rows: Tensor, images: Tensor) -> Tensor:
        """Lists (n, 10) of the targets of rows (n,), with images (n, C, H, W) in the catalog."""

    def select(self, rows: Tensor) -> Self:
        """The same for some of the images, those at `rows` (n,), int64; nothing is asked yet."""
