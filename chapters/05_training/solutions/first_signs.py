import math
import statistics


def first_signs(losses, window, rise, patience):
    """Report where each row of `patience` high losses begins."""
    usual, high, found = [], [], []
    for step, loss in enumerate(losses):
        is_full = len(usual) == window
        if math.isnan(loss) or (is_full and loss > statistics.median(usual) + rise):
            high.append(step)
            if len(high) == patience:
                found.append(high[0])
        else:
            high = []
            usual = [*usual, loss][-window:]
    return found
