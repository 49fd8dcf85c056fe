"""SmolLM2-135M-Instruct, read by this project, against transformers and tokenizers."""

import random
import unicodedata

import pytest
import torch
from babel import Locale, localedata
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmlib.architecture.pretrained.gguf_file import GGUFFile
from llmlib.architecture.pretrained.smollm2 import smollm2_file
from llmlib.data import pydocs
from llmlib.data.tokenizer_files import PretrainedBPE

N_LINES = 10_000


@pytest.fixture(scope="module")
def gguf() -> GGUFFile:
    return GGUFFile(smollm2_file())


@pytest.fixture(scope="module")
def ours(gguf) -> PretrainedBPE:
    return PretrainedBPE.from_gguf(gguf.metadata)


@pytest.fixture(scope="module")
def theirs(gguf) -> PreTrainedTokenizerFast:
    """The tokenizer as its authors published it: digits apart, then GPT-2's pattern."""
    tokens = gguf.metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in gguf.metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        additional_special_tokens=tokens[:17],
        chat_template=gguf.metadata["tokenizer.chat_template"],
        clean_up_tokenization_spaces=False,
    )


def names_in_every_language(generator: random.Random) -> list[str]:
    """Return lines of the names of languages, countries and days in each language's own script."""
    lines = []
    for identifier in localedata.locale_identifiers():
        locale = Locale.parse(identifier)
        names = [*locale.languages.values(), *locale.territories.values()]
        names += [*locale.days["format"]["wide"].values()]
        generator.shuffle(names)
        lines += [", ".join(names[at : at + 9]) for at in range(0, min(63, len(names)), 9)]
    return lines


def characters_of_every_block(generator: random.Random) -> list[str]:
    """Return lines of assigned characters from all over Unicode, white space among them."""
    known = [
        chr(code)
        for code in range(0x110000)
        if unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cn", "Cs")
    ]
    lines = []
    for _ in range(2000):
        start = generator.randrange(len(known))
        nearby = known[start : start + 40] + [" ", "  ", "\t", "\n", "7", "'s", "."]
        lines.append("".join(generator.choices(nearby, k=23)))
    return lines


@pytest.fixture(scope="module")
def lines() -> list[str]:
    generator = random.Random(0)
    english = [line for document in pydocs() for line in document.text.splitlines()]
    sources = [names_in_every_language(generator), characters_of_every_block(generator), english]
    found = []
    for source, share in zip(sources, (6000, 2000, 2000), strict=True):
        found += generator.sample([*dict.fromkeys(source)], share)
    assert len(found) == N_LINES
    return found


@pytest.mark.covers("arch.pretrained")
def test_tokenizer_gives_the_ids_of_tokenizers(ours, theirs, lines):
    expected = theirs(lines, add_special_tokens=False)["input_ids"]
    for line, ids in zip(lines, expected, strict=True):
        assert ours.encode(line) == ids, line
    for line, ids in zip(lines[::10], expected[::10], strict=True):
        assert ours.decode(ids) == theirs.decode(ids), line
    scripts = {unicodedata.name(c, "?").split()[0] for line in lines for c in line if c.isalpha()}
    assert len(scripts) > 60
