"""Codex: GPT-3 trained on programs, with pieces for runs of spaces (Chen et al. 2021, arXiv:2107.03374; OpenAI).

Sections 3.1 and 3.2 were read in copies of notes. The paper gives sizes by parameters alone, of which 85, 300 and 679
million, 2.5 and 12 billion are those of GPT-3's layers without embeddings; which layers the three smaller models have
is not published, so they have no rows. The authors start from GPT-3's weights, which converge faster and end no better
(`genus pretrain codex/300m TEXT --start FOLDER`). The length of a text is not said there: it is GPT-3's. Released
tokens (openai/tiktoken, p50k_base) are GPT-2's and 24 more; which runs of spaces they are was not read: here those of
2 to 25. `codex/mini` and `/tiny` are ours, at the sizes and the cost of `bert/mini` and `bert/tiny`.
"""

from dataclasses import replace

from genus.optim.schedule import Cosine
from genus.recipe import Budget, Explained, Published
from genus.recipes import gpt3
from genus.stages import Stage
from genus.tokens.algorithms.code_bpe import CodeBPE

M300 = replace(
    gpt3.MEDIUM,
    name="codex/300m",
    published=Explained(
        title="Evaluating Large Language Models Trained on Code",
        paper="arXiv:2107.03374",
        year=2021,
        parameters=300_000_000,  # section 3.2, table 1
        data="54 million public repositories of GitHub, Python (159 GB)",  # section 3.1
        reason="the authors count no embeddings, as GPT-3's layers of this size have that many parameters",
    ),
    tokens=CodeBPE(vocab_size=50_281),  # section 3.2: GPT-3's, and runs of spaces; tiktoken, p50k_base
    schedule=Cosine(warmup=0.000918, floor=0.1),  # section 3.2: 175 steps of 191,000; the floor is GPT-3's
    stages=(Stage(max_length=2048, batch=256, micro_batch=8),),  # ours: as GPT-3's, 0.5M tokens
    budget=Budget(amount=100_000_000_000, unit="tokens"),  # section 3.2
)

M85 = replace(
    gpt3.SMALL,
    name="codex/85m",
    published=replace(M300.published, parameters=85_000_000),  # section 3.2, table 1
    tokens=M300.tokens,
    schedule=Cosine(warmup=0.000918, floor=0.1),  # section 3.2: 175 steps of 190,735; the floor is GPT-3's
    stages=(Stage(max_length=2048, batch=256, micro_batch=8),),  # ours: as GPT-3's, 0.5M tokens
    budget=M300.budget,
)

M679 = replace(
    gpt3.LARGE,
    name="codex/679m",
    published=replace(M300.published, parameters=679_000_000),  # section 3.2, table 1
    tokens=M300.tokens,
    schedule=Cosine(warmup=0.000918, floor=0.1),  # section 3.2: 175 steps of 190,735; the floor is GPT-3's
    stages=(Stage(max_length=2048, batch=256, micro_batch=8),),  # ours: as GPT-3's, 0.5M tokens
    budget=M300.budget,
)

B2_5 = replace(
    gpt3.B2_7,
    name="codex/2.5b",
    published=replace(M300.published, parameters=2_500_000_000),  # section 3.2, table 1
    tokens=M300.tokens,
    schedule=Cosine(warmup=0.001835, floor=0.1),  # section 3.2: 175 steps of 95,367; the floor is GPT-3's
    stages=(Stage(max_length=2048, batch=512, micro_batch=8),),  # ours: as GPT-3's, 1M tokens
    budget=M300.budget,
)

B12 = replace(
    gpt3.B13,
    name="codex/12b",
    published=replace(M300.published, parameters=12_000_000_000),  # section 3.2, table 1
    tokens=M300.tokens,
    schedule=Cosine(warmup=0.00367, floor=0.1),  # section 3.2: 175 steps of 47,684; the floor is GPT-3's
    stages=(Stage(max_length=2048, batch=1024, micro_batch=4),),  # ours: as GPT-3's, 2M tokens
    budget=M300.budget,
)

MINI = replace(
    gpt3.MINI,
    name="codex/mini",
    published=Published(  # ours, and so is every number of this row
        title=M300.published.title,
        paper=M300.published.paper,
        year=M300.published.year,
        data=M300.published.data,
    ),
    tokens=CodeBPE(vocab_size=16_000),  # ours
    schedule=Cosine(warmup=0.1, floor=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours: as bert/mini
)

TINY = replace(
    gpt3.TINY,
    name="codex/tiny",
    published=MINI.published,
    tokens=CodeBPE(vocab_size=8_000),  # ours
    schedule=MINI.schedule,
    stages=MINI.stages,
)
