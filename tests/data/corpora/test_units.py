"""Words of every script, lines of every system, bytes of every string."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data.corpora.units import (
    LINE_END,
    hidden_spans,
    is_unspaced,
    text_bytes,
    with_line_feeds,
    words_of,
)

SPACED = st.text(st.characters(max_codepoint=0xDFF), max_size=31)


@given(SPACED)
def test_words_between_spaces_are_those_of_split(text: str) -> None:
    assert words_of(text) == text.split()


@given(st.text(max_size=31))
def test_words_hold_all_but_white_space(text: str) -> None:
    hidden = {place for span in hidden_spans(text) for place in range(*span)}
    seen = "".join(c for place, c in enumerate(text) if place not in hidden)
    assert "".join(words_of(text)) == "".join(seen.split())


@pytest.mark.parametrize("hidden", ["\u200b", "\u2060", "\ufeff", "\u200b\u2060"])
def test_characters_without_width_hang_on_no_letter_of_an_unspaced_script(hidden: str) -> None:
    text = f"{hidden}ភា|សា។| ok|ก| |ที่| (a|b)|我。|家|".replace("|", hidden)
    assert words_of(text) == [
        "ភា", "សា។", "ok", "ก", "ที่", f"(a{hidden}b)", "我。", "家",
    ]  # fmt: skip
    assert words_of(f"a{hidden}b") == [f"a{hidden}b"]  # as `str.split` does


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("天气很好。我们去公园！", ["天", "气", "很", "好。", "我", "们", "去", "公", "园！"]),
        ("ラーメン3杯、ください", ["ラ", "ー", "メ", "ン", "3", "杯、", "く", "だ", "さ", "い"]),
        ("ｶﾀｶﾅ 々〆", ["ｶ", "ﾀ", "ｶ", "ﾅ", "々", "〆"]),
        ("ที่นี่ดี", ["ที่", "นี่", "ดี"]),  # the vowel and the tone stay with their letter
        ("ສະບາຍ", ["ສ", "ະ", "ບ", "າ", "ຍ"]),
        ("ភាសា", ["ភា", "សា"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("한국어 문장, 둘", ["한국어", "문장,", "둘"]),  # Korean is written with spaces
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("使用GPT-4o模型", ["使", "用", "GPT-4o", "模", "型"]),
        ("𠮷野家", ["𠮷", "野", "家"]),
    ],
)  # fmt: skip
def test_scripts_without_spaces_give_a_word_a_letter(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_only_letters_of_such_scripts_are_unspaced() -> None:
    assert [is_unspaced(word) for word in ("家", "ที่", "猫。", "cat", "。", "한국어")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x85", "\u2028", "\u2029"])
def test_every_line_end_becomes_a_line_feed(end: str) -> None:
    assert with_line_feeds(f"a{end}b{end}{end}c{end}") == "a\nb\n\nc\n"


def test_other_text_is_left_as_it_is() -> None:
    text = "tab\tpage\x0c vertical\x0b é\n"
    assert with_line_feeds(text) is text
    assert LINE_END.startswith("(?>")  # a carriage return and its line feed are never parted


def test_bytes_of_lone_surrogates() -> None:
    assert text_bytes("\ud800é") == 5 and text_bytes("") == 0
