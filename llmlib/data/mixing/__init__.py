"""Mixtures of sources: fixed, learnt or changing weights, and documents chosen or drawn by them."""

from llmlib.data.mixing.curriculum import Curriculum, Stage
from llmlib.data.mixing.doremi import LearnedMixture, clipped_excess, doremi
from llmlib.data.mixing.dsir import ImportanceModel, gumbel_top_k, ngram_buckets
from llmlib.data.mixing.influence import influence
from llmlib.data.mixing.mixtures import capped, epochs_of, proportional, temperature
from llmlib.data.mixing.sampler import MixtureSampler

__all__ = [
    "Curriculum",
    "ImportanceModel",
    "LearnedMixture",
    "MixtureSampler",
    "Stage",
    "capped",
    "clipped_excess",
    "doremi",
    "epochs_of",
    "gumbel_top_k",
    "influence",
    "ngram_buckets",
    "proportional",
    "temperature",
]
