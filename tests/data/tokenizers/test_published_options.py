"""Every option of a published tokenizer's files is read as its library does, or refused by name."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from jinja2.exceptions import TemplateError
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from llmlib.data import ByteBPE, king_james
from llmlib.data.tokenizers import PretrainedBPE, RankBPE
from llmlib.data.tokenizers.chat_template import ChatTemplate
from llmlib.data.tokenizers.files.patterns import check_pattern
from llmlib.data.tokenizers.pretokenization import GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN

MERGES = [
    *(("t", "h"), ("th", "e"), ("Ġ", "c"), ("Ġc", "a"), ("Ġca", "t"), ("Ã", "©"), ("a", "b")),
    *(("ab", "c"), ("Ġ", "Ġ"), ("1", "2"), ("Ġ", "th"), ("Ġth", "e")),
]
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
TEXT_PARTS = [
    *("a", "b", "c", "the", "cat", " ", "  ", "é", "e\u0301", "É", "12", "3", "<m>", "<s>", "_"),
    *("²", "\n", "\t", "\x1c", "\x85", "\u200d", "'s", "'ſ", "漢", "x<m", "ab", "abc", "zz", "!"),
    *("\u0301", "ß", "İ", "\u3000"),
]
O200K_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
DEEPSEEK_PATTERN = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
READ_PATTERNS = [
    *(GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN, O200K_PATTERN, DEEPSEEK_PATTERN),
    *(r"\p{N}{1,3}", "[一-龥]+", r"[^\s\p{L}]+", r"[a-c]+(?=t)", r"(?<=a)b", r"\s*", "a++b?", "x|"),
    *(r".{2}", r"\p{Han}+", r"(?>a|ab)c", r"\P{^L}+", r"(?<!a)b|\S", r"\D{2,}"),
]
REFUSED_PATTERNS = [
    *("^a", "a$", r"\h", r"\H+", r"\w+", r"\W", r"\bthe\b", r"\R", r"\X", r"\K", r"\G", r"\Aa"),
    *(r"\Z", r"\z", "[[:alpha:]]+", "[a-z&&[^b]]", "[a[bc]]", "a{,2}", "a{1,2}+", "a{2}?"),
    *(r"\x{41}", r"(?i)a", "(?i:ss)", "(?i:i)", "(?i:[a-z])", "(?i:é)", "(?m:.)", "(?<n>a)"),
    *(r"(a)\1", r"\k<n>", r"\p{Lower}", r"\p{Word}", r"\pL", r"\Qa\E", "(?#x)a", ""),
]


def plain(**options: Any) -> Tokenizer:
    vocabulary = {letter: i for i, letter in enumerate(LETTERS)}
    for first, second in MERGES:
        vocabulary.setdefault(first + second, len(vocabulary))
    vocabulary["zz"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, MERGES, **options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def read(tokenizer: Tokenizer, folder: Path, **changes: Any) -> PretrainedBPE:
    content = json.loads(tokenizer.to_str())
    content["model"] |= changes.pop("model", {})
    (folder / "tokenizer.json").write_text(json.dumps(content | changes))
    return PretrainedBPE.from_folder(folder)


def random_text(rng: random.Random) -> str:
    return "".join(rng.choices(TEXT_PARTS, k=rng.randrange(14)))


def random_added_token(rng: random.Random) -> AddedToken:
    text = rng.choice(
        [
            *("<m>", "<s>", "the", "abc", "ab", "a", "zz", " the", "e\u0301", "<m><s>", "cat x"),
            *("\n", "c ", " ", "1", "ab_", "漢", "éclair"),
        ]
    )
    flags = {name: rng.random() < 0.3 for name in ("single_word", "lstrip", "rstrip")}
    return AddedToken(text, **flags, normalized=rng.random() < 0.5, special=rng.random() < 0.4)


def random_step(rng: random.Random) -> pre_tokenizers.PreTokenizer:
    kind = rng.randrange(4)
    if kind == 0:
        return pre_tokenizers.Digits(rng.random() < 0.5)
    pattern = rng.choice(["the", ".", " "]) if kind == 1 else Regex(rng.choice(READ_PATTERNS))
    return pre_tokenizers.Split(pattern, "isolated", invert=rng.random() < 0.2)


def random_tokenizer(rng: random.Random) -> Tokenizer:
    """One of the tokenizers that are read, with any mixture of options."""
    tokenizer = plain(ignore_merges=rng.random() < 0.3, end_of_word_suffix="")
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=rng.random() < 0.5)
    steps = [random_step(rng) for _ in range(rng.randrange(3))]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, last]) if steps else last
    nfc = normalizers.Sequence([normalizers.NFC()])
    tokenizer.normalizer = rng.choice(
        [normalizers.Sequence([]), nfc, normalizers.NFD(), normalizers.NFKC(), normalizers.NFKD()]
    )
    for token in (random_added_token(rng) for _ in range(rng.randrange(4))):
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    if rng.random() < 0.3:
        tokenizer.post_processor = processors.Sequence(
            [
                processors.ByteLevel(),
                processors.TemplateProcessing(
                    single="zz $A the:0", special_tokens=[("zz", 268), ("the", 257)]
                ),
            ]
        )
    return tokenizer


def test_random_tokenizers_give_the_ids_of_tokenizers(tmp_path: Path) -> None:
    compared = 0
    for seed in range(400):
        rng = random.Random(seed)
        theirs = random_tokenizer(rng)
        try:
            ours = read(theirs, tmp_path)
        except ValueError as error:
            assert any(
                reason in str(error)
                for reason in ("merges make the special", "begins with what others take")
            )
            continue
        compared += 1
        for _ in range(20):
            text = random_text(rng)
            expected = theirs.encode(text)
            before, behind = ours.frame
            mine = ours.encode(text, allowed_special=ours.special_tokens)
            assert [*before, *mine, *behind] == expected.ids, (seed, text, expected.tokens)
            assert ours.encode_batch([text])[0].tolist() == ours.encode(text)
            special = {i for t, i in ours.special_tokens.items() if t not in LETTERS}
            assert special.isdisjoint(ours.encode(text))
            shown = theirs.decode(expected.ids, skip_special_tokens=False)
            # tokenizers takes the é of an added token for the byte E9.
            damaged = any("é" in token or "e\u0301" in token for token in expected.tokens)
            assert ours.decode(expected.ids) == shown or damaged
    assert compared > 250


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("text", ["a", "zz", "<m>", "đem", "il Öveyou", " cat", "\n"])
def test_added_tokens_lose_no_text(text: str, special: bool, tmp_path: Path) -> None:
    """Also those that the vocabulary holds, and those in letters that the files use for bytes."""
    theirs = plain()
    added = AddedToken(text, special=special)
    (theirs.add_special_tokens if special else theirs.add_tokens)([added])
    ours = read(theirs, tmp_path)
    for whole in (text, f"x{text}y", f"the cat {text}{text} a cat"):
        assert ours.decode(ours.encode(whole)) == whole
        allowed = ours.encode(whole, allowed_special=ours.special_tokens)
        assert allowed == theirs.encode(whole).ids
        assert ours.decode(allowed) == whole


@pytest.mark.parametrize(
    ("text", "special", "message"),
    [
        ("the", True, "merges make the special token 'the'"),
        ("Ġc", False, "has the id of another text's bytes"),
        ("é", False, "has the id of another text's bytes"),
        ("Ġ", True, "has the id of another text's bytes"),
    ],
)
def test_one_id_for_two_texts_is_refused(
    text: str, special: bool, message: str, tmp_path: Path
) -> None:
    theirs = plain()
    added = AddedToken(text, special=special)
    (theirs.add_special_tokens if special else theirs.add_tokens)([added])
    with pytest.raises(ValueError, match=message):
        read(theirs, tmp_path)


def test_other_damage_of_added_tokens_is_refused(tmp_path: Path) -> None:
    for entries, message in [
        ([{"id": 400, "content": "zz"}], "another id in the vocabulary"),
        ([{"id": 400, "content": "<m>"}, {"id": 401, "content": "<m>"}], "given twice"),
        ([{"id": 400, "content": ""}], "is empty"),
        ([{"id": 400, "content": "<m>", "rstrip": True}, {"id": 401, "content": " x"}], "begins"),
    ]:
        with pytest.raises(ValueError, match=message):
            read(plain(), tmp_path, added_tokens=entries)


REFUSED_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "truncation": ({"truncation": {"max_length": 3}}, "truncation is not supported"),
    "padding": ({"padding": {"pad_id": 0}}, "padding is not supported"),
    "an unknown part": ({"filter": None}, r"\['filter'\], which this reader does not know"),
    "an unknown option of the model": ({"model": {"new": 1}}, r"\['new'\], which this reader"),
    "dropout": ({"model": {"dropout": 0.1}}, "dropout of 0.1"),
    "end_of_word_suffix": ({"model": {"end_of_word_suffix": "</w>"}}, "end_of_word_suffix"),
    "continuing_subword_prefix": (
        {"model": {"continuing_subword_prefix": "##"}},
        "continuing_subword_prefix",
    ),
    "Unigram": ({"model": {"type": "Unigram"}}, "only BPE"),
    "WordPiece without a type": ({"model": {"type": "WordPiece"}}, "only BPE"),
    "decoder Metaspace": ({"decoder": {"type": "Metaspace"}}, "decoder 'Metaspace'"),
    "decoder Sequence": ({"decoder": {"type": "Sequence", "decoders": []}}, "decoder 'Sequence'"),
    "post_processor": ({"post_processor": {"type": "New"}}, "post_processor 'New'"),
    "a template without text": (
        {"post_processor": {"type": "TemplateProcessing", "single": [], "special_tokens": {}}},
        "does not hold the text once",
    ),
    "normalizer Lowercase": ({"normalizer": {"type": "Lowercase"}}, "normalizer 'Lowercase'"),
    "normalizer ByteLevel": ({"normalizer": {"type": "ByteLevel"}}, "normalizer 'ByteLevel'"),
    "two normalizers": (
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}},
        "'NFC', 'Strip' is not supported",
    ),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED_OPTIONS.values(), ids=[*REFUSED_OPTIONS])
def test_options_that_are_not_read_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read(plain(), tmp_path, **json.loads(json.dumps(changes)))


@pytest.mark.parametrize(
    "option", [{"unk_token": "a"}, {"fuse_unk": True}, {"byte_fallback": True}]
)
def test_options_of_unknown_bytes_matter_where_a_byte_has_no_token(
    option: dict[str, Any], tmp_path: Path
) -> None:
    theirs = plain(**option)
    assert read(theirs, tmp_path).encode("the cat\x01") == theirs.encode("the cat\x01").ids
    content = json.loads(theirs.to_str())
    del content["model"]["vocab"]["ā"]  # the byte 1
    with pytest.raises(ValueError, match="not supported where bytes have no token"):
        read(theirs, tmp_path, model=content["model"])


def test_a_model_without_a_type_is_bpe_if_it_has_merges(tmp_path: Path) -> None:
    content = json.loads(plain().to_str())
    del content["model"]["type"]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    theirs, ours = Tokenizer.from_file(str(path)), PretrainedBPE.from_folder(tmp_path)
    assert ours.encode("the cat é") == theirs.encode("the cat é").ids
    del content["model"]["merges"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="only BPE"):
        PretrainedBPE.from_folder(tmp_path)


def test_merges_may_stand_in_any_order(tmp_path: Path) -> None:
    theirs = plain()
    content = json.loads(theirs.to_str())
    merges = content["model"]["merges"][::-1]
    ours = read(theirs, tmp_path, model={"merges": merges})
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    rng = random.Random(3)
    for text in (random_text(rng) for _ in range(200)):
        assert ours.encode(text) == theirs.encode(text).ids


def test_a_whole_piece_counts_before_unknown_bytes_are_left_out(tmp_path: Path) -> None:
    theirs = plain(ignore_merges=True)
    content = json.loads(theirs.to_str())
    del content["model"]["vocab"]["e"], content["model"]["vocab"]["the"]
    content["model"]["vocab"] = {
        t: i for i, t in enumerate(t for t in content["model"]["vocab"] if "the" not in t)
    }
    content["model"]["merges"] = [["t", "h"]]
    ours = read(theirs, tmp_path, model=content["model"])
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("zz", "zez", "zze"):
        assert ours.encode(text) == theirs.encode(text).ids


@pytest.mark.parametrize("pattern", READ_PATTERNS)
def test_patterns_cut_as_oniguruma_does(pattern: str, tmp_path: Path) -> None:
    theirs = plain()
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([split, last])
    ours, rng = read(theirs, tmp_path), random.Random(pattern)
    for text in (random_text(rng) for _ in range(300)):
        assert ours.recipe.pieces(text) == [piece for piece, _ in split.pre_tokenize_str(text)]
        assert ours.encode(text) == theirs.encode(text).ids


@pytest.mark.parametrize("pattern", REFUSED_PATTERNS)
def test_patterns_that_engines_read_differently_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not supported"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    "step",
    [
        *(pre_tokenizers.Split(" ", behavior) for behavior in ("removed", "contiguous")),
        *(pre_tokenizers.Split(" ", f"merged_with_{side}") for side in ("previous", "next")),
        *(pre_tokenizers.Punctuation(), pre_tokenizers.Whitespace(), pre_tokenizers.Metaspace()),
    ],
)
def test_other_ways_of_cutting_are_refused(step: Any, tmp_path: Path) -> None:
    theirs = plain()
    last = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.pre_tokenizer = pre_tokenizers.Sequence([step, last])
    with pytest.raises(ValueError, match="in a way that is not supported"):
        read(theirs, tmp_path)


def test_special_tokens_of_the_configuration(tmp_path: Path) -> None:
    theirs = plain()
    theirs.add_tokens([AddedToken("<end>"), AddedToken("<tool>")])
    path = tmp_path / "tokenizer_config.json"
    extra = {"280": {"content": "<later>", "special": True}}
    path.write_text(json.dumps({"eos_token": "<end>", "added_tokens_decoder": extra}))
    ours = read(theirs, tmp_path)
    assert ours.special_tokens == {"<end>": 269, "<later>": 280}
    assert ours.eos_token == 269 and ours.decode([270, 280]) == "<tool><later>"
    assert 269 not in ours.encode("a<end>") and 270 in ours.encode("a<tool>")


def test_user_defined_tokens_of_a_gguf_file_count_in_text() -> None:
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [*LETTERS, "<end>", "<tool>"],
        "tokenizer.ggml.token_type": [1] * 256 + [3, 4],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.add_bos_token": True,
    }
    ours = PretrainedBPE.from_gguf(metadata)
    assert ours.special_tokens == {"<end>": 256} and ours.frame == ((256,), ())
    assert ours.encode("<tool>") == [257] and 256 not in ours.encode("<end>")
    with pytest.raises(ValueError, match="add_space_prefix"):
        PretrainedBPE.from_gguf(metadata | {"tokenizer.ggml.add_space_prefix": True})


TEMPLATES = [
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{%- for m in messages -%}\n  {%- generation -%} [{{ m.content }}] {%- endgeneration -%}\n"
    "{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
    "{{ messages | tojson }}",
    "{{ messages | tojson(indent=2) }}",
    "{{ messages | tojson(ensure_ascii=True) }}",
    "{{ messages | tojson(True, 1) }}",
    "{{ messages | tojson(separators=(',', ':'), sort_keys=True) }}",
    "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}{{ nothing }}",
    "{% if tools is none %}no{% endif %}{% if documents is none %}ne{% endif %}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}{% if add_generation_prompt %}>{% endif %}",
    "{% macro one(m) %}<{{ m.role | upper }}>{% endmacro %}{{ one(messages[0]) | trim }}",
    "{{ messages[0].content.split('é')[-1] }}{{ messages[1:] | length }}",
    "{% set x = 0 %}{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}",
    "{% for m in messages %}{% break %}{% endfor %}{% break %}",
]
MESSAGES = [{"role": "user", "content": "<b>é"}, {"role": "assistant", "content": "Ja & nein"}]


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_write_what_transformers_writes(template: str, tmp_path: Path) -> None:
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=plain(), **names, chat_template=template)  # pyright: ignore[reportArgumentType]
    wrapped.save_pretrained(tmp_path)
    try:
        expected = wrapped.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    except (TemplateError, SyntaxError):
        with pytest.raises(ValueError, match="cannot be read"):
            PretrainedBPE.from_folder(tmp_path)
        return
    assert PretrainedBPE.from_folder(tmp_path).chat(MESSAGES) == expected


@pytest.mark.parametrize("name", ["chat_template.json", "tokenizer_config.json"])
def test_named_templates(name: str, tmp_path: Path) -> None:
    templates = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "Hi"}]
    path = tmp_path / name
    path.write_text(json.dumps({"chat_template": templates}))
    assert read(plain(), tmp_path).chat(MESSAGES) == "Hi"
    path.write_text(json.dumps({"chat_template": templates[:1]}))
    with pytest.raises(ValueError, match=r"\['tool_use'\] none is called 'default'"):
        read(plain(), tmp_path)


def test_json_in_templates_is_not_escaped() -> None:
    source = "{{ v | tojson(ensure_ascii=False, indent=1) }}"
    assert ChatTemplate(source).render([], v=["<é>"]) == '[\n "<é>"\n]'


@pytest.mark.parametrize(
    "pattern", [GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN, O200K_PATTERN, CL100K_PATTERN]
)
def test_rank_files_with_published_patterns(pattern: str) -> None:
    trained = ByteBPE.train([chapter.text for chapter in king_james()[:3]], 500)
    ranks = {trained.token_bytes(i): i for i in range(500)}
    theirs = tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    ours, rng = RankBPE(ranks, pattern=pattern), random.Random(pattern)
    for text in (random_text(rng) for _ in range(500)):
        assert ours.encode(text) == theirs.encode(text)


@pytest.mark.parametrize("rank", ["-3", "1_0", "+5", "x"])
def test_ranks_are_numbers(rank: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.tiktoken"
    path.write_text(f"YQ== {rank}\n")
    with pytest.raises(ValueError, match="line 1: no token and rank"):
        RankBPE.from_file(path)
