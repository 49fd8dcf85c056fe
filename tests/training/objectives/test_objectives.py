"""Objectives: what counts, what is cut out and put back, and UL2's seven denoisers as published."""

from itertools import pairwise

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import Layout, ModelConfig, Transformer
from llmlib.core.batch import IGNORE
from llmlib.training.objectives import (
    UL2_DENOISERS,
    Denoiser,
    SpecialTokens,
    as_one_sequence,
    corrupt_spans,
    language_modeling,
    mixture_of_denoisers,
    prefix_language_modeling,
    random_span_mask,
    restore_spans,
    span_corruption,
    span_counts,
    split_prefix,
)
from llmlib.training.objectives.masked_spans import CorruptedText

SPECIAL = SpecialTokens(n_text_tokens=101, n_sentinels=307)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def texts(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(101, (rows, length), generator=generator(seed))


def spans_of(mask: Tensor) -> list[int]:
    """Lengths of the runs of True of one row."""
    lengths, run = [], 0
    for cut in [*mask.tolist(), False]:
        if cut:
            run += 1
        elif run:
            lengths.append(run)
            run = 0
    return lengths


# Language modeling, with and without a prefix


@pytest.mark.covers("arch.task-lm")
def test_language_modeling_equals_masked_cross_entropy():
    tokens = texts(3, 24)
    logits = torch.randn(3, 23, 101, generator=generator(1), dtype=torch.float64)
    log_p = logits.log_softmax(dim=-1)

    batch = language_modeling(tokens)
    loss = F.cross_entropy(logits.mT, batch["targets"], ignore_index=IGNORE)
    by_hand = -sum(log_p[b, t, tokens[b, t + 1]] for b in range(3) for t in range(23)) / (3 * 23)
    torch.testing.assert_close(loss, by_hand)

    prefixes = torch.tensor([1, 7, 23])
    batch = prefix_language_modeling(tokens, prefix_lengths=prefixes)
    loss = F.cross_entropy(logits.mT, batch["targets"], ignore_index=IGNORE)
    counted = [(b, t) for b in range(3) for t in range(23) if t + 1 >= prefixes[b]]
    assert len(counted) == 23 + 17 + 1
    by_hand = -sum(log_p[b, t, tokens[b, t + 1]] for b, t in counted) / len(counted)
    torch.testing.assert_close(loss, by_hand)
    assert torch.equal(batch["inputs"], tokens[:, :-1])


@pytest.mark.covers("arch.task-lm")
@pytest.mark.parametrize("prefix", [2, 11, 22])
def test_changing_a_prefix_target_leaves_the_loss_unchanged(prefix):
    tokens = texts(2, 24)
    logits = torch.randn(2, 23, 101, generator=generator(1))

    def loss(tokens: Tensor) -> Tensor:
        lengths = torch.tensor([prefix, prefix])
        batch = prefix_language_modeling(tokens, prefix_lengths=lengths)
        return F.cross_entropy(logits.mT, batch["targets"], ignore_index=IGNORE)

    changed = tokens.clone()
    changed[:, :prefix] = (changed[:, :prefix] + 1) % 101
    assert torch.equal(loss(changed), loss(tokens))
    changed[:, prefix] = (changed[:, prefix] + 1) % 101  # the first token behind the prefix
    assert not torch.equal(loss(changed), loss(tokens))


@torch.no_grad()
@pytest.mark.covers("arch.prefix-decoder")
def test_the_prefix_sees_itself_whole_and_nothing_behind_it():
    torch.manual_seed(3)
    config = ModelConfig(
        vocab_size=101, d_model=52, n_layers=3, n_heads=2, max_seq_len=37, mask="prefix"
    )
    model = Transformer(config).eval()
    tokens, prefixes = texts(3, 13), torch.tensor([1, 5, 13])

    def read(tokens: Tensor) -> Tensor:
        return model.hidden(tokens, layout=Layout(prefix_lengths=prefixes))

    before, moved = read(tokens), []
    for place in range(13):
        changed = tokens.clone()
        changed[:, place] = (changed[:, place] + 1) % 101
        moved.append((read(changed) - before).abs().amax(dim=-1) > 1e-6)  # [B, T]
    places = torch.arange(13)
    earlier = places <= places[:, None]
    expected = earlier | (places < prefixes[:, None, None])  # [B, T, S]
    assert torch.equal(torch.stack(moved, dim=-1), expected)


def test_prefixes_are_drawn_from_all_lengths_alike():
    batch = prefix_language_modeling(texts(4001, 6), generator=generator(2))
    counts = batch["prefix_lengths"].bincount(minlength=7)
    assert counts[0] == counts[6] == 0
    assert (counts[1:6] - 4001 / 5).abs().max() < 4 * (4001 / 5 * 4 / 5) ** 0.5
    again = prefix_language_modeling(texts(4001, 6), generator=generator(2))
    assert torch.equal(batch["prefix_lengths"], again["prefix_lengths"])


@pytest.mark.parametrize("length", [0, 6])
def test_a_prefix_that_leaves_nothing_is_refused(length):
    with pytest.raises(ValueError, match="between 1 and 5"):
        prefix_language_modeling(texts(2, 6), prefix_lengths=torch.tensor([3, length]))
    with pytest.raises(ValueError, match=f"prefix_length={length} must lie between 1 and 5"):
        split_prefix(texts(2, 6), SPECIAL, length)


def test_each_text_has_a_prefix_and_something_behind_it(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside of tests
    with pytest.raises(ValueError, match="1 prefix_lengths for 2 texts"):
        prefix_language_modeling(texts(2, 6), prefix_lengths=torch.tensor([3]))
    for n_rows, length in ((2, 1), (0, 6)):
        with pytest.raises(ValueError, match=f"{n_rows} texts of {length} tokens"):
            prefix_language_modeling(texts(n_rows, length))


def test_a_split_text_in_one_sequence_is_prefix_language_modeling():
    tokens = texts(3, 13)
    split = split_prefix(tokens, SPECIAL, 5)
    assert split["decoder_inputs"][:, 0].tolist() == [SPECIAL.pad] * 3
    joined = as_one_sequence(split, SPECIAL)
    direct = prefix_language_modeling(tokens, prefix_lengths=torch.tensor([5, 5, 5]))
    assert torch.equal(joined["inputs"], direct["inputs"])
    assert torch.equal(joined["targets"], direct["targets"])
    assert torch.equal(joined["prefix_lengths"], direct["prefix_lengths"])


# Span corruption


def test_the_published_example():
    # Figure 2 of Raffel et al. (2020): "Thank you for inviting me to your party last week".
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week"]
    special = SpecialTokens(n_text_tokens=10, n_sentinels=3)
    mask = torch.tensor([[word in {"for", "inviting", "last"} for word in words]])
    text = corrupt_spans(torch.arange(10)[None], mask, special)
    names = {**dict(enumerate(words)), **{special.sentinel + k: "<XYZ>"[1 + k] for k in range(3)}}
    assert (
        " ".join(names[i] for i in text.inputs[0].tolist()) == "Thank you X me to your party Y week"
    )
    assert " ".join(names[i] for i in text.targets[0].tolist()) == "X for inviting Y last Z"


@pytest.mark.covers("arch.task-denoising")
@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(2, 71),
    rate=st.floats(0.01, 0.99),
    mean_span=st.floats(1, 40),
    seed=st.integers(0, 1000),
)
def test_spans_reconstruct_the_input(length, rate, mean_span, seed):
    tokens = texts(5, length, seed)
    mask = random_span_mask(5, length, rate=rate, mean_span=mean_span, generator=generator(seed))
    n_noise, n_spans = span_counts(length, rate, mean_span)
    assert mask.sum(dim=1).tolist() == [n_noise] * 5
    assert [len(spans_of(row)) for row in mask] == [n_spans] * 5
    assert not mask[:, 0].any()
    assert mask[:, -1].all()

    text = corrupt_spans(tokens, mask, SPECIAL)
    assert text.inputs.shape == (5, length - n_noise + n_spans)
    assert text.targets.shape == (5, n_noise + n_spans + 1)
    restored, lengths = restore_spans(text, SPECIAL)
    assert torch.equal(restored, tokens)
    assert lengths.tolist() == [length] * 5


@pytest.mark.covers("arch.task-denoising")
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_spans_reconstruct_the_input(data):
    # Rows of unequal corruption, spans at the start or nowhere: shapes that T5 never makes.
    rows, length = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 23))
    cut = st.lists(st.booleans(), min_size=length, max_size=length)
    mask = torch.tensor([data.draw(cut) for _ in range(rows)])
    tokens = texts(rows, length)
    text = corrupt_spans(tokens, mask, SPECIAL)
    restored, lengths = restore_spans(text, SPECIAL)
    assert torch.equal(restored, tokens)
    assert lengths.tolist() == [length] * rows
    for row in range(rows):
        kept = text.inputs[row, : text.input_lengths[row]]
        assert kept[kept < 101].tolist() == tokens[row][~mask[row]].tolist()
        assert (text.inputs[row, text.input_lengths[row] :] == SPECIAL.pad).all()
        assert (text.targets[row, text.target_lengths[row] :] == SPECIAL.pad).all()


