"""The fused sweep over a dense matrix against plain linear algebra."""

from itertools import pairwise

import pytest
import torch

from hpctrain.kernels import is_native_available
from hpctrain.kernels.dense import add_square_gram, update_and_multiply

needs_native = pytest.mark.skipif(not is_native_available(), reason="native kernels are not built")


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "torch"])
def kernels(request, monkeypatch):
    monkeypatch.setenv("HPCTRAIN_KERNELS", request.param)


@pytest.mark.parametrize("rows, n", [(1, 1), (5, 13), (37, 64), (64, 101)])
def test_update_and_product_equal_plain_algebra(kernels, rows, n):
    H, x = torch.randn(rows, n, dtype=torch.float64), torch.randn(n, dtype=torch.float64)
    left, right = torch.randn(rows, 2).double(), torch.randn(2, n).double()
    expected = 0.7 * H + left @ right
    product = update_and_multiply(H, x, 2, 0.7, left, right)
    torch.testing.assert_close(H, expected, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(product, expected @ x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(update_and_multiply(H, x, 1), H @ x, rtol=1e-12, atol=1e-12)


@needs_native
def test_a_row_has_the_same_bits_whoever_holds_it():
    n = 203
    H, x = torch.randn(n, n, dtype=torch.float64), torch.randn(n, dtype=torch.float64)
    left, right = torch.randn(n, 2).double(), torch.randn(2, n).double()
    whole, expected = H.clone(), None
    expected = update_and_multiply(whole, x, 1, 0.9, left, right)
    for cuts in ([0, 101, n], [0, 50, 51, 150, n]):
        parts, products = H.clone(), []
        for first, last in pairwise(cuts):
            rows = slice(first, last)
            products.append(update_and_multiply(parts[rows], x, 3, 0.9, left[rows], right))
        assert torch.equal(parts, whole)
        assert torch.equal(torch.cat(products), expected)


@needs_native
@pytest.mark.parametrize("H", [torch.ones(6, 4).double()[::2], torch.ones(4, 3).double().T])
def test_a_matrix_that_is_not_contiguous_is_refused(H):
    with pytest.raises(TypeError):
        update_and_multiply(H, torch.ones(4).double(), 1)


@needs_native
def test_a_gram_matrix_that_is_not_contiguous_is_refused():
    J, C = torch.ones(5, 4, dtype=torch.float64), torch.zeros(8, 8, dtype=torch.float64)
    with pytest.raises(RuntimeError):
        add_square_gram([[J]], 0, C[::2, ::2], 1)


@pytest.mark.parametrize("single", ["left", "right"])
def test_factors_of_another_precision_are_refused(kernels, single):
    H, x = torch.ones(3, 40, dtype=torch.float64), torch.ones(40, dtype=torch.float64)
    factors = {"left": torch.ones(3, 2).double(), "right": torch.ones(2, 40).double()}
    factors[single] = factors[single].float()
    with pytest.raises((TypeError, RuntimeError)):
        update_and_multiply(H, x, 1, 0.5, **factors)
