"""APTS on quadratics and a small network, with options that check every step."""

import torch
from quadratic import objective_of, random_quadratic

from hpctrain.solvers import make_solver
from hpctrain.solvers.apts_data import APTSDataOptions, DataRegionOptions
from hpctrain.solvers.apts_weights import APTSWeightsOptions, WeightsRegionOptions
from hpctrain.solvers.base import Setting

N, SAMPLES = 12, 8
FREE = {"min_radius": 1e-12}
MODELS = ["linear", "lsr1", "hessian"]


def ones():
    return torch.ones(N, dtype=torch.float64)


class Logistic:
    """ℓ_j(θ) = log(1 + exp(-c_j x_jᵀθ)) + θᵀDθ/2: convex, not quadratic, one sample a chunk.

    Not finite beyond |θ_1| = 10.
    """

    prefix_cost, loss_cost, gradient_cost = 0, 1, 3
    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, X, kept=None):
        self.X, self.parameters = X, X.shape[1]
        self.kept = torch.ones(len(X)).double() if kept is None else kept
        self.D = torch.logspace(-3, 0, self.parameters).double()

    def sum_losses(self, theta):
        wall = 0 * torch.sqrt(10 - theta[0].abs())
        each = torch.nn.functional.softplus(-self.X @ theta) + 0.5 * theta @ (self.D * theta)
        return self.kept * (each + wall)

    def sum_losses_and_gradients(self, theta):
        slopes = -torch.sigmoid(-self.X @ theta)[:, None] * self.X + self.D * theta
        return torch.cat([self.sum_losses(theta)[:, None], self.kept[:, None] * slopes], dim=1)

    def multiply_hessians(self, theta, v):
        z = torch.sigmoid(self.X @ theta)
        return self.kept[:, None] * ((z * (1 - z) * (self.X @ v))[:, None] * self.X + self.D * v)

    def subset(self, chosen):
        kept = torch.zeros(len(self.X)).double()
        kept[chosen] = 1
        return type(self)(self.X, kept)

    def restrict(self, region, theta):
        return Restricted(self, region, theta.clone())


class Restricted:
    """A loss of R θ, the rest frozen."""

    prefix_cost, loss_cost, gradient_cost = 0, 1, 3
    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, loss, region, theta):
        self.loss, self.region, self.theta, self.parameters = loss, region, theta, region.size

    def _full(self, part):
        theta = self.theta.clone()
        self.region.replace(theta, part)
        return theta

    def sum_losses(self, part):
        return self.loss.sum_losses(self._full(part))

    def sum_losses_and_gradients(self, part):
        found = self.loss.sum_losses_and_gradients(self._full(part))
        own = [self.region.restrict(row) for row in found[:, 1:]]
        return torch.cat([found[:, :1], torch.stack(own)], dim=1)

    def multiply_hessians(self, part, v):
        wide = torch.zeros_like(self.theta)
        self.region.replace(wide, v)
        found = self.loss.multiply_hessians(self._full(part), wide)
        return torch.stack([self.region.restrict(row) for row in found])

    def subset(self, chosen):
        return Restricted(self.loss.subset(chosen), self.region, self.theta)

    def restrict(self, region, theta):
        raise NotImplementedError("it is restricted already")


