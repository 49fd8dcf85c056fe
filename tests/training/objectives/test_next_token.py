"""The chunked loss equals cross-entropy on whole logits."""

import jaxtyping
import pytest
import torch
from torch.nn import functional as F

from llmlib.architecture import EncoderDecoder, Layout, ModelConfig, Transformer
from llmlib.core.batch import IGNORE
from llmlib.training.objectives import (
    SpecialTokens,
    language_modeling,
    linear_cross_entropy,
    next_token_loss,
    prefix_language_modeling,
    split_prefix,
)


@pytest.mark.parametrize("chunk", [1, 13, 512])
def test_equals_torch_with_gradients(chunk):
    hidden = torch.randn(3, 23, 17, requires_grad=True)
    weight = torch.randn(41, 17, requires_grad=True)
    targets = torch.randint(41, (3, 23))
    targets[0, 5:9] = IGNORE
    ours = linear_cross_entropy(hidden, weight, targets, chunk)
    plain = F.cross_entropy((hidden @ weight.T).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(ours, plain)
    for a, b in zip(
        torch.autograd.grad(3 * ours, (hidden, weight)),
        torch.autograd.grad(3 * plain, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_large_logits_do_not_overflow():
    hidden = torch.full((2, 5), 60.0, requires_grad=True)
    weight = torch.eye(5) * 10
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 4]))
    assert loss.item() == pytest.approx(1.6094379, abs=1e-5)
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(3, 2), (1,), (6,), (2, 4)])
def test_targets_of_another_shape_are_refused(shape, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests
    with pytest.raises(ValueError, match="give one a row"):
        linear_cross_entropy(torch.randn(2, 3, 5), torch.randn(7, 5), torch.ones(shape).long())


def test_a_chunk_of_no_rows_is_refused():
    with pytest.raises(ValueError, match="chunk=-1 must be at least 1"):
        linear_cross_entropy(torch.ones(3, 5), torch.ones(7, 5), torch.ones(3).long(), chunk=-1)


def test_nothing_counted_gives_zero():
    hidden = torch.randn(1, 3, 5, requires_grad=True)
    loss = linear_cross_entropy(hidden, torch.randn(7, 5), torch.full((1, 3), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_next_token_loss_is_the_mean_negative_log_likelihood():
    config = ModelConfig(vocab_size=31, d_model=22, n_layers=2, n_heads=1, max_seq_len=13)
    model = Transformer(config)
    tokens = torch.randint(31, (3, 14))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    loss = next_token_loss(model, {"inputs": inputs, "targets": targets})
    log_probs = model(inputs).log_softmax(-1).gather(-1, targets[..., None])
    torch.testing.assert_close(loss, -log_probs.mean())


def test_bfloat16_is_near_float32():
    torch.manual_seed(5)
    config = ModelConfig(vocab_size=211, d_model=64, n_layers=2, n_heads=4, max_seq_len=47)
    model = Transformer(config)
    tokens = torch.randint(211, (3, 48))
    exact = next_token_loss(model, language_modeling(tokens))
    exact_grads = torch.autograd.grad(exact, list(model.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        rough = next_token_loss(model, language_modeling(tokens))
    rough_grads = torch.autograd.grad(rough, list(model.parameters()))
    assert rough.item() == pytest.approx(exact.item(), rel=5e-3)
    a = torch.cat([g.flatten() for g in exact_grads])
    b = torch.cat([g.flatten() for g in rough_grads])
    assert F.cosine_similarity(a, b, dim=0) > 0.99


def test_documents_and_prefixes_of_a_batch_reach_the_model():
    """Packed texts cost what they cost alone, and a prefix decoder sees its prefix whole."""
    config = ModelConfig(vocab_size=31, d_model=22, n_layers=2, n_heads=1, max_seq_len=13)
    model, tokens = Transformer(config).double(), torch.randint(31, (1, 14))
    alone = [next_token_loss(model, language_modeling(part)) for part in tokens.split(7, dim=1)]
    packed = language_modeling(tokens)
    packed["targets"] = packed["targets"].index_fill(1, torch.tensor([6]), IGNORE)
    assert next_token_loss(model, packed).item() != pytest.approx(
        torch.stack(alone).mean().item(), rel=1e-6
    )
    packed["documents"] = (torch.arange(13) >= 7).long().unsqueeze(0)
    assert next_token_loss(model, packed).item() == pytest.approx(
        torch.stack(alone).mean().item(), rel=1e-6
    )

    prefix = Transformer(config.replace(mask="prefix")).double()
    prefix.load_state_dict(model.state_dict())
    lengths = torch.tensor([9])
    batch, layout = prefix_language_modeling(tokens, prefix_lengths=lengths), Layout(None, lengths)
    expected = prefix(batch["inputs"], layout=layout)[0, 8:].log_softmax(-1)
    nats = -expected.gather(-1, batch["targets"][0, 8:, None]).mean()
    assert next_token_loss(prefix, batch).item() == pytest.approx(nats.item(), rel=1e-6)
    assert next_token_loss(model, batch).item() != pytest.approx(nats.item(), rel=1e-6)


def test_an_encoder_decoder_learns_by_the_same_loss():
    config = ModelConfig(vocab_size=31, d_model=22, n_layers=2, n_heads=1, max_seq_len=13)
    model = EncoderDecoder(config)
    batch = split_prefix(torch.randint(29, (3, 11)), SpecialTokens(n_text_tokens=29), 4)
    logits = model(batch["encoder_inputs"], batch["decoder_inputs"], batch["encoder_lengths"])
    plain = F.cross_entropy(logits.mT, batch["targets"])
    torch.testing.assert_close(next_token_loss(model, batch), plain)
