"""What tests on copied weights share: transformers' names, and the comparisons of two models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from llmlib.architecture import Transformer

State = dict[str, Tensor]

LLAMA_ATTENTION = {
    "mixer.qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "mixer.out": ["self_attn.o_proj"],
}
LLAMA_NORMS = {
    "mixer_norm": ["input_layernorm"],
    "feedforward_norm": ["post_attention_layernorm"],
}
LLAMA_FEEDFORWARD = {
    "feedforward.up": ["mlp.gate_proj", "mlp.up_proj"],
    "feedforward.out": ["mlp.down_proj"],
}
LLAMA = LLAMA_ATTENTION | LLAMA_NORMS | LLAMA_FEEDFORWARD


def llama_state(
    theirs: Mapping[str, Any], n_layers: int, names: Mapping[str, Sequence[str]] = LLAMA
) -> State:
    """Name a LLaMA's matrices as we do, those of one of our parameters on top of each other."""
    ours: State = {
        "embedding.weight": theirs["model.embed_tokens.weight"],
        "norm.weight": theirs["model.norm.weight"],
        "head.weight": theirs["lm_head.weight"],
    }
    for layer in range(n_layers):
        for target, sources in names.items():
            parts = [theirs[f"model.layers.{layer}.{source}.weight"] for source in sources]
            ours[f"blocks.{layer}.{target}.weight"] = torch.cat(parts)
    return ours


def assert_equal_logits_and_greedy_text(
    ours: Transformer, theirs: Any, ids: Tensor, *, spread: float = 0.5, n_new: int = 11
) -> None:
    """Compare whole texts, then ours with a cache to theirs, which reads all from the start."""
    with torch.no_grad():
        expected = theirs(ids, use_cache=False).logits
        torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=1e-4)
        assert expected.std() > spread, "the weights are large enough for a mistake to show"
        cache = ours.new_cache(len(ids), ids.shape[1] + n_new)
        text, new, copied = ids, ids, ids
        for _ in range(n_new):
            new = ours(new, cache=cache)[:, -1:].argmax(-1)
            text = torch.cat((text, new), dim=1)
            last = theirs(copied, use_cache=False).logits[:, -1:]
            copied = torch.cat((copied, last.argmax(-1)), dim=1)
    assert torch.equal(text, copied)


def assert_equal_gradients(
    ours: Transformer, theirs: Any, ids: Tensor, state_of: Callable[[dict[str, Any]], State]
) -> None:
    """Compare the gradients of all parameters, theirs named as ours by `state_of`."""
    ours(ids).logsumexp(-1).sum().backward()
    theirs(ids, use_cache=False).logits.logsumexp(-1).sum().backward()
    expected = state_of({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-3, rtol=1e-3, msg=name)
