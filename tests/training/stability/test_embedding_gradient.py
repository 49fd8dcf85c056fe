"""The way forward is untouched to the last bit; the way back carries exactly a share."""

import pytest
import torch
from torch import nn

from llmlib.architecture import ModelConfig, Transformer
from llmlib.training import language_modeling, next_token_loss
from llmlib.training.stability.embedding_gradient import (
    shrink_embedding_gradient,
    shrink_gradient,
)

CONFIG = ModelConfig(
    vocab_size=29, d_model=26, n_layers=2, n_heads=1, max_seq_len=13, tie_embeddings=False
)


@pytest.mark.covers("train.stability")
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_forward_is_the_same_bits_and_backward_exactly_a_share(share: float) -> None:
    x = torch.randn(5, 7, requires_grad=True)
    g = torch.randn(5, 7)
    y = shrink_gradient(x, share)
    assert torch.equal(y, x)
    y.backward(g)
    assert x.grad is not None
    assert torch.equal(x.grad, g * share)


def test_the_papers_sum_is_not_the_same_bits() -> None:
    x = torch.randn(1009)
    assert not torch.equal(0.1 * x + 0.9 * x.detach(), x)


@pytest.mark.covers("train.stability")
def test_in_a_model_the_embedding_alone_gets_less() -> None:
    torch.manual_seed(3)
    model = Transformer(CONFIG)
    batch = language_modeling(torch.randint(29, (3, 14)))

    def gradients() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        loss = next_token_loss(model, batch)
        loss.backward()
        return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}  # pyright: ignore[reportOptionalMemberAccess]

    loss, plain = gradients()
    names = list(model.state_dict())
    handle = shrink_embedding_gradient(model.embedding, 0.1)
    same_loss, shrunk = gradients()
    assert torch.equal(loss, same_loss)
    assert list(model.state_dict()) == names
    for name, gradient in shrunk.items():
        if name == "embedding.weight":
            torch.testing.assert_close(gradient, 0.1 * plain[name])
        else:
            assert torch.equal(gradient, plain[name]), name
    handle.remove()
    assert torch.equal(gradients()[1]["embedding.weight"], plain["embedding.weight"])


def test_the_output_side_of_a_tied_weight_keeps_its_gradient() -> None:
    embedding = nn.Embedding(5, 3)
    shrink_embedding_gradient(embedding, 0.1)
    hidden = embedding(torch.tensor([2]))
    (hidden.detach() @ embedding.weight.T).sum().backward()  # as an output matrix alone
    outside = embedding.weight.grad
    assert outside is not None
    torch.testing.assert_close(outside, hidden.detach().expand(5, 3))


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        shrink_gradient(torch.ones(1), share)
    with pytest.raises(ValueError, match="0 to 1"):
        shrink_embedding_gradient(nn.Embedding(3, 2), share)
