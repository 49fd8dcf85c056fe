import statistics


def first_signs(losses, window, rise, patience):
    """Report where each row of `patience` high losses begins."""
    usual, high, found = [], [], []
    for step, loss in enumerate(losses):
        # `not <=`, since a loss that is no number is neither above nor below
        if len(usual) == window and not loss <= statistics.median(usual) + rise:
            high.append(step)
            if len(high) == patience:
                found.append(high[0])
        else:
            high = []
            usual = [*usual, loss][-window:]
    return found