def logistic(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Logistic(3 * torch.randn(SAMPLES, N, generator=generator, dtype=torch.float64))


class Coupled(Logistic):
    """So strongly coupled that the sum of the blocks' steps overshoots."""

    pull = 40.0

    def sum_losses(self, theta):
        return super().sum_losses(theta) + self.kept * 0.5 * self.pull * theta.sum() ** 2

    def sum_losses_and_gradients(self, theta):
        found = super().sum_losses_and_gradients(theta)
        found[:, 1:] += self.kept[:, None] * self.pull * theta.sum()
        return found

    def multiply_hessians(self, theta, v):
        return super().multiply_hessians(theta, v) + self.kept[:, None] * self.pull * v.sum()


def coupled():
    return Coupled(logistic().X)


def overshooting():
    """Where every block, alone, would undo the whole sum."""
    return 0.25 * ones()


def quadratic(spread=1.0):
    return random_quadratic(N, samples=SAMPLES, spread=spread)


def wide_objective(loss, sizes=None):
    return objective_of(loss, sizes, SAMPLES)


def solver_of(options, loss):
    blocks = getattr(options, "blocks", 4)
    return make_solver(Setting(wide_objective(loss, [N // blocks] * blocks)), options)


def data(**settings):
    region = DataRegionOptions(**settings.pop("region", {}))
    return APTSDataOptions(debug=True, trust_region=region, **settings)


def weights(**settings):
    region = WeightsRegionOptions(**settings.pop("region", {}))
    return APTSWeightsOptions(debug=True, trust_region=region, **settings)


VARIANTS = {
    "data, linear": data(model="linear", subdomains=2, region=FREE),
    "data, lsr1": data(model="lsr1", subdomains=4, region=FREE),
    "data, hessian": data(model="hessian", subdomains=3, region=FREE),
    "data, overlap": data(model="lsr1", subdomains=4, sample_overlap=20.0, region=FREE),
    "data, infinity norm": data(model="lsr1", region=FREE | {"norm": "inf"}),
    "data, one subdomain": data(model="lsr1", subdomains=1, region=FREE),
    "data, momentum": data(model="lsr1", momentum=0.5, region=FREE),
    "weights, linear": weights(model="linear", blocks=4, region=FREE),
    "weights, lsr1": weights(model="lsr1", blocks=2, region=FREE),
    "weights, hessian": weights(model="hessian", blocks=3, region=FREE),
    "weights, 2-norm": weights(model="lsr1", blocks=4, region=FREE | {"norm": 2}),
    "weights, forced": weights(model="lsr1", blocks=4, forced_decrease=True, region=FREE),
    "weights, no global step": weights(model="lsr1", blocks=2, global_steps=0, region=FREE),
}
BATCHES = {
    "data, batches": data(model="lsr1", subdomains=2, batch_size=4),
    "data, batches, linear": data(model="linear", subdomains=4, batch_size=4),
    "data, batches, two global steps": data(model="linear", batch_size=5, global_steps=2),
    "weights, batches": weights(model="lsr1", blocks=4, batch_size=3, batch_overlap=10.0),
    "weights, batches, window": weights(model="linear", blocks=4, batch_size=3, window=3),
}
ALL = VARIANTS | BATCHES


def steps(options, loss, count, theta=None):
    """The states and records of some iterations, the first state included."""
    solver = solver_of(options, loss)
    states, records = [solver.init(ones() if theta is None else theta)], []
    for _ in range(count):
        state, record = solver.step(states[-1])
        states.append(state)
        records.append(record)
    return states, records


class WatchedControl:
    """The control of a solver, with the trials that it has judged and their ratios."""

    def __init__(self, control):
        self.control, self.trials, self.ratios = control, [], []

    def decide(self, point, trial, radius, window):
        self.trials.append(trial)
        if trial.evaluation is not None:
            self.ratios.append((point.loss - trial.evaluation.loss) / trial.predicted)
        return self.control.decide(point, trial, radius, window)


class WatchedSubdomains:
    """The subdomains of a solver, with the last steps that were added, and their sum."""

    def __init__(self, subdomains):
        self.subdomains = subdomains

    def __getattr__(self, name):
        return getattr(self.subdomains, name)

    def add(self, steps):
        self.steps, self.sum = steps, self.subdomains.add(steps)
        return self.sum


def watch_trials(solver):
    solver.control = WatchedControl(solver.control)
    return solver.control


def watch_sums(solver):
    solver.subdomains = WatchedSubdomains(solver.subdomains)
    return solver.subdomains
