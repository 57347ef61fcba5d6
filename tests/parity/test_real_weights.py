"""Real weights give the reference's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

import formers
from tests.parity.pairs import close


@pytest.mark.parametrize("inference", [False, True])
def test_minilm(minilm: Path, inference: bool) -> None:
    own = formers.AutoModel.from_pretrained(minilm)
    if inference:
        own.for_inference()
    other = transformers.AutoModel.from_pretrained(minilm, local_files_only=True)
    ids = torch.randint(1000, 30000, (5, 40), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(40) < torch.tensor([40, 3, 17, 17, 1])[:, None]).long()
    with torch.no_grad():
        found, expected = own(ids, mask), other(ids, mask)
    close(found.last_hidden_state[mask == 1], expected.last_hidden_state[mask == 1])
    close(found.pooler_output, expected.pooler_output)
