"""MinHash and LSH against datasketch."""

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from datasketch.lsh import _optimal_param

from llmlib.data import fixed_corpus
from llmlib.data.deduplication.near.lsh import tune_bands
from llmlib.data.deduplication.near.minhash import estimated_jaccard, minhash_signatures
from llmlib.data.deduplication.near.near_duplicates import near_duplicate_pairs
from llmlib.data.deduplication.near.shingles import jaccard, shingle_sets


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.1, 0.9)])
def test_the_same_bands_are_chosen(threshold, weights):
    assert tune_bands(threshold, 61, weights) == _optimal_param(threshold, 61, *weights)


def words_of(text: str, n: int = 5) -> set[bytes]:
    words = text.split()
    return {" ".join(words[k : k + n]).encode() for k in range(max(1, len(words) - n + 1))}


@pytest.mark.covers("data.dedup-minhash")
def test_the_same_near_duplicates_and_estimates_as_close():
    texts = list(dict.fromkeys(document.text for document in fixed_corpus()))
    # A part in which near-duplicates are common: those that have a near one in the whole.
    alike = np.unique(np.concatenate(near_duplicate_pairs(shingle_sets(texts), 0.6)))
    texts = [texts[index] for index in alike[:211]]
    sets = shingle_sets(texts)
    lsh = MinHashLSH(params=tune_bands(0.8, 128, (0.01, 0.99)), num_perm=128)
    sketches = []
    candidates = set()
    for number, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch(words_of(text))
        candidates |= {(int(str(other)), number) for other in lsh.query(sketch)}
        lsh.insert(number, sketch)
        sketches.append(sketch)
    left, right = np.array(sorted(candidates)).T
    exact = jaccard(sets, left, right)
    theirs = np.array([sketches[a].jaccard(sketches[b]) for a, b in zip(left, right, strict=True)])
    ours = estimated_jaccard(minhash_signatures(sets), left, right)
    assert len(left) > 20
    # Two estimates of one number, each with a standard deviation of at most 0.045.
    assert np.abs(ours - theirs).max() < 5 * 0.045 * 2**0.5
    assert np.sqrt(np.mean((ours - exact) ** 2)) < 0.05
    assert np.sqrt(np.mean((theirs - exact) ** 2)) < 0.05
    similar = {pair for pair, j in zip(sorted(candidates), exact, strict=True) if j >= 0.8}
    pairs = near_duplicate_pairs(sets, 0.8)
    assert similar == set(zip(*(part.tolist() for part in pairs), strict=True))
