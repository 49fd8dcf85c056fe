"""Which parameter gets which update, and each update against its equation."""

from copy import deepcopy
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llmlib.architecture import ModelConfig, Transformer
from llmlib.training import (
    CombinedOptimizer,
    Muon,
    TrainConfig,
    adamw,
    build_optimizer,
    muon_with_adamw,
    orthogonalize,
    param_groups,
    parameter_roles,
)
from llmlib.training.optimizers.muon import COEFFICIENTS, update_scale


def quintic(s: torch.Tensor, steps: int = 5) -> torch.Tensor:
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return s


def with_gradients(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


@settings(deadline=None)  # the first call loads LAPACK
@given(rows=st.integers(1, 13), columns=st.integers(1, 13), stack=st.integers(1, 3))
def test_orthogonalize_applies_the_quintic_to_the_singular_values(
    rows: int, columns: int, stack: int
) -> None:
    generator = torch.Generator().manual_seed(rows * 100 + columns)
    g = torch.randn(stack, rows, columns, dtype=torch.float64, generator=generator)
    u, s, vt = torch.linalg.svd(g, full_matrices=False)
    s = quintic(s / torch.linalg.vector_norm(s, dim=-1, keepdim=True))
    torch.testing.assert_close(orthogonalize(g), u @ torch.diag_embed(s) @ vt)


@pytest.mark.parametrize("shape", [(31, 31), (23, 47), (47, 23)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalize_is_near_the_polar_factor(shape: tuple[int, int], dtype: torch.dtype) -> None:
    g = torch.randn(shape)
    u, _, vt = torch.linalg.svd(g, full_matrices=False)
    nearly = orthogonalize(g, dtype=dtype).float()
    cosine = (nearly * (u @ vt)).sum() / (nearly.norm() * (u @ vt).norm())
    assert cosine > 0.97
    singular = torch.linalg.svdvals(nearly)
    # A square random matrix has singular values near 0, which five steps cannot lift to 1.
    assert singular.max() < 1.25
    assert singular.min() > 0.6 or shape[0] == shape[1]


def test_stacked_rows_of_no_parameter_are_refused() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Linear(3, 6))
    with pytest.raises(ValueError, match=r"ends in \['qvk\.weight'\]"):
        muon_with_adamw(model, stacked_rows={"1.weight": (3, 3), "qvk.weight": (3, 3)})


def test_float16_holds_the_products_of_gradients_of_any_size() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(7, 5)
    expected = orthogonalize(matrix, dtype=torch.float16)
    for size in (1e-6, 2.0**20):
        found = orthogonalize(matrix * size, dtype=torch.float16)
        torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("shape", [(0, 7), (5, 0), (3, 0, 5)])
def test_muon_leaves_a_matrix_without_numbers_alone(shape: tuple[int, ...]) -> None:
    weight = torch.zeros(shape, requires_grad=True)
    weight.grad = torch.zeros(shape)
    Muon([weight]).step()
    assert weight.shape == shape


def test_coefficients_may_be_whole_numbers() -> None:
    matrix = torch.eye(3)
    found = orthogonalize(matrix, 2, coefficients=(2, -1, 0))
    assert torch.equal(found, orthogonalize(matrix, 2, coefficients=(2.0, -1.0, 0.0)))


def test_orthogonalize_keeps_zero_and_separates_a_stack() -> None:
    stack = torch.stack([torch.zeros(5, 3), torch.randn(5, 3), 1e-3 * torch.randn(5, 3)])
    together = orthogonalize(stack)
    assert torch.equal(together[0], torch.zeros(5, 3))
    for one, row in zip(stack, together, strict=True):
        torch.testing.assert_close(orthogonalize(one), row)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["spectral", "rms"])
def test_muon_equals_its_equation(nesterov: bool, scale: str) -> None:
    w = nn.Parameter(torch.randn(7, 5))
    expected, m = w.detach().clone(), torch.zeros(7, 5)
    muon = Muon([w], 0.1, momentum=0.9, weight_decay=0.3, nesterov=nesterov, scale=scale)  # pyright: ignore[reportArgumentType]
    for _ in range(3):
        g = torch.randn(7, 5)
        w.grad = g
        muon.step()
        m = 0.9 * m + 0.1 * g
        o = orthogonalize(0.9 * m + 0.1 * g if nesterov else m)
        s = (7 / 5) ** 0.5 if scale == "spectral" else 0.2 * 7**0.5
        expected = (1 - 0.1 * 0.3) * expected - 0.1 * s * o
        torch.testing.assert_close(w.detach(), expected)


def test_muon_splits_stacked_matrices() -> None:
    w, apart = nn.Parameter(torch.zeros(8, 5)), [nn.Parameter(torch.zeros(n, 5)) for n in (3, 3, 2)]
    g = torch.randn(8, 5)
    w.grad = g
    for part, grad in zip(apart, g.split([3, 3, 2]), strict=True):
        part.grad = grad.clone()
    Muon([w], rows=(3, 3, 2)).step()
    Muon(apart).step()
    torch.testing.assert_close(w.detach(), torch.cat([part.detach() for part in apart]))


def test_muon_refuses_vectors_and_wrong_rows() -> None:
    with pytest.raises(ValueError, match="matrices, not a parameter of shape"):
        Muon([nn.Parameter(torch.zeros(3))])
    with pytest.raises(ValueError, match="do not add up to the 8 rows"):
        Muon([nn.Parameter(torch.zeros(8, 5))], rows=(3, 3))
    with pytest.raises(ValueError, match="no hidden matrix"):
        muon_with_adamw(nn.Embedding(3, 2))


def test_adamw_equals_its_equation() -> None:
    model = nn.Linear(5, 3)
    optimizer = adamw(model, 1e-2, betas=(0.8, 0.9), weight_decay=0.5)
    expected = {n: p.detach().clone() for n, p in model.named_parameters()}
    m = {n: torch.zeros_like(p) for n, p in expected.items()}
    v = {n: torch.zeros_like(p) for n, p in expected.items()}
    for step in range(1, 4):
        for name, p in model.named_parameters():
            g = p.grad = torch.randn_like(p)
            m[name] = 0.8 * m[name] + 0.2 * g
            v[name] = 0.9 * v[name] + 0.1 * g**2
            decay = 0.5 if name == "weight" else 0.0
            direction = (m[name] / (1 - 0.8**step)) / ((v[name] / (1 - 0.9**step)).sqrt() + 1e-8)
            expected[name] = (1 - 1e-2 * decay) * expected[name] - 1e-2 * direction
        optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[name])