def test_every_way_to_cut_is_equally_likely():
    # 7 tokens, 3 cut out in 2 spans: 3 ways to part the kept ones times 2 to part the others.
    mask = random_span_mask(6007, 7, rate=3 / 7, mean_span=1.5, generator=generator(3))
    ways, counts = mask.unique(dim=0, return_counts=True)
    assert len(ways) == 6
    assert (counts - 6007 / 6).abs().max() < 4 * (6007 / 6 * 5 / 6) ** 0.5
    # Anywhere: 5 x 4 / 2 ways to part the 4 kept ones round 2 spans, times 2.
    mask = random_span_mask(
        20011, 7, rate=3 / 7, mean_span=1.5, anywhere=True, generator=generator(4)
    )
    ways, counts = mask.unique(dim=0, return_counts=True)
    assert len(ways) == 20
    assert all(sum(spans_of(row)) == 3 and len(spans_of(row)) == 2 for row in ways)
    assert (counts - 20011 / 20).abs().max() < 4 * (20011 / 20 * 19 / 20) ** 0.5


def test_one_sequence_goes_on_behind_a_target_that_does_not_count():
    batch = split_prefix(torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]]), SPECIAL, 2)
    batch["targets"][0, 1] = IGNORE
    batch["targets"][1] = IGNORE
    one = as_one_sequence(batch, SPECIAL)
    assert one["inputs"][0].tolist() == [3, 1, 4, 1]
    assert one["targets"].tolist() == [[IGNORE, 4, IGNORE, 5], [IGNORE] * 4]


