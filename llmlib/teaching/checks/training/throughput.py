"""Checks of the exercises on speed of chapters/05_training/06_speed.ipynb."""

import math
from collections.abc import Callable

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "05_training/06_speed"

# Rows that reach the ridge


def _rows_at_ridge(
    inputs: int,
    outputs: int,
    bytes_per_number: int,
    ridge: float,
    *,
    flops: int = 2,
    weight: bool = True,
    rest: bool = True,
    whole: Callable[[float], float] = math.ceil,
) -> int | None:
    # 2 n k m = ridge * bytes * (n k + k m + n m), solved for n
    moved = ridge * bytes_per_number
    a_row = flops * inputs * outputs - moved * (inputs + outputs) * rest
    if a_row <= 0:
        return None
    return max(1, int(whole(moved * inputs * outputs * weight / a_row)))


rows_at_ridge = Exercise(
    "rows_at_ridge",
    title="how many rows make a product worth its reading",
    reference=_rows_at_ridge,
    hints=(
        "Write the product's FLOPs, 2 n k m, and its bytes, each number once: X, W and Y.",
        "FLOPs >= ridge * bytes is an inequality in n alone: bring all terms with n to one side.",
        "n (2 k m - r b (k + m)) >= r b k m. Where the bracket is not positive no n is enough.",
    ),
    cases={
        "a square matrix in float32 and a ridge of 20": args(1024, 1024, 4, 20.0),
        "LLaMA's feed-forward matrix in bfloat16 on an A100": args(4096, 11_008, 2, 153.0),
        "one byte a number": args(4096, 4096, 1, 153.0),
        "a narrow matrix that no number of rows brings over the ridge": args(4096, 16, 2, 153.0),
        "exactly at the border no row is enough": args(6, 6, 1, 6.0),
        "a ridge that four rows reach exactly": args(8, 8, 1, 4.0),
        "a ridge so low that one row is above it": args(512, 256, 4, 0.25),
    },
    mistakes={
        "a multiplication and an addition are two FLOPs": lambda *a: _rows_at_ridge(*a, flops=1),
        "X and Y are moved too, and grow with the rows: the intensity has a bound": (
            lambda *a: _rows_at_ridge(*a, rest=False)
        ),
        "bytes are numbers times bytes_per_number": lambda k, m, b, r: _rows_at_ridge(k, m, 1, r),
        "round up: the row below the ridge is still on the memory's side": (
            lambda *a: _rows_at_ridge(*a, whole=math.floor)
        ),
        "a product at the ridge has reached it: of two numbers of rows that do, the smaller": (
            lambda *a: _rows_at_ridge(*a, whole=lambda n: math.floor(n) + 1)
        ),
        "these are the FLOPs of the gradients' products too; asked for is the forward one": (
            lambda *a: _rows_at_ridge(*a, flops=6)
        ),
        "where no number of rows is enough, return None": lambda *a: _rows_at_ridge(*a) or 0,
    },
)


# Traffic of a chain, apart and fused

Step = tuple[tuple[str, ...], str]


def _chain_bytes(
    chain: list[Step],
    numbers: dict[str, int],
    results: set[str],
    *,
    bytes_per_number: int = 4,
    inside: bool = False,
    again: bool = False,
    given: bool = False,
) -> tuple[int, int]:
    apart = sum(numbers[name] for inputs, out in chain for name in (*set(inputs), out))
    made = {out for _, out in chain}
    read = [name for inputs, _ in chain for name in inputs if inside or name not in made]
    fused = sum(numbers[name] for name in (read if again else dict.fromkeys(read)))
    fused += sum(numbers[name] for name in (results if given else results & made))
    return bytes_per_number * apart, bytes_per_number * fused


def _repeated(chain: list[Step], numbers: dict[str, int], results: set[str]) -> tuple[int, int]:
    apart = sum(numbers[name] for inputs, out in chain for name in (*inputs, out))
    return 4 * apart, _chain_bytes(chain, numbers, results)[1]


def _all_written(chain: list[Step], numbers: dict[str, int], results: set[str]) -> tuple[int, int]:
    return _chain_bytes(chain, numbers, {out for _, out in chain})


def _only_results_written(
    chain: list[Step], numbers: dict[str, int], results: set[str]
) -> tuple[int, int]:
    apart, fused = _chain_bytes(chain, numbers, results)
    return apart - 4 * sum(numbers[out] for _, out in chain if out not in results), fused


_NORM = [
    (("x", "x"), "square"), (("square",), "mean"), (("mean",), "scale"),
    (("x", "scale"), "normed"), (("normed", "weight"), "y"),
]  # fmt: skip
_NORM_SIZES = {"x": 7000, "square": 7000, "mean": 100, "scale": 100, "normed": 7000, "weight": 70,
               "y": 7000}  # fmt: skip
_SWIGLU = [(("g",), "sigmoid"), (("g", "sigmoid"), "swish"), (("swish", "u"), "y")]
_EQUAL = dict.fromkeys(("g", "sigmoid", "swish", "u", "y"), 1013)

