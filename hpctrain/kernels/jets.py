"""Jets of dense networks: their values together with some derivatives by the coordinates.

A jet holds the derivatives that a `JetShape` lists, its components. Burgers' equation needs the
components N, N_t, N_x and N_xx of a network N(t, x). Jets pass forward through the layers,

    w_α = W y_α (+ b for the value),   y = f(w) by Faà di Bruno's formula,   f = tanh or sin,

where α is the component, y enters a layer and w = W y + b. One reverse sweep then turns adjoints
of the jets into a gradient by θ, for every chunk of points by itself. Chunks are fixed sets of
points, so that their gradients can be added along a fixed tree. The jets that enter the first
layer do not depend on θ: they are those of the coordinates, or of given functions of these.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from hpctrain.kernels.shape import Index, JetShape, Product
from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.joint import JointNetwork

__all__ = ["Index", "JetEvaluator", "JetShape", "Product", "find_differentiated", "make_input_jets"]


def find_differentiated(orders: tuple[int, ...], least: int) -> list[int]:
    """Lists the coordinates by which is differentiated `least` times or more.

    Args:
        orders: the highest order of derivatives by each coordinate.
    """
    return [i for i, order in enumerate(orders) if order >= least]


def make_input_jets(shape: JetShape, points: Tensor) -> Tensor:
    """Makes the jets (components, d, N) of the coordinates as functions of themselves.

    Args:
        shape: which derivatives a jet holds.
        points: coordinates (d, N).
    """
    d, count = points.shape
    y = points.new_zeros(shape.components, d, count)
    y[0] = points
    for position, index in enumerate(shape.indices):
        if len(index) == 1:
            y[position, index[0]] = 1
    return y


class JetEvaluator(ABC):
    """Evaluates the jets of a network at N fixed points, which are cut into C chunks.

    Layers are numbered from the input, from 0. All methods can start at a layer `first` above the
    lowest one. They are then given `activations`, the jets that enter this layer, as
    `evaluate_prefix` computes them; these stay valid as long as the parameters of the layers below
    do not change. θ may be longer than the network's n parameters, which come first in it.

    An evaluation with `keep` stores what `reverse` needs. It is there until the next one with
    `keep`.

    Args:
        network: the network, or several beside each other.
        shape: which derivatives a jet holds.
        bounds: chunk c consists of the points bounds[c] … bounds[c + 1] - 1.
    """

    def __init__(
        self, network: DenseNetwork | JointNetwork, shape: JetShape, bounds: list[int]
    ) -> None:
        self.network = network
        self.shape = shape
        self.bounds = bounds

    @property
    def components(self) -> int:
        """The number of components of a jet."""
        return self.shape.components

    @property
    def chunks(self) -> int:
        """C, the number of chunks."""
        return len(self.bounds) - 1

    @property
    def points(self) -> int:
        """N, the number of points."""
        return self.bounds[-1]

    def includes_unknowns(self, last: int, wanted: bool | None) -> bool:
        """Whether the gradient for layers up to `last` is followed by that for the unknowns.

        Args:
            last: the highest layer of the gradient.
            wanted: the answer, where the caller has one. By default the unknowns follow where
                `last` is the network's last layer.
        """
        return last == self.network.depth - 1 if wanted is None else wanted

    @abstractmethod
    def recut(self, bounds: list[int]) -> "JetEvaluator":
        """Makes an evaluator of the same network at the same points, cut into other chunks.

        Args:
            bounds: of the new chunks.
        """

    def separate(self) -> "JetEvaluator":
        """Makes an evaluator of the same network at the same points, each a chunk by itself."""
        return self.recut(list(range(self.points + 1)))

    @abstractmethod
    def select(self, places: Tensor, bounds: list[int]) -> "JetEvaluator":
        """Makes an evaluator of the same network at some of the points.

        Args:
            places: the numbers of the points among those of this evaluator, in the new order.
            bounds: of the new chunks.
        """

    @abstractmethod
    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Tensor | None = None
    ) -> Tensor:
        """Evaluates the jets (components, outputs, N) of the network.

        Args:
            theta: θ (n,).
            keep: whether to store what `reverse` needs.
            first, activations: the layer to start at, and the jets that enter it.
        """

    @abstractmethod
    def evaluate_prefix(self, theta: Tensor, layer: int) -> Tensor:
        """Evaluates the jets that enter a layer, in a layout of the evaluator's own.

        Args:
            theta: θ (n,).
            layer: the number of the layer.
        """

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
        """Computes the gradient of Σ adjoint · jets by parameters of some layers, for each chunk.

        Args:
            theta: θ (n,), with which `forward` was called last with `keep`.
            adjoint: a weight for each number of the jets, (components, outputs, N).
            first, activations: as `forward` was given them.
            last: the highest layer whose gradient is wanted; by default that of the network.

        Returns:
            (C, m), m the number of parameters in layers `first` to `last`.
        """

    @abstractmethod
    def differentiate_along(self, theta: Tensor, v: Tensor) -> Tensor:
        """Computes the derivative of the jets (components, outputs, N) with respect to θ along v.

        Args:
            theta: θ (n,).
            v: the direction (n,).
        """
