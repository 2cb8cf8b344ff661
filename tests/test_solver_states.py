"""States are values: a step of any solver leaves the state that it is given as it was.

Of an inverse Hessian, which may change its form but not its value, the products are compared, of
all else the bits.
"""

from dataclasses import fields, is_dataclass

import pytest
import torch
from trials import BATCHED, LOGISTIC, PINN, TRIED, Trial, made

from hpctrain.methods.quasi_newton.inverse_hessian import InverseHessian
from hpctrain.parallel.communicator import Communicator
from hpctrain.solvers import SOLVERS

BLOCKS = "blocks = 3\nlocal_steps = 2\nkeep_local_memory = true\n"
SSBROYDEN = 'local_solver = "ssbroyden"\nglobal_solver = "ssbroyden"\nglobal_steps = 2\n'
CASES = {
    **{name: (name, *TRIED.get(name, (PINN, ""))) for name in SOLVERS},
    **{f"{name}, batches": (name, LOGISTIC, settings) for name, settings in BATCHED.items()},
    "ssbroyden, restarted": ("ssbroyden", PINN, "memory = 2"),
    "gauss-newton, sketch": ("gauss-newton", PINN, "sketch = 8"),
    "aspqn, memory": ("aspqn", PINN, BLOCKS),
    "mspqn, memory": ("mspqn", PINN, BLOCKS),
    "aspqn, ssbroyden": ("aspqn", PINN, BLOCKS + SSBROYDEN),
    "mspqn, trust-region": ("mspqn", PINN, BLOCKS + 'local_solver = "trust-region"'),
    "mlvr, resample": ("mlvr", LOGISTIC, 'resample = "cycle"'),
}
# Steps before the one that is repeated; after 24 the factors of ssbroyden have become rows.
EARLIER = [*((case, 2) for case in CASES), *((case, 24) for case in CASES if "ssbroyden" in case)]


@pytest.fixture
def trial(tmp_path):
    return Trial(tmp_path).pose()


def find_size(H, otherwise):
    """n of an inverse Hessian that is not the identity."""
    known = [each.total_rows for each in (H.rows, *H.factors.panels) if each]
    if H.waiting:
        known.append(H.waiting.vectors.shape[1])
    return known[0] if known else otherwise


def parts(value, theta):
    """All numbers of a state, copied; of an inverse Hessian its products with some vectors."""
    if isinstance(value, InverseHessian):
        vectors = torch.randn(
            3, find_size(value, len(theta)), generator=torch.Generator().manual_seed(0)
        ).to(theta)
        return [value.multiply(x, Communicator(), 1) for x in vectors]
    if is_dataclass(value):
        return [parts(getattr(value, field.name), theta) for field in fields(value)]
    if isinstance(value, dict):
        return [(key, parts(each, theta)) for key, each in sorted(value.items())]
    if isinstance(value, list | tuple):
        return [parts(each, theta) for each in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@pytest.mark.parametrize("case, earlier", EARLIER)
def test_a_state_can_be_stepped_from_again_and_is_left_as_it_was(case, earlier, trial):
    name, problem, settings = CASES[case]
    job = trial.job(name, tried=(problem, settings))

    def reach():
        solver, state = made(job)
        for _ in range(earlier):
            state, _ = solver.step(state)
        return solver, state

    (solver, state), (_, twin) = reach(), reach()

    def bits(state):
        return parts(state, state.point.theta)

    first, record = solver.step(state)
    assert not same(bits(first), bits(twin))
    kept = bits(first)
    solver.step(solver.step(first)[0])
    second, again = solver.step(state)
    assert same(bits(second), kept)
    assert (again.loss, again.gradient_norm, again.step_length, again.outcome) == (
        record.loss,
        record.gradient_norm,
        record.step_length,
        record.outcome,
    )
    assert same(bits(first), kept)
    assert same(bits(state), bits(twin))
