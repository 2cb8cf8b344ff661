"""Jets by Triton kernels, for GPUs: the formulas of `jets`, with one program for a tile of points.

Arrays have the shape (units, components, N), with the points last. With the adaptive scale α = 10 a
of a layer, w = α z, z = W y + b and h = tanh w, s₁ = 1 - h². z and h are stored. Of the value with
first and pure second derivatives, backwards, with ȳ the adjoint of what leaves the activation,

    w̄_jj = s₁ ȳ_jj,   w̄_j = s₁ (ȳ_j - 4 h w_j ȳ_jj),   w̄ = s₁ h̄,
    h̄ = ȳ - 2 h Σ ȳ_j w_j - 2 Σ ȳ_jj (h (w_jj - 2 h w_j²) + s₁ w_j²),

    W̄ = α Σ w̄ yᵀ,   b̄ = α Σ w̄,   ā = 10 Σ w̄ z,   adjoint of y: α Wᵀ w̄.

All other jets, and the sine, go through their activations by lists of terms (`triton_rules`).
One program sums the gradients of a chunk point after point, so that the order of sums is fixed.
Numbers that are not integers are passed to kernels in memory, since Triton rounds arguments to
float32.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from hpctrain.kernels.fallback import TorchJets
from hpctrain.kernels.jets import JetEvaluator, JetShape, make_input_jets
from hpctrain.kernels.triton_rules import ActivatedJets
from hpctrain.linalg.arrays import sum_chunks
from hpctrain.networks.dense import DenseLayer, DenseNetwork

TILE = 64
# Rows of a weight matrix whose gradient one program sums.
GRADIENT_ROWS = 8


def _is_simple(network: DenseNetwork, shape: JetShape) -> bool:
    """Whether the formulas of the jets are written out: for tanh, with pure second derivatives."""
    is_pure = all(len(i) < 2 or (len(i) == 2 and i[0] == i[1]) for i in shape.indices)
    return network.activation == "tanh" and is_pure and not shape.laplacian


class TritonJets(JetEvaluator):
    """Evaluates jets by Triton kernels; see `JetEvaluator`.

    The points are on a GPU, or on the CPU where Triton interprets its kernels for tests.

    Args:
        network, shape, bounds: as for `JetEvaluator`.
        points: coordinates (d, N).
        inputs: the jets (components, p, N) of the network's inputs; by default those of the
            coordinates.
    """

    def __init__(
        self,
        network: DenseNetwork,
        shape: JetShape,
        points: Tensor,
        bounds: list[int],
        inputs: Tensor | None = None,
    ) -> None:
        super().__init__(network, shape, bounds)
        self._network = network
        self._points = points
        self._inputs = make_input_jets(shape, points) if inputs is None else inputs
        self._bounds = torch.tensor(bounds, device=points.device)
        self._time_step = points.new_tensor([network.time_step])
        self._first_of, self._second_of = self._list_partners(points.device)
        self._rules = None
        if not _is_simple(network, shape):
            self._rules = ActivatedJets(shape, network.activation, points, TILE)
        self._tape: list[tuple[Tensor, Tensor, Tensor]] = []

    def recut(self, bounds: list[int]) -> "TritonJets":
        return TritonJets(self._network, self.shape, self._points, bounds, self._inputs)

    def select(self, places: Tensor, bounds: list[int]) -> "TritonJets":
        places = places.to(self._points.device)
        points, inputs = self._points[:, places], self._inputs[..., places]
        return TritonJets(self._network, self.shape, points, bounds, inputs)

    def differentiate_along(self, theta: Tensor, v: Tensor) -> Tensor:
        in_torch = TorchJets(self._network, self.shape, self._points, self.bounds, self._inputs)
        return in_torch.differentiate_along(theta, v)

    def _list_partners(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Lists for each component the first derivative of a second one, and the other way round.

        Returns:
            Two arrays of components: for a second derivative that of the first one by the same
            coordinate, and for a first derivative that of the second one; 0 where there is none.
        """
        first_of, second_of = [0] * self.components, [0] * self.components
        for place, index in enumerate(self.shape.indices):
            if len(index) == 2 and index[0] == index[1]:
                partner = self.shape.find_position(index[:1])
                first_of[place], second_of[partner] = partner, place
        return torch.tensor(first_of, device=device), torch.tensor(second_of, device=device)

    def forward(
        self, theta: Tensor, *, keep: bool, first: int = 0, activations: Tensor | None = None
    ) -> Tensor:
        theta = theta.detach().contiguous()
        y = self._input() if activations is None else activations
        tape = []
        for layer in self._network.layers[first:-1]:
            below, (z, h, y) = y, self._hidden(layer, theta, y)
            tape.append((below, z, h))
        z = self._linear(self._network.layers[-1], theta, y)
        if keep:
            self._tape = [*tape, (y, z, z[:, 0])]
        return z.transpose(0, 1).contiguous()

    def evaluate_prefix(self, theta: Tensor, layer: int) -> Tensor:
        y = self._input()
        for below in self._network.layers[:layer]:
            _, _, y = self._hidden(below, theta.detach().contiguous(), y)
        return y

    def reverse(
        self,
        theta: Tensor,
        adjoint: Tensor,
        *,
        first: int = 0,
        last: int | None = None,
        activations: Tensor | None = None,
    ) -> Tensor:
        if not self._tape:
            raise RuntimeError("reverse needs a kept forward evaluation")
        theta, layers = theta.detach().contiguous(), self._network.layers
        last = len(layers) - 1 if last is None else last
        sizes = [layer.stop - layer.start for layer in layers]
        leaves = adjoint.new_empty(self.chunks, sum(sizes[first : last + 1]))
        y_bar = w_bar = adjoint.transpose(0, 1).contiguous()
        for index in range(len(layers) - 1, first - 1, -1):
            layer, (y, z, h) = layers[index], self._tape[index - first]
            if index < len(layers) - 1:
                w_bar = self._pull_back_layer(layer, theta, y_bar, z, h)
            if index <= last:
                own = leaves[:, sum(sizes[first:index]) :]
                self._add_gradients(layer, theta, w_bar, y, z, own)
            if index > first:
                y_bar = self._multiply_adjoint(layer, theta, w_bar, y_bar)
        return leaves

    def _input(self) -> Tensor:
        return self._inputs.transpose(0, 1).contiguous()

    def _hidden(self, layer: DenseLayer, theta: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns z, h, and the jet that leaves a hidden layer.

        h is tanh(α z) of the value; where terms are summed by lists, f(α z) with f'(α z).
        """
        z = self._linear(layer, theta, y)
        scale = 1.0 if layer.scale_index is None else 10 * theta[layer.scale_index]
        w = scale * z[:, 0]
        h = torch.tanh(w) if self._rules is None else self._rules.evaluate_slopes(w)
        return z, h, self._activate_layer(layer, theta, y, z, h)

    def _grid(self, others: int) -> tuple[int, int]:
        return triton.cdiv(self.points, TILE), others

    def _linear(self, layer: DenseLayer, theta: Tensor, y: Tensor) -> Tensor:
        z = y.new_empty(layer.outputs, self.components, self.points)
        bias = theta[layer.bias_start :]
        _product[self._grid(self.components)](
            z, theta[layer.start :], y, bias, z, theta, layer.outputs, layer.inputs, self.points,
            layer.inputs, 1, self.components,
            BIASED=True, ADDED=False, SCALED=False,
            ROWS=triton.next_power_of_2(layer.outputs), TILE=TILE,
        )  # fmt: skip
        return z

    def _activate_layer(
        self, layer: DenseLayer, theta: Tensor, y: Tensor, z: Tensor, h: Tensor
    ) -> Tensor:
        """Computes the jet that leaves a hidden layer which the jet y enters."""
        if self._rules is not None:
            below = y if layer.residual else None
            scale = theta[layer.scale_index or 0 :]
            return self._rules.activate(z, h, scale, self._time_step, below, layer.adaptive)
        made = torch.empty_like(z)
        _activate[self._grid(layer.outputs)](
            made, z, h, y, theta[layer.scale_index or 0 :], self._time_step, self._first_of,
            self.points, self.components,
            SKIPS=layer.residual, SCALED=layer.adaptive, TILE=TILE,
        )  # fmt: skip
        return made

    def _pull_back_layer(
        self, layer: DenseLayer, theta: Tensor, y_bar: Tensor, z: Tensor, h: Tensor
    ) -> Tensor:
        """Computes w̄ from ȳ."""
        if self._rules is not None:
            scale, step = theta[layer.scale_index or 0 :], self._time_step
            skips, is_scaled = layer.residual, layer.adaptive
            return self._rules.pull_back(y_bar, z, h, scale, step, skips, is_scaled)
        w_bar = torch.empty_like(z)
        _pull_back[self._grid(layer.outputs)](
            w_bar, y_bar, z, h, theta[layer.scale_index or 0 :], self._time_step, self._first_of,
            self._second_of, self.points, self.components,
            SKIPS=layer.residual, SCALED=layer.adaptive, TILE=TILE,
        )  # fmt: skip
        return w_bar

    def _multiply_adjoint(
        self, layer: DenseLayer, theta: Tensor, w_bar: Tensor, y_bar: Tensor
    ) -> Tensor:
        """Computes the adjoint of a layer's input: α Wᵀ w̄, plus ȳ where the layer is residual."""
        below = w_bar.new_empty(layer.inputs, self.components, self.points)
        _product[self._grid(self.components)](
            below, theta[layer.start :], w_bar, theta, y_bar, theta[layer.scale_index or 0 :],
            layer.inputs, layer.outputs, self.points, 1, layer.inputs, self.components,
            BIASED=False, ADDED=layer.residual, SCALED=layer.adaptive,
            ROWS=triton.next_power_of_2(layer.inputs), TILE=TILE,
        )  # fmt: skip
        return below

    def _add_gradients(
        self,
        layer: DenseLayer,
        theta: Tensor,
        w_bar: Tensor,
        y: Tensor,
        z: Tensor,
        leaves: Tensor,
    ) -> None:
        """Writes the gradients (C, …) by a layer's parameters into their columns of `leaves`."""
        _gradients[(self.chunks, triton.cdiv(layer.outputs, GRADIENT_ROWS))](
            leaves, w_bar, y, self._bounds, theta[layer.scale_index or 0 :], layer.outputs,
            layer.inputs, self.points, self.components, leaves.stride(0),
            SCALED=layer.adaptive, ROWS=GRADIENT_ROWS,
            INPUTS=triton.next_power_of_2(layer.inputs),
        )  # fmt: skip
        if layer.scale_index is not None:
            scale = sum_chunks(10 * (w_bar * z).sum(dim=(0, 1)), self.bounds)
            leaves[:, layer.scale_index - layer.start] = scale


@triton.jit
def _product(
    out, matrix, x, bias, added, scale, rows, inner, points, row_stride, inner_stride, components,
    BIASED: tl.constexpr, ADDED: tl.constexpr, SCALED: tl.constexpr,
    ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Computes out = α M x + bias + added for one component; the bias is for the value only."""
    p = tl.program_id(0) * TILE + tl.arange(0, TILE)
    c = tl.program_id(1)
    row = tl.arange(0, ROWS)
    inside = (row < rows)[:, None] & (p < points)[None, :]
    total = tl.zeros((ROWS, TILE), dtype=out.dtype.element_ty)
    for k in range(inner):
        m = tl.load(matrix + row * row_stride + k * inner_stride, mask=row < rows, other=0.0)
        v = tl.load(x + (k * components + c) * points + p, mask=p < points, other=0.0)
        total += m[:, None] * v[None, :]
    if SCALED:
        total *= 10 * tl.load(scale)
    if BIASED:
        # ROWS is not below rows: only the value is inside.
        total += tl.load(bias + row, mask=row + c * ROWS < rows, other=0.0)[:, None]
    places = (row[:, None] * components + c) * points + p[None, :]
    if ADDED:
        total += tl.load(added + places, mask=inside, other=0.0)
    tl.store(out + places, total, mask=inside)


@triton.jit
def _activate(
    y, z, h, below, scale, time_step, first_of, points, components,
    SKIPS: tl.constexpr, SCALED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Computes, for one unit, the jet of tanh(w), or that of the layer's input plus dt times it."""
    p = tl.program_id(0) * TILE + tl.arange(0, TILE)
    unit, inside = tl.program_id(1), p < points
    value = tl.load(h + unit * points + p, mask=inside, other=0.0)
    s1 = 1 - value * value
    for c in range(components):
        j = tl.load(first_of + c)
        w = tl.load(z + (unit * components + c) * points + p, mask=inside, other=0.0)
        w_j = tl.load(z + (unit * components + j) * points + p, mask=inside, other=0.0)
        if SCALED:
            w *= 10 * tl.load(scale)
            w_j *= 10 * tl.load(scale)
        derivative = s1 * (w - tl.where(j > 0, 2 * value * w_j * w_j, 0.0))
        made = tl.where(c == 0, value, derivative)
        place = (unit * components + c) * points + p
        if SKIPS:
            made = tl.load(below + place, mask=inside, other=0.0) + tl.load(time_step) * made
        tl.store(y + place, made, mask=inside)


@triton.jit
def _pull_back(
    w_bar, y_bar, z, h, scale, time_step, first_of, second_of, points, components,
    SKIPS: tl.constexpr, SCALED: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Computes, for one unit, w̄ from ȳ."""
    p = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = p < points
    start = tl.program_id(1) * components * points + p
    value = tl.load(h + tl.program_id(1) * points + p, mask=inside, other=0.0)
    s1 = 1 - value * value
    h_bar = tl.load(y_bar + start, mask=inside, other=0.0)
    if SKIPS:
        h_bar *= tl.load(time_step)
    for c in range(1, components):
        j, s = tl.load(first_of + c), tl.load(second_of + c)
        w = tl.load(z + start + c * points, mask=inside, other=0.0)
        w_j = tl.load(z + start + j * points, mask=inside, other=0.0)
        own = tl.load(y_bar + start + c * points, mask=inside, other=0.0)
        second = tl.load(y_bar + start + s * points, mask=inside, other=0.0)
        if SCALED:
            w *= 10 * tl.load(scale)
            w_j *= 10 * tl.load(scale)
        if SKIPS:
            own *= tl.load(time_step)
            second *= tl.load(time_step)
        square = tl.where(j > 0, w_j * w_j, 0.0)
        h_bar -= 2 * own * (value * (w - 2 * value * square) + s1 * square)
        made = s1 * (own - tl.where(s > 0, 4 * value * w * second, 0.0))
        tl.store(w_bar + start + c * points, made, mask=inside)
    tl.store(w_bar + start, s1 * h_bar, mask=inside)


@triton.jit
def _gradients(
    leaves, w_bar, y, bounds, scale, outputs, inputs, points, components, stride,
    SCALED: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """Computes W̄ and b̄ of one chunk, for some of the outputs."""
    chunk = tl.program_id(0)
    row, k = tl.program_id(1) * ROWS + tl.arange(0, ROWS), tl.arange(0, INPUTS)
    weight = tl.zeros((ROWS, INPUTS), dtype=leaves.dtype.element_ty)
    bias = tl.zeros((ROWS,), dtype=leaves.dtype.element_ty)
    for p in range(tl.load(bounds + chunk), tl.load(bounds + chunk + 1)):
        for c in range(components):
            a = tl.load(w_bar + (row * components + c) * points + p, mask=row < outputs, other=0.0)
            b = tl.load(y + (k * components + c) * points + p, mask=k < inputs, other=0.0)
            weight += a[:, None] * b[None, :]
            bias += tl.where(c == 0, a, 0.0)
    if SCALED:
        weight *= 10 * tl.load(scale)
        bias *= 10 * tl.load(scale)
    own = leaves + chunk * stride
    inside = (row < outputs)[:, None] & (k < inputs)[None, :]
    tl.store(own + row[:, None] * inputs + k[None, :], weight, mask=inside)
    tl.store(own + outputs * inputs + row, bias, mask=row < outputs)
