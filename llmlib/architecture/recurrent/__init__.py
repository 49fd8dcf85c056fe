"""Layers that mix tokens without attention: they train in parallel and decode with a state."""

from llmlib.architecture.recurrent.mamba import Mamba
from llmlib.architecture.recurrent.rwkv import ChannelMix, TimeMix, parallel_wkv, recurrent_wkv
from llmlib.architecture.recurrent.scan import linear_scan, parallel_scan_, sequential_scan
from llmlib.architecture.recurrent.selective import recurrent_selective_scan, selective_scan

__all__ = [
    "ChannelMix",
    "Mamba",
    "TimeMix",
    "linear_scan",
    "parallel_scan_",
    "parallel_wkv",
    "recurrent_selective_scan",
    "recurrent_wkv",
    "selective_scan",
    "sequential_scan",
]
