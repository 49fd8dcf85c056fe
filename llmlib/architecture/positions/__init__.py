"""How a model knows the order of its tokens.

RoPE rotates queries and keys; sinusoidal positions, like learned ones, are added to the embeddings;
T5's buckets, Transformer-XL's projection and ALiBi's lines enter the attention scores.
"""
