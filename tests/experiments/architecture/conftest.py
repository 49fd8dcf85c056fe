"""Models whose context matters without training."""

from collections.abc import Callable

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer


@pytest.fixture
def with_large_weights() -> Callable[[ModelConfig], Transformer]:
    """Return what builds a model of matrices larger than at the start, so that context matters."""

    def build(config: ModelConfig) -> Transformer:
        model = Transformer(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(4)
        return model.eval()

    return build
