"""The model of word vectors: recipe, network and tokenizer, which are saved and read as any other model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from genus.examples.formats.contiguous import Contiguous
from genus.export.folder import LoadedModel
from genus.model.static_vectors import StaticVectors
from genus.objectives.pooling import Mean
from genus.objectives.supervised.embedding import SentenceEmbedder
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens import SpecialTokens
from genus.tokens.algorithms.word_level import WordLevel
from genus.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from genus.vectors import WordVectors

SPECIALS = SpecialTokens(unk="[UNK]", cls="[CLS]", sep="[SEP]", single="[CLS] $A", pair="[CLS] $A $B:1")
"""`[CLS]` has the mean of a sequence's words; `[SEP]` stands for the ends of lines within a text."""
UNKNOWN = ("[UNK]", "<unk>")
"""Words by which tables name what stands for all others; GloVe's tool writes the second."""
ADAM = AdamW(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, clip_norm=1.0)
"""PyTorch's defaults of Adam, and ours for what is learned on top of vectors."""


def as_model(table: WordVectors, name: str, published: Published, epochs: int = 1) -> LoadedModel:
    """Return the model of word vectors: an embedder of texts by the mean of their words.

    Unknown words are 0, unless the table has a vector for them. Text is lower-cased where all words are in lower case.
    The vectors are trained elsewhere; the recipe holds what tasks learn by on top of them.

    Args:
        table: the vectors.
        name: of the recipe.
        published: what is known of their making.
        epochs: of their training.
    """
    names = SPECIALS.names()
    own = [word for word in table.words if word not in {*names, *UNKNOWN}]
    lowercase = all(word == word.lower() for word in own)
    tokens = WordLevel(vocab_size=len(names) + len(own), lowercase=lowercase, min_frequency=1, special_tokens=SPECIALS)
    tokenizer = Tokenizer.of(tokens, tokens.of_vocabulary([*names, *own]))
    recipe = Recipe(
        name=name,
        published=published,
        tokens=tokenizer.tokens,
        examples=Contiguous(),
        model=StaticVectors(size=table.vectors.shape[1]),
        objectives=(SentenceEmbedder(pooling=Mean(), normalize=False),),
        optimizer=ADAM,
        schedule=Linear(warmup=0.0),
        stages=(Stage(max_length=512, batch=32, micro_batch=32),),
        budget=Budget(amount=epochs, unit="epochs"),
        finetuning=FineTuning(
            optimizer=ADAM, schedule=Linear(warmup=0.1), epochs=10, batch=32, max_length=512, pooler=None, dropout=0.1
        ),
    )
    learner = recipe.learner()
    weights = torch.zeros(tokens.vocab_size, table.vectors.shape[1])
    place = {word: number for number, word in enumerate(table.words)}
    given = torch.from_numpy(table.vectors.copy())
    weights[len(names) :] = given[[place[word] for word in own]]
    if known := [word for word in UNKNOWN if word in place]:
        weights[names.index("[UNK]")] = given[place[known[0]]]
    learner.load({**learner.state_dict(), "network.embed.tokens.weight": weights})
    return LoadedModel(recipe, learner, tokenizer)
