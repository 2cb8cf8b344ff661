"""Compares jets with nested autograd on equations: `python -m benchmarks.shapes [NAME …]`.

The equations have derivatives of up to fourth order, mixed ones, several fields or many
dimensions. The loss and its gradient are timed, each way in a process of its own, in turns.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tabulate import tabulate
from torch import Tensor

from benchmarks.alternation import ROUNDS, THREADS, measure
from hpctrain.kernels import JetShape, make_jet_evaluator
from hpctrain.kernels.residual import make_residual_loss
from hpctrain.networks.dense import DenseNetwork

CHUNKS = 64
WANTED = 4


@dataclass(frozen=True)
class Case:
    """An equation: `residual` reads derivatives u(o, "xy") of output o, the Laplacian as "L"."""

    network: DenseNetwork
    points: int
    shape: JetShape
    residual: Callable[[Callable[..., Any]], Sequence[Any]]


def kdv(u: Callable[..., Any]) -> Sequence[Any]:
    """Korteweg and de Vries; x is t, y is x."""
    return (u(0, "x") + 6 * u(0) * u(0, "y") + u(0, "yyy"),)


def biharmonic(u: Callable[..., Any]) -> Sequence[Any]:
    return (u(0, "xxxx") + 2 * u(0, "xxyy") + u(0, "yyyy") - 1,)


def navier_stokes(u: Callable[..., Any]) -> Sequence[Any]:
    """Steady flow (u, v, p) of viscosity 0.01."""
    momentum = [
        u(0) * u(i, "x") + u(1) * u(i, "y") + u(2, "xy"[i]) - 0.01 * (u(i, "xx") + u(i, "yy"))
        for i in (0, 1)
    ]
    return (*momentum, u(0, "x") + u(1, "y"))


def poisson(u: Callable[..., Any]) -> Sequence[Any]:
    return (u(0, "L") - 1,)


def laplacian(d: int, points: int) -> Case:
    return Case(DenseNetwork(d, 50, 5), points, JetShape.make_closed(d, [], range(d)), poisson)


FOURTH = [(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1)]
CASES = {
    "KdV": Case(DenseNetwork(2, 32, 5), 5000, JetShape.make_closed(2, [(0,), (1, 1, 1)]), kdv),
    "biharmonic": Case(DenseNetwork(2, 32, 5), 2000, JetShape.make_closed(2, FOURTH), biharmonic),
    "Navier-Stokes": Case(
        DenseNetwork(2, 50, 7, outputs=3), 3000, JetShape.make_closed(2, [(0, 0), (1, 1)]),
        navier_stokes,
    ),
    "Poisson, d = 10": laplacian(10, 2000),
    "Poisson, d = 100": laplacian(100, 300),
}  # fmt: skip


def points_of(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(case.network.inputs, case.points, generator=generator, dtype=torch.float64)


def by_jets(case: Case, threads: int) -> Callable[[], object]:
    """Loss and gradient by the native kernels."""
    shape, names = case.shape, {}
    for position, index in enumerate(shape.indices):
        names["".join("xy"[i] for i in index) if max(index, default=0) < 2 else index] = position
    names["L"] = shape.components - 1
    bounds = [chunk * case.points // CHUNKS for chunk in range(CHUNKS + 1)]
    evaluator = make_jet_evaluator(case.network, shape, points_of(case), bounds, threads)

    def residual(jet: Any, _unknowns: Any) -> Sequence[Any]:
        return case.residual(lambda output, name="": jet[names[name]][output])

    loss = make_residual_loss(evaluator, residual, torch.float64)
    theta = case.network.make_initial_parameters(seed=0)
    return lambda: loss.sum_losses_and_gradients(theta, 0, case.network.depth - 1, None)


def by_autograd(case: Case) -> Callable[[], object]:
    """The same by nested autograd of the network's definition; each derivative is taken once."""
    theta = case.network.make_initial_parameters(seed=0).requires_grad_()
    points = points_of(case).requires_grad_()

    def loss_and_gradient() -> Tensor:
        gradients: dict[tuple[int, str], Tensor] = {}
        values = case.network(theta, points)

        def gradient(output: int, name: str) -> Tensor:
            if (output, name) not in gradients:
                (found,) = torch.autograd.grad(
                    derivative(output, name).sum(), points, create_graph=True
                )
                gradients[output, name] = found
            return gradients[output, name]

        def derivative(output: int, name: str = "") -> Tensor:
            if name == "L":
                first = gradient(output, "")
                seconds = (
                    torch.autograd.grad(each.sum(), points, create_graph=True)[0][i]
                    for i, each in enumerate(first)
                )
                return sum(seconds, torch.zeros_like(values[output]))
            return gradient(output, name[:-1])["xy".index(name[-1])] if name else values[output]

        loss = sum(r.square().sum() for r in case.residual(derivative))
        return torch.autograd.grad(loss, theta)[0]

    return loss_and_gradient


def main() -> None:
    table = []
    for name in sys.argv[1:] or CASES:
        ms = measure(f"autograd:{name}", f"jets:{name}")
        nested, native = ms.values()
        detail = f"{nested:.1f} / {native:.1f} ms"
        table.append([f"{name}: nested autograd / jets", nested / native, f">= {WANTED}", detail])
    print(f"{THREADS} threads, float64; medians of {ROUNDS} rounds")
    print(tabulate(table, headers=["", "ratio", "wanted", "times"], floatfmt=".1f"), flush=True)


if __name__ == "__main__":
    main()
