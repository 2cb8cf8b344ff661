"""The fields of the equations at fixed points, made of the jets of a network's outputs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from hpctrain.kernels.jets import JetShape
from hpctrain.linalg.arrays import CPU
from hpctrain.problems.equations.ansatz import Form, Function, evaluate_jets
from hpctrain.problems.equations.conditions.base import Frame
from hpctrain.problems.equations.exact import FieldForm
from hpctrain.problems.equations.fields import LAPLACIAN, Component, Field, list_components

Jets = dict[Component, Tensor]


class Composition:
    """Fields as functions of the network's jet at some points.

    Args:
        frame: names them.
        outputs: the fields whose numbers the outputs of the network are, in this order.
        forms: of the fields that are no plain outputs of the network.
        shape: of the jet.
        points: (d, …), float64.
        maxima: what the distances of fields are divided by; 1 where none is named.
        factors: by component, of jets along x in units of those that the kernel gives; 1 for none.
        dtype, device: of all numbers.
    """

    def __init__(
        self,
        frame: Frame,
        outputs: Sequence[str],
        forms: Mapping[str, FieldForm],
        shape: JetShape,
        points: Tensor,
        maxima: Mapping[str, float] = MappingProxyType({}),
        factors: Sequence[float] = (),
        dtype: torch.dtype = torch.float64,
        device: torch.device = CPU,
    ) -> None:
        self._frame, self._factors = frame, factors
        self._outputs = {name: output for output, name in enumerate(outputs)}
        self._places = {index: shape.find_position(index) for index in shape.indices}
        self._has_laplacian = bool(shape.laplacian)
        self._last = shape.components - 1
        components = list_components(shape)

        def make_jets(function: Function, place: str, scale: float = 1.0) -> Jets:
            found = evaluate_jets(function, points.flatten(1), components, shape.laplacian, place)
            return {
                c: (each if scale == 1 else each / scale)
                .reshape(points.shape[1:])
                .to(device, dtype)
                for c, each in found.items()
            }

        self._forms = {
            field: Form(
                make_jets(form.lifting, form.place),
                make_jets(form.distance, form.place, maxima.get(field, 1.0)),
                shape.laplacian,
            )
            for field, form in forms.items()
        }

    def fields(self, jet: Any, normals: Tensor | None = None) -> dict[str, Field]:
        """The fields of a network's jet, jet[component][output] being numbers (…) or symbols."""
        return {
            name: self._field(name, self._outputs[name], jet, normals)
            for name in self._frame.fields
        }

    def _field(self, name: str, output: int, jet: Any, normals: Tensor | None) -> Field:
        form, known = self._forms.get(name), dict[Component, Any]()

        def network(wanted: Component) -> Any:
            if wanted == LAPLACIAN:
                return jet[self._last][output]
            place = self._places[wanted]  # type: ignore[index]
            value, factor = jet[place][output], self._factors[place] if self._factors else 1.0
            return value if factor == 1 else factor * value

        def component(wanted: Component) -> Any:
            if wanted not in known:
                known[wanted] = self._component(name, wanted, form, network)
            return known[wanted]

        return Field(name, self._frame.axes, component, normals)

    def _component(self, name: str, wanted: Component, form: Form | None, network: Any) -> Any:
        if wanted == LAPLACIAN and not self._has_laplacian:
            parts = [self._component(name, (i, i), form, network) for i in self._frame.axes.space]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            return total
        if wanted != LAPLACIAN and wanted not in self._places:
            path = self._frame.axes.derivative(wanted)
            raise AttributeError(
                f"{name}.{path} was not asked for when the equation was tried out: which"
                " derivatives it takes must not depend on values"
            )
        return network(wanted) if form is None else form.component(wanted, network)
