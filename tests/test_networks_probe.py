"""A module is accepted if it is a finite sum over samples, by what it does and not by its type."""

import random
import re
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hpctrain.linalg.randomness import GlobalGenerators
from hpctrain.networks.checks.probe import probe
from hpctrain.networks.faults import NetworkError
from hpctrain.networks.module import ModuleNetwork


class Own(nn.Module):
    """A module of the user's: f, which may use the module, before a linear layer."""

    def __init__(self, f, *, width=4, **state):
        super().__init__()
        self.f = f
        self.calls, self.mean = 0, None
        self.register_buffer("shift", torch.zeros(4))
        for name, value in state.items():
            setattr(self, name, value)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.f(self, x))


def counts(module, x):
    module.calls += 1
    return x


def shifts(module, x):
    module.shift += x.detach().mean(0)
    return x


def takes_over_the_first_mean(module, x):
    if module.mean is None:
        module.mean = x.detach().mean(0)
    return x - module.mean


def notes_a_mean_in_data(module, x):
    module.scale.data.mul_(1.5)
    return x * module.scale


def seeded():
    return torch.Generator().manual_seed(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(2, 3, num_layers=2, dropout=0.3, batch_first=True)

    def forward(self, x):
        return self.lstm(x.view(len(x), 2, 2))[0][:, -1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.2, batch_first=True)

    def forward(self, x):
        x = x.view(len(x), 1, 4).expand(-1, 3, -1)
        return self.attention(x, x, x)[0][:, 0]


def chain(*parts):
    return lambda: nn.Sequential(nn.Linear(4, 4), *parts, nn.Linear(4, 3))


DRAWS, CHANGES = "draws random numbers", "changes its"
MIXES = "makes of a sample what depends on others of its batch"
VARIES = "gives other numbers for the same samples a second time"
ADVICE = "leave it out, as the loss must not depend on chance"
OWN_RANDOM = np.random.default_rng(0)
REFUSED = {
    "dropout": (chain(nn.Dropout(0.5)), f"{DRAWS}, first in 1 (Dropout): {ADVICE}"),
    "dropout by a function": (
        lambda: Own(lambda m, x: functional.dropout(x, 0.5, m.training)),
        f"{DRAWS}: {ADVICE}",
    ),
    "alpha dropout": (chain(nn.AlphaDropout(0.5)), f"{DRAWS}, first in 1 (AlphaDropout)"),
    "rrelu": (chain(nn.RReLU()), f"{DRAWS}, first in 1 (RReLU)"),
    "lstm": (Recurrent, f"{DRAWS}, first in lstm (LSTM)"),
    "attention": (Attention, f"{DRAWS}, first in attention (MultiheadAttention)"),
    "noise": (lambda: Own(lambda m, x: x + 0.1 * torch.randn_like(x)), DRAWS),
    "python's chance": (lambda: Own(lambda m, x: x * random.random()), DRAWS),
    "numpy's chance": (lambda: Own(lambda m, x: x + float(np.random.rand())), DRAWS),
    "a generator of its own": (
        lambda: Own(lambda m, x: x + float(OWN_RANDOM.standard_normal())), VARIES,
    ),
    "the clock": (lambda: Own(lambda m, x: x + time.perf_counter() % 1), VARIES),
    "batch norm": (
        chain(nn.BatchNorm1d(4)),
        f"{CHANGES} buffer 1.running_mean of its BatchNorm1d when it is evaluated: normalise by"
        " nn.GroupNorm",
    ),
    "batch norm by a function": (
        lambda: Own(lambda m, x: functional.batch_norm(
            x.repeat(1, 1, 3).view(-1, 4, 3), None, None, training=True)[:, :, 0]),
        MIXES,
    ),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Conv1d(2, 2, 1),
                              nn.BatchNorm1d(2, track_running_stats=False), nn.Flatten(),
                              nn.Linear(4, 3)),
        f"{MIXES}, first in 2 (BatchNorm1d): normalise by nn.GroupNorm",
    ),
    "mean of the batch": (lambda: Own(lambda m, x: x - x.mean(0)), MIXES),
    "noise by place": (
        lambda: Own(lambda m, x: x + torch.randn(x.shape, generator=seeded())),
        MIXES,
    ),
    "the first mean": (lambda: Own(takes_over_the_first_mean), MIXES),
    "spectral norm": (
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)),
        f"{CHANGES} buffer parametrizations.weight.0._u of its _SpectralNorm",
    ),
    "old spectral norm": (
        lambda: nn.utils.spectral_norm(nn.Linear(4, 3)), f"{CHANGES} buffer weight_u",
    ),
    "a counter": (lambda: Own(counts), f"{CHANGES} attribute calls when it is evaluated"),
    "running statistics": (lambda: Own(shifts), f"{CHANGES} buffer shift"),
    "a parameter": (
        lambda: Own(notes_a_mean_in_data, scale=nn.Parameter(torch.ones(4))),
        f"{CHANGES} parameter scale",
    ),
    "behind zeros": (
        lambda: Own(lambda m, x: x - x.mean(0)).apply(
            lambda part: [nn.init.zeros_(p) for p in part.parameters()]),
        MIXES,
    ),
    "in place": (lambda: Own(lambda m, x: x.mul_(2)), "changes its inputs in place: leave out"),
    "a tuple": (lambda: Pair(), "makes a tuple of 2 samples"),
    "integers": (lambda: Integers(), "makes torch.int64 numbers of 2 samples"),
    "two rows always": (
        lambda: Own(lambda m, x: x.reshape(2, -1)[:, :2], width=2),
        "makes the shape (2, 3) of 1 sample, expected is a tensor of torch.float32, a row for each",
    ),
    "one row in all": (lambda: Own(lambda m, x: x.sum(0, keepdim=True)), "makes the shape (1, 3)"),
    "detached": (lambda: Detached(), "has no gradient by its parameters: RuntimeError"),
    "no copies": (lambda: Own(lambda m, x: x, held=(n for n in ())), "cannot be copied for each"),
    "other weights each time": (
        lambda: Own(lambda m, x: x, mask=torch.from_numpy(OWN_RANDOM.random(4))),
        "mask has other values each time that the module is made",
    ),
}  # fmt: skip


