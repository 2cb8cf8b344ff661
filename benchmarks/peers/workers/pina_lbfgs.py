"""PINA on PyTorch and Lightning, with torch's L-BFGS."""

import logging
import math
import warnings

import harness
import torch
from lightning.pytorch.callbacks import Callback
from pina import Condition, LabelTensor, Trainer
from pina.domain import CartesianDomain
from pina.equation import Equation
from pina.operator import grad
from pina.optim import TorchOptimizer
from pina.problem import SpatialProblem
from pina.solver import PhysicsInformedSingleModelSolver
from pina.weighting import ScalarWeighting

ITERATIONS_A_CALL = 20
COORDINATES = ["a", "b"]


class Network(torch.nn.Module):
    """The fields (N, fields) at points (N, 2), with the free numbers of the unknowns."""

    def __init__(self, start: harness.Start) -> None:
        super().__init__()
        modules = []
        for W, b in start.layers:
            linear = torch.nn.Linear(W.shape[1], W.shape[0])
            linear.weight.data, linear.bias.data = torch.tensor(W), torch.tensor(b)
            modules += [linear, torch.nn.Tanh()]
        self.layers = torch.nn.Sequential(*modules[:-1])
        self.taus = torch.nn.Parameter(torch.tensor(start.taus))
        self.problem = start.problem
        self.middle, self.slope = torch.tensor(start.middle), torch.tensor(start.slope)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        x = points.as_subclass(torch.Tensor)
        N, t, y = self.layers(self.slope * (x - self.middle)), x[:, :1], x[:, 1:]
        if self.problem == "burgers":
            return -torch.sin(math.pi * y) + t * (1 - y**2) * N
        if self.problem == "klein-gordon":
            return y + y**3 * (torch.cos(t) - 1) + t**2 * (1 - y**2) * N
        return N


def make_equation(problem: str, network: Network):
    """The residuals (N, m), with PINA's operators."""

    def residual(points: LabelTensor, fields: LabelTensor) -> torch.Tensor:
        slopes: dict[str, LabelTensor] = {}

        def first(name: str, along: str) -> torch.Tensor:
            if name not in slopes:
                slopes[name] = grad(fields, points, components=[name])
            return slopes[name].extract([f"d{name}d{along}"]).as_subclass(torch.Tensor)

        def second(name: str, along: str) -> torch.Tensor:
            first(name, along)
            component = f"d{name}d{along}"
            found = grad(slopes[name], points, components=[component], d=[along])
            return found.as_subclass(torch.Tensor)

        def value(name: str) -> torch.Tensor:
            return fields.extract([name]).as_subclass(torch.Tensor)

        t, y = points.as_subclass(torch.Tensor).split(1, dim=1)
        if problem == "burgers":
            convection = first("u", "a") + value("u") * first("u", "b")
            return convection - 0.01 / math.pi * second("u", "b")
        if problem == "burgers-inverse":
            convection = first("u", "a") + network.taus[0] * value("u") * first("u", "b")
            return convection - torch.exp(network.taus[1]) * second("u", "b")
        if problem == "klein-gordon":
            source = -y * torch.cos(t) + (y * torch.cos(t)) ** 2
            return second("u", "a") - second("u", "b") + value("u") ** 2 - source
        momentum = [
            value("u") * first(name, "a")
            + value("v") * first(name, "b")
            + first("p", along)
            - (second(name, "a") + second(name, "b")) / 20
            for name, along in (("u", "a"), ("v", "b"))
        ]
        return torch.cat([*momentum, first("u", "a") + first("v", "b")], dim=1)

    return Equation(residual)


def make_value_equation(names: list[str], values: torch.Tensor):
    """What some fields lack of given values."""
    return Equation(
        lambda _points, fields: fields.extract(names).as_subclass(torch.Tensor) - values
    )


class Watch(Callback):
    """Measures the error from time to time, and ends the training."""

    def __init__(self, trial: harness.Trial) -> None:
        self.trial, self.done, self.reason = trial, 0, "time is up, or the last error reached"

    def on_train_batch_end(self, trainer, solver, *_) -> None:
        optimizer = trainer.optimizers[0]
        done = optimizer.state[next(iter(solver.parameters()))].get("n_iter", 0)
        if done == self.done:
            self.reason, trainer.should_stop = "the line search found no step", True
        self.done = done
        if self.trial.is_due() and self.trial.measure(make_prediction(solver.model), done):
            trainer.should_stop = True


def make_prediction(network: Network):
    def predict(points):
        with torch.no_grad():
            return network(torch.as_tensor(points)).numpy()

    return predict


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    start, trial, options = harness.begin(["pina-mathlab", "torch", "lightning"])
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(options.threads)
    network, names = Network(start), ["u", "v", "p"][: start.truth.shape[1]]
    held = {
        "equation": Condition(
            input=LabelTensor(torch.tensor(start.points), COORDINATES),
            equation=make_equation(start.problem, network),
        )
    }
    # The mean over residuals is their sum over m: the weights make it the sum.
    weights = {"equation": float(3 if start.problem == "kovasznay" else 1)}
    asked = [["u", "v"], ["p"]] if start.problem == "kovasznay" else [["u"]]
    for number, ((points, values), fields) in enumerate(zip(start.terms, asked, strict=False)):
        held[f"values{number}"] = Condition(
            input=LabelTensor(torch.tensor(points), COORDINATES),
            equation=make_value_equation(fields, torch.tensor(values)),
        )
        weights[f"values{number}"] = float(len(fields))

    class Posed(SpatialProblem):
        output_variables = names
        spatial_domain = CartesianDomain(
            {
                name: [low, high]
                for name, low, high in zip(
                    COORDINATES, start.test.min(0), start.test.max(0), strict=True
                )
            }
        )
        conditions = held

    solver = PhysicsInformedSingleModelSolver(
        Posed(),
        network,
        optimizer=TorchOptimizer(
            torch.optim.LBFGS,
            max_iter=ITERATIONS_A_CALL,
            history_size=100,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        ),
        weighting=ScalarWeighting(weights),
    )
    watch = Watch(trial)
    trainer = Trainer(
        solver,
        shuffle=False,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
    )
    trial.measure(make_prediction(network), 0)
    trial.start_clock()
    trainer.train()
    trial.measure(make_prediction(network), watch.done)
    trial.finish(watch.reason)


main()
