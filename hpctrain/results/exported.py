"""A trained network as a torch module by itself, with all that belongs to it: what is exported."""

import torch
from torch import Tensor, nn

from hpctrain.errors import InputError
from hpctrain.linalg.arrays import to_tensor
from hpctrain.problems.classification.problem import ClassificationProblem
from hpctrain.problems.equations.problem import PinnProblem
from hpctrain.problems.equations.slabs.problem import SlabProblem
from hpctrain.problems.logistic.problem import LogisticProblem


class Fields(nn.Module):
    """The fields (N, k) of trained equations at points (N, d), a column a coordinate."""

    def __init__(self, problem: PinnProblem, theta: Tensor) -> None:
        super().__init__()
        self._problem = problem
        self.theta = nn.Buffer(theta)

    def forward(self, points: Tensor) -> Tensor:
        columns, fields = points.T, self._problem.frame.fields
        rows = [self._problem.evaluate_in_torch(self.theta, name, columns) for name in fields]
        return torch.stack(rows, dim=1)


class WindowedFields(nn.Module):
    """The same where time is cut into windows: at each point by the network of its time.

    Raises:
        InputError: windows begin with rates, or the run did not come to all of them.
    """

    def __init__(self, problem: SlabProblem, theta: Tensor) -> None:
        super().__init__()
        self._problem = problem
        self.theta = nn.Buffer(theta)
        if problem.begins_with_rates:
            raise InputError(
                "windows of time that begin with rates (u.t of an exact Initial) are not exported:"
                " their forms differentiate the network of the window before"
            )
        by_window = theta.reshape(len(problem.bounds), -1)
        for number in range(len(by_window)):
            problem.check_reached(number, by_window)
        pairs = zip(problem.windows, by_window, strict=True)
        self.windows = nn.ModuleList(Fields(window, own.clone()) for window, own in pairs)

    def forward(self, points: Tensor) -> Tensor:
        ends = [high for _, high in self._problem.bounds]
        with self._problem.holding(self.theta, in_torch=True):
            found = self.windows[-1](points)
            for number in reversed(range(len(ends) - 1)):
                is_here = points[:, :1] <= ends[number]
                found = torch.where(is_here, self.windows[number](points), found)
        return found


class ClassProbabilities(nn.Module):
    """The probabilities (N, classes) of samples (N, …) as they are stored, not scaled."""

    def __init__(self, problem: ClassificationProblem, theta: Tensor) -> None:
        super().__init__()
        replica = problem.network.replica(theta.dtype)
        replica.load(theta, 0)
        self.network = nn.Sequential(*replica.stages)
        self.shift = nn.Buffer(to_tensor(problem.scaling.shift))
        self.scale = nn.Buffer(to_tensor(problem.scaling.scale))
        self._dtype, self._output = theta.dtype, problem.output

    def forward(self, samples: Tensor) -> Tensor:
        inputs = ((samples.double() - self.shift) / self.scale).to(self._dtype)
        outputs = self.network(inputs)
        scores = torch.sigmoid(outputs) if self._output == "sigmoid" else outputs
        return torch.softmax(scores, dim=1)


class SideProbabilities(nn.Module):
    """The probabilities (N, 2) of the two labels of logistic regression, of rows (N, n)."""

    def __init__(self, theta: Tensor) -> None:
        super().__init__()
        self.theta = nn.Buffer(theta)

    def forward(self, rows: Tensor) -> Tensor:
        margins = rows @ self.theta
        return torch.stack([torch.sigmoid(-margins), torch.sigmoid(margins)], dim=1)


def make_module(problem: object, theta: Tensor) -> nn.Module:
    """Makes the module to be exported, of a problem of any family with its parameters (n,)."""
    match problem:
        case PinnProblem():
            return Fields(problem, theta)
        case SlabProblem():
            return WindowedFields(problem, theta)
        case ClassificationProblem():
            return ClassProbabilities(problem, theta)
        case LogisticProblem():
            return SideProbabilities(theta)
    raise TypeError(f"nothing is exported of a {type(problem).__name__}")
