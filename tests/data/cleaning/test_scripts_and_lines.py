"""Cleaning rules on scripts without spaces, on line ends of other systems, and on endless runs."""

import time
from collections.abc import Callable

import pytest

from llmlib.data import Document
from llmlib.data.cleaning import (
    C4Lines,
    GopherQuality,
    GopherRepetition,
    KeywordFilter,
    Readable,
    ToxicityFilter,
    WithoutKeywordLines,
    c4_steps,
)
from llmlib.data.cleaning.classifiers.hashing import word_bags
from llmlib.data.cleaning.rules.keywords import keyword_hits
from llmlib.data.cleaning.rules.quality_rules import QualityRules

ENDS = ["\n", "\r\n", "\r", "\x85", "\u2028"]
CHINESE = (
    "社区图书馆每周六上午开放，附近的居民可以带着孩子来看书。管理员会讲故事，也会教大家修补旧书。"
    "去年冬天，屋顶漏水，许多人自愿来帮忙，把书搬到楼上晒干。今年春天，花园里种了新的树。"
)
JAPANESE = (
    "図書館は毎週土曜日の午前に開きます。近所の人々は子どもを連れて本を読みに来ます。"
    "去年の冬、屋根から雨がもれて、多くの人が本を二階へ運ぶのを手伝いました。"
)
THAI = (
    "ห้องสมุดเปิดทุกเช้าวันเสาร์ ชาวบ้านพาเด็กมาอ่านหนังสือและฟังนิทาน "
    "เมื่อฤดูหนาวปีก่อนหลังคารั่ว หลายคนอาสามาช่วยยกหนังสือขึ้นไปตากแดดบนชั้นสอง"
)


def page(text: str) -> Document:
    return Document(text=text, source="page")


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, THAI])
def test_prose_without_spaces_is_prose(text: str) -> None:
    assert GopherQuality(min_stop_words=0).reason(page(text)) is None
    assert GopherQuality().reason(page(text)) == "few stop words"
    assert GopherRepetition().reason(page(text)) is None
    assert QualityRules().reason(text) is None


def test_word_counts_are_those_of_letters() -> None:
    assert GopherQuality().reason(page(CHINESE[:40])) == "few words"
    assert GopherQuality(max_words=70).reason(page(CHINESE)) == "many words"
    english = "the library of the town opens and that is to be seen " * 7
    # A few letters among English words leave the bounds on the words' lengths in force.
    assert GopherQuality().reason(page(f"中文 {'a b c ' * 70}")) == "short words"
    assert GopherQuality().reason(page(english)) is None


@pytest.mark.parametrize("text", ["限时抢购全场五折", "今日限定大セール", "ลดราคาพิเศษวันนี้"])
def test_repetition_is_found_without_spaces(text: str) -> None:
    reason = GopherRepetition().reason(page(text * 13))
    assert reason is not None and reason.endswith("gram" if "top" in reason else "grams")


def test_c4_keeps_lines_of_ideographs() -> None:
    text = "首页 | 关于\n这座桥是一百年前建成的。\n好的。\n「もう帰りましょう」\n本当にそうですか？"
    kept = C4Lines(end_marks=("。", "」", "？")).apply(page(text)).text
    assert kept == "这座桥是一百年前建成的。\n「もう帰りましょう」\n本当にそうですか？"


def test_quality_features_see_the_words_of_such_a_page() -> None:
    bags = word_bags(["我们去公园", "公园里有树"], orders=[1], buckets=1 << 20)
    assert len(set(bags.buckets[: bags.offsets[1]]) & set(bags.buckets[bags.offsets[1] :])) == 4


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("版权所有All rights reserved。", "boilerplate"),
        ("请点击Accept cookies继续", "boilerplate"),
        ("この idiotめ", "offensive"),
        ("说他是idiot的人", "offensive"),
    ],
)
def test_english_key_words_between_ideographs(text: str, kind: str) -> None:
    assert [hit.kind for hit in keyword_hits(text)] == [kind]
    assert KeywordFilter().reason(page(text)) == kind


