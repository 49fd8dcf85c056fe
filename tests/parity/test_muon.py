"""Our Muon takes torch's steps."""

import pytest
import torch
from torch import nn

from llmlib.training import Muon

TheirMuon = getattr(torch.optim, "Muon", None)


@pytest.mark.skipif(TheirMuon is None, reason="this torch has no Muon")
@pytest.mark.parametrize("shape", [(13, 29), (29, 13), (17, 17)])
@pytest.mark.parametrize(
    ("scale", "their_scale"), [("spectral", "original"), ("rms", "match_rms_adamw")]
)
def test_equals_torch(shape: tuple[int, int], scale: str, their_scale: str) -> None:
    assert TheirMuon is not None
    start = torch.randn(shape)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    # Theirs multiplies in bfloat16; so must ours to be compared closely.
    ours = Muon([mine], 0.05, weight_decay=0.2, scale=scale, dtype=torch.bfloat16)  # pyright: ignore[reportArgumentType]
    witness = TheirMuon([theirs], 0.05, weight_decay=0.2, adjust_lr_fn=their_scale)
    for _ in range(5):
        mine.grad = torch.randn(shape)
        theirs.grad = mine.grad.clone()
        ours.step()
        witness.step()
    # Five updates of about 0.05; bfloat16 products keep two to three digits.
    torch.testing.assert_close(mine, theirs, atol=4e-3, rtol=0)
