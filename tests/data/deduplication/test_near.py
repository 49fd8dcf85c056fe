"""MinHash signatures, LSH and the near-duplicates that they lead to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data import Document, fixed_corpus
from llmlib.data.deduplication.near import near_duplicates
from llmlib.data.deduplication.near.exact_join import similar_pairs
from llmlib.data.deduplication.near.lsh import candidate_probability, lsh_candidates, tune_bands
from llmlib.data.deduplication.near.minhash import estimated_jaccard, minhash_signatures
from llmlib.data.deduplication.near.near_duplicates import (
    deduplicate_near,
    near_duplicate_clusters,
    near_duplicate_pairs,
)
from llmlib.data.deduplication.near.shingles import ShingleSets, jaccard, shingle_sets
from llmlib.data.deduplication.near.union_find import clusters
from llmlib.data.deduplication.window_hashes import mix


def sets_of(members: list[np.ndarray]) -> ShingleSets:
    """Sets of integers in the form that shingles take."""
    hashed = [np.sort(mix(m.astype(np.uint64)) >> np.uint64(12)) for m in members]
    bounds = np.concatenate([[0], np.cumsum([len(h) for h in hashed])])
    return ShingleSets(hashes=np.concatenate(hashed), bounds=bounds)


def pairs_of_similarity(shared: int, own: int, n_pairs: int) -> ShingleSets:
    """Pairs of sets with `shared` common members and `own` further ones each."""
    members, start = [], 0
    for _ in range(n_pairs):
        common = np.arange(start, start + shared)
        rest = np.arange(start + shared, start + shared + 2 * own)
        members += [np.concatenate([common, rest[:own]]), np.concatenate([common, rest[own:]])]
        start += shared + 2 * own
    return sets_of(members)


def test_a_signature_holds_the_minimum_of_each_function_whatever_the_chunks():
    rng = np.random.default_rng(0)
    sets = sets_of([rng.integers(0, 1 << 40, size) for size in (5003, 0, 1, 2048, 0, 3, 4099, 0)])
    factor, shift = np.random.default_rng(7).integers(0, 1 << 32, (2, 13, 1), dtype=np.uint32)
    expected = np.full((8, 13), 2**32 - 1, np.uint32)
    for number in range(8):
        if len(sets[number]):
            low = sets[number].astype(np.uint32)
            expected[number] = ((factor | np.uint32(1)) * low + shift).min(axis=1)
    assert (minhash_signatures(sets, 13, seed=7) == expected).all()


@pytest.mark.covers("data.dedup-minhash")
@pytest.mark.parametrize(("shared", "own"), [(19, 76), (53, 23), (83, 11), (7, 1)])
def test_components_agree_with_the_probability_of_the_jaccard_similarity(shared, own):
    sets = pairs_of_similarity(shared, own, n_pairs=211)
    left = np.arange(0, 422, 2)
    similarity = shared / (shared + 2 * own)
    assert jaccard(sets, left, left + 1) == pytest.approx(np.full(211, similarity))
    estimates = estimated_jaccard(minhash_signatures(sets, 256), left, left + 1)
    # Components of a pair are independent; the pairs share functions, which their different
    # elements make nearly independent too. Four standard errors.
    error = (similarity * (1 - similarity) / (256 * 211)) ** 0.5
    assert abs(estimates.mean() - similarity) < 4 * error
    spread = (similarity * (1 - similarity) / 256) ** 0.5
    assert estimates.std() == pytest.approx(spread, rel=0.2)


@pytest.mark.covers("data.dedup-minhash")
@pytest.mark.parametrize(("bands", "rows"), [(18, 7), (9, 13), (32, 4)])
def test_the_share_of_candidates_lies_on_the_theoretical_curve(bands, rows):
    n_pairs, deviations = 307, []
    for shared, own in ((30, 35), (40, 30), (50, 25), (60, 20), (70, 15), (80, 10), (90, 5)):
        sets = pairs_of_similarity(shared, own, n_pairs)
        left, right = lsh_candidates(minhash_signatures(sets, bands * rows), bands, rows)
        found = np.count_nonzero((left % 2 == 0) & (right == left + 1))
        theory = candidate_probability(shared / (shared + 2 * own), bands, rows)
        variance = n_pairs * theory * (1 - theory)
        deviations.append((found - n_pairs * theory) / max(variance, 1.0) ** 0.5)
    # Seven binomial counts: their squared deviations sum to a chi-squared variable of at most
    # seven degrees of freedom, above 24.3 once in a thousand.
    assert sum(d * d for d in deviations) < 24.3, deviations


@given(st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), max_size=13))
@settings(max_examples=50, deadline=None)
def test_candidates_are_the_pairs_that_share_a_band(rows):
    signatures = np.array(rows, np.uint32).reshape(-1, 6)
    left, right = lsh_candidates(signatures, bands=3, rows=2)
    expected = [
        (a, b)
        for a in range(len(rows))
        for b in range(a + 1, len(rows))
        if any(rows[a][k : k + 2] == rows[b][k : k + 2] for k in (0, 2, 4))
    ]
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == expected


def test_the_tuned_bands_have_the_smallest_cost():
    for threshold, n_hashes, weights in ((0.5, 61, (0.5, 0.5)), (0.8, 37, (0.1, 0.9))):
        s = (np.arange(500) + 0.5) / 500
        costs = {}
        for rows in range(1, n_hashes + 1):
            for bands in range(1, n_hashes // rows + 1):
                p = candidate_probability(s, bands, rows)
                areas = np.where(s < threshold, weights[0] * p, weights[1] * (1 - p))
                costs[bands, rows] = float(areas.mean())
        best = min(costs.values())
        assert costs[tune_bands(threshold, n_hashes, weights)] <= best * 1.001
    with pytest.raises(ValueError, match="between 0 and 1"):
        tune_bands(1.0, 128)
    with pytest.raises(ValueError, match="zero or more"):
        tune_bands(0.5, 128, (-0.1, 0.9))


@given(
    st.lists(st.sets(st.integers(0, 11), max_size=9), min_size=1, max_size=11),
    st.sampled_from([0.3, 0.5, 0.75, 0.8, 1.0]),
)
@settings(max_examples=100, deadline=None)
def test_the_exact_join_finds_every_similar_pair(members, threshold):
    sets = sets_of([np.array(sorted(m), np.int64) for m in members])
    left, right = np.triu_indices(len(members), 1)
    similar = jaccard(sets, left, right) >= threshold
    expected = list(zip(left[similar].tolist(), right[similar].tolist(), strict=True))
    found = zip(*(part.tolist() for part in similar_pairs(sets, threshold)), strict=True)
    assert list(found) == expected


@pytest.mark.covers("data.dedup-minhash")
def test_recall_and_precision_against_exact_jaccard_on_the_fixed_corpus():
    # One copy of each document, so that the hard pairs count and not the copies.
    texts = list(dict.fromkeys(document.text for document in fixed_corpus()))
    sets = shingle_sets(texts)
    exact = set(zip(*(part.tolist() for part in similar_pairs(sets, 0.8)), strict=True))
    assert len(exact) > 50
    for seed in range(3):
        left, right = near_duplicate_pairs(sets, 0.8, seed=seed)
        found = set(zip(left.tolist(), right.tolist(), strict=True))
        # Equal sets are linked to their first only, which costs no cluster.
        assert found <= exact
        assert len(found) >= 0.95 * len(exact)


def corpus(*texts: str) -> list[Document]:
    return [Document(text=text, source=f"d{i}") for i, text in enumerate(texts)]


def test_the_first_of_each_cluster_stays_and_chains_are_one_cluster():
    words = [f"w{number}" for number in range(70)]
    a, b, c = (" ".join(words[start : start + 55]) for start in (0, 5, 10))
    documents = corpus("other", c, "", a, b, a.upper(), "other", " \n")
    sets = shingle_sets([a, b, c])
    chain = jaccard(sets, np.array([0, 1, 0]), np.array([1, 2, 2]))
    assert chain.min() < 0.8 < chain.max()
    kept, dropped = deduplicate_near(documents)
    assert [d.source for d in kept] == ["d0", "d1", "d2", "d5"]
    assert [(d.document.source, d.reason) for d in dropped] == [
        ("d3", "near-duplicate of d1"),
        ("d4", "near-duplicate of d1"),
        ("d6", "near-duplicate of d0"),
        ("d7", "near-duplicate of d2"),
    ]
    assert len(deduplicate_near(documents, normalize=str.lower)[0]) == 3


CHINESE = (
    "社区图书馆每周六上午开放，附近的居民可以带着孩子来看书。管理员会讲故事，也会教大家修补旧书。"
    "去年冬天，屋顶漏水，许多人自愿来帮忙，把书搬到楼上晒干。"
)
JAPANESE = (
    "図書館は毎週土曜日の午前に開きます。近所の人々は子どもを連れて本を読みに来ます。"
    "去年の冬、屋根から雨がもれて、多くの人が本を二階へ運ぶのを手伝いました。"
)
THAI = (
    "ห้องสมุดเปิดทุกเช้าวันเสาร์ ชาวบ้านพาเด็กมาอ่านหนังสือและฟังนิทาน "
    "เมื่อฤดูหนาวปีก่อนหลังคารั่วหลายคนอาสามาช่วยยกหนังสือขึ้นไปตากแดด"
)


@pytest.mark.parametrize(
    ("text", "changed", "other"),
    [
        (CHINESE, CHINESE.replace("周六", "周日"), CHINESE[::-1]),
        (JAPANESE, JAPANESE.replace("土曜", "日曜"), JAPANESE[::-1]),
        (THAI, THAI.replace("เสาร์", "ศุกร์"), "".join(sorted(THAI))),
        (f"iPhone 说明：{CHINESE}", f"iPhone 说明：{CHINESE}（完）", "iPhone 说明：请看背面"),
    ],
    ids=["Chinese", "Japanese", "Thai", "mixed"],
)  # fmt: skip
def test_near_duplicates_in_scripts_without_spaces(text, changed, other):
    kept, dropped = deduplicate_near(corpus(text, changed, other))
    assert [d.source for d in kept] == ["d0", "d2"]
    assert dropped[0].reason == "near-duplicate of d0"


@pytest.mark.parametrize("few", [1, 3, 16])
def test_clusters_are_what_the_pairs_connect(monkeypatch, few):
    monkeypatch.setattr(near_duplicates, "_FEW", few)
    rng = np.random.default_rng(few)
    for threshold in (0.5, 0.7, 0.8, 0.9):
        texts = ["", " "]
        for _ in range(5):
            page = rng.integers(0, 1000, 61)
            for share in rng.choice([0, 0.02, 0.05], 13):
                changed = np.where(rng.random(61) < share, rng.integers(0, 1000, 61), page)
                texts.append(" ".join(map(str, changed)))
        sets = shingle_sets(texts, 2)
        expected = clusters(len(texts), *near_duplicate_pairs(sets, threshold))
        assert (near_duplicate_clusters(sets, threshold) == expected).all()
        assert 2 < len(set(expected.tolist())) < len(texts)


@pytest.mark.parametrize(("own", "n_kept"), [(11, 1), (31, None)])
def test_pages_of_one_template_are_not_compared_pair_by_pair(monkeypatch, own, n_kept):
    """Counted are the pairs measured one by one; a large bucket is measured a document at once."""
    template = " ".join(f"t{number}" for number in range(200))
    rng = np.random.default_rng(0)
    texts = [" ".join([template, *map(str, rng.integers(0, 1 << 40, own))]) for _ in range(503)]
    compared = 0

    def counted(sets, left, right):
        nonlocal compared
        compared += len(left)
        return jaccard(sets, left, right)

    monkeypatch.setattr(near_duplicates, "jaccard", counted)
    kept, _ = deduplicate_near(corpus(*texts))
    assert len(kept) == (n_kept or len(texts))
    assert compared < 16 * len(texts)  # all pairs are 251 times as many


def test_nothing_to_do_and_bad_settings():
    assert deduplicate_near([]) == ([], [])
    assert len(deduplicate_near(corpus("alone"))[0]) == 1
    with pytest.raises(ValueError, match="threshold"):
        deduplicate_near(corpus("a", "b"), threshold=0.0)
    with pytest.raises(ValueError, match="3 bands of 2 need 6"):
        lsh_candidates(np.zeros((2, 5), np.uint32), 3, 2)
    with pytest.raises(ValueError, match="at least one hash"):
        minhash_signatures(shingle_sets(["a"]), 0)


@pytest.mark.parametrize("hidden", ["\u200b", "\u2060", "\ufeff"])
def test_characters_without_width_hide_no_copy(hidden):
    letters = np.random.default_rng(0).integers(0x1780, 0x17B3, 300)
    text = "".join(map(chr, letters))
    copy = hidden.join(text[start : start + 4] for start in range(0, 300, 4))
    documents = [Document(text=t, source="x") for t in (text, copy)]
    assert len(deduplicate_near(documents)[0]) == 1
