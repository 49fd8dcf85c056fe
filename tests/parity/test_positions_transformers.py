"""Position schemes equal transformers': T5, BLOOM's ALiBi, XLM's sinusoids, XLNet's distances."""

import pytest
import torch
from torch import nn
from transformers import XLNetConfig, XLNetModel
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.xlm.modeling_xlm import create_sinusoidal_embeddings
from transformers.models.xlnet.modeling_xlnet import XLNetRelativeAttention

from llmlib.architecture.positions.alibi import alibi_bias, alibi_slopes
from llmlib.architecture.positions.relative import RelativeScores, relative_buckets
from llmlib.architecture.positions.sinusoidal import sinusoidal_positions


@pytest.mark.covers("arch.pos-relative")
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("n_buckets", "max_distance"), [(32, 128), (64, 90), (12, 100), (6, 1009)])
def test_buckets_equal_t5s(n_buckets, max_distance, bidirectional):
    offsets = torch.arange(-3001, 3001)
    theirs = T5Attention._relative_position_bucket(
        offsets, bidirectional=bidirectional, num_buckets=n_buckets, max_distance=max_distance
    )
    ours = relative_buckets(offsets, n_buckets, max_distance, bidirectional=bidirectional)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.covers("arch.pos-alibi")
@pytest.mark.parametrize("n_heads", [1, 2, 3, 5, 8, 12, 20, 32, 71, 112])
def test_slopes_and_attention_weights_equal_blooms(n_heads):
    # BLOOM adds a line in the key's position alone: a constant a row, which softmax removes.
    theirs = build_alibi_tensor(torch.ones(1, 13), n_heads, torch.float32).view(1, n_heads, 1, 13)
    torch.testing.assert_close(theirs[0, :, 0, 1], alibi_slopes(n_heads))
    scores = torch.randn(2, n_heads, 13, 13).masked_fill(torch.ones(13, 13).triu(1) > 0, -torch.inf)
    positions = torch.arange(13).unsqueeze(0)
    ours = alibi_bias(alibi_slopes(n_heads), positions, positions)
    torch.testing.assert_close((scores + ours).softmax(-1), (scores + theirs).softmax(-1))


@pytest.mark.covers("arch.pos-absolute")
def test_sinusoids_equal_xlms_and_in_another_order_marians():
    ours = sinusoidal_positions(torch.arange(523), 34)
    theirs = torch.empty(523, 34)
    create_sinusoidal_embeddings(523, 34, theirs)
    # Ours rounds a frequency and its product with a position of up to 522 to float32, each by
    # half a unit in the last place at most; theirs rounds the sine alone.
    atol = 2 * 522 * 2**-24 + 1e-6
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)
    marian = MarianSinusoidalPositionalEmbedding(523, 34).create_weight()
    both = torch.cat((ours[:, 0::2], ours[:, 1::2]), dim=1)  # Marian: all sines, then all cosines
    torch.testing.assert_close(both, marian, atol=atol, rtol=0)


@pytest.mark.covers("arch.pos-relative")
def test_attention_by_distance_equals_xlnets_shift_trick():
    torch.manual_seed(7)
    config = XLNetConfig(vocab_size=11, d_model=15 * 2, n_layer=1, n_head=5, d_inner=7, dropout=0.0)
    model = XLNetModel(config).eval()
    layer = XLNetRelativeAttention(config)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    module = RelativeScores(d_model=30, n_heads=5, head_dim=6)
    with torch.no_grad():
        # Their sinusoids are all sines, then all cosines.
        rows = layer.r.flatten(1).T  # [H K, D]
        module.project.weight[:, 0::2], module.project.weight[:, 1::2] = rows.chunk(2, dim=1)
        module.content_bias.copy_(layer.r_w_bias)
        module.position_bias.copy_(layer.r_r_bias)
        queries, keys, values = (torch.randn(13, 2, 5, 6) for _ in range(3))  # [T, B, H, K]
        sinusoids = model.relative_positional_encoding(13, 13, bsz=2)
        distances = torch.einsum("ibh,hnd->ibnd", sinusoids, layer.r)
        theirs = layer.rel_attn_core(queries, keys, values, distances)
        positions = torch.arange(13).unsqueeze(0)
        shifted, bias = module(queries.permute(1, 2, 0, 3), positions, positions)
        scores = (shifted @ keys.permute(1, 2, 3, 0) + bias) / 6**0.5
        ours = scores.softmax(-1) @ values.permute(1, 2, 0, 3)
    torch.testing.assert_close(ours.permute(2, 0, 1, 3), theirs, atol=1e-5, rtol=1e-4)
