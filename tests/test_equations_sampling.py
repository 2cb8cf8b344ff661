"""Hammersley points and tensor grids against sets written out by hand."""

import pytest
import torch

from hpctrain.problems.equations import Box
from hpctrain.problems.equations.geometry.sampling import (
    place_interior_points,
    radical_inverse,
)
from hpctrain.problems.equations.points import Cluster, make_grid_points, move_into_clusters

UNIT = (0.0, 1.0)


def hammersley_points(domain, count):
    return place_interior_points(Box(**dict(zip("abcd", domain, strict=False))), count)


def assert_equal(computed, expected):
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(computed, expected, rtol=0, atol=1e-15)


def test_radical_inverse_mirrors_the_digits():
    index = torch.arange(9)
    assert_equal(
        radical_inverse(index, 2),
        [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8, 1 / 16],
    )
    assert_equal(radical_inverse(index, 3), [k / 9 for k in (0, 3, 6, 1, 4, 7, 2, 5, 8)])
    assert_equal(radical_inverse(torch.tensor([0]), 5), [0.0])


def test_four_hammersley_points_in_a_box():
    points = hammersley_points(((0.0, 1.0), (-1.0, 1.0)), 4)
    assert_equal(points, [[1 / 8, 3 / 8, 5 / 8, 7 / 8], [0.0, -0.5, 0.5, -0.75]])


def test_three_hammersley_points_in_four_dimensions():
    rows = [[1 / 6, 1 / 2, 5 / 6], [1 / 2, 1 / 4, 3 / 4], [1 / 3, 2 / 3, 1 / 9], [0.2, 0.4, 0.6]]
    assert_equal(hammersley_points((UNIT,) * 4, 3), rows)


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
    points = make_grid_points(((0.0, 1.0), (-1.0, 1.0)), (2, 3))
    assert_equal(points, [[0, 0, 0, 1, 1, 1], [-1, 0, 1, -1, 0, 1]])


def test_a_cluster_gets_its_share_of_the_points_and_half_of_that_within_its_width():
    domain = ((0.0, 1.0), (-1.0, 1.0))
    points = hammersley_points(domain, 4000)
    moved = move_into_clusters(
        points, domain, [Cluster(coordinate=1, at=0.0, width=0.001, share=0.4)]
    )
    assert torch.equal(moved[0], points[0])
    assert bool(((moved > torch.tensor([[0.0], [-1.0]])) & (moved < 1)).all())
    near = (moved[1].abs() < 0.001).double().mean()
    assert float(near) == pytest.approx(0.5 * 0.4 + 0.6 * 0.001, rel=0.01)


def test_clusters_follow_their_distribution_function_and_keep_the_order_of_points():
    domain = ((0.0, 2.0),)
    clusters = [Cluster(0, 0.0, 0.1, 0.3), Cluster(0, 1.5, 0.2, 0.3)]
    points = hammersley_points(domain, 1001)
    x = move_into_clusters(points, domain, clusters)[0]
    assert bool((x[1:] > x[:-1]).all())
    density = 0.4 / 2 + sum(
        c.share
        / (
            torch.atan(torch.tensor((2 - c.at) / c.width))
            + torch.atan(torch.tensor(c.at / c.width))
        )
        * c.width
        / (c.width**2 + (x - c.at) ** 2)
        for c in clusters
    )
    spacing = x[2:] - x[:-2]
    torch.testing.assert_close(
        spacing * density[1:-1], torch.full_like(spacing, 2 / 1001), rtol=2e-3, atol=0
    )
