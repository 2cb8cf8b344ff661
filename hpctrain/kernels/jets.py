"""The interface of Taylor-mode jets of dense networks.

A jet is a function's value with its first and second derivatives along single coordinates, in the
order: value; first derivatives; second derivatives; each in coordinate order (Burgers, orders
(1, 2): N, N_t, N_x, N_xx). Jets go forward through the layers,

    w = W y + b,  w_j = W y_j,  w_jj = W y_jj;
    y = h,  y_j = s₁ w_j,  y_jj = s₁ w_jj + s₂ w_j²,   h = tanh w, s₁ = 1 - h², s₂ = -2 h s₁,

and one reverse sweep takes an adjoint of the jets to the gradient with respect to θ, in parts that
belong to fixed chunks of points, so that they can be added along a fixed tree.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from hpctrain.networks.dense import DenseNetwork


def component_count(orders: tuple[int, ...]) -> int:
    """The number of components of a jet."""
    return 1 + len(coordinates_of_order(orders, 1)) + len(coordinates_of_order(orders, 2))


def coordinates_of_order(orders: tuple[int, ...], least: int) -> list[int]:
    """Which coordinates are differentiated `least` times or more."""
    return [i for i, order in enumerate(orders) if order >= least]


class JetEvaluator(ABC):
    """Jets of a network at fixed points, which are cut into C chunks.

    Layers are numbered from the input. A suffix is the network from layer `first` on; it starts
    from `prefix(theta, first)`, the jets that enter that layer, as long as the layers below keep
    their parameters. Kept evaluations leave what `reverse` needs, until the next kept one.
    """

    def __init__(self, network: DenseNetwork, orders: tuple[int, ...], bounds: list[int]) -> None:
        self.network = network
        self.orders = orders
        self.bounds = bounds
        self.components = component_count(orders)

    @property
    def chunks(self) -> int:
        return len(self.bounds) - 1

    @property
    def points(self) -> int:
        return self.bounds[-1]

    @abstractmethod
    def rebound(self, bounds: list[int]) -> "JetEvaluator":
        """Jets of the same network at the same points, cut into other chunks."""

    @abstractmethod
    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Tensor | None = None
    ) -> Tensor:
        """The jets (components, outputs, N) of the network at θ (n,), from layer `first` on."""

    @abstractmethod
    def prefix(self, theta: Tensor, layer: int) -> Tensor:
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
