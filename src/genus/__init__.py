"""The BERT family of models, each member a recipe of choices over shared parts: pretrain, fine-tune, compare, export.

    import genus

    recipe = genus.load("bert/mini", ["budget.amount=500"])
    genus.pretrain(recipe, ["text.jsonl"], Path("runs/mini"), genus.Run())
    model = genus.load_model(Path("runs/mini/model"))
    genus.fill_mask(model.learner, model.tokenizer, "The capital of France is [MASK].")

Public names are imported lazily, at their first use, so that `import genus` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.catalog import load, names
    from genus.errors import GenusError, UsageError
    from genus.evaluate.attribution import attribute
    from genus.evaluate.candidates import score_candidates
    from genus.evaluate.fill import fill_mask
    from genus.evaluate.likelihood import log_likelihoods
    from genus.evaluate.word_perplexity import word_perplexity
    from genus.export.adapted.folder import load as load_model
    from genus.export.adapted.folder import load_adapter
    from genus.export.average import average_checkpoints
    from genus.export.folder import save as save_model
    from genus.generate import Request
    from genus.generate.beam import BeamSearch
    from genus.generate.engine import Engine
    from genus.generate.sampling import Greedy, Sampling
    from genus.part import diff
    from genus.pipeline import pretrain
    from genus.prompts.evaluation import evaluate_prompts
    from genus.recipe import Recipe
    from genus.tasks.embed import embed
    from genus.tasks.finetune import finetune
    from genus.tasks.predict import predict_by
    from genus.tasks.start import Start
    from genus.text import Fields
    from genus.tokens.store import Store, prepare
    from genus.tokens.tokenizer import Tokenizer
    from genus.train.run import Run

__all__ = [
    "BeamSearch",
    "Engine",
    "Fields",
    "GenusError",
    "Greedy",
    "Recipe",
    "Request",
    "Run",
    "Sampling",
    "Start",
    "Store",
    "Tokenizer",
    "UsageError",
    "attribute",
    "average_checkpoints",
    "diff",
    "embed",
    "evaluate_prompts",
    "fill_mask",
    "finetune",
    "load",
    "load_adapter",
    "load_model",
    "log_likelihoods",
    "names",
    "predict_by",
    "prepare",
    "pretrain",
    "save_model",
    "score_candidates",
    "word_perplexity",
]

_HOMES = {
    "BeamSearch": "generate.beam:BeamSearch",
    "Engine": "generate.engine:Engine",
    "Fields": "text:Fields",
    "GenusError": "errors:GenusError",
    "Greedy": "generate.sampling:Greedy",
    "Recipe": "recipe:Recipe",
    "Request": "generate:Request",
    "Run": "train.run:Run",
    "Sampling": "generate.sampling:Sampling",
    "Start": "tasks.start:Start",
    "Store": "tokens.store:Store",
    "Tokenizer": "tokens.tokenizer:Tokenizer",
    "UsageError": "errors:UsageError",
    "attribute": "evaluate.attribution:attribute",
    "average_checkpoints": "export.average:average_checkpoints",
    "diff": "part:diff",
    "embed": "tasks.embed:embed",
    "evaluate_prompts": "prompts.evaluation:evaluate_prompts",
    "fill_mask": "evaluate.fill:fill_mask",
    "finetune": "tasks.finetune:finetune",
    "load": "catalog:load",
    "load_adapter": "export.adapted.folder:load_adapter",
    "load_model": "export.adapted.folder:load",
    "log_likelihoods": "evaluate.likelihood:log_likelihoods",
    "names": "catalog:names",
    "predict_by": "tasks.predict:predict_by",
    "prepare": "tokens.store:prepare",
    "pretrain": "pipeline:pretrain",
    "save_model": "export.folder:save",
    "score_candidates": "evaluate.candidates:score_candidates",
    "word_perplexity": "evaluate.word_perplexity:word_perplexity",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'genus' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f"genus.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
