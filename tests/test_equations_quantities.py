"""Quantities of a solution that a class names: their values, errors, and what is refused."""

import numpy as np
import pytest
import torch

from hpctrain.errors import InputError
from hpctrain.networks.dense import DenseNetwork
from hpctrain.parallel.communicator import Communicator
from hpctrain.problems.equations import Box, Equations, ProblemError, Unknown
from hpctrain.problems.equations.checks.probe import probe
from hpctrain.problems.equations.problem import Formulation, PinnProblem


class Stream(Equations):
    """A stream function, whose velocities are known."""

    geometry = Box(x=(0, 1), y=(0, 2))
    fields = ("psi",)
    unknowns = {"k": Unknown(2.0)}
    test_grid = (5, 6)

    def residuals(self, at, psi, k):
        return psi.xx + k * psi.yy

    def quantities(self, at, psi, k):
        return {"u": psi.y, "v": -psi.x, "flux": k * psi.xy + at.x * psi}

    def reference(self, at):
        return {"u": at.x * at.y, "v": -(at.y**2) / 2}


def make(equations):
    return PinnProblem(equations, DenseNetwork(2, 5, 3), Formulation(points=20, scale_inputs=True))


def test_quantities_are_the_functions_of_the_fields_at_any_points():
    problem = make(Stream())
    theta = problem.make_initial_parameters(0)
    points = torch.rand(2, 37, dtype=torch.float64, generator=torch.manual_seed(0))
    names = ["v", "psi.y", "flux", "u", "psi", "psi.x", "psi.xy"]
    found = problem.evaluate(theta, points, names, threads=2)
    assert list(found) == names
    assert torch.equal(found["u"], found["psi.y"]) and torch.equal(found["v"], -found["psi.x"])
    flux = 2.0 * found["psi.xy"] + points[0] * found["psi"]
    assert torch.allclose(found["flux"], flux, rtol=1e-14, atol=0)


def test_errors_are_those_of_the_quantities_that_have_a_reference():
    problem = make(Stream())
    theta = problem.make_initial_parameters(0)
    monitor = problem.make_monitor(Communicator(), 8, 1)
    values, fields = monitor.measure(theta), monitor.evaluate_solution(theta)
    assert {"prediction_psi", "prediction_flux", "reference_u"} <= fields.keys()
    assert "reference_psi" not in fields
    x, y = np.meshgrid(fields["x"], fields["y"], indexing="ij")
    for name, exact in (("u", x * y), ("v", -(y**2) / 2)):
        off = np.linalg.norm(fields[f"prediction_{name}"] - exact) / np.linalg.norm(exact)
        assert values[f"error_{name}"] == pytest.approx(off, rel=1e-12)
    assert values["error"] == max(values["error_u"], values["error_v"])
    assert "error_paper" not in values


def returning(function):
    """Equations with these quantities."""

    class Other(Stream):
        def quantities(self, at, psi):
            return function(at, psi)

    return Other()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda at, psi: psi.y, "quantities returned a value of type Tensor: it must be a mapping"),
        (lambda at, psi: {"psi": psi.y}, "has the name 'psi': it must be a Python name, and none"),
        (lambda at, psi: {"2u": psi.y}, "has the name '2u'"),
        (lambda at, psi: {"u": psi.y.mean()}, r"returned a tensor of shape \(\) for u"),
        (lambda at, psi: {"u": psi.y - psi.y.mean()}, "must act on each point for itself"),
        (lambda at, psi: {"u": psi.y / 0 - psi.y / 0}, "u is not finite at any of 64 points"),
        (lambda at, psi: {"u": psi.z}, r"Other\.quantities"),
    ],
)
def test_what_is_no_quantity_is_refused(function, message):
    with pytest.raises(ProblemError, match=message):
        problem = make(returning(function))
        probe(problem)


def test_a_reference_of_what_is_neither_field_nor_quantity_is_refused():
    with pytest.raises(InputError, match="names 'v': fields and quantities are psi, u"):
        made = make(returning(lambda at, psi: {"u": psi.y}))
        made.make_monitor(Communicator(), 8, 1)
