"""Jets by the compiled kernels (native/), which pass tiles of points through all layers in cache.

OpenMP threads share the chunks. For tanh, and jets of the value with first and pure second
derivatives, the formulas are compiled. All other jets are computed from the lists of terms that a
`JetShape` has, in smaller tiles where they have many components.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hpctrain.kernels.builds import HOST, choose_build, load_build
from hpctrain.kernels.jets import JetEvaluator, JetShape
from hpctrain.kernels.program import Program
from hpctrain.kernels.shape import Product
from hpctrain.networks.dense import DenseNetwork
from hpctrain.networks.joint import JointNetwork

_kernels = load_build(choose_build() or HOST)
_KERNELS = {torch.float64: _kernels.JetKernelDouble, torch.float32: _kernels.JetKernelFloat}
_RESIDUALS = {
    torch.float64: _kernels.PointwiseResidualDouble,
    torch.float32: _kernels.PointwiseResidualFloat,
}
# Coordinates with derivatives of the compiled shapes.
COMPILED_COORDINATES = 4
# Bytes of one component of one unit in a full tile.
TILE_ROW = 256
# Bytes of a full tile's jets in all layers up to which tiles are full, or half as long; beyond, a
# quarter: measured where the second-level cache holds 2 MiB.
FULL_TILE, HALF_TILE = 2_500_000, 5_000_000


class NativeJets(JetEvaluator):
    """Evaluates jets by the compiled kernels; see `JetEvaluator`.

    Args:
        network, shape, bounds: as for `JetEvaluator`.
        points: coordinates (d, N).
        threads: the threads that share the chunks. Results do not depend on it.
        inputs: the jets (components, p, N) of the network's inputs; by default those of the
            coordinates.
        tile_parts: into how many parts a full tile of points is divided; see `choose_tile_parts`.
            By default as the network by itself asks.
    """

    def __init__(
        self,
        network: DenseNetwork,
        shape: JetShape,
        points: Tensor,
        bounds: list[int],
        threads: int = 1,
        inputs: Tensor | None = None,
        tile_parts: int | None = None,
    ) -> None:
        super().__init__(network, shape, bounds)
        layers = [
            (
                layer.inputs,
                layer.outputs,
                layer.start,
                layer.bias_start,
                -1 if layer.scale_index is None else layer.scale_index,
                layer.residual,
            )
            for layer in network.layers
        ]
        self.dtype = points.dtype
        self._network, self._tile_parts = network, tile_parts
        self._points, self._inputs, self._threads = points, inputs, threads
        compiled = find_compiled_shape(network, shape)
        entries, rows = _list_input_entries(shape, points, inputs)
        parts = tile_parts or choose_tile_parts(network, shape)
        parts = 1 if compiled[0] else parts
        self.kernel = _KERNELS[points.dtype](
            layers, network.activation, network.time_step, compiled, _list_products(shape.products),
            _list_products(shape.tangents), entries, _view(rows), parts, bounds, threads,
        )  # fmt: skip

    def recut(self, bounds: list[int]) -> "NativeJets":
        return self._move(self._points, bounds, self._inputs)

    def select(self, places: Tensor, bounds: list[int]) -> "NativeJets":
        inputs = None if self._inputs is None else self._inputs[..., places]
        return self._move(self._points[:, places], bounds, inputs)

    def _move(self, points: Tensor, bounds: list[int], inputs: Tensor | None) -> "NativeJets":
        """Makes an evaluator of the same network at other points."""
        return NativeJets(
            self._network, self.shape, points, bounds, self._threads, inputs, self._tile_parts
        )

    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Tensor | None = None
    ) -> Tensor:
        jets = torch.empty(
            self.components, self.network.outputs, self.points, dtype=self.dtype, device="cpu"
        )
        self.kernel.forward(_view(theta), first, _view_any(activations), keep, jets.numpy())
        return jets

    def evaluate_prefix(self, theta: Tensor, layer: int) -> Tensor:
        activations = torch.empty(
            self.kernel.activation_size(layer), dtype=self.dtype, device="cpu"
        )
        self.kernel.prefix(_view(theta), layer, activations.numpy())
        return activations

    def reverse(
        self,
        theta: Tensor,
        adjoint: Tensor,
        *,
        first: int = 0,
        last: int | None = None,
        activations: Tensor | None = None,
    ) -> Tensor:
        last = self.network.depth - 1 if last is None else last
        size = self.kernel.parameter_count(first, last)
        leaves = torch.empty(self.chunks, size, dtype=self.dtype, device="cpu")
        self.kernel.reverse(
            _view(theta),
            first,
            last,
            _view_any(activations),
            _view(adjoint),
            leaves.numpy(),
        )
        return leaves

    def differentiate_along(self, theta: Tensor, v: Tensor) -> Tensor:
        jets = torch.empty(
            self.components, self.network.outputs, self.points, dtype=self.dtype, device="cpu"
        )
        self.kernel.tangent(_view(theta), _view(v), jets.numpy())
        return jets


class JointNativeJets(NativeJets):
    """Evaluates networks beside each other by one kernel; see `JetEvaluator`.

    Args:
        network: the networks.
        parts: the evaluator of each, at the same points in the same chunks, with tiles of one
            length.
    """

    def __init__(self, network: JointNetwork, parts: Sequence[NativeJets]) -> None:
        JetEvaluator.__init__(self, network, parts[0].shape, parts[0].bounds)
        self._joint, self._parts = network, tuple(parts)
        self.dtype = parts[0].dtype
        self.kernel = _KERNELS[self.dtype]([part.kernel for part in parts])

    def recut(self, bounds: list[int]) -> "JointNativeJets":
        return JointNativeJets(self._joint, [part.recut(bounds) for part in self._parts])

    def select(self, places: Tensor, bounds: list[int]) -> "JointNativeJets":
        parts = [part.select(places, bounds) for part in self._parts]
        return JointNativeJets(self._joint, parts)


def find_compiled_shape(network: DenseNetwork, shape: JetShape) -> tuple[bool, int, int]:
    """Finds whether the formulas of a jet are compiled, and how the kernel calls it.

    Returns:
        Whether they are, the number of first derivatives, and an integer whose bit i says whether
        the i-th of these coordinates has a second derivative too.
    """
    firsts = [index[0] for index in shape.indices if len(index) == 1]
    others = [index for index in shape.indices if len(index) > 1]
    pure = all(len(index) == 2 and index[0] == index[1] for index in others)
    compiled = (
        pure
        and not shape.laplacian
        and len(firsts) <= COMPILED_COORDINATES
        and network.activation == "tanh"
    )
    if not compiled:
        return False, 0, 0
    return True, len(firsts), sum(1 << firsts.index(index[0]) for index in others)


def choose_tile_parts(network: DenseNetwork | JointNetwork, shape: JetShape) -> int:
    """Chooses into how many parts a full tile of points is divided, so that it stays in cache.

    It depends on network and shape alone, because the order of sums depends on it.
    """
    units = sum(layer.outputs for layer in network.layers) + 5 * network.width
    size = TILE_ROW * units * shape.components
    return 1 if size <= FULL_TILE else 2 if size <= HALF_TILE else 4


def _list_input_entries(
    shape: JetShape, points: Tensor, inputs: Tensor | None
) -> tuple[list[tuple[int, int, int]], Tensor]:
    """Lists those input jets that are not zero everywhere.

    Returns:
        For each the component, the input and its row, and the rows (R, N) of their values.
    """
    if inputs is not None:
        places = [(c, i) for c, i in inputs.ne(0).any(dim=2).nonzero().tolist()]
        rows = [inputs[c, i] for c, i in places]
        entries = [(c, i, row) for row, (c, i) in enumerate(places)]
        return entries, torch.stack(rows) if rows else points.new_zeros(0, points.shape[1])
    d = len(points)
    firsts = [index[0] for index in shape.indices if len(index) == 1]
    ones = [(1 + position, coordinate, d) for position, coordinate in enumerate(firsts)]
    return [*((0, i, i) for i in range(d)), *ones], torch.cat([points, torch.ones_like(points[:1])])


def _list_products(
    components: tuple[tuple[Product, ...], ...],
) -> list[list[tuple[float, list[int]]]]:
    """Returns the terms of all components as the kernel takes them."""
    return [[(float(p.coefficient), list(p.factors)) for p in each] for each in components]


class FusedResidual:
    """A residual that the compiled kernel evaluates with its jets and its gradient, tile by tile.

    See `residual.ResidualLoss`.

    Args:
        evaluator: the jets.
        program: the residual, traced.
        dtype: the type of its values.
    """

    untraced: str | None = None

    def __init__(self, evaluator: NativeJets, program: Program, dtype: torch.dtype) -> None:
        self.jets: NativeJets = evaluator
        self._program = program
        arrays = program.arrays[:, : evaluator.points].to(dtype).contiguous()
        self._residual = _RESIDUALS[dtype](
            program.instructions, program.results, program.unknowns, arrays.numpy()
        )

    def evaluate_prefix(self, theta: Tensor, layer: int) -> Tensor:
        return self.jets.evaluate_prefix(theta, layer)

    def sum_losses(self, theta: Tensor, first: int, activations: Tensor | None) -> Tensor:
        sums = self._make_empty(self.jets.chunks)
        self.jets.kernel.losses(
            _view(theta), first, _view_any(activations), self._residual, sums.numpy()
        )
        return sums

    def sum_losses_and_gradients(
        self,
        theta: Tensor,
        first: int,
        last: int,
        activations: Tensor | None,
        *,
        unknowns_wanted: bool | None = None,
    ) -> Tensor:
        kernel = self.jets.kernel
        wanted = self.jets.includes_unknowns(last, unknowns_wanted)
        size = 1 + kernel.parameter_count(first, last) + (self._program.unknowns if wanted else 0)
        leaves = self._make_empty(self.jets.chunks, size)
        kernel.losses_and_gradients(
            _view(theta), first, last, _view_any(activations), self._residual, wanted,
            leaves.numpy(),
        )  # fmt: skip
        return leaves

    def evaluate_residuals(self, theta: Tensor) -> Tensor:
        r = self._make_empty(self.jets.points * len(self._program.results))
        self.jets.kernel.residuals(_view(theta), self._residual, r.numpy())
        return r

    def regroup(self, bounds: list[int]) -> "FusedResidual":
        return FusedResidual(self.jets.recut(bounds), self._program, self.jets.dtype)

    def select(self, chosen: Tensor, bounds: list[int]) -> "FusedResidual":
        jets = self.jets.select(chosen, bounds)
        return FusedResidual(jets, self._program.select(chosen), self.jets.dtype)

    def pull_back(self, theta: Tensor, weights: Tensor) -> Tensor:
        leaves = self._make_empty(self.jets.chunks, len(theta))
        self.jets.kernel.weighted_gradients(
            _view(theta), self._residual, _view(weights), leaves.numpy()
        )
        return leaves

    def evaluate_jacobian(self, theta: Tensor, first: int, last: int) -> Tensor:
        points = self.jets.bounds[last] - self.jets.bounds[first]
        rows = self._make_empty(points * len(self._program.results), 1 + len(theta))
        self.jets.kernel.jacobian(_view(theta), self._residual, first, last, rows.numpy())
        return rows

    def multiply_jacobian(self, theta: Tensor, v: Tensor) -> Tensor:
        product = self._make_empty(self.jets.points * len(self._program.results))
        self.jets.kernel.jacobian_product(_view(theta), _view(v), self._residual, product.numpy())
        return product

    def multiply_gauss_newton_chunks(self, theta: Tensor, v: Tensor) -> Tensor:
        leaves = self._make_empty(self.jets.chunks, len(theta))
        self.jets.kernel.gauss_newton_products(
            _view(theta), _view(v), self._residual, leaves.numpy()
        )
        return leaves

    def _make_empty(self, *shape: int) -> Tensor:
        """Makes memory for a result of this shape."""
        return torch.empty(shape, dtype=self.jets.dtype, device="cpu")


def _view(tensor: Tensor):
    """Returns the memory of a tensor as the kernels take it."""
    return tensor.detach().contiguous().numpy()


def _view_any(tensor: Tensor | None):
    """Returns the memory of a tensor, or None where there is no tensor."""
    return None if tensor is None else tensor.numpy()
