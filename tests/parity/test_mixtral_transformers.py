"""The decoder with experts equals transformers' Mixtral on copied weights."""

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.experts.mixture_of_experts import MixtureOfExperts

State = dict[str, torch.Tensor]


def mixtral_state(model: MixtralForCausalLM, n_layers: int) -> State:
    theirs = model.state_dict()
    ours: State = {
        "embedding.weight": theirs["model.embed_tokens.weight"],
        "norm.weight": theirs["model.norm.weight"],
        "head.weight": theirs["lm_head.weight"],
    }
    for i in range(n_layers):
        source, target = f"model.layers.{i}.", f"blocks.{i}."
        qkv = [theirs[f"{source}self_attn.{n}_proj.weight"] for n in "qkv"]
        ours[target + "mixer.qkv.weight"] = torch.cat(qkv)
        ours[target + "mixer.out.weight"] = theirs[source + "self_attn.o_proj.weight"]
        ours[target + "mixer_norm.weight"] = theirs[source + "input_layernorm.weight"]
        norm = theirs[source + "post_attention_layernorm.weight"]
        ours[target + "feedforward_norm.weight"] = norm
        # One matrix an expert there, all in one on top of each other here.
        experts = {
            "router": "gate.weight",
            "up": "experts.gate_up_proj",
            "out": "experts.down_proj",
        }
        for our_name, their_name in experts.items():
            weight = theirs[f"{source}mlp.{their_name}"]
            ours[f"{target}feedforward.{our_name}.weight"] = weight.flatten(0, -2)
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
    ours.load_state_dict(mixtral_state(theirs, 3))
    return ours, theirs


@pytest.mark.covers("arch.moe")
def test_logits_and_greedy_text_equal_mixtral(pair):
    ours, theirs = pair
    ids = torch.randint(101, (3, 23))
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=1e-4)
        assert expected.std() > 0.5, "the weights are large enough for a mistake to show"
        for _ in range(11):
            ours_next = ours(ids)[:, -1].argmax(-1)
            assert torch.equal(ours_next, theirs(ids).logits[:, -1].argmax(-1))
            ids = torch.cat((ids, ours_next[:, None]), dim=1)


def test_gradients_equal_mixtral(pair):
    ours, theirs = pair
    ids = torch.randint(101, (2, 19))
    ours(ids).logsumexp(-1).sum().backward()
    theirs(ids).logits.logsumexp(-1).sum().backward()
    expected = mixtral_state_of_gradients(theirs)
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-3, rtol=1e-4, msg=name)


def mixtral_state_of_gradients(model: MixtralForCausalLM) -> State:
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.copy_(parameter.grad)
    return mixtral_state(model, 3)


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