chain_bytes = Exercise(
    "chain_bytes",
    title="what fusing a chain of operations saves",
    points=2,
    reference=_chain_bytes,
    hints=(
        "Apart, each operation reads its inputs and writes its output. An input named twice is "
        "read once.",
        "Fused, what was made inside the chain stays in registers: it is not read.",
        "Fused reads = names that are inputs and nobody's output, each once; fused writes = the "
        "names in `results`.",
    ),
    cases={
        "RMSNorm that keeps its factors for the backward pass": args(
            _NORM, _NORM_SIZES, {"y", "scale"}
        ),
        "a Swish gate: three operations": args(_SWIGLU, _EQUAL, {"y"}),
        "RMSNorm alone": args(_NORM, _NORM_SIZES, {"y"}),
        "one operation alone: nothing to save": args([(("a", "b"), "c")],
                                                      {"a": 5, "b": 5, "c": 5}, {"c"}),
        "a square": args([(("a", "a"), "c")], {"a": 11, "c": 11}, {"c"}),
        "a Swish gate that keeps what it was given": args(_SWIGLU, _EQUAL, {"y", "g", "u"}),
    },
    mistakes={
        "an input that an operation names twice is read once": _repeated,
        "what the chain makes for itself is never read from memory when it is fused": (
            lambda *a: _chain_bytes(*a, inside=True)
        ),
        "fused, each input is read once, however many operations use it": (
            lambda *a: _chain_bytes(*a, again=True)
        ),
        "fused, only the names in `results` are written": _all_written,
        "fused, all names in `results` are written, not the last alone": (
            lambda chain, numbers, results: _chain_bytes(chain, numbers, {chain[-1][1]})
        ),
        "fused, the results are written, too": (
            lambda chain, numbers, results: _chain_bytes(chain, numbers, set())
        ),
        "apart, each operation writes what it makes, whatever is needed in the end": (
            _only_results_written
        ),
        "a result that the chain was given stands in memory already: it is not written": (
            lambda *a: _chain_bytes(*a, given=True)
        ),
        "these are numbers; a float32 number has four bytes": (
            lambda *a: _chain_bytes(*a, bytes_per_number=1)
        ),
        "the order is (apart, fused)": lambda *a: _chain_bytes(*a)[::-1],
    },
)  # fmt: skip


# A step of kernels, each with a price for being called

_A100 = (312e12, 2.0e12, 5e-6)


def _step_seconds(
    kernels: list[tuple[float, float]],
    peak: float,
    bandwidth: float,
    launch: float,
    *,
    added: bool = False,
    whole: bool = False,
    launches: str = "each",
) -> tuple[float, dict[str, float]]:
    limits = {"compute": 0.0, "memory": 0.0, "launch": 0.0}
    if whole:
        kernels = [(sum(f for f, _ in kernels), sum(b for _, b in kernels))]
    seconds = 0.0
    for flops, moved in kernels:
        times = {"compute": flops / peak, "memory": moved / bandwidth}
        if launches == "hidden":
            times["launch"] = launch
        limit = max(times, key=lambda name: times[name])
        for name in times if added else (limit,):
            limits[name] += times[name]
            seconds += times[name]
        if launches == "each":
            limits["launch"] += launch
            seconds += launch
    if launches == "once":
        limits["launch"] += launch
        seconds += launch
    return seconds, {name: value / seconds for name, value in limits.items() if seconds}


def _shares_of_kernels(kernels: list[tuple[float, float]], *machine: float) -> dict[str, float]:
    each = [_step_seconds([kernel], *machine, launches="hidden")[1] for kernel in kernels]
    return {name: sum(one[name] for one in each) / len(each) for name in each[0]}


step_seconds = Exercise(
    "step_seconds",
    title="the least time of a step of many kernels",
    points=3,
    reference=lambda *a: _step_seconds(*a, launches="hidden"),
    hints=(
        "A kernel takes the longest of three times: its FLOPs at the peak, its bytes at the "
        "bandwidth, and the time to launch one, which a GPU hides behind the kernel before it.",
        "The kernels run one after the other: add up their times, and add each one's time to the "
        "limit that it met.",
        "`times = {'compute': f / peak, 'memory': b / bandwidth, 'launch': launch}`, then "
        "`limit = max(times, key=times.get)`; shares are sums divided by the total.",
    ),
    cases={
        "a product and a norm on an A100": args([(1.1e12, 2.7e8), (4e7, 1.3e8)], *_A100),
        "many small kernels: the launches decide": args([(1e6, 1e6)] * 17 + [(1e11, 1e8)], *_A100),
        "no launch time: the roofline": args([(3.0, 100.0), (700.0, 2.0)], 7.0, 5.0, 0.0),
        "one kernel": args([(14.0, 1.0)], 7.0, 5.0, 1.0),
    },
    mistakes={
        "arithmetic and transfers run at the same time: take the longer, not the sum": (
            lambda *a: _step_seconds(*a, added=True, launches="hidden")
        ),
        "the roofline of the summed work is not the sum of rooflines: kernels run one by one": (
            lambda *a: _step_seconds(*a, whole=True, launches="hidden")
        ),
        "a launch hides behind the kernel before it: it counts where it is longer, not besides": (
            lambda *a: _step_seconds(*a)
        ),
        "no kernel takes less than its launch: that is the third of the times": (
            lambda *a: _step_seconds(*a, launches="none")
        ),
        "every kernel has to be launched, not the step once": (
            lambda *a: _step_seconds(*a, launches="once")
        ),
        "these are shares of the kernels; a limit's share is of the seconds": lambda *a: (
            (_step_seconds(*a, launches="hidden")[0], _shares_of_kernels(*a))
        ),
        "return shares of the whole, not seconds": lambda *a: (
            (found := _step_seconds(*a, launches="hidden"))[0],
            {name: share * found[0] for name, share in found[1].items()},
        ),
    },
)  # fmt: skip
