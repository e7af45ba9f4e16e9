"""Networks that read images alone, in rows of patches: no vocabulary, and no hidden states of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from genus.errors import UsageError
from genus.model import Network

if TYPE_CHECKING:
    from torch import Tensor, nn

    from genus.batch import Packed


class ImageNetwork(Network):
    """A network of convolutions over whole images."""

    task_modules: ClassVar[tuple[str, ...]] = ()
    called: ClassVar[str]
    """What it is, in error messages."""

    @property
    def token_embedding(self) -> nn.Embedding:
        """There is none.

        Raises:
            UsageError: always.
        """
        raise UsageError(f"a {self.called} reads images, and has no token embedding")

    @property
    def token_embeddings(self) -> tuple[nn.Module, ...]:
        """None."""
        return ()

    @property
    def vocabulary_rows(self) -> int | None:
        """None: images have no vocabulary."""
        return None

    def pixels_of(self, packed: Packed, *, layers: bool) -> Tensor:
        """Return the pixels (T, 3 p²) of packed images.

        Raises:
            UsageError: hidden states of layers are asked for.
            ValueError: the tokens are those of a text.
        """
        if layers:
            raise UsageError(f"a {self.called} keeps no hidden states of its layers")
        if packed.pixels is None:
            raise ValueError("a network of images was given a text")
        return packed.pixels

    def compile_units(self) -> list[nn.Module]:
        """Return what has learning rates of its own."""
        return self.layer_groups()
