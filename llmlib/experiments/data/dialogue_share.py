"""What a growing share of dialogue does to instructions, at equal tokens and equal steps.

The world is `instruction_world`: a bare question may open a page of instructions, where its answer
follows, or a conversation, where talk follows. What is not dialogue is half instructions and half
stories, so a larger share of dialogue also leaves fewer instructions; runs with more stories in
place of dialogue tell the two apart. In one more mixture every turn names its speaker, so that
nothing but a page of instructions opens with a bare question. Tasks and steps were chosen with
one seed so that most tasks are learnt without dialogue; some that copy several words were dropped.
"""

import random
import statistics
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from llmlib.architecture.transformer import Transformer
from llmlib.core.statistics import Interval
from llmlib.core.task import Message
from llmlib.evaluation.exact import ExactAnswers, answers_greedily
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.worlds.instruction_world import (
    ANSWERED,
    ASKING,
    LINE,
    OPENERS,
    TASKS,
    as_document,
    ask,
    conversation,
    encode,
    instructions,
    story,
    words,
)
from llmlib.experiments.worlds.mixed_documents import (
    BATCH,
    LENGTH,
    STEPS,
    Kind,
    mean_size,
    train_on_documents,
)

N_QUESTIONS = 280  # as many of each task
EXAMPLES = 2
SEEDS = (0, 1, 2)
KINDS: Mapping[str, Kind] = {
    "instructions": instructions,
    "stories": story,
    "dialogue": conversation,
    "named dialogue": partial(conversation, named=True),
}
NAMED = "75% dialogue, speakers named"
MIXES = {
    "no dialogue": ("stories", 0.0),
    "25% dialogue": ("dialogue", 0.25),
    "25% more stories": ("stories", 0.25),
    "75% dialogue": ("dialogue", 0.75),
    "75% more stories": ("stories", 0.75),
    NAMED: ("named dialogue", 0.75),
}
"""For each mixture what is added, and its share of the tokens."""
CHANCE = (1 / 6 + 1 / 12 + 1 / 20 + 1 / 2 + 1 / 3 + (1 / 2 + 1 / 3 + 1 / 4) / 3 + 1 / 3) / 7
"""Accuracy of who knows what kind of word is asked for and guesses among those: 0.261.

Of six colours one, of twelve opposites, of twenty numbers, of two numbers offered, of the counts
from two to four, of two to four words, of three names.
"""


def shares_of(mix: str) -> dict[str, float]:
    """Return the share of each kind of document in the tokens of a mixture.

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

    Example:
        >>> expected_talk("no dialogue"), expected_talk("75% dialogue, speakers named")
        (0.0, 0.0)
    """
    shares = shares_of(mix)
    dialogues, pages = (
        shares[kind] / mean_size(KINDS[kind]) for kind in ("dialogue", "instructions")
    )
    return dialogues * ASKING * (1 - ANSWERED) / (dialogues * ASKING + pages)


def questions(n: int, *, examples: int = 0) -> ExactAnswers:
    """Draw n questions, spread evenly over the tasks.

    Each opens a document, or stands after as many solved ones as `examples` says.
    """
    rng = random.Random("asked")
    asked = [ask(rng, TASKS[number % len(TASKS)]) for number in range(n)]
    before = [[ask(rng) for _ in range(examples)] for _ in asked]
    lines = [
        [*(line for s in solved for line in (s.sentence, s.answer)), question.sentence]
        for question, solved in zip(asked, before, strict=True)
    ]
    return ExactAnswers(["\n".join(part) for part in lines], [q.answer for q in asked])


def read(prompt: Sequence[Message]) -> list[int]:
    return as_document(prompt[-1]["content"].split("\n"))


def write(answer: str) -> list[int]:
    return encode(f"{answer} {LINE}")


def train(mix: str, seed: int, *, steps: int = STEPS, batch: int = BATCH) -> Transformer:
    return train_on_documents(KINDS, shares_of(mix), seed, steps=steps, batch=batch)