@pytest.mark.parametrize(
    "broken",
    [
        ([[7, 108, 9]], [3], [[105, 5, 106]], [3]),  # the inputs skip a sentinel
        ([[7, 105, 9]], [3], [[105, 5, 6]], [3]),  # no end
        ([[7, 105, 9]], [3], [[5, 105, 106]], [3]),  # a token before its sentinel
        ([[7, 105, 9]], [3], [[105, 5, 106, 6]], [4]),  # a token after the end
        ([[7, 105, 106]], [3], [[105, 5, 106]], [3]),  # a span is missing
    ],
)
def test_parts_that_do_not_belong_together_are_refused(broken):
    text = CorruptedText(*(torch.tensor(part) for part in broken))
    with pytest.raises(ValueError, match="sentinels"):
        restore_spans(text, SPECIAL)


def test_corruption_out_of_range_is_refused():
    few = SpecialTokens(n_text_tokens=101, n_sentinels=2)
    with pytest.raises(ValueError, match="2 spans and the end need 3 sentinels"):
        corrupt_spans(texts(1, 4), torch.tensor([[True, False, True, False]]), few)
    with pytest.raises(ValueError, match="the text holds token 101, which is no text token"):
        corrupt_spans(torch.tensor([[5, 101]]), torch.tensor([[False, True]]), few)
    with pytest.raises(ValueError, match="n_sentinels=1"):
        SpecialTokens(n_text_tokens=101, n_sentinels=1)
    for length, rate, mean_span in ((1, 0.5, 1.0), (9, 1.0, 1.0), (9, 0.5, 0.5)):
        with pytest.raises(ValueError, match="must be at least 2"):
            span_counts(length, rate, mean_span)


