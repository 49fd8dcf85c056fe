"""Layers that mix tokens without attention: they train in parallel and decode with a state."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.architecture.recurrent.convolution import causal_convolution
    from llmlib.architecture.recurrent.h3 import H3
    from llmlib.architecture.recurrent.hyena import Hyena
    from llmlib.architecture.recurrent.mamba import Mamba
    from llmlib.architecture.recurrent.retnet import (
        Retention,
        chunked_retention,
        parallel_retention,
        recurrent_retention,
    )
    from llmlib.architecture.recurrent.rwkv import ChannelMix, TimeMix, parallel_wkv, recurrent_wkv
    from llmlib.architecture.recurrent.s4 import S4, ssm_convolution, ssm_kernel, ssm_recurrence
    from llmlib.architecture.recurrent.scan import linear_scan, parallel_scan_, sequential_scan
    from llmlib.architecture.recurrent.selective import (
        recurrent_selective_scan,
        selective_scan,
    )

__getattr__, __dir__, __all__ = lazy_face(__name__)
