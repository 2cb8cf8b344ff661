"""The jets of y = f(w) by Triton for any shape: sums over lists of terms, forward and back.

A term is c f^(k)(w) Π_i w_i, of Faà di Bruno's formula (`JetShape.products`). Its derivatives by
the components of w are such terms too, times the adjoint ȳ_s of the component of y that it belongs
to; in one list for each component of w they give w̄. The lists are in memory, so that one compiled
kernel runs them all.
"""

from collections import Counter
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from hpctrain.kernels.shape import MAX_ORDER, JetShape

# The highest number of factors of a term.
FACTORS = tl.constexpr(MAX_ORDER)


@dataclass(frozen=True)
class Term:
    """c f^(order)(w) Π_i w_i, backwards times the adjoint of a component of y.

    Attributes:
        coefficient: c.
        order: of the derivative of f.
        factors: the components i of w.
        source: the component of y.
    """

    coefficient: int
    order: int
    factors: tuple[int, ...]
    source: int = 0

    def pack(self) -> list[int]:
        """The factors, filled up, how many there are, the order and the source."""
        count = len(self.factors)
        return [*self.factors, *([0] * (MAX_ORDER - count)), count, self.order, self.source]


def list_forward_terms(shape: JetShape) -> list[list[Term]]:
    """Lists the terms of each component of y."""
    by_component = [[Term(p.coefficient, len(p.factors), p.factors) for p in products]
                    for products in shape.products]  # fmt: skip
    return [[Term(1, 0, ())], *by_component[1:]]


def list_reverse_terms(shape: JetShape) -> list[list[Term]]:
    """Lists the terms of the adjoint of each component of w."""
    found: list[list[Term]] = [[] for _ in range(shape.components)]
    found[0].append(Term(1, 1, ()))
    for source, products in enumerate(shape.products):
        for product in products:
            degree = len(product.factors)
            found[0].append(Term(product.coefficient, degree + 1, product.factors, source))
            for factor, count in Counter(product.factors).items():
                rest = list(product.factors)
                rest.remove(factor)
                term = Term(count * product.coefficient, degree, tuple(rest), source)
                found[factor].append(term)
    return found


class Terms:
    """Lists of terms in the memory of a device.

    Args:
        lists: those of each component.
        points: of the device and the type of the values.
    """

    def __init__(self, lists: list[list[Term]], points: Tensor) -> None:
        starts = [0]
        for each in lists:
            starts.append(starts[-1] + len(each))
        terms = [term for each in lists for term in each]
        device = points.device
        self.starts = torch.tensor(starts, device=device)
        self.numbers = torch.tensor([term.pack() for term in terms], device=device)
        self.coefficients = points.new_tensor([term.coefficient for term in terms])


class ActivatedJets:
    """The jets that leave hidden layers, and the adjoints of what enters their activations.

    Arrays are (units, components, N), as in `TritonJets`.

    Args:
        shape: of the jets.
        activation: f, "tanh" or "sin".
        points: of the device and the type of the values.
        tile: points of a program.
    """

    def __init__(self, shape: JetShape, activation: str, points: Tensor, tile: int) -> None:
        self._is_sine, self._tile = activation == "sin", tile
        self._forward = Terms(list_forward_terms(shape), points)
        self._reverse = Terms(list_reverse_terms(shape), points)

    def evaluate_slopes(self, w: Tensor) -> Tensor:
        """Computes f(w) and f'(w), (units, 2, N), at the values w (units, N)."""
        f = torch.sin(w) if self._is_sine else torch.tanh(w)
        return torch.stack([f, torch.cos(w) if self._is_sine else 1 - f * f], dim=1)

    def activate(
        self, z: Tensor, slopes: Tensor, scale: Tensor, step: Tensor, below: Tensor | None,
        is_scaled: bool,
    ) -> Tensor:  # fmt: skip
        """Computes the jet of f(α z), or that of `below` plus dt times it.

        Args:
            z: the jet that enters the activation.
            slopes: of `evaluate_slopes`.
            scale: α / 10 (1,), if the layer is scaled.
            step: dt (1,).
            below: the jet that enters the layer; None where it is not added.
        """
        added = z if below is None else below
        return self._run(self._forward, z, slopes, added, scale, step, below is not None,
                         is_scaled, is_reverse=False)  # fmt: skip

    def pull_back(
        self, y_bar: Tensor, z: Tensor, slopes: Tensor, scale: Tensor, step: Tensor, skips: bool,
        is_scaled: bool,
    ) -> Tensor:  # fmt: skip
        """Computes w̄ from ȳ, times dt where the layer's input is added."""
        return self._run(self._reverse, z, slopes, y_bar, scale, step, skips, is_scaled,
                         is_reverse=True)  # fmt: skip

    def _run(
        self, terms: Terms, z: Tensor, slopes: Tensor, other: Tensor, scale: Tensor, step: Tensor,
        skips: bool, is_scaled: bool, *, is_reverse: bool,
    ) -> Tensor:  # fmt: skip
        made = torch.empty_like(z)
        units, components, points = z.shape
        _sum_terms[triton.cdiv(points, self._tile), units](
            made, z, slopes, other, scale, step, terms.starts, terms.numbers, terms.coefficients,
            points, components,
            SKIPS=skips, SCALED=is_scaled, SINE=self._is_sine, REVERSE=is_reverse,
            TILE=self._tile,
        )  # fmt: skip
        return made


@triton.jit
def _sum_terms(
    out, z, slopes, other, scale, time_step, starts, numbers, coefficients, points, components,
    SKIPS: tl.constexpr, SCALED: tl.constexpr, SINE: tl.constexpr, REVERSE: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """Computes all components of one unit: of y from w, or of w̄ from ȳ, which is `other`."""
    p = tl.program_id(0) * TILE + tl.arange(0, TILE)
    unit, inside = tl.program_id(1), p < points
    f = tl.load(slopes + 2 * unit * points + p, mask=inside, other=0.0)
    f1 = tl.load(slopes + (2 * unit + 1) * points + p, mask=inside, other=0.0)
    if SINE:
        f2, f3, f4, f5 = -f, -f1, f, f1
    else:
        f2 = -2 * f * f1
        f3 = -2 * (f * f2 + f1 * f1)
        f4 = -2 * (f * f3 + 3 * f1 * f2)
        f5 = -2 * (f * f4 + 4 * f1 * f3 + 3 * f2 * f2)
    for c in range(components):
        total = tl.zeros((TILE,), dtype=out.dtype.element_ty)
        for t in range(tl.load(starts + c), tl.load(starts + c + 1)):
            own = numbers + t * (FACTORS + 3)
            order = tl.load(own + FACTORS + 1)
            high = tl.where(order == 3, f3, tl.where(order == 4, f4, f5))
            low = tl.where(order == 0, f, tl.where(order == 1, f1, f2))
            term = tl.load(coefficients + t) * tl.where(order < 3, low, high)
            if REVERSE:
                place = (unit * components + tl.load(own + FACTORS + 2)) * points
                term *= tl.load(other + place + p, mask=inside, other=0.0)
            for k in range(tl.load(own + FACTORS)):
                place = (unit * components + tl.load(own + k)) * points
                w = tl.load(z + place + p, mask=inside, other=0.0)
                if SCALED:
                    w *= 10 * tl.load(scale)
                term *= w
            total += term
        place = (unit * components + c) * points + p
        if SKIPS:
            total *= tl.load(time_step)
            if not REVERSE:
                total += tl.load(other + place, mask=inside, other=0.0)
        tl.store(out + place, total, mask=inside)