def test_the_decoder_reads_its_targets_one_later():
    batch = span_corruption(texts(3, 40), SPECIAL, generator=generator())
    assert batch["decoder_inputs"][:, 0].tolist() == [SPECIAL.pad] * 3
    assert torch.equal(batch["decoder_inputs"][:, 1:], batch["targets"][:, :-1])
    # round(0.15 x 40) = 6 tokens in 2 spans: 36 stay or are sentinels, 6 + 2 + 1 are said.
    assert batch["encoder_inputs"].shape == (3, 36)
    assert batch["targets"].shape == (3, 9)
    assert (batch["targets"][:, 0] == SPECIAL.sentinel).all()
    assert (batch["targets"][:, -1] == SPECIAL.sentinel + 2).all()


@settings(max_examples=40, deadline=None)
@given(length=st.integers(2, 53), seed=st.integers(0, 1000))
def test_one_sequence_holds_both_halves(length, seed):
    batch = mixture_of_denoisers(texts(7, length, seed), SPECIAL, generator=generator(seed))
    one = as_one_sequence(batch, SPECIAL)
    for row in range(7):
        n_prefix = int(batch["encoder_lengths"][row])
        said = batch["targets"][row][batch["targets"][row] != IGNORE].tolist()
        whole = [*batch["encoder_inputs"][row, :n_prefix].tolist(), *said]
        n_inputs = len(whole) - 1
        assert one["inputs"][row, :n_inputs].tolist() == whole[:-1]
        assert (one["inputs"][row, n_inputs:] == SPECIAL.pad).all()
        expected = [IGNORE] * (n_prefix - 1) + said
        expected += [IGNORE] * (one["targets"].shape[1] - len(expected))
        assert one["targets"][row].tolist() == expected
    assert torch.equal(one["prefix_lengths"], batch["encoder_lengths"])


# Mixture of denoisers


@pytest.mark.covers("arch.task-mod")
@pytest.mark.parametrize(
    ("way", "mode", "rate", "mean_span"),
    [
        (0, "R", 0.15, 3), (1, "R", 0.15, 8), (2, "S", 0.25, 128), (3, "X", 0.5, 3),
        (4, "X", 0.5, 8), (5, "X", 0.15, 64), (6, "X", 0.5, 64),
    ],
)  # fmt: skip
def test_each_denoiser_is_as_published(way, mode, rate, mean_span):
    # Table 1 of Tay et al. (2022), texts of 512 tokens; a span count is a whole number, so the
    # mean length of a span is right to within half a span.
    denoiser = UL2_DENOISERS[way]
    masks = denoiser.mask(53, 512, generator())
    lengths = [spans_of(row) for row in masks]
    n_noise = masks.sum(dim=1).float().mean().item()
    assert denoiser.mode == mode
    assert n_noise / 512 == pytest.approx(rate, abs=0.5 / 512)
    n_spans = {len(row) for row in lengths}
    assert len(n_spans) == 1
    assert abs(n_noise / mean_span - n_spans.pop()) <= 0.5
    assert len(UL2_DENOISERS) == 7
    if mode == "S":
        assert all(row.tolist() == [False] * 384 + [True] * 128 for row in masks)
    else:  # they stand anywhere, a single one too; several vary in length round the mean
        assert 0 < masks[:, -1].float().mean() < 0.8
        drawn = torch.tensor([n for row in lengths for n in row], dtype=torch.float64)
        spread = (drawn.var() / len(drawn)) ** 0.5
        expected = n_noise / len(lengths[0])
        assert abs(drawn.mean() - expected) <= 3 * spread + 1e-9
        assert (drawn.min() < mean_span < drawn.max()) or len(lengths[0]) == 1


