"""Log-likelihoods of texts, by any language model; of models that read both sides, the pseudo-log-likelihood.

Legend: E examples, M predicted tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.errors import UsageError
from genus.evaluate.shared_contexts import after_contexts, batched, shared_contexts
from genus.evaluate.token_prediction import Predictor
from genus.examples import Sequence
from genus.examples.feed.bins import PackedRows
from genus.examples.streams import successive
from genus.inference.engine import Inference

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence as Several

    from numpy.typing import NDArray

    from genus.examples import Example
    from genus.objectives import Learner
    from genus.tokens.tokenizer import Tokenizer
    from genus.tokens.vocabulary import Vocabulary

Progress = Callable[[int, int], None]
"""Called with how much is done, and of how much."""
POSITIONS = 2048
"""Token positions of a forward pass: enough to keep a processor busy, few enough for the logits of all of them."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The log-likelihood of a text, and the sizes by which it can be divided."""

    nats: float
    """Σ log p over the tokens."""
    tokens: int
    """Number of tokens, special tokens of the template and those of the context left out."""
    bytes: int
    """Number of bytes of the text in UTF-8, without its context."""
    greedy: bool
    """Whether each token is the most probable one in its place, so that greedy decoding of a causal model gives it."""
    cut: int
    """How many tokens the context lost at its left end, as the model has no positions for them."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens of which those from `start` on are predicted, and the others are given."""

    ids: NDArray[np.int64]
    """Of a causal model with the token before the first predicted one; else without the template's tokens."""
    start: int
    cut: int = 0
    """Tokens that were dropped at the left end."""

    @property
    def tokens(self) -> int:
        """How many tokens are predicted."""
        return len(self.ids) - self.start

    @property
    def key(self) -> tuple[bytes, int]:
        """What is the same of equal spans: a digest of the ids, and the place of the first predicted one."""
        return hashlib.blake2b(self.ids.tobytes(), digest_size=16).digest(), self.start


def log_likelihoods(
    learner: Learner,
    tokenizer: Tokenizer,
    texts: Several[str],
    max_length: int | None = None,
    precision: str = "float32",
    positions: int = POSITIONS,
    *,
    contexts: Several[str] | None = None,
    cut_contexts: bool = False,
    names: Several[str] | None = None,
    progress: Progress | None = None,
    engine: Inference | None = None,
) -> list[Likelihood]:
    """Return the log-likelihood of each text, in nats, by the language-model head of a learner.

        log P(w_1 ... w_n | c) = Σ_t log p(w_t | c, w_1 ... w_(t-1))           of a causal model
        PLL(w_1 ... w_n | c) = Σ_t log p(w_t | c, w_1 ... w_(t-1), w_(t+1) ... w_n)   of one that reads both sides

    The second is the pseudo-log-likelihood of Salazar et al. 2020 (arXiv:1910.14659, section 2): each token of the text
    is masked in turn, while all others and the special tokens of the template stay; nothing is normalized, so it is
    no probability of the text, and texts are compared by it within one model. A permutation language model predicts
    the token from its query stream, last in the order. A causal model reads what a prompt of generation begins with:
    the special tokens of the template before a text, and without them and without a context the token that separates
    documents. Special tokens at the end are not predicted.

    **Contexts.** Context and text are tokenized as one string, as the model would read it. The tokens in which that
    agrees with the tokenization of the context alone, from the left on, are given, and all others are predicted. So a
    token that reaches across the boundary counts to the text, and the end of the context with it.

    Names of special tokens in a text are treated as text; an unknown word has the likelihood of the unknown token.

    Args:
        learner: has a head that predicts tokens, or an auxiliary model that has one, such as ELECTRA's generator.
        tokenizer: the learner's own.
        texts: each is taken by itself.
        max_length: the model's number of positions, None if it is unlimited.
        precision: dtype of the forward pass, `float32` or `bfloat16`.
        positions: most token positions of a forward pass, into which masked copies are packed; at least one row.
        contexts: what stands before each text, given and not predicted; None: nothing.
        cut_contexts: whether a context that is too long loses its left end; else it is refused.
        names: what errors call each text; None: `text 1` and so on.
        progress: called with the number of examples whose forward pass is done, and of all.
        engine: where forward passes are made; None: in this thread.

    Raises:
        UsageError: the learner has no such head, or a text, with its context, has more tokens than the model has
            positions.
    """
    predictor = find_predictor(learner)
    before = ["" for _ in texts] if contexts is None else contexts
    spans = fitting(
        _encoded(tokenizer, before, texts), predictor, tokenizer.vocabulary, max_length, cut=cut_contexts, names=names
    )
    nats, missed = predicted(predictor, tokenizer.vocabulary, spans, precision, positions, progress, engine)
    found = zip(nats.tolist(), missed.tolist(), spans, texts, strict=True)
    return [Likelihood(each, s.tokens, len(text.encode()), not wrong, s.cut) for each, wrong, s, text in found]


