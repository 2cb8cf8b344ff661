"""Products with panels against plain linear algebra, and with equal bits for any division."""

from itertools import pairwise

import pytest
import torch

from hpctrain.kernels.panels import add_outer_products, add_product, multiply_transposed
from tests.test_kernels_dense import kernels, needs_native  # noqa: F401


def tensors(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize("rows, width, n", [(1, 1, 1), (13, 7, 5), (40, 128, 301), (67, 130, 64)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_products_equal_plain_algebra(kernels, rows, width, n, dtype, tolerance):  # noqa: F811
    V, x, c, y, H, right = tensors(
        (rows, width), (rows,), (width,), (rows,), (rows, n), (width, n), dtype=dtype
    )
    bounds = [0, rows // 3, rows // 3, rows]
    panels, joined = [V, -2 * V], torch.cat([V, -2 * V], dim=1)
    parts = [joined[a:b].T @ x[a:b] for a, b in pairwise(bounds)]
    close = {"rtol": tolerance, "atol": tolerance}
    found = multiply_transposed(panels, x, bounds, 2)
    torch.testing.assert_close(found, torch.stack(parts), **close)
    weights = torch.cat([c, c.flip(0)])
    expected = y + joined @ weights
    add_product(panels, weights, y, 2)
    torch.testing.assert_close(y, expected, **close)
    expected = H + V @ right
    add_outer_products(H, V, right, 2)
    torch.testing.assert_close(H, expected, **close)


@needs_native
def test_rows_and_parts_have_the_same_bits_whoever_holds_them():
    rows, width, n = 101, 128, 77
    V, x, c, right = tensors((rows, width), (rows,), (width,), (width, n))
    y, H = torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, n, dtype=torch.float64)
    add_product([V], c, y, 1)
    add_outer_products(H, V, right, 1)
    sums = multiply_transposed([V], x, [0, 50, 51, rows], 1)
    assert torch.equal(sums, multiply_transposed([V], x, [0, 50, 51, rows], 3))
    for part, (first, last) in enumerate(pairwise([0, 50, 51, rows])):
        own, product = slice(first, last), torch.zeros(last - first, dtype=torch.float64)
        add_product([V[own]], c, product, 2)
        outer = torch.zeros(last - first, n, dtype=torch.float64)
        add_outer_products(outer, V[own], right, 2)
        assert torch.equal(product, y[own])
        assert torch.equal(outer, H[own])
        by_part = multiply_transposed([V[own]], x[own], [0, last - first], 2)
        assert torch.equal(by_part[0], sums[part])


@needs_native
def test_what_is_written_in_place_must_be_contiguous():
    V, c, right, y, H = tensors((3, 2), (2,), (2, 4), (6,), (6, 4))
    with pytest.raises(TypeError):
        add_product([V], c, y[::2], 1)
    with pytest.raises(TypeError):
        add_outer_products(H[::2], V, right, 1)
