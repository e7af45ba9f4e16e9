"""A tiny ELECTRA stands beside the tests, and its noise can be fixed."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from replacing import VOCABULARY

from genus.model.head import chunked_loss


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Fix the noise of the generator's samples: one vector over the vocabulary, the same in every place."""
    torch.manual_seed(5)
    noise = -torch.empty(VOCABULARY).exponential_().log()
    monkeypatch.setattr(chunked_loss, "gumbel", lambda logits: noise.expand_as(logits))
    return noise