class Pair(nn.Linear):
    def __init__(self):
        super().__init__(4, 3)

    def forward(self, x):
        return super().forward(x), x


class Integers(Pair):
    def forward(self, x):
        return nn.Linear.forward(self, x).long()


class Detached(Pair):
    def forward(self, x):
        return nn.Linear.forward(self, x).detach()


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_sum_over_samples_is_refused_by_what_it_does(fault):
    make, message = REFUSED[fault]
    before = GlobalGenerators.capture()
    with pytest.raises(NetworkError, match=f"^mine:? {re.escape(message)}") as caught:
        ModuleNetwork("mine", make, (4,))
    assert "\n" not in str(caught.value)
    assert not GlobalGenerators.capture().differ_from(before)


ACCEPTED = {
    "dropout of nothing": chain(nn.Dropout(0.0)),
    "dropout in evaluation mode": lambda: chain(nn.Dropout(0.5))().eval(),
    "batch norm of fixed statistics": lambda: chain(nn.BatchNorm1d(4))().eval(),
    "group norm": chain(nn.GroupNorm(2, 4)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
    "notes what it saw": lambda: Own(lambda m, x: setattr(m, "seen", x.detach()) or x),
    "a fixed mask": lambda: Own(lambda m, x: x * m.mask, mask=torch.rand(4)),
    "NaN": lambda: Own(lambda m, x: x / 0 * 0),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_a_sum_over_samples_passes_whatever_it_is_called(name):
    network = ModuleNetwork("mine", ACCEPTED[name], (4,))
    assert network.outputs == (3,) and not network.gives_probabilities


def test_a_module_is_tried_in_the_precision_of_the_run():
    samples = torch.zeros(2, 4, dtype=torch.float64)

    def mixed():
        return Own(lambda m, x: x @ torch.ones(4, 4))

    ModuleNetwork("mine", mixed, (4,), samples=samples.float())
    with pytest.raises(NetworkError, match=r"^mine fails on samples of 4: .*RuntimeError: expect"):
        ModuleNetwork("mine", mixed, (4,), samples=samples)


def test_an_exception_of_a_users_module_is_told_with_its_line():
    def fails(module, x):
        raise KeyError("no such feature")

    line = fails.__code__.co_firstlineno + 1
    place = rf"test_networks_probe.py:{line}"
    with pytest.raises(NetworkError, match=rf"of 4: .*{place}: KeyError: 'no such feature'$"):
        ModuleNetwork("mine", lambda: Own(fails), (4,))
    with pytest.raises(NetworkError, match=r"^mine cannot be made: .*ValueError: "):
        ModuleNetwork("mine", lambda: Own(fails, width=int("four")), (4,))


@pytest.mark.parametrize(("end", "told"), [(nn.Softmax(1), True), (nn.LogSoftmax(1), False)])
def test_probabilities_are_told_from_logits_by_their_values(end, told):
    network = ModuleNetwork("mine", lambda: nn.Sequential(nn.Linear(4, 3), end), (4,))
    assert network.gives_probabilities is told


def test_lazy_layers_take_their_shapes_from_the_samples_and_their_values_from_the_seed():
    def make():
        return nn.Sequential(nn.LazyLinear(5), nn.Tanh(), nn.LazyLinear(3))

    networks = [ModuleNetwork("mine", make, (4,), seed) for seed in (1, 1, 2)]
    first, same, other = (net.make_initial_parameters(seed)
                          for net, seed in zip(networks, (1, 1, 2), strict=True))  # fmt: skip
    assert networks[0].parameters == 25 + 18 and len(networks[0].layers) == 2
    assert torch.equal(first, same) and not torch.equal(first, other)


BETWEEN = {
    "a function": lambda h: h.clamp(-1e6, 1e6),
    "in place": lambda h: h.clamp_(-1e6, 1e6),
    "a condition": lambda h: h / 2 if h.abs().max() > 1e6 else h,
    "a check": lambda h: h if h.isfinite().all() else None,
}


@pytest.mark.parametrize("what", BETWEEN)
def test_what_is_done_between_two_parts_makes_no_chain_though_it_changes_nothing_here(what):
    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.second(BETWEEN[what](self.first(x)))

    assert not ModuleNetwork("mine", Between, (4,)).is_chain


def test_a_hook_of_a_module_is_no_chain_of_its_parts():
    def make():
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
        module.register_forward_hook(lambda part, taken, given: given.clamp(-1e6, 1e6))
        return module

    assert not ModuleNetwork("mine", make, (4,)).is_chain


def test_a_probe_costs_four_evaluations_of_a_sample():
    """ResNet-18 is to pass in well below a second."""
    seen = []

    def note(module, x):
        seen.append(len(x))
        return x

    probe("mine", Own(note), torch.rand(5, 4))
    assert seen == [2, 1, 1]
