"""The recommender: an encoder, and the index of a bank of queries."""

import contextlib
import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.model import rehearsal
from advrec.model.arithmetic import exact_arithmetic
from advrec.model.encoder import EMBED_BATCH, Images, embed_all, in_few_sizes
from advrec.model.fused import Encoder
from advrec.model.guarded import Guarded
from advrec.model.rehearsal import Played, UnfitError, Way
from advrec.recommenders.bank import Bank, Floats, Ids, Seen
from advrec.recommenders.hybrid import Factors
from advrec.recommenders.losses import CosineDistance
from advrec.recommenders.ranks import ExactIndex, similar_articles


class Views(NamedTuple):
    """Ways to embed images (N, 3, H, W) by a network behind a door, which attacks take."""

    through: Encoder
    """Through the door, by noise other than the verdict's."""
    blind: Encoder
    """Without it."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Recommender:
    """The system that is attacked, or that an attack is made on.

    Args:
        embed: images (N, 3, H, W) in [0, 1] to raw embeddings (N, D), by a frozen network on
            `device`.
        index: of a bank whose items are the clean embeddings by the same network, or what
            `factors` make of them.
        images: gives the images of articles (n,) as (n, H, W, 3); None where nobody asks for them.
        device: cpu or cuda.
        factors: of a hybrid, whose queries are users; None: similar articles.
        embedded: raw embeddings (N, D) of the catalog, of a hybrid.
        category_head: raw embeddings (n, D) to logits (n, categories) of the catalog's categories;
            None: the network has no such head.
        views: what attacks embed by in the place of `embed`, of a network behind a door; None: it
            has none.
    """

    embed: Encoder
    index: ExactIndex
    images: Callable[[Ids], Images] | None = None
    device: str = "cpu"
    factors: Factors | None = None
    embedded: Floats | None = None
    category_head: Callable[[Tensor], Tensor] | None = None
    views: Views | None = None

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        images: npt.NDArray[np.uint8] | Tensor,
        *,
        device: str = "cpu",
        batch: int = EMBED_BATCH,
    ) -> Self:
        """The recommender of similar articles, by cosine distance, over a catalog of images.

        Args:
            encoder: images (n, 3, H, W) in [0, 1] to embeddings (n, D). A torch module is copied,
                frozen and put into evaluation mode on `device`; one that cannot be copied is itself
                put into evaluation mode there.
            images: (N, H, W, 3) uint8, or a floating tensor (N, 3, H, W) in [0, 1].
            batch: images on the device at once.

        Raises:
            ConfigError: the encoder, the images or the embeddings are not as they should be.
        """
        _check_encoder(encoder)
        catalog = _checked(images)
        if batch < 1:
            raise ConfigError(f"batch is {batch}: at least one image is embedded at once")
        try:
            with exact_arithmetic():
                encoder = _rehearsed(encoder, catalog.shape[1], catalog.shape[2], device, batch)
                embeddings = embed_all(encoder, catalog, device, batch)
        except AdvrecError:
            raise
        except Exception as error:
            height, width = catalog.shape[1:3]
            raise ConfigError(
                f"the encoder does not embed images (n, 3, {height}, {width}): "
                f"{type(error).__name__}: {first_line(error)}"
            ) from error
        try:
            return cls.similar_articles(
                encoder, embeddings, images=lambda ids: catalog[ids], device=device
            )
        except ValueError as error:
            raise ConfigError(f"the encoder cannot recommend: {error}") from None

    @classmethod
    def similar_articles(
        cls,
        encoder: Encoder,
        embeddings: Floats,
        *,
        images: Callable[[Ids], Images] | None = None,
        device: str = "cpu",
    ) -> Self:
        """The recommender of similar articles, by cosine distance, from the catalog's embeddings.

        Args:
            encoder: a frozen network on `device`.
            embeddings: (N, D), raw, of the catalog's images by the same network.
            images: gives the images of articles (n,) as (n, H, W, 3).

        Raises:
            ValueError: an embedding is zero or not finite.
        """
        index = similar_articles(embeddings)
        return cls(embed=in_few_sizes(encoder), index=index, images=images, device=device)

    @classmethod
    def hybrid(
        cls,
        encoder: Encoder,
        embeddings: Floats,
        factors: Factors,
        seen: Seen,
        *,
        device: str = "cpu",
    ) -> Self:
        """The recommender of articles to users.

        Args:
            encoder: a frozen network on `device`.
            embeddings: (N, D), raw, of the catalog's images by the same network.
            seen: what each user has bought.

        Raises:
            ValueError: a value is not finite, or the shapes do not belong together.
        """
        factors = factors.centred(embeddings)
        index = ExactIndex(factors.bank(embeddings, seen))
        return cls(
            embed=in_few_sizes(encoder),
            index=index,
            device=device,
            factors=factors,
            embedded=embeddings,
        )

    def behind_door_of(self, network: Guarded) -> Self:
        """The same recommender, whose attacks pass the door of its network or are blind to it."""
        if not network.is_guarded:
            return self
        views = Views(in_few_sizes(network.seen), in_few_sizes(network.bare))
        return dataclasses.replace(self, views=views)

    def as_seen(self, *, ingest: bool) -> Self:
        """The recommender that an attack is made on, which knows of the ingest or is blind to it:
        another encoder of images, the same clean catalog.
        """
        if self.views is None:
            return self
        embed = self.views.through if ingest else self.views.blind
        return dataclasses.replace(self, embed=embed, views=None)

    def __repr__(self) -> str:
        articles, values = self.bank.items.shape
        return f"Recommender({articles} articles, {values} values each, on {self.device})"

    def __len__(self) -> int:
        return len(self.index)

    @property
    def bank(self) -> Bank:
        return self.index.bank

    @property
    def raw(self) -> Floats:
        """Raw embeddings (N, D) of the catalog."""
        return self.bank.items if self.embedded is None else self.embedded

    def objective(self, query_ids: Ids) -> CosineDistance:
        """The loss of images (n,) that are to enter the lists of queries (n,)."""
        vectors = torch.from_numpy(self.bank.vectors(query_ids)).to(self.device)
        return CosineDistance(self.embed, vectors)

    @torch.no_grad()
    def embeddings(self, images: Tensor) -> Floats:
        """Raw embeddings (n, D) of images (n, 3, H, W) in [0, 1]."""
        embeddings: Floats = self.embed(images).float().cpu().numpy()
        return embeddings

    def items(self, images: Tensor, article_ids: Ids) -> Floats:
        """Images (n, 3, H, W) in [0, 1] as items (n, D') of the bank, each in the place of an
        article (n,).
        """
        embeddings = self.embeddings(images)
        return (
            embeddings if self.factors is None else self.factors.candidates(embeddings, article_ids)
        )


def _rehearsed(encoder: Encoder, height: int, width: int, device: str, batch: int) -> Encoder:
    """An encoder made ready for being attacked on `device`: a copy if it is a module, unless only
    the module itself works.

    Raises:
        ConfigError: it does not embed images, or not each for itself.
    """
    module = encoder if isinstance(encoder, nn.Module) else None
    given = rehearsal.images(height, width)[: max(2, batch)]
    ways = [*([] if module is None else _copies(module, device)), *_itself(encoder, device)]
    try:
        with _evaluating(module):
            place = next((tensor.device for tensor in _tensors(module)), torch.device(device))
            plain = _played(encoder, given.to(place), module)
        return rehearsal.choose(ways, given.to(device), plain).embed
    except UnfitError as reason:
        raise ConfigError(f"the encoder {reason}") from None


def _played(encoder: Encoder, given: Tensor, module: nn.Module | None) -> Played:
    """The rehearsal on images (N, 3, H, W); some attacks need no gradients."""
    embeddings = rehearsal.embed_in_batches(encoder, given, module)
    try:
        return Played(embeddings, rehearsal.gradients(encoder, given, embeddings, module))
    except UnfitError:
        return Played(embeddings, None)


def _copies(module: nn.Module, device: str) -> list[Way]:
    def copied() -> Encoder:
        return copy.deepcopy(module).eval().requires_grad_(False).to(device)

    return [
        Way("copied", copied, rehearsal.SAME),
        Way("contiguous", lambda: _contiguous(copied()), rehearsal.SAME),
    ]


def _itself(encoder: Encoder, device: str) -> list[Way]:
    def ready() -> Encoder:
        return encoder.eval().to(device) if isinstance(encoder, nn.Module) else encoder

    return [
        Way("uncopied", ready, rehearsal.SAME),
        Way("plain", lambda: _contiguous(ready()), rehearsal.SAME),
    ]


def _contiguous(encoder: Encoder) -> Encoder:
    return lambda images: encoder(images.contiguous())


def _tensors(module: nn.Module | None) -> Iterator[Tensor]:
    return iter(()) if module is None else itertools.chain(module.parameters(), module.buffers())


@contextlib.contextmanager
def _evaluating(module: nn.Module | None) -> Iterator[None]:
    """Put a module into evaluation mode, and back."""
    training = [] if module is None else [one for one in module.modules() if one.training]
    try:
        if module is not None:
            module.eval()
        yield
    finally:
        for one in training:
            one.training = True


def _check_encoder(encoder: object) -> None:
    """Refuse what is no function of images: raises ConfigError."""
    if isinstance(encoder, type):
        raise ConfigError(f"the encoder is the class {encoder.__name__}; give a module made of it")
    if not callable(encoder):
        raise ConfigError(
            f"the encoder is a {type(encoder).__name__}; give a torch module or a function"
        )


def _checked(images: object) -> Images:
    """Images of a user as (N, H, W, 3), N at least 2."""
    forms = "give uint8 (N, H, W, 3) or a floating tensor (N, 3, H, W)"
    if not isinstance(images, np.ndarray | Tensor):
        stack = "; np.stack or torch.stack makes one of a list" if isinstance(images, list) else ""
        raise ConfigError(f"images are a {type(images).__name__}; {forms}{stack}")
    shape = tuple(images.shape)
    if isinstance(images, Tensor) and images.is_floating_point():
        channels, form = 1, "a floating tensor needs (N, 3, H, W)"
        array = (
            images.detach().float().permute(0, 2, 3, 1).cpu().numpy() if len(shape) == 4 else None
        )
    elif images.dtype in (np.uint8, torch.uint8):
        channels, form = 3, "uint8 needs (N, H, W, 3)"
        array = np.asarray(images)
    else:
        raise ConfigError(f"images are {images.dtype}; {forms}")
    if array is None or array.ndim != 4 or shape[channels] != 3:
        raise ConfigError(f"images have the shape {shape}; {form}")
    if len(array) < 2:
        raise ConfigError(f"a catalog of {len(array)} images recommends nothing; give at least 2")
    if array.dtype != np.uint8 and not ((array >= 0) & (array <= 1)).all():
        raise ConfigError("images hold values outside [0, 1]")
    return array
