"""The discrete VAE of DALL-E: images to codes and back (Ramesh et al. 2021, arXiv:2102.12092; stage one).

"Released code" is openai/DALL-E: dall_e/encoder.py, decoder.py and utils.py. Training data is images: a table, a
folder, Parquet files or tar shards (see the page on text); captions are not read. `dvae/mini` and `dvae/tiny` are ours,
for a laptop, for images of 64 and of 32 pixels a side.

Deviation: images that are smaller than the square that is cut from them are made larger, for which listing 1 has
nothing. The paper's half precision is a setting of the run.
"""

from dataclasses import replace

from genus.examples.formats.images import Images
from genus.model.discrete_vae import DiscreteVAE
from genus.objectives.pretraining.evidence_lower_bound import EvidenceLowerBound
from genus.optim.adamw import AdamW
from genus.optim.averaging import AveragedAdamW
from genus.optim.schedule import Cosine, CosineThenConstant, Linear
from genus.recipe import Budget, FineTuning, Published, Recipe
from genus.stages import Stage
from genus.tokens.algorithms.bytes import Bytes

FULL = Recipe(
    name="dvae/full",
    published=Published(
        title="Zero-Shot Text-to-Image Generation",
        paper="arXiv:2102.12092",
        year=2021,  # arXiv
        data="250 million images with captions from the internet",  # section 2.3
    ),
    tokens=Bytes(),  # of the numbers of images, which the model does not read
    examples=Images(side=256, patch=8),  # section 2: 256 x 256; appendix A.1: 32 x 32 codes
    model=DiscreteVAE(
        codes=8192,  # section 2.1: K
        grid=32,  # section 2.1
        channels=256,  # released code: n_hid
        code_channels=128,  # released code: n_init
        groups=4,  # released code: group_count
        blocks=2,  # released code: n_blk_per_group
    ),
    objectives=(
        EvidenceLowerBound(
            temperature=0.0625,  # appendix A.2: 1/16
            cooling=0.05,  # appendix A.2: 150,000 of 3,000,000 updates
            divergence_weight=6.6,  # appendix A.2
            rising=0.0016667,  # appendix A.2: 5,000 of 3,000,000 updates
            flipped=0.5,  # listing 1
        ),
    ),
    optimizer=AveragedAdamW(
        decay=0.999,  # appendix A.2
        lr=1e-4,  # appendix A.2
        betas=(0.9, 0.999),  # appendix A.2
        eps=1e-8,  # appendix A.2
        weight_decay=1e-4,  # appendix A.2
        clip_norm=None,  # appendix A.2 names none
    ),
    schedule=CosineThenConstant(
        warmup=0.0,  # appendix A.2 names none
        floor=0.0125,  # appendix A.2: 1.25e-6 of 1e-4
        end=0.4,  # appendix A.2: 1,200,000 of 3,000,000 updates
    ),
    stages=(
        Stage(
            max_length=1024,  # section 2.1: 32 x 32 codes
            batch=512,  # appendix A.2
            micro_batch=8,  # appendix A.2: of each GPU
        ),
    ),
    budget=Budget(amount=3_000_000, unit="steps"),  # appendix A.2
    finetuning=FineTuning(  # ours: images alone are not fine-tuned
        optimizer=AdamW(lr=1e-4, clip_norm=None),  # ours
        schedule=Linear(warmup=0.1),  # ours
        epochs=3,  # ours
        batch=32,  # ours
        max_length=128,  # ours
        pooler=None,
    ),
)

MINI = replace(
    FULL,
    name="dvae/mini",  # ours, and so is every number of this row
    published=replace(FULL.published, parameters=None),
    examples=Images(side=64, patch=8),  # ours
    model=DiscreteVAE(codes=512, grid=8, channels=32, code_channels=64, groups=4, blocks=1),  # ours
    objectives=(EvidenceLowerBound(cooling=0.8, rising=0.2, divergence_weight=1.0, flipped=0.0),),  # ours
    optimizer=AveragedAdamW(decay=0.99, lr=1e-3, weight_decay=1e-4, clip_norm=1.0),  # ours
    schedule=Cosine(warmup=0.05, floor=0.0125),  # ours
    stages=(Stage(max_length=64, batch=32, micro_batch=32),),  # ours
    budget=Budget(amount=2_000, unit="steps"),  # ours
)

TINY = replace(
    MINI,
    name="dvae/tiny",  # ours, and so is every number of this row
    examples=Images(side=32, patch=8),  # ours
    model=DiscreteVAE(codes=256, grid=4, channels=16, code_channels=32, groups=4, blocks=1),  # ours
    stages=(Stage(max_length=16, batch=64, micro_batch=64),),  # ours
    budget=Budget(amount=1_500, unit="steps"),  # ours
)