@pytest.mark.covers("arch.task-mod")
def test_the_mixture_names_each_row_and_restores_it():
    tokens = texts(701, 512)
    batch = mixture_of_denoisers(tokens, SPECIAL, generator=generator(5))
    counts = batch["denoisers"].bincount(minlength=7)
    assert (counts - 701 / 7).abs().max() < 4 * (701 / 7 * 6 / 7) ** 0.5
    modes = [SPECIAL.mode(UL2_DENOISERS[way].mode) for way in batch["denoisers"].tolist()]
    assert batch["encoder_inputs"][:, 0].tolist() == modes
    text = CorruptedText(
        batch["encoder_inputs"][:, 1:],
        batch["encoder_lengths"] - 1,
        batch["targets"],
        (batch["targets"] != IGNORE).sum(dim=1),
    )
    assert torch.equal(restore_spans(text, SPECIAL)[0], tokens)
    for way, denoiser in enumerate(UL2_DENOISERS):
        n_noise = span_counts(512, denoiser.rate, 512 if way == 2 else denoiser.mean_span)[0]
        said = text.target_lengths[batch["denoisers"] == way]
        n_spans = span_counts(512, denoiser.rate, 512 if way == 2 else denoiser.mean_span)[1]
        assert said.unique().tolist() == [n_noise + n_spans + 1]


def test_weights_choose_among_denoisers():
    ways = (Denoiser(mode="R", rate=0.15), Denoiser(mode="S", rate=0.25))
    batch = mixture_of_denoisers(
        texts(997, 16), SPECIAL, denoisers=ways, weights=(1.0, 3.0), generator=generator()
    )
    assert batch["denoisers"].float().mean().item() == pytest.approx(0.75, abs=0.05)
    with pytest.raises(ValueError, match="1 weights for 2 denoisers"):
        mixture_of_denoisers(texts(2, 16), SPECIAL, denoisers=ways, weights=(1.0,))


def test_a_seed_repeats_the_corruption():
    batches = [mixture_of_denoisers(texts(5, 31), SPECIAL, generator=generator(s)) for s in (1, 1)]
    assert torch.equal(batches[0]["encoder_inputs"], batches[1]["encoder_inputs"])
    other = mixture_of_denoisers(texts(5, 31), SPECIAL, generator=generator(2))
    assert not torch.equal(batches[0]["targets"], other["targets"])


def test_sentinels_count_up_one_a_span():
    batch = span_corruption(texts(2, 211), SPECIAL, rate=0.5, generator=generator())
    for row in batch["targets"]:
        found = [i for i in row.tolist() if i >= SPECIAL.sentinel]
        assert found[0] == SPECIAL.sentinel
        assert all(b - a == 1 for a, b in pairwise(found))


@pytest.mark.parametrize(
    "weights", [[0.0] * 7, [-1.0] + [1.0] * 6, [float("nan")] * 7, [float("inf")] + [1.0] * 6]
)
def test_weights_that_are_no_shares_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="one of them above 0"):
        mixture_of_denoisers(torch.ones(3, 31).long(), SPECIAL, weights=weights)


def test_no_text_and_no_way_to_corrupt_it_are_refused() -> None:
    none = torch.ones(0, 31).long()
    with pytest.raises(ValueError, match="give one text or more"):
        span_corruption(none, SPECIAL)
    with pytest.raises(ValueError, match="no text to corrupt"):
        mixture_of_denoisers(none, SPECIAL)
    with pytest.raises(ValueError, match="for one or more"):
        mixture_of_denoisers(torch.ones(3, 31).long(), SPECIAL, denoisers=())
    with pytest.raises(ValueError, match="mode='Q' is unknown"):
        SPECIAL.mode("Q")
    with pytest.raises(ValueError, match="mean_span=nan"):
        span_counts(31, 0.15, float("nan"))
