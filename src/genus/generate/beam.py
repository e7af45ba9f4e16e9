"""Beam search, with the length penalty of transformers or of GNMT, and transformers' ways to stop.

Legend: S beams that are read together, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from genus.errors import UsageError
from genus.generate import Decoding, Piece
from genus.generate.engine import batched
from genus.generate.slots import changed
from genus.part import Count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from genus.generate import Reason, Request
    from genus.generate.engine import Engine
    from genus.generate.slots import Running


STOPPING = {False: "no", True: "yes", "never": "never"}
"""transformers' values of `early_stopping`, and ours."""
UNLIKELIEST, IMPOSSIBLE = -1e9, -1e8
"""Σ log p of a beam that fills a place until there is a real one, and below which a text is none."""


class BeamSearch(Decoding):
    """Beam search: the `beams` most probable continuations go on at each step; ended ones compete by their score.

        score = Σ log p / length ** length_penalty,   length in generated tokens, the end token included

    or, in the form `gnmt`, Σ log p / ((5 + length) / 6) ** length_penalty, which favors long texts less (Wu et al.
    2016, arXiv:1609.08144, with the power 0.6 in Vaswani et al. 2017, section 6.1; tensor2tensor, beam_search.py).

    The best 2 `beams` candidates of all beams are taken; those of the first `beams` that end are kept as ended, the
    best `beams` that do not end go on. Source: transformers' `generate(num_beams=...)`, whose results these are.
    """

    beams: Count = 4
    length_penalty: float = 1.0
    """Above 0, longer texts win; 0: the plain sum."""
    penalty_form: Literal["length", "gnmt"] = "length"
    """What is raised to the power `length_penalty`: the length, or (5 + length) / 6."""
    early_stopping: Literal["no", "yes", "never"] = "no"
    """When to stop: `yes`: once there are `beams` ended texts; `no`: once the best beam, by its length now, cannot win;
    `never`: once none can, at its best possible length. (In transformers: True, False, "never".)"""

    def score(self, total: float, length: int) -> float:
        """Return the score of a text of so many tokens, whose log-probabilities have this sum."""
        size = length if self.penalty_form == "length" else (5 + length) / 6
        return float(total / size**self.length_penalty)

    def in_transformers(self) -> dict[str, Any]:
        """Return beams, length penalty and when to stop, and the penalty's form where it is not theirs."""
        stopping = next(theirs for theirs, ours in STOPPING.items() if ours == self.early_stopping)
        form = {} if self.penalty_form == "length" else {"penalty_form": self.penalty_form}
        return {
            "do_sample": False, "num_beams": self.beams, "length_penalty": self.length_penalty,
            "early_stopping": stopping, **form,
        }  # fmt: skip

    def run(self, engine: Engine, requests: Sequence[Request]) -> Iterator[Piece]:
        """Yield the best texts of each request, each in one piece."""
        for some in batched(requests, max(1, engine.slots // self.beams)):
            searches = [
                Search(self, engine.begun(number, replace(one, samples=self.beams), self), one) for number, one in some
            ]
            for number, search in enumerate(searches):
                for beam, text in enumerate(search.texts):
                    text.slot = number * self.beams + beam
            yield from self._search(engine, searches)
            for search in searches:
                yield from search.best(engine)

    def check(self, request: Request) -> None:
        """Refuse more samples than there are beams (UsageError)."""
        if request.samples > self.beams:
            raise UsageError(f"samples: expected at most {self.beams}, the number of beams, got {request.samples}")

    def together(self) -> int:
        """Return the number of beams."""
        return self.beams

    @torch.inference_mode()  # of the steps, not of those who take the pieces
    def _search(self, engine: Engine, searches: Sequence[Search]) -> Iterator[Piece]:
        """Carry out several searches in one batch; yield an empty piece for each forward pass."""
        texts = [text for search in searches for text in search.texts]
        reader = engine.reader(texts, len(texts), sharing=self.beams)
        for search in searches:
            for beam, text in enumerate(search.texts):
                reader.open(text.slot, text.capacity, () if beam else text.source)
        logits = reader.read({search.texts[0].slot: search.texts[0].prompt for search in searches})
        reader.reorder({text.slot: search.texts[0].slot for search in searches for text in search.texts})
        logits = logits.repeat_interleave(self.beams, 0)
        going = list(searches)
        while going:
            chances = logits.log_softmax(-1)
            texts = [text for search in going for text in search.texts]
            scored = changed(chances.clone(), texts, engine.prompts)
            parts = zip(torch.split(scored, self.beams), torch.split(chances, self.beams), strict=True)
            parents: dict[int, int] = {}
            for search, (scores, raw) in zip(going, parts, strict=True):
                parents |= search.advance(engine, scores, raw)
            going = [search for search in going if search.goes_on()]
            running = {text.slot: text.ids[-1:] for search in going for text in search.texts}
            yield Piece(searches[0].texts[0].number, 0, "")
            if running:
                reader.reorder({slot: parent for slot, parent in parents.items() if slot in running})
                logits = reader.read(running)


@dataclass(frozen=True, slots=True)
class Ended:
    """A text that has ended, or that competes with those."""

    score: float
    ids: list[int]
    log_probabilities: list[float]
    ended: bool


@dataclass
class Search:
    """The beam search of one request."""

    choice: BeamSearch
    texts: list[Running]
    """The beams that go on."""
    request: Request
    sums: Tensor = field(init=False)
    """(S,) Σ log p of each beam."""
    ended: list[Ended] = field(default_factory=list)
    """The best `beams` ended texts so far, best first."""
    hopeful: bool = True
    """Whether a beam can still become better than what has ended."""
    stuck: bool = False
    """Whether every candidate has ended."""

    def __post_init__(self) -> None:
        """Begin with the first beam alone, as all have the same prompt."""
        self.sums = torch.full((len(self.texts),), UNLIKELIEST)
        self.sums[0] = 0.0

    def advance(self, engine: Engine, scores_SV: Tensor, raw_SV: Tensor) -> dict[int, int]:
        """Take the next tokens; return the parent's slot of each slot.

        Args:
            engine: knows the end tokens.
            scores_SV: log-probabilities after penalties.
            raw_SV: log-probabilities of the model.
        """
        beams, ends = len(self.texts), engine.prompts.ends
        total_SV = scores_SV + self.sums.to(scores_SV)[:, None]
        best, index = total_SV.flatten().topk(max(2, 1 + len(ends)) * beams)
        parents, numbers = index // total_SV.shape[1], index % total_SV.shape[1]
        found = list(zip(best.tolist(), parents.tolist(), numbers.tolist(), strict=True))
        likely = raw_SV[parents, numbers].tolist()
        texts = [self.texts[parent] for _, parent, _ in found]
        candidates = [
            Ended(total, [*text.ids, number], [*text.log_probabilities, own], self._ends(engine, text, number))
            for text, (total, _, number), own in zip(texts, found, likely, strict=True)
        ]
        self._keep([one for one in candidates[:beams] if one.ended and one.score > IMPOSSIBLE])
        self.stuck = all(one.ended or one.score <= IMPOSSIBLE for one in candidates)
        order = sorted(range(len(candidates)), key=lambda n: (candidates[n].ended, -candidates[n].score))[:beams]
        self.sums = torch.tensor([candidates[n].score + UNLIKELIEST * candidates[n].ended for n in order])
        slots = [self.texts[found[n][1]].slot for n in order]
        for text, n in zip(self.texts, order, strict=True):
            text.ids, text.log_probabilities = candidates[n].ids, candidates[n].log_probabilities
        self.hopeful = self.hopeful and self._can_improve()
        return {text.slot: slot for text, slot in zip(self.texts, slots, strict=True)}

    def goes_on(self) -> bool:
        """Return whether the search goes on."""
        return self._open() and not self.stuck

    def best(self, engine: Engine) -> Iterator[Piece]:
        """Yield the best texts."""
        for text, one in zip(self.texts, self.ended[: self.request.samples], strict=False):
            text.ids, text.log_probabilities = one.ids, one.log_probabilities
            over = one.ids[-1] in engine.prompts.ends
            text.text.add(one.ids[: len(one.ids) - over], last=True)
            reason: Reason = "stop" if text.text.stopped else "end" if over else "length"
            if text.answers is not None:
                reason = "answer"
            yield Piece(text.number, text.sample, text.text.text, replace(text.result(reason), score=one.score))

    def _ends(self, engine: Engine, text: Running, number: int) -> bool:
        """Return whether a text ends with a further token."""
        ids = [*text.ids, number]
        if number in engine.prompts.ends or len(ids) >= text.most:
            return True
        if text.answers is not None and text.answers.complete(ids):
            return True
        return any(one in engine.tokenizer.decode(ids) for one in self.request.stop)

    def _keep(self, new: list[Ended]) -> None:
        """Let texts that have just ended compete with those before, unless the search is decided."""
        if self._open():
            scored = [replace(one, score=self.choice.score(one.score, len(one.ids))) for one in new]
            self.ended = sorted([*self.ended, *scored], key=lambda one: -one.score)[: len(self.texts)]

    def _open(self) -> bool:
        """Return whether a text that ends can still be among the best."""
        return self.hopeful and not (self.choice.early_stopping == "yes" and len(self.ended) == len(self.texts))

    def _can_improve(self) -> bool:
        """Return whether the best beam could become better than the worst ended text, if there are enough."""
        if len(self.ended) < len(self.texts):
            return True
        text, penalty = self.texts[0], self.choice.length_penalty
        longest = self.choice.early_stopping == "never" and penalty > 0
        length = text.most if longest else len(text.ids)
        return self.choice.score(float(self.sums[0]), length) > self.ended[-1].score