@torch.no_grad()
def chances(
    model: Transformer, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> tuple[Float[Tensor, " prompts"], Float[Tensor, " prompts"]]:
    """Return, by prompt, the probability of the answer, and that of all words that open talk."""
    openers = torch.tensor([words()[opener] for opener in OPENERS])
    right, talk = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        logits = model(torch.tensor([[*prompt, *answer]]))[0, len(prompt) - 1 : -1]
        said = logits.softmax(-1)  # [answer, V]
        right.append(said.gather(1, torch.tensor(answer).unsqueeze(1)).prod())
        talk.append(said[0, openers].sum())
    return torch.stack(right), torch.stack(talk)


def examine(model: Transformer, *, n: int = N_QUESTIONS, examples: int = 0) -> Run:
    """Ask a model n questions, and look whether it answers or talks.

    `greedy` is the share answered by greedy decoding; `drawn` the mean probability of the answer,
    which is the accuracy when words are drawn; `talk` that of talk.
    """
    task = questions(n, examples=examples)
    right = torch.tensor(answers_greedily(model, task, read, write)).float()
    prompts = [read(task.prompt(i)) for i in range(n)]
    drawn, talk = chances(model, prompts, [write(answer) for answer in task.answers])
    return {
        "greedy": round(right.mean().item(), 4),
        "drawn": round(drawn.mean().item(), 4),
        "talk": round(talk.mean().item(), 4),
        "greedy_by_task": {
            task: round(right[place :: len(TASKS)].mean().item(), 3)
            for place, task in enumerate(TASKS)
        },
    }


def measure(run: Run, *, steps: int = STEPS, n: int = N_QUESTIONS) -> Run:
    """Train on one mixture, then ask bare questions, and the same after two solved ones."""
    model = train(run["mix"], run["seed"], steps=steps)
    return {
        "bare": examine(model, n=n),
        "after_examples": examine(model, n=n, examples=EXAMPLES),
        "shares": {kind: share for kind, share in shares_of(run["mix"]).items() if share},
        "expected_talk": round(expected_talk(run["mix"]), 4),
        "chance": round(CHANCE, 4),
        "questions": n,
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _right(runs: Runs, mix: str) -> list[float]:
    return runs.values("bare.drawn", mix=mix)


def _over(runs: Runs, mix: str, other: str) -> Interval:
    return runs.difference("bare.drawn", mix=(mix, other))


def _fewer_answers_with_more_dialogue(runs: Runs) -> bool:
    by_seed = zip(*(_right(runs, f"{share} dialogue") for share in ("no", "25%", "75%")))  # noqa: B905
    return _over(runs, "75% dialogue", "no dialogue").high < 0 and all(
        none > quarter > most for none, quarter, most in by_seed
    )


def _falls_below_a_guess(runs: Runs) -> bool:
    none, most = (statistics.mean(_right(runs, f"{share} dialogue")) for share in ("no", "75%"))
    return most < CHANCE < none - 0.3


def _dialogue_costs_more_than_fewness(runs: Runs) -> bool:
    fewer = _over(runs, "75% more stories", "no dialogue")
    rest = _over(runs, "75% dialogue", "75% more stories")
    return rest.high < 0 and fewer.high < 0 and rest.value < fewer.value


def _a_quarter_is_not_settled(runs: Runs) -> bool:
    quarter = _over(runs, "25% dialogue", "25% more stories")
    return not quarter.shows_difference and quarter.low < -0.4 and quarter.within(0.46)


def _talk_as_often_as_in_the_text(runs: Runs) -> bool:
    return all(abs(run["bare"]["talk"] - run["expected_talk"]) <= 0.08 for run in runs)


def _named_speakers_bring_back_a_part(runs: Runs) -> bool:
    return _over(runs, NAMED, "75% dialogue").low > 0 > _over(runs, NAMED, "75% more stories").high


EXPERIMENT = Experiment(
    conditions={"mix": list(MIXES)},
    seeds=SEEDS,
    measure=measure,
    equal=("steps", "tokens", "questions", "chance", "parameters"),
    claims={
        "data.dialogue-excess": {
            "in each seed more dialogue makes the right answer to a bare question less likely": (
                _fewer_answers_with_more_dialogue
            ),
            "without dialogue the right answer is on average more than 0.3 likelier than by a "
            "guess, at 75% dialogue less likely": _falls_below_a_guess,
            "three quarters of dialogue cost more than as many stories in their place": (
                _dialogue_costs_more_than_fewness
            ),
            "at 25% no difference to stories is shown, though a loss of 0.4 could hide, and none "
            "of 0.46": _a_quarter_is_not_settled,
            "talk follows a bare question as often as in the training text, within 0.08": (
                _talk_as_often_as_in_the_text
            ),
            "after two solved questions talk follows less than one time in ten": lambda runs: all(
                run["after_examples"]["talk"] < 0.1 for run in runs
            ),
        },
        "": {
            "named speakers end the talk": lambda runs: (
                statistics.mean(runs.values("bare.talk", mix=NAMED)) < 0.01
            ),
            "named speakers bring back a part of the answers, not all that stories leave": (
                _named_speakers_bring_back_a_part
            ),
        },
    },
)
