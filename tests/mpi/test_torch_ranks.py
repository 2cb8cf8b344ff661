"""Optimisers of torch on several ranks, each with data of its own."""

import pytest
import torch
from torch import nn

from hpctrain.errors import InputError
from hpctrain.torch import APTS, LBFGS, SSBroyden, TrustRegion


def make_model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def train(optimizer, x, steps, *, communicator=None, samples=1):
    """The loss that the last step on the samples x (N, 1) began with, and where it ended."""
    model = make_model()
    tried = optimizer(model.parameters(), max_iter=3, communicator=communicator, samples=samples)

    def closure():
        tried.zero_grad()
        loss = nn.functional.mse_loss(model(x), torch.sin(2 * x))
        loss.backward()
        return loss

    for _ in range(steps):
        loss = tried.step(closure)
    return float(loss), torch.cat([each.detach().reshape(-1) for each in model.parameters()])


# After some iterations of APTS round-off decides between corners of the box that bounds a step.
@pytest.mark.parametrize(
    ("optimizer", "steps"), [(LBFGS, 3), (SSBroyden, 3), (TrustRegion, 3), (APTS, 1)]
)
def test_ranks_minimise_the_mean_over_all_samples_with_equal_bits(comm, optimizer, steps):
    from mpi4py import MPI

    x = torch.linspace(-1, 1, 2 * comm.size + 5)[:, None].double()
    first, last = comm.rank * 2, (comm.rank + 1) * 2
    own = x[first : last if comm.rank < comm.size - 1 else None]  # the last rank has five more
    loss, theta = train(optimizer, own, steps, samples=len(own))
    again = train(optimizer, own, steps, samples=len(own))
    assert again[0] == loss and torch.equal(again[1], theta)
    assert all(torch.equal(theta, other) for other in comm.allgather(theta))
    alone_loss, alone = train(optimizer, x, steps, communicator=MPI.COMM_SELF)
    assert loss == pytest.approx(alone_loss, rel=1e-9)
    assert torch.allclose(theta, alone, rtol=0, atol=1e-6)


@pytest.mark.mpi(min_size=2)
def test_what_does_not_fit_several_ranks_is_refused_on_all_of_them(comm):
    model = make_model(seed=comm.rank)
    tried = LBFGS(model.parameters())
    with pytest.raises(InputError, match="the parameters are not the same on all ranks"):
        tried.step(lambda: 0.0)
    with pytest.raises(TypeError, match=r"keep its state_dict\(\)"):
        tried.__getstate__()


@pytest.mark.mpi(min_size=2)
def test_a_state_dict_of_each_rank_goes_on_with_the_same_bits(comm):
    x = torch.linspace(-1, 1, 2 * comm.size)[2 * comm.rank : 2 * comm.rank + 2, None].double()
    models = make_model(), make_model()
    tried = [SSBroyden(model.parameters(), max_iter=4) for model in models]

    def step(number):
        def closure():
            tried[number].zero_grad()
            loss = nn.functional.mse_loss(models[number](x), torch.sin(2 * x))
            loss.backward()
            return loss

        tried[number].step(closure)

    step(0)
    models[1].load_state_dict(models[0].state_dict())
    tried[1].load_state_dict(tried[0].state_dict())
    for number in (0, 1):
        step(number)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)
