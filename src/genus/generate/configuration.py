"""`generation_config.json` of a model folder: how it writes where nothing else is said, in transformers' names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genus.errors import GenusError, say
from genus.generate.beam import STOPPING, BeamSearch
from genus.generate.penalties import NoRepeatedNgrams, RepetitionPenalty
from genus.generate.sampling import Greedy, Sampling

if TYPE_CHECKING:
    from genus.generate import Decoding, Penalty
    from genus.part import Json

IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
"""Keys that say what the vocabulary and the configuration say too."""
READ = {
    *IDS, "do_sample", "num_beams", "length_penalty", "penalty_form", "early_stopping", "temperature", "top_k", "top_p",
    "min_p", "repetition_penalty", "no_repeat_ngram_size", "max_new_tokens", "max_length", "transformers_version",
}  # fmt: skip
"""Keys that are read, or say nothing of the texts."""


@dataclass(frozen=True)
class Configuration:
    """How a model writes."""

    decoding: Decoding = field(default_factory=Greedy)
    penalties: tuple[Penalty, ...] = ()
    max_tokens: int | None = None
    """The most tokens of a text; None: not said."""

    def to_json(self) -> Json:
        """Return the content of `generation_config.json`, but for the ids of special tokens."""
        length = {} if self.max_tokens is None else {"max_new_tokens": self.max_tokens}
        return self.decoding.in_transformers() | length

    @classmethod
    def of(cls, config: Json, *, reads_source: bool) -> Configuration:
        """Return what a folder's `generation_config.json` says; what has no counterpart here is said in one line.

        Args:
            config: its content.
            reads_source: whether the model reads a source, so that all of a text is written by it.

        Raises:
            GenusError: a value is none.
        """
        given = {name: value for name, value in config.items() if value is not None and not name.startswith("_")}
        if others := sorted(name for name, value in given.items() if name not in READ and value not in (False, 0, 1.0)):
            say(f"generation_config.json: {', '.join(others)} {'has' if len(others) == 1 else 'have'} no counterpart "
                "here, and nothing is done about it")  # fmt: skip
        try:
            decoding, most = _decoding(given), given.get("max_new_tokens")
            if most is None and reads_source and "max_length" in given:
                most = given["max_length"] - 1  # the token that begins the decoder's text is counted there
            penalties: list[Penalty] = []
            if given.get("repetition_penalty", 1.0) != 1.0:
                penalties.append(RepetitionPenalty(value=float(given["repetition_penalty"])))
            if given.get("no_repeat_ngram_size", 0):
                penalties.append(NoRepeatedNgrams(size=given["no_repeat_ngram_size"]))
        except (ValueError, TypeError, KeyError) as error:
            raise GenusError(f"generation_config.json: {error}; mend or remove the file") from None
        return cls(decoding, tuple(penalties), most)


def _decoding(config: dict[str, Any]) -> Decoding:
    """Return the decoding of a configuration (ValueError, TypeError, KeyError: a value is none)."""
    beams = config.get("num_beams", 1)
    if config.get("do_sample", False):
        if beams != 1:
            raise ValueError(f"num_beams {beams} with do_sample: beams are not sampled here")
        top_k = config.get("top_k", 50)
        return Sampling(
            temperature=float(config.get("temperature", 1.0)),
            top_k=top_k or None,
            top_p=float(config.get("top_p", 1.0)),
            min_p=float(config.get("min_p", 0.0)),
        )
    if beams == 1:
        return Greedy()
    stopping = STOPPING[config.get("early_stopping", False)]
    return BeamSearch(
        beams=beams,
        length_penalty=float(config.get("length_penalty", 1.0)),
        penalty_form=config.get("penalty_form", "length"),
        early_stopping=stopping,  # type: ignore[arg-type]
    )
