"""Faults between processes: what replicas, split layers, stages and pieces of rows do apart."""

from museum.parallel_faults_context import CONTEXT_FAULTS
from museum.parallel_faults_data import DATA_PARALLEL_FAULTS
from museum.parallel_faults_pipeline import PIPELINE_FAULTS
from museum.parallel_faults_tensor import TENSOR_PARALLEL_FAULTS

EXHIBITS = [*DATA_PARALLEL_FAULTS, *TENSOR_PARALLEL_FAULTS, *PIPELINE_FAULTS, *CONTEXT_FAULTS]
