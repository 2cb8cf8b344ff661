"""DeepXDE on PyTorch: Adam, and then its L-BFGS."""

import math
import os

os.environ["DDE_BACKEND"] = "pytorch"
import deepxde as dde
import harness
import numpy as np
import torch

ADAM_ITERATIONS = 1000
ITERATIONS_A_CALL = 20


def differentiate(x, y, field, *coordinates):
    """A first or second derivative (N, 1) of a field."""
    if len(coordinates) == 1:
        return dde.grad.jacobian(y, x, i=field, j=coordinates[0])
    return dde.grad.hessian(y, x, component=field, i=coordinates[0], j=coordinates[1])


def make_equations(problem, taus):
    def burgers(x, y):
        u = y[:, :1]
        slopes = differentiate(x, y, 0, 0) + u * differentiate(x, y, 0, 1)
        return slopes - 0.01 / math.pi * differentiate(x, y, 0, 1, 1)

    def burgers_inverse(x, y):
        u = y[:, :1]
        slopes = differentiate(x, y, 0, 0) + taus[0] * u * differentiate(x, y, 0, 1)
        return slopes - torch.exp(taus[1]) * differentiate(x, y, 0, 1, 1)

    def klein_gordon(x, y):
        t, at = x[:, :1], x[:, 1:]
        source = -at * torch.cos(t) + (at * torch.cos(t)) ** 2
        waves = differentiate(x, y, 0, 0, 0) - differentiate(x, y, 0, 1, 1)
        return waves + y[:, :1] ** 2 - source

    def kovasznay(x, y):
        u, v = y[:, :1], y[:, 1:2]
        momentum = [
            u * differentiate(x, y, k, 0)
            + v * differentiate(x, y, k, 1)
            + differentiate(x, y, 2, k)
            - (differentiate(x, y, k, 0, 0) + differentiate(x, y, k, 1, 1)) / 20
            for k in (0, 1)
        ]
        return [*momentum, differentiate(x, y, 0, 0) + differentiate(x, y, 1, 1)]

    equations = (burgers, burgers_inverse, klein_gordon, kovasznay)
    return {each.__name__.replace("_", "-"): each for each in equations}[problem]


def apply_form(problem, x, N):
    """The fields: G + D N where the conditions hold by form, else the network itself."""
    t, y = x[:, :1], x[:, 1:]
    if problem == "burgers":
        return -torch.sin(math.pi * y) + t * (1 - y**2) * N
    if problem == "klein-gordon":
        return y + y**3 * (torch.cos(t) - 1) + t**2 * (1 - y**2) * N
    return N


class Watch(dde.callbacks.Callback):
    """Measures the error from time to time, and ends the training."""

    def __init__(self, trial):
        super().__init__()
        self.trial, self.before, self.ended = trial, 0, False

    def on_epoch_end(self):
        if self.trial.is_due():
            done = self.before + self.model.train_state.step
            self.ended = self.trial.measure(self.model.predict, done)
            self.model.stop_training = self.ended


def main():
    start, trial, options = harness.begin(["deepxde", "torch"])
    dde.config.set_default_float("float64")
    torch.set_num_threads(options.threads)
    taus = [dde.Variable(float(tau)) for tau in start.taus]
    low, high = start.test.min(0), start.test.max(0)
    terms = [
        dde.icbc.PointSetBC(points, values[:, [k]], component=component)
        for (points, values), components in zip(start.terms, ([0, 1], [2]), strict=False)
        for k, component in enumerate(components[: values.shape[1]])
    ]
    data = dde.data.PDE(
        dde.geometry.Rectangle(low, high),
        make_equations(start.problem, taus),
        terms,
        num_domain=0,
        anchors=start.points,
    )
    sizes = [start.layers[0][0].shape[1], *(len(b) for _, b in start.layers)]
    network = dde.nn.FNN(sizes, "tanh", "Glorot uniform")
    with torch.no_grad():
        for linear, (W, b) in zip(network.linears, start.layers, strict=True):
            linear.weight.copy_(torch.tensor(W))
            linear.bias.copy_(torch.tensor(b))
    middle, slope = torch.tensor(start.middle), torch.tensor(start.slope)
    network.apply_feature_transform(lambda x: slope * (x - middle))
    network.apply_output_transform(lambda x, N: apply_form(start.problem, x, N))
    model, watch = dde.Model(data, network), Watch(trial)
    never = 10**9
    model.compile("adam", lr=1e-3, external_trainable_variables=taus, verbose=0)
    trial.measure(model.predict, 0)
    trial.start_clock()
    model.train(iterations=ADAM_ITERATIONS, display_every=never, callbacks=[watch], verbose=0)
    if not watch.ended:
        dde.optimizers.set_LBFGS_options(maxcor=100, ftol=0, gtol=0, maxiter=never)
        # How often callbacks are called: DeepXDE makes 1,000 iterations a call by default.
        dde.optimizers.config.LBFGS_options["iter_per_step"] = ITERATIONS_A_CALL
        dde.optimizers.config.LBFGS_options["fun_per_step"] = ITERATIONS_A_CALL * 5 // 4
        model.compile("L-BFGS", external_trainable_variables=taus, verbose=0)
        model.train(display_every=never, callbacks=[watch], verbose=0)
    trial.measure(model.predict, model.train_state.step)
    trial.finish(
        "time is up, or the last error reached" if watch.ended else "the line search found no step"
    )


np.seterr(all="ignore")
main()
