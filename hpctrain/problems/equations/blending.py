"""Sums of networks times windows: u_α = Σ_j Σ_β (α over β) w_{j,β} N_{j,α-β}, at fixed points."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetEvaluator, JetShape
from hpctrain.problems.equations.ansatz import evaluate_jets
from hpctrain.problems.equations.fields import Field, list_components
from hpctrain.problems.equations.solution import Composition
from hpctrain.problems.equations.subdomains import KEY, Subdomains


class ForwardJets(Protocol):
    """What gives the jets (components, outputs, N) of fields at fixed points."""

    def forward(self, theta: Tensor, *, keep: bool) -> Tensor: ...


class Blend:
    """The windows of some subdomains at points, as numbers.

    Args:
        subdomains, members: which.
        shape: of the jets that are multiplied.
        points: (d, …), float64.
        dtype, device: of all numbers.
    """

    def __init__(
        self,
        subdomains: Subdomains,
        members: Sequence[int],
        shape: JetShape,
        points: Tensor,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._shape = shape
        components = list_components(shape)

        def make_jet(number: int) -> list[Tensor]:
            def window(x: Tensor) -> Tensor:
                return subdomains.evaluate(number, x)

            found = evaluate_jets(window, points.flatten(1), components, shape.laplacian, KEY)
            return [found[c].reshape(points.shape[1:]).to(device, dtype) for c in components]

        self._windows = [make_jet(number) for number in members]

    def sum(self, jet: Any, component: int, output: int, outputs: int) -> Any:
        """A component of a field.

        Args:
            jet: jet[c][k F + o] is component c of output o of the networks of member k.
            component, output: of the field.
            outputs: F, of the networks of a subdomain.
        """
        total = None
        for number, window in enumerate(self._windows):
            for count, of_window, of_network in self._shape.pairs[component]:
                factor = window[of_window] if count == 1 else count * window[of_window]
                part = factor * jet[of_network][number * outputs + output]
                total = part if total is None else total + part
        return total


class _Blended:
    """The jet of the fields, whose numbers are summed as they are asked for."""

    def __init__(self, blend: Blend, jet: Any, outputs: int) -> None:
        self._blend, self._jet, self._outputs = blend, jet, outputs
        self._known: dict[tuple[int, int], Any] = {}

    def __getitem__(self, component: int) -> "_Row":
        return _Row(self, component)

    def find(self, component: int, output: int) -> Any:
        key = component, output
        if key not in self._known:
            self._known[key] = self._blend.sum(self._jet, component, output, self._outputs)
        return self._known[key]


class _Row:
    """A component of all fields."""

    def __init__(self, blended: _Blended, component: int) -> None:
        self._blended, self._component = blended, component

    def __getitem__(self, output: int) -> Any:
        return self._blended.find(self._component, output)


class BlendedComposition:
    """Fields as functions of the jets of the networks of several subdomains.

    Args:
        composition: of the sums.
        blend: makes these.
        outputs: F, of the networks of a subdomain.
    """

    def __init__(self, composition: Composition, blend: Blend, outputs: int) -> None:
        self._composition, self._blend, self._outputs = composition, blend, outputs

    def fields(self, jet: Any, normals: Tensor | None = None) -> dict[str, Field]:
        """As `Composition.fields`."""
        return self._composition.fields(_Blended(self._blend, jet, self._outputs), normals)


class BlendedJets:
    """The jets of the fields at any points.

    Args:
        parts: by cell, where its points are among all, their evaluator, the entries of θ that it
            takes, and the windows; none where a single one is 1.
        shape: of the jets.
        outputs: F.
        points: N.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Tensor, JetEvaluator, Tensor, Blend | None]],
        shape: JetShape,
        outputs: int,
        points: int,
    ) -> None:
        self._parts, self._shape = parts, shape
        self._outputs, self._points = outputs, points

    def forward(self, theta: Tensor, *, keep: bool) -> Tensor:
        """(components, F, N)."""
        jets = theta.new_empty(self._shape.components, self._outputs, self._points)
        for places, evaluator, entries, blend in self._parts:
            own = evaluator.forward(theta[entries], keep=keep)
            jets[..., places] = own if blend is None else self._sum(blend, own)
        return jets

    def _sum(self, blend: Blend, own: Tensor) -> Tensor:
        rows = [
            torch.stack([blend.sum(own, c, o, self._outputs) for o in range(self._outputs)])
            for c in range(self._shape.components)
        ]
        return torch.stack(rows)
