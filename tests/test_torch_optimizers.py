"""Solvers as optimisers of torch: torch's contract, and the solvers' own iterates."""

import copy
import io
import pickle
from itertools import pairwise

import pytest
import torch
from quadratic import minimum, objective_of, random_quadratic
from torch import nn

import hpctrain
from hpctrain.errors import InputError, RunError
from hpctrain.solvers import SOLVERS
from hpctrain.solvers.base import Setting
from hpctrain.torch import APTS, LBFGS, SSBFGS, SSBroyden, TrustRegion

ALL = [LBFGS, SSBFGS, SSBroyden, TrustRegion, APTS]
WHOLE = ALL[:-1]


def parameters(n=6):
    """Two tensors of n numbers in all."""
    return nn.Parameter(torch.ones(2, dtype=torch.float64)), nn.Parameter(
        torch.ones(1, n - 2, dtype=torch.float64)
    )


def closure_of(loss, tensors, calls=None):
    """The closure of a quadratic, whose sums are those that its objective takes."""

    def closure():
        theta = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        sums = objective_of(loss).evaluate_with_gradient(theta)
        if calls is not None:
            calls.append(theta)
        parts = sums.evaluate_gradient().split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.grad = part.view_as(tensor)
        return torch.tensor(sums.loss, dtype=torch.float64)

    return closure


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


@pytest.mark.parametrize("optimizer", ALL)
@pytest.mark.parametrize("max_iter", [1, 4])
def test_iterates_are_those_of_the_solver(optimizer, max_iter):
    loss, tensors = random_quadratic(6), parameters()
    method = SOLVERS[optimizer.solver_name]
    setting = Setting(objective_of(loss, sizes=[2, 4]))
    solver = method(setting, method.Options(name=optimizer.solver_name))
    state = solver.init(flat(tensors))
    tried = optimizer(tensors, max_iter=max_iter)
    for _ in range(3):
        before = state.point.loss
        for _ in range(max_iter):
            state, record = solver.step(state)
            if record.outcome.is_final:
                break
        first = tried.step(closure_of(loss, tensors))
        gradient = torch.cat([tensor.grad.reshape(-1) for tensor in tensors])
        if optimizer is APTS:  # whose blocks the quadratic restricts by another formula
            assert torch.allclose(flat(tensors), state.point.theta, rtol=0, atol=1e-12)
        else:
            assert float(first) == before and torch.equal(gradient, state.point.gradient)
            assert torch.equal(flat(tensors), state.point.theta)


@pytest.mark.parametrize("optimizer", ALL)
def test_the_usual_loop_of_torch_trains_a_network(optimizer):
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 20)[:, None].double()
    y = torch.sin(3 * x)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    tried = optimizer(model.parameters())

    def closure():
        tried.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    losses = [float(tried.step(closure)) for _ in range(4)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("optimizer", WHOLE)
def test_a_point_costs_one_call_and_a_step_begins_with_one_at_the_parameters(optimizer):
    loss, tensors, calls = random_quadratic(6), parameters(), []
    tried = optimizer(tensors, max_iter=3)
    closure = closure_of(loss, tensors, calls)
    tried.step(closure)
    ended, seen = flat(tensors), len(calls)
    tried.step(closure)
    assert torch.equal(calls[seen], ended)
    assert all(not torch.equal(a, b) for a, b in pairwise(calls[:seen]))


@pytest.mark.parametrize("optimizer", ALL)
def test_a_state_dict_goes_on_with_the_same_bits(optimizer):
    loss = random_quadratic(6, spread=3)
    tensors, others = parameters(), parameters()
    tried = optimizer(tensors, max_iter=2)
    for _ in range(2):
        tried.step(closure_of(loss, tensors))
    file = io.BytesIO()
    torch.save(tried.state_dict(), file)
    file.seek(0)
    kept = torch.load(file)  # which runs no code
    again = optimizer(others, max_iter=2)
    again.load_state_dict(kept)
    assert again.state_dict().keys() == kept.keys()
    with torch.no_grad():
        for other, tensor in zip(others, tensors, strict=True):
            other.copy_(tensor)
    for _ in range(2):
        tried.step(closure_of(loss, tensors))
        again.step(closure_of(loss, others))
    assert torch.equal(flat(others), flat(tensors))
    fresh = parameters()
    optimizer(fresh, max_iter=8).step(closure_of(loss, fresh))
    assert torch.equal(flat(fresh), flat(tensors))


@pytest.mark.parametrize("optimizer", ALL)
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]
)
def test_a_copy_goes_on_with_the_same_bits_on_parameters_of_its_own(optimizer, duplicate):
    loss, tensors = random_quadratic(6, spread=3), parameters()
    tried = optimizer(tensors, max_iter=2)
    tried.step(closure_of(loss, tensors))
    others, again = duplicate((tensors, tried))
    again.step(closure_of(loss, others))
    assert not torch.equal(flat(others), flat(tensors))
    tried.step(closure_of(loss, tensors))
    assert torch.equal(flat(others), flat(tensors))


