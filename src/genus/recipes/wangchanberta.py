"""WangchanBERTa: RoBERTa for Thai, with its text and its tokenizers (Lowphansirikul et al. 2021, arXiv:2101.09635).

"Released code" is vistec-AI/thai2transformers; "model card" is that of the row's model. Of its four tokenizations three
are rows: pieces of a unigram model, words by a dictionary, syllables. Words by stacked segmenters are
`wangchanberta/base-words` with `--set tokens.segmenter=StackedWords --set tokens.vocab_size=92177` (model card,
wiki-sefr: engine "best"). "Released configuration" is config.json beside the card. Deviation: released code masks each
token with a probability of 15 %; here 15 % of a sequence's tokens are masked, rounded. `wangchanberta/mini` and
`wangchanberta/tiny` are ours, not published: the same ideas at the sizes of `roberta/mini` and `roberta/tiny`, with the
same cost of training. All of them need `pip install 'genus[thai]'`.
"""

from dataclasses import replace

from genus.model.head.lm_head import LMHead, Transform
from genus.model.norm import LayerNorm
from genus.model.position.learned import LearnedPosition
from genus.objectives.pretraining.masked_lm import MaskedLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.recipes import roberta
from genus.stages import Stage
from genus.text.normalization import ThaiNormalization, ThaiWikipediaNormalization
from genus.text.segment import DictionaryWords
from genus.tokens.algorithms.presegmented_words import PresegmentedWords
from genus.tokens.algorithms.unigram_no_spaces import UnigramNoSpaces

BASE = Recipe(
    name="wangchanberta/base",
    published=Published(
        title="WangchanBERTa: Pretraining transformer-based Thai Language Models",
        paper="arXiv:2101.09635",
        year=2021,
        parameters=None,  # the paper names RoBERTa-base and gives no number
        data="assorted Thai texts, 78.5 GB",  # abstract
    ),
    tokens=UnigramNoSpaces(
        vocab_size=25_005,  # model card: 25,000 pieces; and 5 special tokens
        longest=10,  # released code, 3_train_tokenizer.md: max_sentencepiece_length
        normalization=ThaiNormalization(),
    ),
    examples=roberta.BASE.examples,  # released code, 4_run_mlm.md: FullSentence
    model=replace(
        roberta.ENCODER,  # model card: RoBERTa-base
        embedding=replace(
            roberta.ENCODER.embedding,
            position=LearnedPosition(length=510, offset=2),  # released configuration: max_position_embeddings 512
            norm=LayerNorm(eps=1e-12),  # released configuration: layer_norm_eps
        ),
        norm=LayerNorm(eps=1e-12),  # released configuration: layer_norm_eps
    ),
    objectives=(  # model card: 15 %, of these 80/10/10; eps as above
        MaskedLM(output=LMHead(transform=Transform(norm=LayerNorm(eps=1e-12)))),
    ),
    optimizer=AdamW(
        lr=3e-4,  # model card
        betas=(0.9, 0.999),  # model card
        eps=1e-6,  # model card
        weight_decay=0.01,  # released code, 4_run_mlm.md
        clip_norm=1.0,  # released code, 4_run_mlm.md: max_grad_norm
    ),
    schedule=Linear(warmup=0.048),  # model card: 24,000 of 500,000 steps, linear decay
    stages=(Stage(max_length=416, batch=4096, micro_batch=32),),  # model card
    budget=Budget(amount=500_000, unit="steps"),  # model card
    finetuning=FineTuning(  # released code, train_sequence_classification_lm_finetuning.py: defaults
        optimizer=AdamW(lr=1e-5, eps=1e-8, weight_decay=0.01, clip_norm=1.0),  # docs/5a has one epoch at 3e-5
        schedule=Linear(warmup=0.1),
        epochs=5,
        batch=16,
        max_length=416,  # model card
    ),
)

BASE_WORDS = replace(
    BASE,
    name="wangchanberta/base-words",
    published=replace(BASE.published, data="Thai Wikipedia"),  # model card, wiki-newmm
    tokens=PresegmentedWords(
        vocab_size=97_982,  # released configuration, wiki-newmm
        segmenter=DictionaryWords(),
        normalization=ThaiWikipediaNormalization(),
        min_frequency=4,  # released code, 3_train_tokenizer.md
    ),
    model=roberta.BASE.model,  # released configuration, wiki-newmm: RoBERTa's positions and layer_norm_eps
    objectives=(MaskedLM(output=LMHead(transform=Transform(norm=LayerNorm(eps=1e-5)))),),  # released configuration
    optimizer=AdamW(lr=7e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01, clip_norm=1.0),  # model card
    schedule=Linear(warmup=0.04),  # model card: 1,250 of 31,250 steps
    stages=(Stage(max_length=512, batch=8192, micro_batch=16),),  # model card
    budget=Budget(amount=31_250, unit="steps"),  # model card
)

BASE_SYLLABLES = replace(
    BASE_WORDS,
    name="wangchanberta/base-syllables",
    tokens=PresegmentedWords(
        vocab_size=59_235,  # released configuration, wiki-syllable
        segmenter=DictionaryWords(units="syllables"),
        normalization=ThaiWikipediaNormalization(),
        min_frequency=4,
    ),
)

MINI = replace(
    BASE,
    name="wangchanberta/mini",
    model=roberta.MINI.model,
    objectives=BASE_WORDS.objectives,
    optimizer=roberta.MINI.optimizer,
    schedule=roberta.MINI.schedule,
    stages=roberta.MINI.stages,
    budget=roberta.MINI.budget,
    finetuning=roberta.MINI.finetuning,
)

TINY = replace(MINI, name="wangchanberta/tiny", model=roberta.TINY.model)