def test_an_attack_between_ideographs() -> None:
    assert ToxicityFilter().reason(page("他说：you are an idiot。")) == "toxic"


@pytest.mark.parametrize("end", ENDS)
def test_line_rules_count_the_lines_of_every_system(end: str) -> None:
    line = "This line stands here twice and says nothing new at all."
    lines = [f"Line number {word} is like no other line." for word in "abcde"]

    def joined(parts: list[str]) -> Document:
        return page(end.join(parts))

    assert GopherRepetition().reason(joined([line] * 4 + lines)) == "duplicate lines"
    paragraphs = [f"{line}{end}{number}" for number in "ab" * 4]
    twice = GopherRepetition(lines=1, line_characters=1).reason(page((end * 2).join(paragraphs)))
    assert twice == "duplicate paragraphs"
    bullets = [f"- {line} {number} of the" for number in range(11)]
    assert GopherQuality().reason(joined(bullets)) == "bullet lines"
    assert QualityRules().reason(joined([line] * 4).text) == "repeated lines"
    assert QualityRules(max_line_bytes=60).reason(joined(lines).text) is None
    assert Readable(max_line_chars=60).reason(joined(lines)) is None
    kept = C4Lines().apply(joined(["Home", line, "About | us"])).text
    assert kept == line
    cleaned = WithoutKeywordLines().apply(joined(["Skip to content", line, "Accept cookies"]))
    assert cleaned.text == line
    assert KeywordFilter().reason(joined(["Skip to content", *lines])) is None
    assert KeywordFilter().reason(joined(["Skip to content"] * 4 + lines)) == "boilerplate"
    toxic = joined(["You are an idiot", *lines * 2])
    assert ToxicityFilter(max_sentences=0.1).reason(toxic) is None


def test_a_document_without_key_words_is_the_same_object() -> None:
    document = page("Cookies for tea.\r\nBake them.\r\n")
    assert WithoutKeywordLines().apply(document) is document


RUNS = {
    "dots": ".",
    "dots and quotes": '."',
    "marks": "!?",
    "spaces": " ",
    "blank lines": "\n",
    "blank lines of Windows": " \r\n",
    "letters": "a",
    "digits": "1",
    "subscribe": "subscribe to ",
    "log in": "log in to ",
    "powered by": "powered by ",
    "powered": "powered by a1",
    "cookies": "cookies ",
    "tags": "<a ",
    "attributes": '<a b="',
    "unclosed tags": "<a b=",
    "unclosed tags of many values": "<a b='c' d=e<p f=\"g\" h=",
    "years": "(c) ",
    "attacks": "you are ",
    "hopes": "hope a ",
    "menu": "a | ",
    "ideographs": "字",
}
STEPS: dict[str, Callable[[Document], object]] = {
    "keywords": KeywordFilter().reason,
    "keyword lines": WithoutKeywordLines().apply,
    "C4": lambda document: [
        step.apply(document) if isinstance(step, C4Lines) else step.reason(document)
        for step in c4_steps()
    ],
    "Gopher": GopherQuality().reason,
    "repetition": GopherRepetition().reason,
    "toxicity": ToxicityFilter().reason,
}


def seconds(step: Callable[[Document], object], text: str) -> float:
    started = time.process_time()
    step(page(text))
    return time.process_time() - started


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("run", RUNS)
def test_time_grows_with_the_length_of_a_run(run: str, step: str) -> None:
    # Eight times the length takes eight times as long, sixty-four times where time is quadratic.
    unit, begins = RUNS[run], ("", "powered by a", "you are", "share", "<a b", "subscribe to")
    texts = [[begin + unit * (n // len(unit)) + " x%" for begin in begins] for n in (4000, 32000)]
    short, long = (sum(seconds(STEPS[step], text) for text in part) for part in texts)
    assert long < max(0.05, 24 * short)
