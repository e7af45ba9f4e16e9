"""Samples: texts that a causal model writes in one of three ways (Carlini et al. 2020, sections 4.1 and 5.1)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from genus.errors import GenusError, UsageError
from genus.examples.keys import generator
from genus.files import append_line, whole_lines
from genus.generate import Request
from genus.generate.sampling import DecayingTemperature, Sampling

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from genus.generate import Decoding
    from genus.generate.engine import Engine
    from genus.tokens.tokenizer import Tokenizer

Way = Literal["top-n", "temperature", "prefixes"]
"""How texts are written: from nothing by top-n sampling; from nothing with a temperature that falls from 10 to 1 over
20 tokens; from prefixes of other text by top-n sampling."""
WAYS: tuple[Way, ...] = ("top-n", "temperature", "prefixes")
TOP_N, TOKENS = 40, 256
"""Most probable tokens of which one is drawn, and tokens of a text (Carlini et al. 2020, sections 4.1 and 6.1)."""
PREFIX_TOKENS = (5, 10)
"""Fewest and most tokens of a prefix (ibid., section 5.1.2)."""
PREFIXES = (1 << 20) + 1
"""Purpose of the keys of prefixes."""
LOOKED_AT = 10_000
"""Characters of a document from which prefixes are drawn."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A text that the model wrote."""

    way: Way
    number: int
    """Its number, from 0, among the samples of this way."""
    prefix: str
    """What it was given; "" but for the way `prefixes`."""
    text: str
    """What it wrote after that."""

    @property
    def whole(self) -> str:
        """The text with its prefix, as it is scored (as by the paper's released code)."""
        return self.prefix + self.text


def decoding_of(way: Way, top_n: int = TOP_N) -> Decoding:
    """Return the decoding of a way."""
    return DecayingTemperature() if way == "temperature" else Sampling(top_k=top_n)


def draw_prefixes(
    tokenizer: Tokenizer, texts: Sequence[str], number: int, tokens: tuple[int, int] = PREFIX_TOKENS, seed: int = 0
) -> list[str]:
    """Return prefixes: from 5 to 10 tokens at any place of any text, each drawn by its own number.

    A text of fewer tokens is taken whole.

    Args:
        tokenizer: the model's own.
        texts: those from which prefixes are taken.
        number: how many.
        tokens: the fewest and the most of a prefix.
        seed: of all draws.

    Raises:
        GenusError: no text has a token.
    """
    known: dict[int, tuple[str, list[list[int]]]] = {}
    filled = [text[:LOOKED_AT] for text in texts if text.strip()]
    if not filled:
        raise GenusError("the text of prefixes is empty; give some text")
    found = []
    for one in range(number):
        rng = generator(seed, PREFIXES, one)
        place = int(rng.integers(len(filled)))
        if place not in known:
            known[place] = filled[place], tokenizer.encode_with_offsets(filled[place])[1].tolist()
        text, spans = known[place]
        size = min(int(rng.integers(tokens[0], tokens[1] + 1)), len(spans))
        if not size:
            raise GenusError(f"the tokenizer leaves nothing of {text[:40]!r}; give other text of prefixes")
        first = int(rng.integers(len(spans) - size + 1))
        found.append(text[spans[first][0] : spans[first + size - 1][1]])
    return found


def check_prefix_tokens(tokens: tuple[int, int], max_length: int | None) -> None:
    """Refuse prefixes that no text can follow.

    Raises:
        UsageError: the numbers are none, or the longest prefix fills the model's positions.
    """
    least, most = tokens
    if not 1 <= least <= most:
        raise UsageError(f"--prefix-tokens: expected two numbers from 1 on, the larger one last, got {least} {most}")
    if max_length is not None and most >= max_length:
        raise UsageError(f"--prefix-tokens: {most} tokens leave no room in the model's {max_length} positions; "
                         "take shorter prefixes")  # fmt: skip


def write_samples(
    engine: Engine,
    way: Way,
    prefixes: Sequence[str],
    known: Sequence[Sample],
    *,
    tokens: int = TOKENS,
    top_n: int = TOP_N,
) -> Iterator[Sample]:
    """Yield the samples of a way that are not known yet, as they end; each depends on its number alone.

    Args:
        engine: of the model.
        way: how they are written.
        prefixes: of each sample, in the order of their numbers.
        known: samples of any way that are not written again.
        tokens: of each sample; fewer where the model has no position for them.
        top_n: tokens of which one is drawn.
    """
    have = {one.number for one in known if one.way == way}
    missing = [number for number in range(len(prefixes)) if number not in have]
    base = WAYS.index(way) << 32
    requests = [Request(prefixes[number], tokens, ignore_end=True, key=base | number) for number in missing]
    for piece in engine.stream(requests, decoding_of(way, top_n)) if requests else ():
        if piece.result is not None:
            number = missing[piece.result.request]
            yield Sample(way, number, prefixes[number], piece.result.text)


def append(path: Path, sample: Sample) -> None:
    """Add a sample to a file of JSON lines (GenusError: it cannot be written)."""
    append_line(path, _line(sample))


def read_samples(path: Path) -> list[Sample]:
    """Return the samples of a file, but for a last line that was cut as its writer was killed; of no file, none.

    Raises:
        GenusError: the file cannot be read, or another line is no sample.
    """
    found = []
    for number, line in enumerate(whole_lines(path), 1):
        try:
            found.append(Sample(**json.loads(line)))
        except (ValueError, TypeError):
            raise GenusError(f"{path}, line {number}: is no sample; delete the file to write them again") from None
    return found


def ordered(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples in the order of their ways and numbers."""
    return sorted(samples, key=lambda one: (WAYS.index(one.way), one.number))


def lines_of(samples: Iterable[Sample]) -> str:
    """Return samples as JSON lines."""
    return "".join(map(_line, samples))


def _line(sample: Sample) -> str:
    return json.dumps(asdict(sample)) + "\n"
