"""What a growing share of dialogue does to instructions, at equal tokens and equal steps.

`python -m llmlib.experiments dialogue_share` makes the runs that `data/results` still lacks.

The world is `instruction_world`: a bare question may open a page of instructions, where its answer
follows, or a conversation, where talk follows. What is not dialogue is half instructions and half
stories, so a larger share of dialogue also leaves fewer instructions; runs with more stories in
place of dialogue tell the two apart. In one more mixture every turn names its speaker, so that
nothing but a page of instructions opens with a bare question. Tasks and steps were chosen with
one seed so that most tasks are learnt without dialogue; some that copy several words were dropped.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from llmlib.architecture import Transformer
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs, paired_interval
from llmlib.experiments.short_training import (
    answered_exactly,
    small_decoder,
    train_briefly,
    warmup_decay,
)
from llmlib.experiments.worlds.instruction_world import (
    ANSWERED,
    ASKING,
    LINE,
    OPENERS,
    TASKS,
    Question,
    as_document,
    ask,
    conversation,
    encode,
    fresh_rows,
    instructions,
    mean_size,
    story,
    words,
)

LENGTH, BATCH, STEPS, PEAK_LR = 64, 16, 600, 6e-3
N_QUESTIONS = 280  # as many of each task
EXAMPLES = 2
SEEDS = (0, 1, 2)
KINDS: Mapping[str, Callable[[random.Random], list[str]]] = {
    "instructions": instructions,
    "stories": story,
    "dialogue": conversation,
    "named dialogue": partial(conversation, named=True),
}
MIXES = {
    "no dialogue": ("stories", 0.0),
    "25% dialogue": ("dialogue", 0.25),
    "25% more stories": ("stories", 0.25),
    "75% dialogue": ("dialogue", 0.75),
    "75% more stories": ("stories", 0.75),
    "75% dialogue, speakers named": ("named dialogue", 0.75),
}
"""For each mixture what is added, and its share of the tokens."""
CHANCE = (1 / 6 + 1 / 12 + 1 / 20 + 1 / 2 + 1 / 3 + (1 / 2 + 1 / 3 + 1 / 4) / 3 + 1 / 3) / 7
"""Accuracy of who knows what kind of word is asked for and guesses among those: 0.261.

