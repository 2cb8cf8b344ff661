"""Networks of subdomains on several ranks: the steps of one rank, bit by bit."""

import pytest
import torch
from job_texts import write_text
from sparse_matrices import make_sparse

from hpctrain.job.settings import parse_job
from hpctrain.linalg.elimination import find_elimination
from hpctrain.networks.dense import DenseNetwork
from hpctrain.objective import Objective
from hpctrain.parallel.communicator import Communicator
from hpctrain.parallel.sparse_blocks import SparseBlocks, find_owners
from hpctrain.problems.equations.library import EQUATIONS
from hpctrain.problems.equations.problem import Formulation, PinnProblem
from hpctrain.solvers.base import Setting
from hpctrain.solvers.gauss_newton import GaussNewton, GaussNewtonOptions

FREQUENCIES = torch.linspace(-3, 4, 10, dtype=torch.float64).view(5, 2)
FORMULATION = Formulation(
    90, scale_inputs=True, subdomains={"t": 2, "x": 3}, overlap=0.7, fourier=FREQUENCIES
)


# The second one is periodic in x, whose cells make a ring.
NAMES = ["burgers", "convection"]


def train(ranks, name, factorisation):
    """θ after three steps, and errors on a grid."""
    problem = PinnProblem(EQUATIONS[name](), DenseNetwork(2, 4, 3), FORMULATION)
    options = GaussNewtonOptions(factorisation=factorisation)
    solver = GaussNewton(Setting(Objective.of(problem, ranks, 8), 0), options)
    state = solver.init(problem.make_initial_parameters(0))
    for _ in range(3):
        state, _ = solver.step(state)
    return state.point, problem.make_monitor(ranks, 8, 1).measure(state.point.theta)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factorisation", ["gram", "qr"])
def test_steps_have_the_bits_of_one_rank(comm, assert_everywhere, name, factorisation):
    found, errors = train(comm, name, factorisation)
    expected, alone = train(Communicator(), name, factorisation)
    assert_everywhere(torch.equal(found.theta, expected.theta), "the parameters")
    assert_everywhere(found.loss == expected.loss, "the loss")
    assert_everywhere(errors == alone, "the errors")


@pytest.mark.parametrize("shift", [0.5, -0.2])
def test_sparse_factors_have_the_bits_of_one_rank(comm, assert_everywhere, shift):
    """Of a grid of 4 x 5 pieces; with the negative shift no rank finds any."""
    corners = [5 * i + j for i in range(3) for j in range(4)]
    pattern = 20, tuple((k, k + 1, k + 5, k + 6) for k in corners)
    elimination = find_elimination(*pattern)
    pieces, blocks, A = make_sparse(*pattern, elimination)
    found = []
    for ranks in (comm, Communicator()):
        owners = find_owners(elimination, ranks.size)
        own = {block: part for block, part in blocks.items() if owners[block] == ranks.rank}
        sparse = SparseBlocks(ranks, pieces, elimination, own, A)
        factor = sparse.factorise(shift)
        b = torch.linspace(-1, 2, len(A), dtype=A.dtype)
        found.append([factor and factor.solve(b), sparse.find_largest()])
    (x, largest), (expected, alone) = found
    assert_everywhere(largest == alone == float(A.diagonal().max()), "the largest number")
    assert_everywhere((x is None) == (expected is None) == (shift < 0), "whether there is a factor")
    if expected is not None:
        assert_everywhere(torch.equal(x, expected), "the solution")


# Random features on 2 x 4 subdomains, a ring along x, in two windows of time.
JOB = write_text(
    'name = "kdv"\npoints = 300\nconstraints = ["Initial"]\ncondition_points = 60\nslabs = 2',
    network="""kind = "mlp"
depth = 1
fourier = 6
fourier_scale = 1.0
subdomains = {{ t = 2, x = 4 }}""",
    solver="""name = "gauss-newton"
factorisation = "qr"
stop = {{ max_iterations = 3 }}""",
    output="checkpoint_every = 2\nerror_every = 2\niterates_every = 1",
    stop="max_iterations = {iterations}",
)


def test_a_run_of_features_stopped_and_resumed_has_the_bits_of_one_rank(
    run_alone, run_in_parts, assert_same_run
):
    whole, first = (parse_job(JOB.format(iterations=k), "a test") for k in (9, 2))
    expected, found = run_alone(whole), run_in_parts(first, 4, 9)
    assert_same_run(found, expected)
    assert found.history["slab"].tolist() == [1] * 4 + [2] * 3
    assert found.history["loss"][3] < 0.5 * found.history["loss"][0]
    assert (found.parameters == expected.parameters).all()