@pytest.mark.parametrize("optimizer", ALL)
def test_another_closure_and_moved_parameters_are_taken_as_they_are(optimizer):
    first, second, tensors = random_quadratic(6), random_quadratic(6, seed=1), parameters()
    tried = optimizer(tensors, max_iter=30)
    tried.step(closure_of(first, tensors))
    with torch.no_grad():
        tensors[0].add_(1)
    expected = objective_of(second).evaluate(flat(tensors)).loss
    assert float(tried.step(closure_of(second, tensors))) == expected
    for _ in range(3):
        tried.step(closure_of(second, tensors))
    assert torch.allclose(flat(tensors), minimum(second), atol=1e-4)


def test_a_loss_that_is_not_finite_leaves_the_parameters():
    for bad in (float("nan"), float("inf")):
        tensors = parameters()
        good, before = closure_of(random_quadratic(6), tensors), flat(tensors)
        with pytest.raises(RunError, match=r"not finite where the step begins"):
            SSBroyden(tensors).step(lambda good=good, bad=bad: good() * bad)
        assert torch.equal(flat(tensors), before)


def test_a_closure_that_fails_leaves_the_parameters():
    tensors, calls = parameters(), []
    good, before = closure_of(random_quadratic(6), tensors, calls), flat(tensors)

    def closure():
        if len(calls) == 2:
            raise KeyError("mine")
        return good()

    with pytest.raises(KeyError, match="mine"):
        LBFGS(tensors).step(closure)
    assert len(calls) == 2 and torch.equal(flat(tensors), before)


def test_the_loss_of_trials_that_is_not_finite_is_no_step():
    tensors = parameters()
    good, start = closure_of(random_quadratic(6), tensors), flat(tensors)

    def closure():
        loss = good()
        return loss if (flat(tensors) - start).norm() < 0.1 else loss * float("nan")

    for optimizer in WHOLE:
        tensors[0].data.fill_(1), tensors[1].data.fill_(1)
        optimizer(tensors, max_iter=8).step(closure)
        assert 0 < (flat(tensors) - start).norm() < 0.1, optimizer


def test_parameters_without_a_gradient_stay():
    tensors = [
        nn.Parameter(torch.ones(2)),
        nn.Parameter(torch.ones(2)),
        nn.Parameter(torch.ones(1)),
    ]

    def closure():
        loss = (tensors[0] - 3).square().sum() + (tensors[2] * 2).square().sum()
        loss.backward()  # without zero_grad: gradients begin at none
        return loss.item()

    SSBroyden(tensors).step(closure)
    assert torch.allclose(torch.cat(tensors), torch.tensor([3.0, 3, 1, 1, 0]), atol=1e-5)


