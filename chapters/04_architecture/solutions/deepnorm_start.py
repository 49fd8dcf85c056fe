def deepnorm_start(n_layers: int, d_model: int, d_ff: int) -> tuple[float, dict[str, float]]:
    """Return alpha and the initial standard deviation of each matrix of a decoder's layer."""
    alpha, beta = (2 * n_layers) ** 0.25, (8 * n_layers) ** -0.25
    square = (2 / (d_model + d_model)) ** 0.5  # Xavier: fan in and fan out
    oblong = (2 / (d_model + d_ff)) ** 0.5
    return alpha, {
        "queries": square,
        "keys": square,
        "values": beta * square,
        "out": beta * square,
        "up": beta * oblong,
        "down": beta * oblong,
    }
