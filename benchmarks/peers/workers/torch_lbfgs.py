"""PyTorch's own L-BFGS on a loss that nested automatic differentiation evaluates.

With `--variant compiled` the loss is a function of torch.func, compiled by torch.compile.
"""

import math
from collections.abc import Callable

import harness
import torch
from torch import Tensor

ITERATIONS_A_CALL = 20


class Network(torch.nn.Module):
    """The network (N, fields) of points (N, d), and the free numbers of the unknowns."""

    def __init__(self, start: harness.Start) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList([torch.tensor(W) for W, _ in start.layers])
        self.biases = torch.nn.ParameterList([torch.tensor(b) for _, b in start.layers])
        self.taus = torch.nn.Parameter(torch.tensor(start.taus))
        self.register_buffer("middle", torch.tensor(start.middle))
        self.register_buffer("slope", torch.tensor(start.slope))

    def forward(self, points: Tensor) -> Tensor:
        # The scaling of the inputs is a part of the first layer, as torch.compile fails on it.
        scaled = self.weights[0] * self.slope
        weights = [scaled, *self.weights[1:]]
        biases = [self.biases[0] - scaled @ self.middle, *self.biases[1:]]
        y = points
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            y = torch.tanh(y @ W.T + b)
        return y @ weights[-1].T + biases[-1]


def apply_form(problem: str, points: Tensor, N: Tensor) -> Tensor:
    """The fields: G + D N where the conditions hold by form, else the network itself."""
    if problem == "burgers":
        t, x = points.T[:, :, None]
        return -torch.sin(math.pi * x) + t * (1 - x**2) * N
    if problem == "klein-gordon":
        t, x = points.T[:, :, None]
        return x + x**3 * (torch.cos(t) - 1) + t**2 * (1 - x**2) * N
    return N


def evaluate_residuals(
    problem: str, points: Tensor, u: Tensor, first: Tensor, second: Tensor, taus: Tensor
) -> list[Tensor]:
    """The residuals (N,) of each equation.

    Args:
        u: (N, fields).
        first: derivatives (N, fields, d).
        second: second derivatives (N, fields, d) along each coordinate.
    """
    a, b = points.T
    if problem == "burgers":
        return [first[:, 0, 0] + u[:, 0] * first[:, 0, 1] - 0.01 / math.pi * second[:, 0, 1]]
    if problem == "burgers-inverse":
        l1, l2 = taus[0], torch.exp(taus[1])
        return [first[:, 0, 0] + l1 * u[:, 0] * first[:, 0, 1] - l2 * second[:, 0, 1]]
    if problem == "klein-gordon":
        source = -b * torch.cos(a) + (b * torch.cos(a)) ** 2
        return [second[:, 0, 0] - second[:, 0, 1] + u[:, 0] ** 2 - source]
    velocity, gradient = u[:, :2], first
    momentum = [
        (velocity * gradient[:, i]).sum(1) + gradient[:, 2, i] - second[:, i].sum(1) / 20
        for i in (0, 1)
    ]
    return [*momentum, gradient[:, 0, 0] + gradient[:, 1, 1]]


def differentiate_nested(
    fields: Callable[[Tensor], Tensor], points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """u, its first and its second derivatives by torch.autograd, twice."""
    points = points.requires_grad_()
    u = fields(points)
    first, second = [], []
    for k in range(u.shape[1]):
        (slope,) = torch.autograd.grad(u[:, k].sum(), points, create_graph=True)
        curvature = [
            torch.autograd.grad(slope[:, i].sum(), points, create_graph=True)[0][:, i]
            for i in range(points.shape[1])
        ]
        first.append(slope)
        second.append(torch.stack(curvature, dim=1))
    return u, torch.stack(first, dim=1), torch.stack(second, dim=1)


def differentiate_forward(
    fields: Callable[[Tensor], Tensor], points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same by forward mode, twice along each coordinate, which torch.compile can take."""
    first, second = [], []
    for i in range(points.shape[1]):
        direction = torch.zeros_like(points)
        direction[:, i] = 1

        def slope(x: Tensor, direction: Tensor = direction) -> tuple[Tensor, Tensor]:
            """u and its derivative along the direction."""
            return torch.func.jvp(fields, (x,), (direction,))

        (u, along), (_, curvature) = torch.func.jvp(slope, (points,), (direction,))
        first.append(along)
        second.append(curvature)
    return u, torch.stack(first, dim=2), torch.stack(second, dim=2)


def make_loss(
    start: harness.Start, network: Network, differentiate: Callable
) -> Callable[[], Tensor]:
    points = torch.tensor(start.points)
    terms = [(torch.tensor(x), torch.tensor(values)) for x, values in start.terms]
    # The fields of each term, in the order of the network's outputs.
    columns = [slice(0, 2), slice(2, 3)] if start.problem == "kovasznay" else [slice(0, 1)]

    def fields(x: Tensor) -> Tensor:
        return apply_form(start.problem, x, network(x))

    def loss() -> Tensor:
        u, first, second = differentiate(fields, points)
        r = evaluate_residuals(start.problem, points, u, first, second, network.taus)
        total = sum(each.square().mean() for each in r)
        for (x, values), column in zip(terms, columns, strict=False):
            total = total + (fields(x)[:, column] - values).square().sum(1).mean()
        return total

    return loss


def main() -> None:
    start, trial, options = harness.begin(["torch"])
    torch.set_num_threads(options.threads)
    network = Network(start)
    is_compiled = options.variant == "compiled"
    loss = make_loss(start, network, differentiate_forward if is_compiled else differentiate_nested)
    evaluate = torch.compile(loss) if is_compiled else loss
    optimizer = torch.optim.LBFGS(
        network.parameters(),
        max_iter=ITERATIONS_A_CALL,
        history_size=100,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = evaluate()
        value.backward()
        return value

    def predict(points: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x = torch.as_tensor(points)
            return apply_form(start.problem, x, network(x)).numpy()

    trial.measure(predict, 0)
    trial.start_clock()
    iterations, state, ends = 0, optimizer.state[next(network.parameters())], False
    while not ends:
        optimizer.step(closure)
        done = state["n_iter"]
        if done == iterations:
            trial.measure(predict, done)
            trial.finish("the line search found no step")
            return
        iterations = done
        ends = trial.is_due() and trial.measure(predict, iterations)
    trial.finish("time is up, or the last error reached")


main()
