from torch import Tensor


def product_of_halves(a: Tensor, b: Tensor) -> Tensor:
    """Multiply float32 matrices by three products of bfloat16 parts, summed in float32."""

    def halves(x: Tensor) -> tuple[Tensor, Tensor]:
        high = x.bfloat16().float()
        return high, (x - high).bfloat16().float()

    (a_high, a_low), (b_high, b_low) = halves(a), halves(b)
    return a_high @ b_high + a_high @ b_low + a_low @ b_high
