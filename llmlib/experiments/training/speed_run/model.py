"""The decoder with those tricks of public speed runs that have no field in its configuration."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from llmlib.architecture.caches.base import Cache
from llmlib.architecture.context import PLAIN, Layout
from llmlib.architecture.transformer import Transformer
from llmlib.core.seeding import seed_everything
from llmlib.experiments.training.speed_run.recipe import Recipe


class SpeedDecoder(Transformer):
    """A decoder to train, not to generate with: what it adds keeps no cache."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe.model_config)
        self.recipe = recipe
        width, layers = self.config.d_model, self.config.n_layers
        if recipe.value_embeddings:
            self.values = nn.ModuleDict({
                str(layer): nn.Embedding(self.config.vocab_size, width) for layer in {0, layers - 1}
            })  # fmt: skip
            for table in self.values.values():
                nn.init.normal_(table.get_parameter("weight"), std=self.config.init_std)
            self.found: dict[int, Tensor] = {}
            for layer in (0, layers - 1):
                product = self.blocks[layer].get_submodule("mixer.qkv")
                product.register_forward_hook(self._adding(layer))
        if recipe.first_skip:
            self.skips = nn.Parameter(torch.tensor([[1.0, 0.0]] * layers))
        if recipe.shift:
            self.shifts = nn.Parameter(torch.zeros(width))
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if (recipe.zero_outputs and name.endswith(".out.weight")) or (
                    recipe.zero_head and name == "head.weight"
                ):
                    parameter.zero_()

    def _adding(self, layer: int) -> Callable[[nn.Module, object, Tensor], Tensor]:
        width = self.config.d_model

        def add(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            before, values = output.split((2 * width, width), dim=-1)
            return torch.cat((before, values + self.found[layer]), dim=-1)

        return add

    @override
    def hidden(
        self, tokens: Tensor, *, layout: Layout = PLAIN, cache: Cache | None = None
    ) -> Tensor:
        recipe = self.recipe
        if not (recipe.value_embeddings or recipe.first_skip or recipe.shift):
            return super().hidden(tokens, layout=layout, cache=cache)
        assert cache is None
        context = self.context(tokens, layout=layout)
        x = self.embed(tokens, context)
        if recipe.shift:
            x = x + self.shifts * F.pad(x[:, :-1], (0, 0, 1, 0))
        if recipe.value_embeddings:
            self.found = {int(layer): table(tokens) for layer, table in self.values.items()}
        first = x
        for layer, block in enumerate(self.blocks):
            if recipe.first_skip:
                keep, mix = self.skips[layer]
                x = keep * x + mix * first
            x = block(x, context, None)
        return self.norm(x)


def build(recipe: Recipe, seed: int) -> SpeedDecoder:
    seed_everything(seed)
    return SpeedDecoder(recipe)