def find_predictor(learner: Learner) -> Predictor:
    """Return the head that predicts tokens.

    Raises:
        UsageError: the learner has none.
    """
    predictor = Predictor.find(learner, "masked", "permuted", "following")
    if predictor is None:
        raise UsageError("this model predicts no tokens: it has no language-model head; take a pretrained one")
    return predictor


def predicted(
    predictor: Predictor,
    vocabulary: Vocabulary,
    spans: Several[Span],
    precision: str,
    positions: int = POSITIONS,
    progress: Progress | None = None,
    engine: Inference | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return, of each span, the sum of its tokens' log-probabilities, and how many are not the most probable ones.

    Equal spans are computed once, so that they are equal to the last digit, and so is what they begin with
    (`shared_contexts`).
    """
    first: dict[tuple[bytes, int], int] = {}
    same = [first.setdefault(span.key, len(first)) for span in spans]
    distinct = [spans[number] for number in np.unique(same, return_index=True)[1].tolist()]
    groups = shared_contexts(predictor, distinct)
    shared = {number for group in groups for number in group.spans}
    alone = [number for number in range(len(distinct)) if number not in shared]
    copies = Copies(predictor, vocabulary, [distinct[number] for number in alone])
    total, done = len(shared) + len(copies.lengths), 0
    nats, missed = np.zeros(len(distinct)), np.zeros(len(distinct), np.int64)

    compute = (engine or Inference(precision)).alone

    def add(
        nats_M: NDArray[np.float64], missed_M: NDArray[np.bool_], owners_M: NDArray[np.int64], examples: int
    ) -> None:
        nonlocal done
        np.add.at(nats, owners_M, nats_M)
        np.add.at(missed, owners_M, missed_M)
        done += examples
        if progress is not None:
            progress(done, total)

    for batch in batched(groups, distinct, positions):
        nats_M, missed_M, owners = compute(
            partial(_scored, partial(after_contexts, predictor, distinct, batch, precision))
        )
        add(nats_M, missed_M, owners, sum(len(group.spans) for group in batch))
    for length, rows in batches(copies.lengths, positions):
        examples = [[copies[number] for number in row.tolist()] for row in rows]
        nats_M, missed_M = compute(
            partial(_scored, partial(predictor.logits, examples, length, vocabulary.pad, precision))
        )
        add(nats_M, missed_M, np.array(alone)[copies.owners(rows.examples)], len(rows.examples))
    return nats[same], missed[same]


def _scored(read: Callable[[], tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return log p of each label (M,), whether another token is likelier, and what else a forward pass gives."""
    logits_MV, label_M, *more = read()
    own_M = logits_MV.gather(1, label_M[:, None])[:, 0]
    nats_M = (own_M - logits_MV.logsumexp(1)).double().cpu().numpy()
    return nats_M, (logits_MV.argmax(1) != label_M).cpu().numpy(), *more


def fitting(
    spans: Several[Span],
    predictor: Predictor,
    vocabulary: Vocabulary,
    max_length: int | None,
    *,
    cut: bool = False,
    names: Several[str] | None = None,
) -> list[Span]:
    """Return spans that fit the model's positions, each after the tokens that begin a text.

    Raises:
        UsageError: one does not fit, and may not or cannot be cut at its left end.
    """
    causal = predictor.head.predicts == "following"
    begins = np.array(vocabulary.begins if causal else (), np.int64)
    framing = len(begins) - 1 if causal else vocabulary.framing(1)
    found = []
    for number, span in enumerate(spans):
        ids, start = span.ids, span.start
        if causal and not start and not len(begins):
            ids, start = np.append(vocabulary.sep, ids), 1
        over = 0 if max_length is None else max(0, len(ids) + framing - max_length)
        if over and not (cut and over <= start - (causal and not len(begins))):
            name = f"text {number + 1}" if names is None else names[number]
            raise UsageError(
                f"{name} has {len(ids) + framing} tokens with the special ones, the model {max_length} positions; "
                f"shorten it{'' if cut or not span.start else ', or drop the left end of its context (--cut-prompts)'}"
            )
        found.append(Span(np.append(begins, ids[over:]), start - over + len(begins), over))
    return found


class Copies:
    """The examples of spans: a copy for each predicted token, in which it is masked; of a causal model one copy.

    Examples are made when they are asked for, so that only their lengths are in memory.
    """

    def __init__(self, predictor: Predictor, vocabulary: Vocabulary, spans: Several[Span]) -> None:
        self.predictor, self.vocabulary, self.spans = predictor, vocabulary, spans
        self.causal = predictor.head.predicts == "following"
        self.tokens = np.array([span.tokens for span in spans], np.int64)
        copies = np.minimum(self.tokens, 1) if self.causal else self.tokens
        self.span = np.repeat(np.arange(len(spans)), copies)
        """(E,) the number of each example's span."""
        self.place = np.arange(len(self.span)) - np.repeat(np.cumsum(copies) - copies, copies)
        """(E,) which of the predicted tokens is masked in it."""
        whole = np.array([len(span.ids) for span in spans], np.int64)[self.span]
        self.lengths = whole + (-1 if self.causal else self.vocabulary.framing(1))
        """(E,) length of each example in tokens."""

    def __getitem__(self, number: int) -> Example:
        """Return an example."""
        span = self.spans[self.span[number]]
        if self.causal:
            return self.predictor.read_on(span.ids, span.start)
        sequence = Sequence(*self.vocabulary.frame(span.ids))
        hidden = np.flatnonzero(~sequence.fixed)[[span.start + self.place[number]]]
        return self.predictor.hide(sequence, hidden, self.vocabulary)

    def owners(self, examples_E: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the span (M,) of each target of some examples, in their order."""
        span = self.span[examples_E]
        return np.repeat(span, self.tokens[span] if self.causal else 1)


def _encoded(tokenizer: Tokenizer, contexts: Several[str], texts: Several[str]) -> list[Span]:
    """Return each context with its text as one string of tokens, and where those begin that are not the context's."""
    distinct = list(dict.fromkeys(contexts))
    alone = dict(zip(distinct, tokenizer.encode(distinct, specials=False), strict=True))
    whole = tokenizer.encode([context + text for context, text in zip(contexts, texts, strict=True)], specials=False)
    return [
        Span(np.array(ids, np.int64), _agreeing(alone[context], ids))
        for context, ids in zip(contexts, whole, strict=True)
    ]


def _agreeing(one: list[int], other: list[int]) -> int:
    """Return how many ids two sequences share from their beginning on."""
    size = min(len(one), len(other))
    return next((place for place in range(size) if one[place] != other[place]), size)


def batches(lengths: NDArray[np.int64], positions: int) -> Iterator[tuple[int, PackedRows]]:
    """Yield all examples in batches of at most so many token positions, the longest first: row length, and rows.

    A row is as long as the longest example of its batch, and holds as many of the next ones as fit.
    """
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        length = int(lengths[order[0]])
        number = max(1, positions // length)
        rows = successive(lengths[order[: number * length]], length)
        end = int(rows.offsets[: number + 1][-1])
        chosen, order = np.split(order, [end])
        yield length, PackedRows(chosen, rows.offsets[: number + 1])
