def count_decoder_parameters(shape: dict) -> int:
    """Count embedding, logits, attention, feed-forward layers and norms, with their biases."""
    d_model, d_ff, layers = shape["d_model"], shape["d_ff"], shape["n_layers"]
    heads = shape["n_heads"] * shape["head_dim"]
    qkv = heads + 2 * shape["n_kv_heads"] * shape["head_dim"]
    up = (2 if shape["gated"] else 1) * d_ff
    block = d_model * qkv + heads * d_model + d_model * up + d_ff * d_model
    norm = d_model
    if shape["biases"]:
        block += qkv + d_model + up + d_model  # one as long as each matrix's output
        norm += d_model
    tables = shape["vocab_size"] * d_model * (1 if shape["tied"] else 2)
    return tables + layers * block + (2 * layers + 1) * norm
