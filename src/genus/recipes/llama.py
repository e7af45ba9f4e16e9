"""LLaMA: RMS norms, gated units and rotary positions, trained longer (Touvron et al. 2023, arXiv:2302.13971).

"Conversion" is the script with which Hugging Face's transformers reads the released weights,
convert_llama_weights_to_hf.py: inner sizes, length 2,048 and the base of the rotation are those it has for the first
release. The paper does not say how weights are drawn; they are drawn as GPT-2's. `llama/2-70b` is the largest Llama 2
(Touvron et al. 2023, arXiv:2307.09288), where 8 query heads share a head of keys and values; what its paper leaves to
the first Llama is as there. `llama/mini` and `/tiny` are ours, at the sizes and the cost of `bert/mini` and `/tiny`.
"""

from dataclasses import replace

from genus.examples.formats.documents import FullDocuments
from genus.model.activation import Silu
from genus.model.attention.masks import Causal
from genus.model.attention.multi_head import MultiHeadAttention
from genus.model.block.residual import PreNorm
from genus.model.embedding import Embedding
from genus.model.feedforward.gated import GatedMLP
from genus.model.head.lm_head import LMHead
from genus.model.initialization import Normal
from genus.model.norm import Identity, RMSNorm
from genus.model.position.rotary import Rotary
from genus.model.transformer import Transformer
from genus.objectives.pretraining.causal_lm import CausalLM
from genus.optim.adamw import AdamW
from genus.optim.schedule import Cosine, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.byte_fallback_bpe import ByteFallbackBPE

DECODER = Transformer(
    layers=32,  # table 2
    hidden=4096,  # table 2
    attention=MultiHeadAttention(heads=32, bias=False, dropout=0.0, mask=Causal()),  # table 2; conversion: no biases
    feedforward=GatedMLP(size=11_008, activation=Silu()),  # section 2.2: 2/3 of 4 d; conversion: a multiple of 256
    embedding=Embedding(
        segments=0,
        position=Rotary(base=10_000.0),  # section 2.2: rotary positions; conversion: rope_theta
        norm=Identity(),
        dropout=0.0,  # conversion: none
    ),
    norm=RMSNorm(eps=1e-6),  # section 2.2; eps is that of transformers' configuration
    block=PreNorm(),  # section 2.2: pre-normalization
    dropout=0.0,  # conversion: none
    initialization=Normal(std=0.02),  # not published; as GPT-2's
)

L7B = Recipe(
    name="llama/7b",
    published=Published(
        title="LLaMA: Open and Efficient Foundation Language Models",
        paper="arXiv:2302.13971",
        year=2023,
        parameters=6_700_000_000,  # table 2
        data="CommonCrawl, C4, GitHub, Wikipedia, books, ArXiv, StackExchange (1.4T tokens)",  # table 1
    ),
    tokens=ByteFallbackBPE(vocab_size=32_000),  # section 2.1: BPE, digits apart, bytes; size of the released vocabulary
    examples=FullDocuments(),  # ours: as GPT-3's; the paper does not say how rows are cut
    model=DECODER,
    objectives=(CausalLM(output=LMHead(tied=False, bias="none")),),  # conversion: output.weight
    optimizer=AdamW(
        lr=3e-4,  # table 2
        betas=(0.9, 0.95),  # section 2.3
        eps=1e-8,  # not published; PyTorch's default
        weight_decay=0.1,  # section 2.3
        clip_norm=1.0,  # section 2.3
    ),
    schedule=Cosine(warmup=0.0084, floor=0.1),  # section 2.3: 2,000 of 238,000 steps, down to 10 %
    stages=(Stage(max_length=2048, batch=2048, micro_batch=1),),  # table 2: 4M tokens; conversion: 2,048
    budget=Budget(amount=1_000_000_000_000, unit="tokens"),  # table 2: 1.0T
    finetuning=FineTuning(  # ours: as GPT's
        optimizer=AdamW(lr=2e-5, betas=(0.9, 0.95), weight_decay=0.1, clip_norm=1.0),  # ours
        schedule=Linear(warmup=0.03),  # ours
        epochs=3,  # ours
        batch=32,  # ours
        max_length=128,  # ours
        pooler=None,
    ),
)

