"""Kaplan's laws: published numbers, limits of the joint law, rules of allocation."""

import pytest

from llmlib.scaling import JointLaw, PowerLaw, allocation_growth, loss_from_flops, training_flops
from llmlib.scaling.kaplan import COMPUTE, DATA, JOINT, SIZE


@pytest.mark.covers("scaling.kaplan")
def test_published_single_laws() -> None:
    assert SIZE.loss(8.8e13) == DATA.loss(5.4e13) == COMPUTE.loss(3.1e8) == 1
    # Doubling the size multiplies the loss by 2^-0.076, the 0.95 of the paper's section 1.2.
    assert SIZE.loss(2e9) / SIZE.loss(1e9) == pytest.approx(0.95, abs=0.002)
    assert DATA.loss(2e10) / DATA.loss(1e10) == pytest.approx(0.936, abs=0.001)
    assert COMPUTE.loss(20) / COMPUTE.loss(10) == pytest.approx(0.966, abs=0.001)
    # GPT-2's 1.5 billion: about 2.3 nats a token, as the paper's figure 1 shows at that size.
    assert SIZE.loss(1.5e9) == pytest.approx(2.3, abs=0.02)
    assert loss_from_flops(8.64e19) == COMPUTE.loss(1)


def test_joint_law_tends_to_a_power_law_in_each() -> None:
    law = JOINT
    assert law.loss(1e9, 1e40) == pytest.approx(PowerLaw(6.4e13, 0.076).loss(1e9))
    assert law.loss(1e40, 1e9) == pytest.approx(PowerLaw(1.8e13, 0.103).loss(1e9))


@pytest.mark.covers("scaling.kaplan")
def test_rules_of_allocation() -> None:
    # Eight times the size, about five times the data: the share of the loss that more data could
    # remove stays the same.
    law = JointLaw()
    growth = law.data_growth(8)
    assert growth == pytest.approx(5, abs=0.5)

    def penalty(n_params: float, n_tokens: float) -> float:
        return law.loss(n_params, n_tokens) / law.loss(n_params, 1e60)

    assert penalty(8e8, growth * 1e10) == pytest.approx(penalty(1e8, 1e10), rel=1e-9)
    assert penalty(8e8, 1e10) > penalty(1e8, 1e10)
    # Ten times the compute: 5.5 times the size, 1.8 times the data, as quoted to two digits.
    size, data = allocation_growth(10)
    assert size == pytest.approx(5.5, abs=0.15)
    assert data == pytest.approx(1.8, abs=0.1)
    assert training_flops(size, data) == pytest.approx(6 * 10)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="positive number"):
        SIZE.loss(0)
    with pytest.raises(ValueError, match="must be positive"):
        JOINT.loss(1e9, 0)
    with pytest.raises(ValueError, match="compute_growth"):
        allocation_growth(-1)
