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
def test_equals_torch(
    shape: tuple[int, int], scale: str, their_scale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TheirMuon is not None
    # Theirs multiplies in bfloat16, whose products differ between processors in the third digit.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    start = torch.randn(shape, dtype=torch.float64)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = Muon([mine], 0.05, weight_decay=0.2, scale=scale)  # pyright: ignore[reportArgumentType]
    witness = TheirMuon([theirs], 0.05, weight_decay=0.2, adjust_lr_fn=their_scale)
    for _ in range(5):
        mine.grad = torch.randn_like(start)
        theirs.grad = mine.grad.clone()
        ours.step()
        witness.step()
    torch.testing.assert_close(mine, theirs)