L13B = replace(
    L7B,
    name="llama/13b",
    published=replace(L7B.published, parameters=13_000_000_000),  # table 2
    model=replace(
        DECODER,
        layers=40,  # table 2
        hidden=5120,
        attention=MultiHeadAttention(heads=40, bias=False, dropout=0.0, mask=Causal()),
        feedforward=GatedMLP(size=13_824, activation=Silu()),
    ),
)

L33B = replace(
    L7B,
    name="llama/33b",
    published=replace(L7B.published, parameters=32_500_000_000),  # table 2
    model=replace(
        DECODER,
        layers=60,  # table 2
        hidden=6656,
        attention=MultiHeadAttention(heads=52, bias=False, dropout=0.0, mask=Causal()),
        feedforward=GatedMLP(size=17_920, activation=Silu()),
    ),
    optimizer=replace(L7B.optimizer, lr=1.5e-4),  # table 2
    schedule=Cosine(warmup=0.006, floor=0.1),  # section 2.3: 2,000 of 334,000 steps
    budget=Budget(amount=1_400_000_000_000, unit="tokens"),  # table 2: 1.4T
)

L65B = replace(
    L33B,
    name="llama/65b",
    published=replace(L7B.published, parameters=65_200_000_000),  # table 2
    model=replace(
        DECODER,
        layers=80,  # table 2
        hidden=8192,
        attention=MultiHeadAttention(heads=64, bias=False, dropout=0.0, mask=Causal()),
        feedforward=GatedMLP(size=22_016, activation=Silu()),
    ),
)

SECOND_70B = replace(
    L65B,
    name="llama/2-70b",
    published=Published(
        title="Llama 2: Open Foundation and Fine-Tuned Chat Models",
        paper="arXiv:2307.09288",
        year=2023,
        parameters=70_000_000_000,  # table 1
        data="a new mix of publicly available text (2T tokens)",  # section 2.1
    ),
    model=replace(
        DECODER,
        layers=80,  # released configuration: num_hidden_layers
        hidden=8192,
        attention=MultiHeadAttention(  # table 1: grouped-query attention; appendix A.2.1 and released code: 8 heads
            heads=64, key_heads=8, bias=False, dropout=0.0, mask=Causal()
        ),
        feedforward=GatedMLP(size=28_672, activation=Silu()),  # released configuration: intermediate_size
        norm=RMSNorm(eps=1e-5),  # released configuration: rms_norm_eps
    ),
    optimizer=AdamW(lr=1.5e-4, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1, clip_norm=1.0),  # table 1; section 2.2
    schedule=Cosine(warmup=0.0042, floor=0.1),  # section 2.2: 2,000 of 477,000 steps, down to 10 %
    stages=(Stage(max_length=4096, batch=1024, micro_batch=1),),  # table 1: 4k, 4M tokens
    budget=Budget(amount=2_000_000_000_000, unit="tokens"),  # table 1: 2.0T
)

MINI = replace(
    L7B,
    name="llama/mini",
    published=replace(L7B.published, parameters=None),  # ours, and so is every number of this row
    tokens=ByteFallbackBPE(vocab_size=16_000),  # ours
    model=replace(
        DECODER,
        layers=4,  # ours: as bert/mini
        hidden=256,
        attention=MultiHeadAttention(heads=4, bias=False, dropout=0.0, mask=Causal()),
        feedforward=GatedMLP(size=688, activation=Silu()),  # ours: 2/3 of bert/mini's 1,024
    ),
    optimizer=AdamW(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, clip_norm=1.0),  # ours
    schedule=Cosine(warmup=0.1, floor=0.1),  # ours
    stages=(Stage(max_length=128, batch=32, micro_batch=32),),  # ours: as bert/mini
    budget=Budget(amount=1_000, unit="steps"),  # ours: 4 million tokens
    finetuning=replace(
        L7B.finetuning,
        optimizer=AdamW(lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, clip_norm=1.0),  # ours: as bert/mini
        epochs=4,  # ours
    ),
)

TINY = replace(
    MINI,
    name="llama/tiny",
    tokens=ByteFallbackBPE(vocab_size=8_000),  # ours
    model=replace(
        DECODER,
        layers=2,  # ours: as bert/tiny
        hidden=128,
        attention=MultiHeadAttention(heads=2, bias=False, dropout=0.0, mask=Causal()),
        feedforward=GatedMLP(size=344, activation=Silu()),  # ours: 2/3 of bert/tiny's 512
    ),
)
