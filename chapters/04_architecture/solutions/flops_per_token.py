def flops_per_token(shape: dict, length: int) -> float:
    """Count 6 operations a weight of every matrix, and 12 a head's number for each key seen."""
    d_model, layers = shape["d_model"], shape["n_layers"]
    heads = shape["n_heads"] * shape["head_dim"]
    qkv = heads + 2 * shape["n_kv_heads"] * shape["head_dim"]
    wide = (3 if shape["gated"] else 2) * shape["d_ff"]
    matrices = layers * d_model * (qkv + heads + wide) + shape["vocab_size"] * d_model
    keys = (length + 1) / 2  # on average, under the causal mask
    return 6 * matrices + 3 * layers * 4 * heads * keys
