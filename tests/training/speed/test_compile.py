import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILER = os.environ.get("CXX", "g++")
# A process of its own: the tests' checks of shapes cannot be traced.
PROGRAM = """
import torch
from llmlib.architecture import ModelConfig, Transformer
from llmlib.training import next_token_loss
from llmlib.training.distributed import Objective

torch.manual_seed(0)
torch.set_num_threads(1)
config = ModelConfig(vocab_size=101, d_model=32, n_layers=1, n_heads=2, max_seq_len=19)
model = Transformer(config)
tokens = torch.randint(101, (3, 18))
batch = {"inputs": tokens[:, :-1].contiguous(), "targets": tokens[:, 1:].contiguous()}
found = []
for compiles in (False, True):
    objective = Objective(model, next_token_loss)
    if compiles:
        objective.compile()
    model.zero_grad()
    loss = objective(batch)
    loss.backward()
    found.append([loss.detach(), *(p.grad for p in model.parameters())])
torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
from torch._dynamo.utils import counters
assert counters["inductor"], "nothing was compiled"
print("equal")
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(COMPILER) is None,
    reason=f"no {COMPILER} to compile the C++ that Inductor writes: compile=True is untested",
)
def test_a_compiled_step_has_the_loss_and_gradients_of_the_written_one(tmp_path: Path) -> None:
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.stdout.endswith("equal\n"), done.stderr[-2000:]
