def step_seconds(
    kernels: list[tuple[float, float]], peak: float, bandwidth: float, launch: float
) -> tuple[float, dict[str, float]]:
    """Return the least seconds of a step, and the share of them that each limit is to blame for."""
    seconds = {"compute": 0.0, "memory": 0.0, "launch": 0.0}
    for flops, moved in kernels:
        times = {"compute": flops / peak, "memory": moved / bandwidth, "launch": launch}
        limit = max(times, key=lambda name: times[name])
        seconds[limit] += times[limit]
    total = sum(seconds.values())
    return total, {name: value / total for name, value in seconds.items()}
