"""Ideas for solvers, each measured alone: `python -m benchmarks.ideas [IDEA…]`, on one core.

Two equations of the library, networks of some hundred parameters, 2,500 points. An idea is a set of
cases, of which the first is what the package does without it, in the same CPU time. Each case and
equation is a row of the table, with a run for each seed. Runs are kept in runs/ideas, so that a
study goes on where it was stopped. Seconds are CPU seconds, without measuring errors. Settings were
chosen with seed 5.

What the ideas are stands in `benchmarks/idea_methods.py`.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.idea_methods import (
    KroneckerScaled,
    TwoSided,
    TwoSidedOptions,
    factors_only,
    make_second_stage,
    match_frequencies,
    place_by_rule,
    widen,
)
from benchmarks.idea_runs import Row, Trace, Training
from benchmarks.runs import short
from benchmarks.tables import write_markdown
from hpctrain.methods.quasi_newton.factors import Factors
from hpctrain.run.pieces import make_objective, make_problem

FOLDER = Path("runs/ideas")
SEEDS = (0, 1, 2)
EQUATIONS = ("poisson-2d", "burgers-viscous-odd")
# γ of Kronecker factors, and the width of the networks that are trained by Broyden alone.
DAMPING, SMALL = 1e-2, 12


def sketch(training: Training, broyden: int, until: float, options: TwoSidedOptions | None) -> None:
    """Gauss-Newton after iterations of Broyden, with all of J or on sketches of it."""
    training.train("ssbroyden", iterations=broyden)
    if options is None:
        training.train("gauss-newton", until=until)
    else:
        training.follow(TwoSided(training.set_up(), options), until=until)


def widen_after(
    training: Training, width: int, wide: int, first: float, until: float, noise: float | None
) -> None:
    """Broyden, then Gauss-Newton on a network that may have become wider."""
    narrow = training.make_problem(network__width=width)
    training.use(narrow)
    training.train("ssbroyden", until=first)
    if wide != width:
        problem = training.make_problem(network__width=wide)
        networks = narrow.network, problem.network
        training.use(problem, widen(training.theta, *networks, noise, training.seed))
    training.train("gauss-newton", until=until)


def add_stage(
    training: Training,
    width: int,
    seconds: tuple[float, ...],
    until: float,
    oscillation: float | None,
) -> None:
    """Broyden and Gauss-Newton, then both again for a second network on what is left.

    Args:
        seconds: at which Gauss-Newton begins, the second network, and its Gauss-Newton; of one
            network alone the first of them.
        oscillation: of the second network, see `make_second_stage`; None for one network alone.
    """
    training.use(training.make_problem(network__width=width))
    training.train("ssbroyden", until=seconds[0])
    if oscillation is not None:
        training.train("gauss-newton", until=seconds[1])
        with training.timed():
            found = make_second_stage(training.problem, training.theta, oscillation)
        scaled = {"problem__name": found.equations, "problem__scale_distance": False}
        problem = training.make_problem(**scaled, network__width=width)
        theta = problem.make_initial_parameters(training.seed)
        theta = match_frequencies(theta, problem.network, found.periods)
        training.use(problem, theta, found.loss)
        training.train("ssbroyden", until=seconds[2])
    training.train("gauss-newton", until=until)


def scale(training: Training, iterations: int, damping: float | None, every: int) -> None:
    """Broyden from Kronecker factors, renewed with its memory after some iterations, or from I."""
    training.use(training.make_problem(network__width=SMALL))
    if damping is None:
        training.train("ssbroyden", iterations=iterations)
        return
    for _ in range(0, iterations, every):
        with training.timed():
            scaled = KroneckerScaled(
                training.objective, training.problem.network, training.theta, damping
            )
        training.train_scaled(scaled, "ssbroyden", min(every, iterations))


def mix(training: Training, iterations: int, rounded: bool) -> None:
    """Broyden whose H stays factors of its updates, in double or in single precision."""
    training.use(training.make_problem(network__width=SMALL))
    with factors_only(rounded):
        training.train("ssbroyden", iterations=iterations)


def integrate(training: Training, first: float, until: float, weighted: bool | None) -> None:
    """Broyden, then Gauss-Newton, on the usual points or on those of a quadrature rule."""
    problem = training.make_problem()
    if weighted is not None:
        place_by_rule(problem, weighted)
    training.use(problem)
    training.train("ssbroyden", until=first)
    training.train("gauss-newton", until=until)


@dataclass(frozen=True)
class Idea:
    """What is compared.

    Attributes:
        iterations: of the last stage, after which the table shows the loss.
        cases: by what the table calls them; the first is that without the idea.
    """

    iterations: tuple[int, ...]
    cases: "Cases"


Cases = dict[str, Callable[[Training], None]]

# DSGNAR's rows and control, and columns alone with the control and corrections of Gauss-Newton.
SKETCHES = {
    "s rows": {"rows": 1, "probes": 12, "corrections": 0},
    "all rows": {"rows": None},
}


def list_sketches(broyden: int, until: float) -> Cases:
    cases: Cases = {"all of J": partial(sketch, broyden=broyden, until=until, options=None)}
    for part in (2, 4, 8):
        for label, settings in SKETCHES.items():
            options = TwoSidedOptions(share=1 / part, **settings)
            tried = partial(sketch, broyden=broyden, until=until, options=options)
            cases[f"s = n/{part}, {label}"] = tried
    return cases


IDEAS = {
    "sketch-late": Idea((20,), list_sketches(400, 3.0)),
    "sketch-early": Idea((20,), list_sketches(0, 3.0)),
    "widen": Idea(
        (10,),
        {
            "24 wide": partial(widen_after, width=24, wide=24, first=1.0, until=4.0, noise=None),
            "12 wide": partial(widen_after, width=12, wide=12, first=1.0, until=4.0, noise=None),
            "12, then 24, new neurons": partial(
                widen_after, width=12, wide=24, first=1.0, until=4.0, noise=None
            ),
            "12, then 24, each twice": partial(
                widen_after, width=12, wide=24, first=1.0, until=4.0, noise=0.1
            ),
        },
    ),
    "stage": Idea(
        (10,),
        {
            "20 wide": partial(add_stage, width=20, seconds=(0.6,), until=2.4, oscillation=None),
            "14 wide": partial(add_stage, width=14, seconds=(0.6,), until=2.4, oscillation=None),
            "14 and 14 wide": partial(
                add_stage, width=14, seconds=(0.6, 1.2, 1.8), until=2.4, oscillation=0.5
            ),
        },
    ),
    "quadrature": Idea(
        (10,),
        {
            "usual points": partial(integrate, first=0.6, until=2.4, weighted=None),
            "Gauss points and weights": partial(integrate, first=0.6, until=2.4, weighted=True),
            "Gauss points, equal weights": partial(integrate, first=0.6, until=2.4, weighted=False),
        },
    ),
    "kronecker": Idea(
        (200, 500),
        {
            "H₀ = I": partial(scale, iterations=1000, damping=None, every=1000),
            "factors, once": partial(scale, iterations=1000, damping=DAMPING, every=1000),
            "factors, every 500": partial(scale, iterations=1000, damping=DAMPING, every=500),
        },
    ),
    "mixed": Idea(
        (500,),
        {
            "double": partial(mix, iterations=1000, rounded=False),
            "factors in single": partial(mix, iterations=1000, rounded=True),
        },
    ),
}


def keep(name: str, label: str, equation: str, seed: int) -> Trace:
    """The run, made if it is not there."""
    words = "".join(c if c.isalnum() else "-" for c in f"{name} {label} {equation} {seed}")
    path = FOLDER / f"{words}.json"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        training = Training(label, equation, seed)
        IDEAS[name].cases[label](training)
        path.write_text(json.dumps(asdict(training.trace)))
        print(f"{path}: {training.trace.rows[-1]}", flush=True)
    read = json.loads(path.read_text())
    return Trace(**{**read, "rows": [Row(**row) for row in read["rows"]]})


def make_row(idea: Idea, traces: list[Trace], without: list[Trace]) -> list[str]:
    """A row of the table: medians over the seeds, but the last losses and errors of all."""
    last = [trace.rows[-1] for trace in traces]
    numbers = (len(trace.last_stage) for trace in traces)
    pairs = zip(traces, without, strict=True)
    seconds = median(trace.find_seconds(other.rows[-1].loss) for trace, other in pairs)
    return [
        f"{traces[0].parameters:,}",
        f"{median(numbers):g}",
        f"{median(row.gradients for row in last):.0f}",
        f"{median(row.losses for row in last):.0f}",
        *(short(median(t.find_loss_after(count) for t in traces)) for count in idea.iterations),
        f"{median(row.seconds for row in last):.1f}",
        f"{seconds:.1f}" if seconds < float("inf") else "never",
        ", ".join(short(row.loss) for row in last),
        ", ".join(short(row.error) for row in last),
    ]


def make_table(name: str, seeds: list[int]) -> str:
    """The table of an idea, for each equation the cases with the greatest last loss first."""
    idea, rows = IDEAS[name], []
    for equation in EQUATIONS:
        found = [[keep(name, label, equation, seed) for seed in seeds] for label in idea.cases]
        for traces in sorted(found, key=lambda each: -median(t.rows[-1].loss for t in each)):
            rows.append([equation, traces[0].label, *make_row(idea, traces, found[0])])
    after = [f"after {count}" for count in idea.iterations]
    headers = ["equation", name, "n", "iterations", "gradients", "losses", *after]
    return write_markdown([*headers, "CPU s", "s to the loss without", "loss", "error"], rows)


def time_products(job: str = "jobs/burgers.toml", repeats: int = 15) -> str:
    """What H g costs as factors in double and in single precision, beside a gradient of a job."""
    problem = make_problem(job)
    objective = make_objective(problem)
    theta, ranks = problem.make_initial_parameters(0), objective.communicator
    rows, n = [], problem.parameters
    gradient = _time(lambda: objective.evaluate_with_gradient(theta), repeats)
    for updates in (250, 750, n // 2):
        seconds = []
        for dtype in (torch.float64, torch.float32):
            factors, x = Factors(), theta.to(dtype)
            for _ in range(updates):
                pair = torch.stack([x, x])
                factors.append(pair, torch.eye(2, dtype=torch.float64), 1.0, ranks)
            seconds.append(_time(partial(factors.multiply, x, 1.0, ranks, 1), repeats))
        rows.append([updates, *(f"{1e3 * each:.1f}" for each in (*seconds, gradient))])
    return write_markdown(["updates", "H g in double, ms", "in single", "a gradient"], rows)


def _time(call: Callable[[], object], repeats: int) -> float:
    """CPU seconds of a call, the median."""
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
    return median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ideas")
    parser.add_argument("names", nargs="*", metavar="IDEA", help=f"{', '.join(IDEAS)}, products")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.names or [*IDEAS, "products"]:
        table = time_products() if name == "products" else make_table(name, arguments.seeds)
        print(table, flush=True)


if __name__ == "__main__":
    main()
