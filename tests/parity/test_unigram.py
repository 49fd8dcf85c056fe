"""Unigram against SentencePiece and Hugging Face tokenizers on the same text."""

import random

import pytest
import sentencepiece
from tokenizers import Tokenizer, models

from llmlib.data import king_james
from llmlib.data.tokenizers import SentencePieceModel, Unigram, learn_pieces
from llmlib.data.tokenizers.normalization import SPACE


@pytest.fixture(scope="module")
def lines() -> list[str]:
    text = "\n".join(chapter.text for chapter in king_james()[:61])
    return [line.strip() for line in text.split("\n") if line.strip()]


@pytest.mark.covers("data.tokenize-unigram")
def test_a_vocabulary_as_good_as_sentencepieces(lines: list[str]) -> None:
    """Same text, same words, same size: most pieces are shared, and ours fit no worse.

    73% are shared; with ours the text is 4.6% likelier (in nats) and takes 3.8% fewer tokens. The
    library's M-step has a digamma prior and drops pieces expected less than half a time; and it
    prunes to 1.1 times the size by loss, but the last tenth by probability alone.
    """
    size = 1009
    theirs = SentencePieceModel.train(
        lines,
        size + 3,
        normalization_rule_name="identity",
        character_coverage=1.0,
        split_by_unicode_script=False,  # ours may join a word and the comma after it
        split_by_number=False,
    )
    words: dict[str, int] = {}
    for line in lines:
        for word in line.split():
            words["▁" + word] = words.get("▁" + word, 0) + 1
    ours = learn_pieces(words, size)
    their_pieces = [(p, s) for p, s, kind in theirs.file.pieces if kind == 1]
    assert len(their_pieces) == len(ours.pieces) == size
    shared = len({p for p, _ in their_pieces} & {p for p, _ in ours.pieces}) / size
    both = [Unigram(pieces, cut="none") for pieces in (ours.pieces, their_pieces)]
    likelihood = [sum(n * u.log_probability(w) for w, n in words.items()) for u in both]
    tokens = [sum(n * len(u.encode(w)) for w, n in words.items()) for u in both]
    assert shared > 0.6
    assert likelihood[0] > likelihood[1]
    assert tokens[0] < tokens[1]


def test_n_best_lists_are_the_librarys(lines: list[str]) -> None:
    model = SentencePieceModel.train(
        lines[:401], 307, normalization_rule_name="identity", character_coverage=1.0
    )
    library = sentencepiece.SentencePieceProcessor(model_proto=model.model)
    pieces = [(p, s) for p, s, kind in model.file.pieces if kind == 1]
    ours = Unigram(pieces, ["<unk>", "<s>", "</s>"], byte_fallback=False, cut="none")
    for line in random.Random(2).sample(lines, 11):
        line = " ".join(line.split()[:5])
        theirs = library.nbest_encode_as_ids(line, 7)
        mine = ours.n_best(SPACE + line.replace(" ", SPACE), 7)
        assert [ids for ids, _ in mine][0] == theirs[0]
        # Ways with equal scores may stand in any order, so scores are compared.
        scores = [sum(pieces[i - 3][1] for i in ids) for ids in theirs]
        assert [p for _, p in mine] == pytest.approx(scores, abs=1e-4)


def test_ids_with_the_same_pieces_are_those_of_tokenizers(lines: list[str]) -> None:
    ours = Unigram.train(lines, 701, ["<unk>"], byte_fallback=False, cut="whitespace")
    theirs = Tokenizer(models.Unigram([("<unk>", 0.0), *ours.pieces], unk_id=0))
    differ = 0
    for word in {word for line in lines for word in line.split()}:
        differ += ours.encode(word) != theirs.encode(word).ids
    assert differ == 0