def test_roles_and_groups_of_the_decoder(program: ModuleType) -> None:
    config = program.CONFIG.replace(tie_embeddings=False, bias=True, position="learned")
    model = Transformer(config)
    roles = parameter_roles(model)
    embeddings = {name for name, role in roles.items() if role == "embedding"}
    assert embeddings == {"embedding.weight", "position_embedding.weight", "head.weight"}
    matrices = {name for name, role in roles.items() if role == "matrix"}
    assert len(matrices) == 4 * 2
    assert all(model.get_parameter(name).ndim == 2 for name in matrices)
    n_vectors = len(roles) - len(embeddings) - len(matrices)
    for spare, n_decayed in ((True, 11), (False, 8)):
        groups = param_groups(model, 0.1, decay_embeddings=spare)
        counts = {group["weight_decay"]: len(group["params"]) for group in groups}
        assert counts == {0.1: n_decayed, 0.0: n_vectors + 11 - n_decayed}
    with pytest.raises(ValueError, match="no parameters named"):
        parameter_roles(model, ["embeding.weight"])


def test_combined_covers_every_parameter_once(program: ModuleType) -> None:
    model = Transformer(program.CONFIG)
    optimizer = muon_with_adamw(model, stacked_rows={"qkv.weight": (24, 24, 24)})
    owned = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with_gradients(model)
    optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    with pytest.raises(ValueError, match="in two optimizers"):
        CombinedOptimizer([adamw(model, 1e-3), adamw(model, 1e-3)])


def test_combined_state_comes_back(program: ModuleType) -> None:
    one, other = Transformer(program.CONFIG), Transformer(program.CONFIG)
    first, second = muon_with_adamw(one), muon_with_adamw(other)
    with_gradients(one)
    first.step()
    other.load_state_dict(one.state_dict())
    second.load_state_dict(deepcopy(first.state_dict()))  # torch's loading does not copy
    for model, optimizer in ((one, first), (other, second)):
        with_gradients(model)
        optimizer.step()
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
    with pytest.raises(ValueError, match="holds 1 optimizers, this object 2"):
        second.load_state_dict(CombinedOptimizer(first.optimizers[:1]).state_dict())


def test_update_scale_makes_entries_alike() -> None:
    for shape in ((31, 61), (61, 31)):
        update = update_scale(shape, "rms") * orthogonalize(torch.randn(shape))
        assert update.pow(2).mean().sqrt().item() == pytest.approx(0.2, rel=0.2)


def test_muon_updates_the_decoders_stacked_matrices_apart():
    config = ModelConfig(
        vocab_size=11, d_model=12, n_layers=1, n_heads=3, n_kv_heads=1, max_seq_len=5, d_ff=14
    )
    model = Transformer(config)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    settings = TrainConfig(steps=1, optimizer="muon", muon_lr=0.1, weight_decay=0.0)
    optimizer = build_optimizer(model, settings)
    model(torch.tensor([[1, 2, 3, 4]])).square().sum().backward()
    optimizer.step()
    stacked = {n: r for n in before for end, r in model.stacked_rows.items() if n.endswith(end)}
    assert len(stacked) == 2
    for name, rows in stacked.items():
        parameter = model.get_parameter(name)
        assert parameter.grad is not None
        update = before[name] - parameter.detach()
        for piece, gradient in zip(update.split(rows), parameter.grad.split(rows), strict=True):
            length = 0.1 * update_scale(tuple(piece.shape), "spectral")
            # The first momentum is the gradient itself, up to a factor that does not matter.
            torch.testing.assert_close(piece, length * orthogonalize(gradient), atol=1e-4, rtol=0)
