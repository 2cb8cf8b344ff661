"""Products with secant pairs: native kernels against float64, in both precisions."""

import pytest
import torch

from hpctrain.kernels.pairs import combine_pairs, multiply_pairs
from tests.test_kernels_dense import needs_native


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "torch"], autouse=True)
def _backend(request, monkeypatch):
    monkeypatch.setenv("HPCTRAIN_KERNELS", request.param)


def vectors(count, n, dtype):
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(n, generator=generator, dtype=dtype) for _ in range(count)]


@pytest.mark.parametrize("n", [1, 7, 32, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_those_of_double_precision(n, dtype):
    *rows, x, y = vectors(7, n, dtype)
    expected = torch.stack(rows).double() @ torch.stack([x, y]).double().T
    torch.testing.assert_close(multiply_pairs(rows, x, y), expected, rtol=1e-13, atol=1e-13 * n)


@pytest.mark.parametrize("count, n", [(1, 1), (3, 40), (5, 64), (9, 1001)])
@pytest.mark.parametrize("dtype, rounding", [(torch.float32, 1e-7), (torch.float64, 1e-13)])
def test_combinations_are_rounded_once(count, n, dtype, rounding):
    """Large terms that cancel: sums in single precision would be off by some 1e-4."""
    S, Y = vectors(6, n, dtype)[:3], vectors(6, n, dtype)[3:]
    Y[2], gamma = 1e3 * S[2], 1e3
    weights = torch.stack(vectors(count, 3, torch.float64))
    expected = weights @ (torch.stack(Y).double() - gamma * torch.stack(S).double())
    found = combine_pairs(weights, gamma, S, Y)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=rounding, atol=10 * rounding)


WRONG = {
    "precision": lambda v: v.double(),
    "length": lambda v: v[:-1],
    "stride": lambda v: torch.stack([v, v], dim=1)[:, 0],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("place", range(4))
def test_vectors_that_are_not_alike_are_refused(wrong, place):
    four = vectors(4, 40, torch.float32)
    four[place] = WRONG[wrong](four[place])
    with pytest.raises(ValueError, match="one length and precision"):
        multiply_pairs(four[:2], *four[2:])
    with pytest.raises(ValueError, match="one length and precision"):
        combine_pairs(torch.ones(3, 2, dtype=torch.float64), 1.0, four[:2], four[2:])


@pytest.mark.parametrize("weights", [torch.ones(3, 2), torch.ones(3, 1).double()])
def test_weights_that_do_not_fit_are_refused(weights):
    four = vectors(4, 40, torch.float32)
    with pytest.raises(ValueError, match="one for each pair"):
        combine_pairs(weights, 1.0, four[:2], four[2:])
