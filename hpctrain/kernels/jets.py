"""The interface of Taylor-mode jets of dense networks.

A jet is a function's value with some of its derivatives (`JetShape`; Burgers: N, N_t, N_x, N_xx).
Jets go forward through the layers,

    w_α = W y_α (+ b for the value),   y = f(w) by Faà di Bruno's formula,   f = tanh or sin,

and one reverse sweep takes an adjoint of the jets to the gradient with respect to θ, in parts that
belong to fixed chunks of points, so that they can be added along a fixed tree. What enters the
first layer are the jets of the bare coordinates, or given ones, which are constants of the points.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from hpctrain.kernels.shape import Index, JetShape, Product
from hpctrain.networks.dense import DenseNetwork

__all__ = ["Index", "JetEvaluator", "JetShape", "Product", "find_differentiated", "make_input_jets"]


def find_differentiated(orders: tuple[int, ...], least: int) -> list[int]:
    """Which coordinates are differentiated `least` times or more."""
    return [i for i, order in enumerate(orders) if order >= least]


def make_input_jets(shape: JetShape, points: Tensor) -> Tensor:
    """The jets (components, d, N) of the coordinates themselves at points (d, N)."""
    d, count = points.shape
    y = points.new_zeros(shape.components, d, count)
    y[0] = points
    for position, index in enumerate(shape.indices):
        if len(index) == 1:
            y[position, index[0]] = 1
    return y


class JetEvaluator(ABC):
    """Jets of a network at fixed points, which are cut into C chunks.

    Layers are numbered from the input. A suffix is the network from layer `first` on; it starts
    from `prefix(theta, first)`, the jets that enter that layer, as long as the layers below keep
    their parameters. Kept evaluations leave what `reverse` needs, until the next kept one. θ may be
    longer than the network's parameters, which come first.

    Attributes:
        fallback: what of this network or shape the device's kernels do not have, so that its jets
            are evaluated in torch; None where they have all.
    """

    fallback: str | None = None

    def __init__(self, network: DenseNetwork, shape: JetShape, bounds: list[int]) -> None:
        self.network = network
        self.shape = shape
        self.bounds = bounds

    @property
    def components(self) -> int:
        return self.shape.components

    @property
    def chunks(self) -> int:
        return len(self.bounds) - 1

    @property
    def points(self) -> int:
        return self.bounds[-1]

    def includes_unknowns(self, last: int, wanted: bool | None) -> bool:
        """Whether columns up to layer `last` end with the unknowns, by default those of all do."""
        return last == self.network.depth - 1 if wanted is None else wanted

    @abstractmethod
    def recut(self, bounds: list[int]) -> "JetEvaluator":
        """Jets of the same network at the same points, cut into other chunks."""

    @abstractmethod
    def select(self, places: Tensor, bounds: list[int]) -> "JetEvaluator":
        """Jets of the same network at some of the points, in this order, cut into other chunks."""

    @abstractmethod
    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Tensor | None = None
    ) -> Tensor:
        """The jets (components, outputs, N) of the network at θ (n,), from layer `first` on."""

    @abstractmethod
    def evaluate_prefix(self, theta: Tensor, layer: int) -> Tensor:
        """The jets that enter `layer`, in the evaluator's own layout."""

    @abstractmethod
    def reverse(
        self,
        theta: Tensor,
        adjoint: Tensor,
        *,
        first: int = 0,
        last: int | None = None,
        activations: Tensor | None = None,
    ) -> Tensor:
        """Gradients by chunk of Σ adjoint · jets with respect to layers `first` to `last`.

        Args:
            theta: θ (n,) of the last kept `forward`, which started at `first` too.
            adjoint: (components, outputs, N).
            first, last: the layers whose gradient is wanted; by default all from `first` on.
            activations: as given to `forward`.

        Returns:
            (C, m), m the number of these layers' parameters.
        """

    @abstractmethod
    def differentiate_along(self, theta: Tensor, v: Tensor) -> Tensor:
        """The derivative of the jets (components, outputs, N) at θ along v, both (n,)."""
