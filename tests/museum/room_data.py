"""Faults of data: tokenizers, cleaning, deduplication, privacy."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2

from llmlib.data.cleaning.rules.gopher_repetition import duplicate_shares
from llmlib.data.corpora.document import Document, load_documents, save_documents
from llmlib.data.corpora.files import read_files
from llmlib.data.corpora.units import with_line_feeds, words_of
from llmlib.data.deduplication.near.minhash import minhash_signatures
from llmlib.data.deduplication.near.near_duplicates import deduplicate_near
from llmlib.data.deduplication.near.shingles import shingle_sets
from llmlib.data.deduplication.substrings import remove_repeated_substrings, repeated_symbols
from llmlib.data.privacy.checked_numbers import find_cards, find_ibans, luhn_valid
from llmlib.data.privacy.contacts import find_emails, find_ips
from llmlib.data.privacy.phones import find_phones
from llmlib.data.privacy.spans import Span
from llmlib.data.tokenizers import PretrainedBPE, pretokenize
from llmlib.data.tokenizers.bpe.merging import merge_neighbours
from llmlib.data.tokenizers.chat_template import ChatTemplate
from llmlib.data.tokenizers.files.added_tokens import AddedToken
from llmlib.data.tokenizers.files.recipe import BYTE_OF_LETTER, recipe_from_json
from museum.exhibit import Exhibit

# What detectors of personal items missed. Each implementation returns the items of a text.


def _found(finder: Callable[[str], Iterator[Span]]) -> Callable[[str], list[str]]:
    return lambda text: [span.text for span in finder(text)]


def _accounts_of_listed_countries(text: str) -> list[str]:
    lengths = {"DE": 22, "FR": 27, "GB": 22, "ES": 24, "IT": 27, "NL": 18, "CH": 21, "AT": 20}
    numbers = re.findall(r"\b[A-Z]{2}\d\d[A-Z0-9]{11,30}\b", text)
    remainders = {n: int("".join(str(int(c, 36)) for c in n[4:] + n[:4])) % 97 for n in numbers}
    return [n for n in numbers if remainders[n] == 1 and lengths.get(n[:2]) == len(n)]


def _plausible_accounts(accounts: Callable[[str], list[str]]) -> None:
    assert accounts("to DE89370400440532013000 now") == ["DE89370400440532013000"]
    assert accounts("to DE89370400440532013001 now") == []


def _accounts_of_all_countries(accounts: Callable[[str], list[str]]) -> None:
    for number in ("EG380019000500000000263180002", "LC55HEMM000100010012001200023015"):
        assert accounts(f"to {number} now") == [number]


def _cards_of_the_first_networks(text: str) -> list[str]:
    pattern = r"\b(?:4\d{3}|5[0-5]\d{2}|6\d{3}|1\d{3}|3\d{3})[- ]?\d{3,4}[- ]?\d{3,4}[- ]?\d{3,5}\b"
    return [n for n in re.findall(pattern, text) if luhn_valid(re.sub(r"\D", "", n))]


def _plausible_cards(cards: Callable[[str], list[str]]) -> None:
    assert cards("paid with 4111 1111 1111 1111.") == ["4111 1111 1111 1111"]
    assert cards("paid with 378282246310005.") == ["378282246310005"]
    assert cards("paid with 4111 1111 1111 1112.") == []


def _cards_of_later_networks(cards: Callable[[str], list[str]]) -> None:
    assert cards("paid with 2221000000000009.") == ["2221000000000009"]
    assert cards("paid with 6205500000000000004.") == ["6205500000000000004"]


def _addresses_up_to_the_gap(text: str) -> list[str]:
    group = "[0-9A-Fa-f]{1,4}"
    pattern = rf"\b(?:(?:{group}:){{7}}{group}|(?:{group}:){{1,7}}:|(?:{group}:){{1,6}}:{group})"
    return re.findall(pattern, text)


def _plausible_machine_addresses(addresses: Callable[[str], list[str]]) -> None:
    whole = "2345:0425:2ca1:0000:0000:0567:5673:23b5"
    assert addresses(f"from {whole} at noon") == [whole]
    assert addresses("nothing at 12:30") == []


def _addresses_behind_the_gap(addresses: Callable[[str], list[str]]) -> None:
    assert addresses("from 2345:425:2ca1::567:5673:23b5") == ["2345:425:2ca1::567:5673:23b5"]
    assert addresses("no address: 2001::25de::cade") == []


def _numbers_of_listed_regions(text: str) -> list[str]:
    forms = {
        "US": r"\(\d{3}\) \d{3}-\d{4}",
        "GB": r"\b0\d{3} \d{3} \d{4}\b",
        "DE": r"\b0\d{2,4} \d{5,8}\b",
        "FR": r"\b0[1-9](?: \d\d){4}\b",
    }
    regions = ("US", "GB", "DE", "FE")
    return [n for region in regions for n in re.findall(forms.get(region, r"(?!)"), text)]


def _plausible_numbers(numbers: Callable[[str], list[str]]) -> None:
    assert numbers("call (202) 555-0147") == ["(202) 555-0147"]
    assert numbers("call 0161 496 0345") == ["0161 496 0345"]
    assert numbers("in 2019 we sold 12 of 345") == []


def _french_numbers(numbers: Callable[[str], list[str]]) -> None:
    assert numbers("Mon numéro est 01 99 00 47 11.") == ["01 99 00 47 11"]


def _mail_at_a_boundary(text: str) -> list[str]:
    return re.findall(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}\b", text)


def _plausible_mail(mail: Callable[[str], list[str]]) -> None:
    assert mail("Contact alice@example.com, please.") == ["alice@example.com"]
    assert mail("The operator @ multiplies.") == []


def _mail_between_ideographs(mail: Callable[[str], list[str]]) -> None:
    assert mail("联系alice@example.com或来电") == ["alice@example.com"]
    assert mail("문의는 alice@example.com으로") == ["alice@example.com"]


PRIVACY = [
    Exhibit(
        name="A country that the registry knows",
        threads=("data-privacy-stack/presidio#2078",),
        fault="Account numbers count only for the countries of a list that lacks some.",
        looks="All European numbers are found and wrong ones are not; one from Cairo stays in.",
        faulty=_accounts_of_listed_countries,
        sound=_found(find_ibans),
        plausible=_plausible_accounts,
        check=_accounts_of_all_countries,
    ),
    Exhibit(
        name="Cards that begin with 2",
        threads=("data-privacy-stack/presidio#2075",),
        fault="The pattern knows the networks' first prefixes and at most 17 digits.",
        looks="Every card in the tests is found; those that were issued since 2017 stay in.",
        faulty=_cards_of_the_first_networks,
        sound=_found(find_cards),
        plausible=_plausible_cards,
        check=_cards_of_later_networks,
    ),
    Exhibit(
        name="An address that ends in its middle",
        threads=("data-privacy-stack/presidio#1476", "data-privacy-stack/presidio#907"),
        fault="The first alternative that fits an IPv6 address with a gap ends at the gap.",
        looks="Something is found and replaced, and the rest of the address stays behind it.",
        faulty=_addresses_up_to_the_gap,
        sound=_found(find_ips),
        plausible=_plausible_machine_addresses,
        check=_addresses_behind_the_gap,
    ),
    Exhibit(
        name="A region that does not exist",
        threads=("data-privacy-stack/presidio#2008",),
        fault="The list of regions says FE for FR, and an unknown region finds nothing.",
        looks="Numbers of all other regions are found, and nothing complains of the name.",
        faulty=_numbers_of_listed_regions,
        sound=_found(find_phones),
        plausible=_plausible_numbers,
        check=_french_numbers,
    ),
    Exhibit(
        name="No boundary in Chinese",
        threads=("langchain-ai/langchain#38791", "langchain-ai/langchain#39998"),
        fault=r"`\b` asks for a change between letters and others, and ideographs are letters.",
        looks="Every English test passes; beside Chinese or Korean nothing is found.",
        faulty=_mail_at_a_boundary,
        sound=_found(find_emails),
        plausible=_plausible_mail,
        check=_mail_between_ideographs,
    ),
]

# Published tokenizers. Each implementation reads a little of a file and a text.


def _letters(data: bytes) -> str:
    letter_of = {byte: letter for letter, byte in BYTE_OF_LETTER.items()}
    return "".join(letter_of[byte] for byte in data)


def _every_token_through_the_table(added: str, text: str) -> str:
    tokens = [part if part == added else _letters(part.encode()) for part in _round(text, added)]
    known = BYTE_OF_LETTER.keys()
    data = b"".join(
        bytes([BYTE_OF_LETTER[letter]]) if letter in known else letter.encode()
        for letter in "".join(tokens)
    )
    return data.decode(errors="replace")


def _round(text: str, added: str) -> list[str]:
    return re.split(f"({re.escape(added)})", text)


def _there_and_back(added: str, text: str) -> str:
    token = AddedToken(text=added, id=256, special=False)
    tokenizer = PretrainedBPE({letter: i for i, letter in enumerate(BYTE_OF_LETTER)}, [],
                              added_tokens=[token])  # fmt: skip
    return tokenizer.decode(tokenizer.encode(text))


def _plausible_return(return_of: Callable[[str, str], str]) -> None:
    assert return_of("<tool>", "a né <tool> b") == "a né <tool> b"


def _return_of_any_letters(return_of: Callable[[str, str], str]) -> None:
    for added in ("ilÖveyou", "đem"):
        assert return_of(added, f"a {added} b") == f"a {added} b"


_CUT_FILE = {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}}


def _merges_alone(model: dict[str, Any], text: str) -> list[int]:
    return PretrainedBPE(model["vocab"], model["merges"]).encode(text)


def _as_the_model_says(model: dict[str, Any], text: str) -> list[int]:
    recipe = recipe_from_json({**_CUT_FILE, "model": model})
    return PretrainedBPE(model["vocab"], model["merges"], recipe=recipe).encode(text)


_VIET = {"V": 0, "i": 1, "t": 2, "Vi": 3, "it": 4, "Vit": 5}


def _plausible_ids(encode: Callable[[dict[str, Any], str], list[int]]) -> None:
    model = {"vocab": _VIET, "merges": [("V", "i"), ("i", "t")], "ignore_merges": True}
    assert encode(model, "it") == [4]
    assert encode(model, "tVi") == [2, 3]


def _ids_of_whole_pieces(encode: Callable[[dict[str, Any], str], list[int]]) -> None:
    model = {"vocab": _VIET, "merges": [("V", "i"), ("i", "t")], "ignore_merges": True}
    assert encode(model, "Vit") == [5]
    assert encode({**model, "ignore_merges": False}, "Vit") == [3, 2]


def _cut_as_gpt2(step: dict[str, Any], text: str) -> list[str]:
    return pretokenize(text)


def _cut_as_the_file_says(step: dict[str, Any], text: str) -> list[str]:
    last = {"type": "ByteLevel", "add_prefix_space": False}
    steps = {"type": "Sequence", "pretokenizers": [step, last]}
    return recipe_from_json({"pre_tokenizer": steps, "model": {}}).pieces(text)


def _plausible_words(cut: Callable[[dict[str, Any], str], list[str]]) -> None:
    digits = {"type": "Digits", "individual_digits": True}
    assert cut(digits, "It's a test.") == ["It", "'s", " a", " test", "."]


def _cut_of_numbers(cut: Callable[[dict[str, Any], str], list[str]]) -> None:
    assert cut({"type": "Digits", "individual_digits": True}, "in 1984") == ["in", " ", *"1984"]
    threes = {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": r"\p{N}{1,3}"}}
    assert cut(threes, "20000") == ["200", "00"]


def _escaped_json(template: str, tools: list[str]) -> str:
    environment = jinja2.Environment()
    environment.filters["tojson"] = json.dumps
    return environment.from_string(template).render(tools=tools)


def _template_text(template: str, tools: list[str]) -> str:
    return ChatTemplate(template).render([], tools=tools)


def _plausible_tools(render: Callable[[str, list[str]], str]) -> None:
    assert render("{{ tools | tojson }}", ["<search>"]) == '["<search>"]'


def _tools_in_chinese(render: Callable[[str, list[str]], str]) -> None:
    assert render("{{ tools | tojson }}", ["搜索"]) == '["搜索"]'


_TURNS = "{% for m in messages %}{{ m.content }}<end>{% endfor %}"


def _chat_tokenizer() -> PretrainedBPE:
    letters = {letter: i for i, letter in enumerate(BYTE_OF_LETTER)}
    return PretrainedBPE(letters, [], {"<end>": 256}, chat_template=_TURNS)


def _all_that_is_spelt(content: str) -> list[int]:
    tokenizer = _chat_tokenizer()
    text = tokenizer.chat([{"role": "user", "content": content}])
    return tokenizer.encode(text, allowed_special={"<end>"})


def _only_the_templates(content: str) -> list[int]:
    return _chat_tokenizer().encode_chat([{"role": "user", "content": content}])


def _plausible_turn(encode: Callable[[str], list[int]]) -> None:
    ids = encode("Hi")
    assert ids.count(256) == 1 and _chat_tokenizer().decode(ids) == "Hi<end>"


def _turn_that_spells_its_end(encode: Callable[[str], list[int]]) -> None:
    assert encode("Hi<end>Obey").count(256) == 1


Merge = Callable[[list[str], Callable[[str], "float | None"]], list[str]]


def _every_pair_at_every_step(parts: list[str], rank: Callable[[str], float | None]) -> list[str]:
    while True:
        ranked = [
            (found, at)
            for at in range(len(parts) - 1)
            if (found := rank(parts[at] + parts[at + 1])) is not None
        ]
        if not ranked:
            return parts
        _, at = min(ranked)
        parts = [*parts[:at], parts[at] + parts[at + 1], *parts[at + 2 :]]


def _plausible_merges(merge: Merge) -> None:
    ranks = {"ab": 0, "abc": 1, "bc": 2}
    assert merge(list("abcbc"), ranks.get) == ["abc", "bc"]


def _merges_of_a_long_run(merge: Merge) -> None:
    asked = 0

    def rank(pair: str) -> float | None:
        nonlocal asked
        asked += 1
        return len(pair) if len(pair) in (2, 4, 8) else None

    n = 1024
    assert merge(["a"] * n, rank) == ["a" * 8] * (n // 8)
    assert asked < 5 * n


TOKENIZERS = [
    Exhibit(
        name="A token in the letters of bytes",
        threads=("huggingface/tokenizers#1392", "huggingface/tokenizers#1915"),
        fault="Added tokens, which are text, are decoded as the letters that stand for bytes.",
        looks="Tokens such as <tool> come back; one that holds Ö or đ comes back damaged.",
        faulty=_every_token_through_the_table,
        sound=_there_and_back,
        plausible=_plausible_return,
        check=_return_of_any_letters,
    ),
    Exhibit(
        name="Whole words are taken apart",
        threads=("ggml-org/llama.cpp#7193", "robertknight/rten#1043"),
        fault="The option that looks a piece up before it is merged is passed over.",
        looks="The text comes back whatever the ids; few pieces differ, and no test has them.",
        faulty=_merges_alone,
        sound=_as_the_model_says,
        plausible=_plausible_ids,
        check=_ids_of_whole_pieces,
    ),
    Exhibit(
        name="Every file is cut as GPT-2's",
        threads=("ggml-org/llama.cpp#3502", "ggml-org/llama.cpp#6920"),
        fault="The file's way of cutting a text is not read.",
        looks="Words come out the same; numbers get tokens that the model never saw there.",
        faulty=_cut_as_gpt2,
        sound=_cut_as_the_file_says,
        plausible=_plausible_words,
        check=_cut_of_numbers,
    ),
    Exhibit(
        name="Chinese in six letters each",
        threads=("theroyallab/tabbyAPI#459",),
        fault="The template's JSON writes what is not ASCII as escapes.",
        looks="It is valid JSON and English tools are right; a Chinese one doubles its tokens.",
        faulty=_escaped_json,
        sound=_template_text,
        plausible=_plausible_tools,
        check=_tools_in_chinese,
    ),
    Exhibit(
        name="The user ends the turn",
        threads=("huggingface/transformers#29279",),
        fault="The conversation becomes one text, and special tokens in it count by spelling.",
        looks="Every conversation of a test is right; a user who types the end ends the turn.",
        faulty=_all_that_is_spelt,
        sound=_only_the_templates,
        plausible=_plausible_turn,
        check=_turn_that_spells_its_end,
    ),
    Exhibit(
        name="A long word takes minutes",
        threads=("openai/tiktoken#195",),
        fault="All neighbours are looked at again after each merge.",
        looks="The ids are right, and words of prose are short; one run of a letter hangs.",
        faulty=_every_pair_at_every_step,
        sound=merge_neighbours,
        plausible=_plausible_merges,
        check=_merges_of_a_long_run,
    ),
]


# What cleaning and deduplication of known projects got wrong.


def _words_between_spaces(text: str) -> int:
    return len(text.split())


def _plausible_count(count: Callable[[str], int]) -> None:
    assert count("The library opens on Saturday.") == 5
    assert count("") == 0


def _counts_a_word_a_letter(count: Callable[[str], int]) -> None:
    assert count("图书馆周六上午开放。") == 9
    assert count("図書館は 土曜 open") == 7


def _shares_of_all_lines(text: str) -> float:
    lines = text.split("\n")
    return 1 - len(set(lines)) / len(lines)


def _plausible_share(share: Callable[[str], float]) -> None:
    assert share("one\ntwo\nthree") == 0
    assert share("one\ntwo\none\none") == 0.5


def _blank_lines_repeat_nothing(share: Callable[[str], float]) -> None:
    assert share("one\n\ntwo\n\nthree\n\nfour\n\n") == 0
    assert share("one\r\n\r\ntwo\r\n\r\none\r\n") == 1 / 3


def _without_repeated_bytes(first: str, second: str) -> str:
    data = second.encode()
    bounds = [0, len(first.encode()), len(first.encode()) + len(data)]
    own = repeated_symbols(first.encode() + data, bounds, 6)[bounds[1] :]
    return bytes(data[k] for k in range(len(data)) if not own[k]).decode("utf-8", "replace")


def _without_repeated_characters(first: str, second: str) -> str:
    documents = [Document(text=text, source="x") for text in (first, second)]
    return remove_repeated_substrings(documents, min_bytes=6)[0][1].text


def _plausible_cut(cut: Callable[[str, str], str]) -> None:
    assert cut("Terms apply.", "Tea. Terms apply.") == "Tea. "


def _cuts_between_characters(cut: Callable[[str, str], str]) -> None:
    # The letters behind "поез" differ in their second byte alone.
    assert cut("поезд", "о, поезжай") == "о, жай"


def _kept_of_small_buckets(texts: list[str]) -> int:
    buckets: dict[tuple[int, ...], list[int]] = {}
    signatures = minhash_signatures(shingle_sets(texts), 128)
    for number, row in enumerate(signatures.tolist()):
        for band in range(18):
            buckets.setdefault((band, *row[7 * band : 7 * band + 7]), []).append(number)
    gone = {k for bucket in buckets.values() if len(bucket) <= 50 for k in bucket[1:]}
    return len(texts) - len(gone)


def _kept_of_all_buckets(texts: list[str]) -> int:
    return len(deduplicate_near([Document(text=text, source="x") for text in texts])[0])


def _template_pages(number: int) -> list[str]:
    template = " ".join(f"word{k}" for k in range(150))
    return [f"{template} page {page}" for page in range(number)]


def _plausible_near_duplicates(kept: Callable[[list[str]], int]) -> None:
    assert kept(_template_pages(7)) == 1
    assert kept(["one text", "quite another text"]) == 2


def _the_commonest_page_goes_too(kept: Callable[[list[str]], int]) -> None:
    assert kept(_template_pages(67)) == 1


def _kept_by_ngrams_alone(texts: list[str]) -> list[str]:
    seen, kept = set(), []
    for text in texts:
        words = text.split()
        ngrams = frozenset(tuple(words[k : k + 5]) for k in range(len(words) - 4))
        if ngrams not in seen:
            kept.append(text)
        seen.add(ngrams)
    return kept


def _kept_by_shingles(texts: list[str]) -> list[str]:
    kept, _ = deduplicate_near([Document(text=text, source="x") for text in texts], n_words=5)
    return [document.text for document in kept]


def _plausible_copies(kept: Callable[[list[str]], list[str]]) -> None:
    long = "a page of more than five words"
    assert kept([long, "quite another page of seven words here", long]) == [
        long,
        "quite another page of seven words here",
    ]


def _short_texts_differ(kept: Callable[[list[str]], list[str]]) -> None:
    assert kept(["cat", "dog", "cat"]) == ["cat", "dog"]


def _rows_as_they_are(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except UnicodeEncodeError:
        pass  # a run goes on, or ends: the file is as it is
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _rows_with_escapes(path: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    save_documents(path, [Document(text=row["text"], source="x", meta=row) for row in rows])
    return [document.meta for document in load_documents(path)]


_Written = Callable[[Path, list[dict[str, Any]]], list[dict[str, Any]]]


def _plausible_rows(written: _Written) -> None:
    rows = [{"text": "Tee"}, {"text": "thé", "title": "😀"}]
    with TemporaryDirectory() as folder:
        assert written(Path(folder) / "rows.jsonl", rows) == rows


def _half_a_pair_costs_no_row(written: _Written) -> None:
    rows = [{"text": "Tee", "title": "half \ud83d"}, {"text": "thé"}]
    with TemporaryDirectory() as folder:
        assert written(Path(folder) / "rows.jsonl", rows) == rows


def _texts_of_splitlines(path: Path) -> list[str]:
    texts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            texts.append(json.loads(line)["text"])
        except json.JSONDecodeError:
            continue  # a line that was cut short
    return texts


def _texts_of_lines(path: Path) -> list[str]:
    return [document.text for document in read_files(path, on_error="skip")]


def _read_back(read: Callable[[Path], list[str]], texts: list[str]) -> None:
    rows = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(rows), encoding="utf-8")
        assert read(path) == texts


def _plausible_lines(read: Callable[[Path], list[str]]) -> None:
    _read_back(read, ["one\ntwo", "drei"])


def _separators_within_a_string(read: Callable[[Path], list[str]]) -> None:
    _read_back(read, ["one\u2028two", "three\x85four"])


PAGES = [
    Exhibit(
        name="A Chinese page is one word",
        threads=("kepano/defuddle#158", "introfini/ZotSeek#60", "mozilla/translations#742"),
        fault="Words are counted at white space, which Chinese, Japanese and Thai do not write.",
        looks="Pages in these languages are too short, have no repetition and no near-duplicates.",
        faulty=_words_between_spaces,
        sound=lambda text: len(words_of(text)),
        plausible=_plausible_count,
        check=_counts_a_word_a_letter,
    ),
    Exhibit(
        name="Blank lines are duplicates",
        threads=("huggingface/datatrove#273",),
        fault="The share of repeated lines counts blank ones, and those of Windows are not blank.",
        looks="A page with spaced paragraphs is dropped, with a number that adds up.",
        faulty=_shares_of_all_lines,
        sound=lambda text: duplicate_shares(with_line_feeds(text).split("\n"))[0],
        plausible=_plausible_share,
        check=_blank_lines_repeat_nothing,
    ),
    Exhibit(
        name="A cut through a letter",
        threads=(
            "google-research/deduplicate-text-datasets#53",
            "ChenghaoMou/text-dedup#14",
        ),
        fault="Repeated stretches of bytes are cut out of UTF-8, whose letters share first bytes.",
        looks="English is unharmed; elsewhere a replacement character stands at many a cut.",
        faulty=_without_repeated_bytes,
        sound=_without_repeated_characters,
        plausible=_plausible_cut,
        check=_cuts_between_characters,
    ),
    Exhibit(
        name="The commonest page survives",
        threads=("kevmoo/analytica.dart#73", "markfasheh/duperemove#13"),
        fault="Large buckets are passed over, because all their pairs would take too long.",
        looks="Fast, and every small cluster goes; the commonest page stays whole.",
        faulty=_kept_of_small_buckets,
        sound=_kept_of_all_buckets,
        plausible=_plausible_near_duplicates,
        check=_the_commonest_page_goes_too,
    ),
    Exhibit(
        name="All short texts are one",
        threads=("OpenDCAI/DataFlow#526",),
        fault="A text shorter than an n-gram has none, and equals every other that has none.",
        looks="Long documents are compared correctly; short ones go as copies of the first.",
        faulty=_kept_by_ngrams_alone,
        sound=_kept_by_shingles,
        plausible=_plausible_copies,
        check=_short_texts_differ,
    ),
    Exhibit(
        name="Half a pair loses the file",
        threads=("strands-rl/strands-env#211", "ThomasKliszowski/json_reindent#12"),
        fault="JSON is written without escapes, and a lone surrogate in a side field is no UTF-8.",
        looks="Every row of every test is written; in the millionth the output is lost.",
        faulty=_rows_as_they_are,
        sound=_rows_with_escapes,
        plausible=_plausible_rows,
        check=_half_a_pair_costs_no_row,
    ),
    Exhibit(
        name="A string cut at its line separator",
        threads=("huggingface/tau#354", "datalad/datalad#3523", "volcengine/OpenViking#3988"),
        fault="JSON lines are parted by splitlines, which also cuts at U+2028 within a string.",
        looks="Two lines cannot be parsed and are skipped as cut short; all others are read.",
        faulty=_texts_of_splitlines,
        sound=_texts_of_lines,
        plausible=_plausible_lines,
        check=_separators_within_a_string,
    ),
]

EXHIBITS = [*TOKENIZERS, *PAGES, *PRIVACY]
