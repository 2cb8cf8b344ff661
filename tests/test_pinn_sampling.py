"""Hammersley points and tensor grids against sets written out by hand."""

import pytest
import torch

from hpctrain.problems.pinn.sampling import grid_points, hammersley_points, radical_inverse

UNIT = (0.0, 1.0)


def assert_equal(computed, expected):
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(computed, expected, rtol=0, atol=1e-15)


def test_radical_inverse_mirrors_the_digits():
    index = torch.arange(9)
    assert_equal(
        radical_inverse(index, 2), [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8, 1 / 16]
    )
    assert_equal(radical_inverse(index, 3), [k / 9 for k in (0, 3, 6, 1, 4, 7, 2, 5, 8)])
    assert_equal(radical_inverse(torch.tensor([0]), 5), [0.0])


def test_four_hammersley_points_in_a_box():
    points = hammersley_points(((0.0, 1.0), (-1.0, 1.0)), 4)
    assert_equal(points, [[1 / 8, 3 / 8, 5 / 8, 7 / 8], [0.0, -0.5, 0.5, -0.75]])


def test_three_hammersley_points_in_four_dimensions():
    rows = [[1 / 6, 1 / 2, 5 / 6], [1 / 2, 1 / 4, 3 / 4], [1 / 3, 2 / 3, 1 / 9], [0.2, 0.4, 0.6]]
    assert_equal(hammersley_points((UNIT,) * 4, 3), rows)


def test_more_dimensions_than_bases_are_refused():
    with pytest.raises(ValueError):
        hammersley_points((UNIT,) * 5, 3)


@pytest.mark.parametrize("count", [1, 256, 1000])
def test_hammersley_points_are_distinct_and_strictly_inside(count):
    points = hammersley_points((UNIT, UNIT), count)
    assert points.shape == (2, count)
    assert bool(((points > 0) & (points < 1)).all())
    assert all(row.unique().numel() == count for row in points)


def test_hammersley_points_integrate_a_smooth_function_far_better_than_random_ones():
    # The mean of (1 + sin 3x)(1 + y²) over the unit square; 1000 random points err by 1e-2.
    x, y = hammersley_points((UNIT, UNIT), 1000)
    exact = (1 + (1 - torch.cos(torch.tensor(3.0, dtype=torch.float64))) / 3) * 4 / 3
    assert abs(((1 + torch.sin(3 * x)) * (1 + y**2)).mean() - exact) < 2e-3


def test_grid_includes_the_ends_and_runs_fastest_along_the_last_coordinate():
    points = grid_points(((0.0, 1.0), (-1.0, 1.0)), (2, 3))
    assert_equal(points, [[0, 0, 0, 1, 1, 1], [-1, 0, 1, -1, 0, 1]])
