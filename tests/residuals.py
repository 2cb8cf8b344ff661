"""Least-squares losses: residuals of θ with known answers, one a chunk, and a small network's."""

import torch
from quadratic import objective_of

from hpctrain.methods.least_squares.damped_systems import PrimalSystem
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import LeastSquaresLoss, Objective, evaluate_point
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations.library.burgers import Burgers
from hpctrain.problems.equations.problem import Formulation, PinnProblem


def packed(layout, A):
    """The numbers of A (n, n) in its block rows, those of one rank after those of another."""
    order = sorted(range(layout.count), key=layout.places.__getitem__)
    return torch.cat([A[layout.find_slices(i)].reshape(-1) for i in order])


class Residuals(LeastSquaresLoss):
    """ℓ_j = r_j(θ)², for a function r of θ (n,) with N residuals; a subset is not needed."""

    loss_cost, gradient_cost, prefix_cost = 1, 3, 0
    chunks_at_a_time = 1
    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, function, parameters, rows):
        self.residuals = function
        self.rows = rows
        self.parameters = parameters

    def evaluate_jacobian(self, theta):
        return torch.func.jacrev(self.residuals)(theta)

    def sum_losses(self, theta):
        return self.residuals(theta).square()

    def sum_losses_and_gradients(self, theta):
        r = self.residuals(theta)[:, None]
        return torch.cat([r.square(), 2 * r * self.evaluate_jacobian(theta)], dim=1)

    def add_gauss_newton(self, theta, first, last, G, layout):
        J = self.evaluate_jacobian(theta)[first:last]
        G += packed(layout, J.T @ J)

    def evaluate_rows(self, theta, first, last):
        return list(self._rows(theta)[first:last].split(1))

    def count_rows(self):
        return [1] * self.rows

    def evaluate_residuals(self, theta):
        return self.residuals(theta)

    def sort_by_chunk(self, values):
        return values

    def pull_back(self, theta, weights):
        return weights[:, None] * self.evaluate_jacobian(theta)

    def multiply_gauss_newton_chunks(self, theta, v):
        J = self.evaluate_jacobian(theta)
        return (J @ v)[:, None] * J

    def sketch_rows(self, theta, signs, groups):
        """One residual a chunk: the first of its groups has it, the others are empty."""
        rows = torch.zeros(len(signs), groups, 1 + self.parameters, dtype=self.dtype)
        rows[:, 0] = signs[:, None] * self._rows(theta)
        return rows.view(-1, 1 + self.parameters)

    def sum_groups(self, values, signs, groups):
        sums = torch.zeros(len(signs), groups, dtype=self.dtype)
        sums[:, 0] = signs * values
        return sums.view(-1)

    def _rows(self, theta):
        return torch.cat([self.residuals(theta)[:, None], self.evaluate_jacobian(theta)], dim=1)


def objective_of_residuals(function, samples, parameters):
    loss = Residuals(function, parameters, samples)
    return objective_of(loss, samples=samples)


def linear_problem(samples=16, n=5):
    """A (samples, n), b (samples,), and the objective of r = A θ - b."""
    A = torch.randn(samples, n, dtype=torch.float64)
    b = torch.randn(samples, dtype=torch.float64)
    return A, b, objective_of_residuals(lambda theta: A @ theta - b, samples, n)


def small_burgers():
    network = DenseNetwork(2, 6, 4, residual=True, adaptive=True)
    problem = PinnProblem(Burgers(), network, Formulation(200))
    return problem, Objective.of(problem, Communicator(), 16, 2)


def full(block_rows):
    """A (n, n) of its block rows, all of them on one rank."""
    A = torch.zeros(block_rows.layout.n, block_rows.layout.n, dtype=torch.float64)
    for i, row in block_rows.own.items():
        A[block_rows.layout.find_slices(i)] = row
    return torch.tril(A) + torch.tril(A, -1).T


def primal(objective, theta):
    return PrimalSystem(objective, evaluate_point(objective, theta))
