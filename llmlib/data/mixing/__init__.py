"""Mixtures of sources: fixed, learnt or changing weights, and documents chosen or drawn by them."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.data.mixing.curriculum import Curriculum, Stage
    from llmlib.data.mixing.doremi_mixture import clipped_excess, doremi
    from llmlib.data.mixing.dsir import ImportanceModel, gumbel_top_k
    from llmlib.data.mixing.influence_functions import influence
    from llmlib.data.mixing.mixtures import capped, epochs_of, proportional, temperature
    from llmlib.data.mixing.sampler import MixtureSampler

__getattr__, __dir__, __all__ = lazy_face(__name__)