Of six colours one, of twelve opposites, of twenty numbers, of two numbers offered, of the counts
from two to four, of two to four words, of three names.
"""


def shares_of(mix: str) -> dict[str, float]:
    """Return the share of each kind of document in the tokens of a mixture.

    Args:
        mix: One of `MIXES`.

    Returns:
        Shares by kind, one in all.

    Example:
        >>> shares_of("75% more stories")["stories"], shares_of("75% dialogue")["instructions"]
        (0.875, 0.125)
    """
    added, share = MIXES[mix]
    shares = dict.fromkeys(KINDS, 0.0) | {"instructions": (1 - share) / 2}
    shares["stories"] = (1 - share) / 2
    shares[added] += share
    return shares


def expected_talk(mix: str) -> float:
    r"""Return how often talk follows, in the training text, where a document opens with a question.

    $\frac{d\,a\,(1 - r)}{d\,a + i}$, with $d$ and $i$ the shares of documents that are bare
    dialogues and pages of instructions, $a$ the share of dialogues that open with a question, and
    $r$ the share of those that are answered.

    Args:
        mix: One of `MIXES`.

    Returns:
        The share of such openings that talk follows.

    Example:
        >>> expected_talk("no dialogue"), expected_talk("75% dialogue, speakers named")
        (0.0, 0.0)
    """
    shares = shares_of(mix)
    dialogues, pages = (
        shares[kind] / mean_size(KINDS[kind]) for kind in ("dialogue", "instructions")
    )
    return dialogues * ASKING * (1 - ANSWERED) / (dialogues * ASKING + pages)


def questions(n: int, *, examples: int = 0) -> tuple[list[Question], list[list[int]]]:
    """Draw questions to ask, each at the opening of a document or after solved ones.

    Args:
        n: How many, spread evenly over the tasks.
        examples: How many solved questions to put before each.

    Returns:
        The questions, and the token ids to read before each answer.
    """
    rng = random.Random("asked")
    asked = [ask(rng, TASKS[number % len(TASKS)]) for number in range(n)]
    before = [[ask(rng) for _ in range(examples)] for _ in asked]
    return asked, [
        as_document([*(line for s in solved for line in (s.sentence, s.answer)), question.sentence])
        for question, solved in zip(asked, before, strict=True)
    ]


def train(mix: str, seed: int, *, steps: int = STEPS, batch: int = BATCH) -> Transformer:
    """Train a decoder of two layers on one mixture.

    Args:
        mix: One of `MIXES`.
        seed: Decides weights and documents.
        steps: Number of updates.
        batch: Rows an update.

    Returns:
        The model.
    """
    rows = fresh_rows(KINDS, shares_of(mix), length=LENGTH, batch=batch, seed=seed)
    model = small_decoder(len(words()), seed, length=2 * LENGTH, d_model=64, n_layers=2)
    train_briefly(model, rows, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    return model.eval()


@torch.no_grad()
def chances(
    model: Transformer, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> tuple[Float[Tensor, " prompts"], Float[Tensor, " prompts"]]:
    """Return how likely a model is to answer, and how likely to talk.

    Args:
        model: The model.
        prompts: Token ids.
        answers: Token ids that are right after each prompt.

    Returns:
        For each prompt the probability of the answer, and that of all words that open talk.
    """
    openers = torch.tensor([words()[opener] for opener in OPENERS])
    right, talk = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        logits = model(torch.tensor([[*prompt, *answer]]))[0, len(prompt) - 1 : -1]
        said = logits.softmax(-1)  # [answer, V]
        right.append(said.gather(1, torch.tensor(answer).unsqueeze(1)).prod())
        talk.append(said[0, openers].sum())
    return torch.stack(right), torch.stack(talk)


def measure(model: Transformer, *, n: int = N_QUESTIONS, examples: int = 0) -> Run:
    """Ask a model, and look whether it answers or talks.

    Args:
        model: The model.
        n: Number of questions.
        examples: Solved questions before each.

    Returns:
        Share answered by greedy decoding, by task and in all; mean probability of the answer, which
        is the accuracy when words are drawn; and of talk.
    """
    asked, prompts = questions(n, examples=examples)
    answers = [encode(f"{question.answer} {LINE}") for question in asked]
    right = torch.tensor(answered_exactly(model, prompts, answers)).float()
    drawn, talk = chances(model, prompts, answers)
    return {
        "greedy": round(right.mean().item(), 4),
        "drawn": round(drawn.mean().item(), 4),
        "talk": round(talk.mean().item(), 4),
        "greedy_by_task": {
            task: round(right[place :: len(TASKS)].mean().item(), 3)
            for place, task in enumerate(TASKS)
        },
    }


def perform(run: Run, *, steps: int = STEPS, n: int = N_QUESTIONS) -> Run:
    """Train on one mixture from one seed, then ask.

    Args:
        run: `mix` and `seed`.
        steps: Number of updates.
        n: Number of questions.

    Returns:
        What `measure` returns of bare questions (`bare`) and of those after two solved ones
        (`after_examples`), what the mixture's own counts let expect, and the baselines.
    """
    model = train(run["mix"], run["seed"], steps=steps)
    return {
        "bare": measure(model, n=n),
        "after_examples": measure(model, n=n, examples=EXAMPLES),
        "shares": {kind: share for kind, share in shares_of(run["mix"]).items() if share},
        "expected_talk": round(expected_talk(run["mix"]), 4),
        "chance": round(CHANCE, 4),
        "questions": n,
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def difference(
    runs: Sequence[Run], mix: str, other: str, asked: str = "bare", of: str = "drawn"
) -> tuple[float, float, float]:
    """Compare two mixtures seed by seed.

    Args:
        runs: Lines of the record.
        mix: One of `MIXES`.
        other: Another one.
        asked: `bare` or `after_examples`.
        of: `drawn`, `greedy` or `talk`.

    Returns:
        Mean of the first less the second, and its 95% interval.
    """
    return paired_interval(runs, "mix", mix, other, lambda run: run[asked][of])


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for mix in MIXES:
            yield {"mix": mix, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("dialogue_share", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