def test_groups_are_the_blocks_of_apts_and_no_other_takes_them():
    tensors = parameters()
    groups = [{"params": [tensors[0]]}, {"params": [tensors[1]]}]
    assert APTS(groups)._solver.subdomains.sizes == [2, 4]
    with pytest.raises(InputError, match="SSBroyden takes one group of parameters, not 2"):
        SSBroyden(groups)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"memory": 0}, "LBFGS: memory = 0 is not allowed: an integer, at least 1"),
        ({"lr": 1.0}, "LBFGS: unknown key lr; allowed: name, memory, momentum, line_search"),
        ({"line_search": {"c1": 2.0}}, "LBFGS: line_search.c1 = 2.0 is not allowed"),
        ({"max_iter": 0}, "max_iter = 0 is not allowed: an integer, at least 1"),
        ({"samples": 0.5}, "samples = 0.5 is not allowed"),
    ],
)
def test_options_that_are_not_allowed_are_said_in_one_line(options, line):
    with pytest.raises(InputError) as caught:
        LBFGS(parameters(), **options)
    assert str(caught.value).startswith(line) and len(str(caught.value).splitlines()) == 1


def test_what_the_contract_lacks_is_refused():
    tensors = parameters()
    tried = LBFGS(tensors)
    with pytest.raises(InputError, match="step needs a closure"):
        tried.step()
    with pytest.raises(InputError, match="LBFGS cannot take further parameters"):
        tried.add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    with pytest.raises(InputError, match="there is no lr to schedule"):
        torch.optim.lr_scheduler.StepLR(tried, 1)
    with pytest.raises(InputError, match="the closure returned NoneType: it must return the loss"):
        tried.step(lambda: None)
    with pytest.raises(InputError, match="must call backward"):
        tried.step(lambda: torch.tensor(1.0))
    with pytest.raises(InputError, match=r"torch\.float32 on cpu, torch\.float64 on cpu"):
        LBFGS([*tensors, nn.Parameter(torch.ones(1))])
    with pytest.raises(InputError, match=r"torch\.complex128 on cpu"):
        LBFGS([nn.Parameter(torch.ones(1, dtype=torch.complex128))])
    with pytest.raises(InputError, match="of another method, or of other options"):
        tried.load_state_dict(LBFGS(tensors, memory=7).state_dict())
    assert hpctrain.torch.LBFGS is LBFGS


def test_max_iter_of_the_group_is_read_in_each_step():
    loss, tensors = random_quadratic(6), parameters()
    tried, calls = SSBroyden(tensors, max_iter=1), []
    tried.param_groups[0]["max_iter"] = 3
    tried.step(closure_of(loss, tensors, calls))
    others = parameters()
    SSBroyden(others, max_iter=3).step(closure_of(loss, others))
    assert torch.equal(flat(tensors), flat(others)) and "max_iter: 3" in repr(tried)


def train_on(optimizer, make):
    """The parameters (5,) after three steps, made by `make` out of tensors of ones."""
    tensors = [
        make(torch.ones(2, dtype=torch.float64)),
        make(torch.ones(1, 3, dtype=torch.float64)),
    ]

    @torch.no_grad()
    def closure():
        for k, each in enumerate(tensors):
            each.grad = 2 * (k + 2) * (each - k) + 0.4 * each**3
        return sum(((k + 2) * (x - k) ** 2 + 0.1 * x**4).sum() for k, x in enumerate(tensors))

    tried = optimizer(tensors, max_iter=3)
    for _ in range(2):
        tried.step(closure)
    again = optimizer(tensors, max_iter=3)
    again.load_state_dict(tried.state_dict())
    again.step(closure)
    return flat([getattr(each, "raw", each) for each in tensors])


@pytest.mark.parametrize("optimizer", ALL)
def test_all_tensors_are_on_the_device_of_the_parameters(optimizer):
    from pretended_gpu import PretendedTensor

    expected = train_on(optimizer, nn.Parameter)
    with torch.device("meta"):
        assert torch.equal(
            train_on(optimizer, lambda x: nn.Parameter(torch.ones_like(x, device="cpu"))), expected
        )
    found = train_on(optimizer, lambda x: PretendedTensor(x).requires_grad_())
    # At a minimum rounding, which is the device's own, decides on the last steps.
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-6)
