"""The decoder with experts equals transformers' Mixtral on copied weights."""

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.experts.mixture_of_experts import MixtureOfExperts
from tests.parity.copied_models import (
    LLAMA_ATTENTION,
    LLAMA_NORMS,
    State,
    assert_equal_gradients,
    assert_equal_logits_and_greedy_text,
    llama_state,
)


def mixtral_state(theirs: State, n_layers: int) -> State:
    ours = llama_state(theirs, n_layers, LLAMA_ATTENTION | LLAMA_NORMS)
    # One matrix an expert there, all in one on top of each other here.
    experts = {"router": "gate.weight", "up": "experts.gate_up_proj", "out": "experts.down_proj"}
    for i in range(n_layers):
        for our_name, their_name in experts.items():
            weight = theirs[f"model.layers.{i}.mlp.{their_name}"]
            ours[f"blocks.{i}.feedforward.{our_name}.weight"] = weight.flatten(0, -2)
    return ours


@pytest.fixture
def pair() -> tuple[Transformer, MixtralForCausalLM]:
    torch.manual_seed(7)
    theirs = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=101, hidden_size=60, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=3, head_dim=14, intermediate_size=37, rms_norm_eps=1e-5,
            num_local_experts=5, num_experts_per_tok=2, max_position_embeddings=41,
            rope_parameters={"rope_type": "default", "rope_theta": 5003.0},
            tie_word_embeddings=False, initializer_range=0.2, sliding_window=None,
            output_router_logits=True,
        )
    ).eval()  # fmt: skip
    theirs.set_experts_implementation("eager")  # the grouped kernel refuses prime sizes
    ours = Transformer(
        ModelConfig(
            vocab_size=101, d_model=60, n_layers=3, n_heads=6, n_kv_heads=3, head_dim=14, d_ff=37,
            max_seq_len=41, rope_theta=5003.0, tie_embeddings=False, n_experts=5,
            experts_per_token=2,
        )
    ).eval()  # fmt: skip
    ours.load_state_dict(mixtral_state(theirs.state_dict(), 3))
    return ours, theirs


@pytest.mark.covers("arch.moe")
def test_logits_and_greedy_text_equal_mixtral(pair):
    ours, theirs = pair
    assert_equal_logits_and_greedy_text(ours, theirs, torch.randint(101, (3, 23)))


def test_gradients_equal_mixtral(pair):
    ours, theirs = pair
    ids = torch.randint(101, (2, 19))
    assert_equal_gradients(ours, theirs, ids, lambda state: mixtral_state(state, 3))


def test_the_balance_loss_is_mixtrals(pair):
    ours, theirs = pair
    ids = torch.randint(101, (2, 19))
    ours.train()(ids)
    layers = [module for module in ours.modules() if isinstance(module, MixtureOfExperts)]
    # Layer by layer: transformers pools the layers' counts before it multiplies, we do after.
    router_logits = theirs(ids).router_logits
    for layer, logits in zip(layers, router_logits, strict=True):
        expected = load_balancing_loss_func((logits,), num_experts=5, top_k=2)
        assert layer.balance_loss is not None
        torch.testing.assert_close(2 * layer.balance_loss, expected, atol=1e-5, rtol=1e-5)
