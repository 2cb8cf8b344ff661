"""APTS on image data: `python -m benchmarks.apts STUDY… [--seeds K] [--data NAME]`.

Studies, each a few jobs under K seeds (0, 1, … K - 1), of one rank and one thread:

    accuracy    APTS in data and in weights against Adam and SGD, mini-batches of 10,000, 30 epochs
    subdomains  N = 2, 4, 6 in data and 1, 2, 3 in weights, orders 1 and 2
    depth       N = 2, 4, 6 in weights on a network of six layers, orders 1 and 2
    overlap     mini-batches, and shares of them, that overlap by 0, 1 and 5 %
    control     monotone and not; every trial taken, then a controlled global step ("trials
                uncontrolled") or none ("local steps only"): accuracies and rejected steps
    full-small  all samples in every iteration, 100 epochs, the small network
    full-large  the same on the large network
    per-second  APTS with local steps on parts of the shares, as published, Adam with and without a
                decay: gradients and CPU seconds to an accuracy
    transformer the same of a small vision transformer on CIFAR-10, 5 epochs of batches of 1,000
    overhead    what of an iteration is not evaluation, and how many sums over ranks it makes

Runs are kept in runs/apts and made if they are not there, so that a study goes on where it was cut
off. Times are CPU times of training. The tables go to docs/results.md.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from tabulate import tabulate

from benchmarks.overhead import overhead, overhead_rows
from benchmarks.runs import kept, sum_work, training_seconds
from benchmarks.tables import write_markdown
from hpctrain.run.signals import StopSignals
from hpctrain.store.run_file import Run

FOLDER = Path("runs/apts")
EPOCHS = (1, 2, 5, 10, 20, 30)
FULL_EPOCHS = (1, 10, 50, 100)
# Iterations of 30 epochs of mini-batches of 10,000.
MINI_BATCHES = 180
OVERHEAD = "overhead"
PER_SECOND = "per-second"
TRANSFORMER = "transformer"
# Accuracies in percent, of which the first iteration with at least as much is looked for.
TARGETS = {PER_SECOND: (86.0, 86.9, 87.7), TRANSFORMER: (45.0, 50.0, 55.0)}
ADAM_RATES = (0.01, 0.0025, 0.001)
DECAYS = ("cosine", "linear")


@dataclass(frozen=True)
class Variant:
    """A job with settings of its own, the solver's by their last names, and its name in a table."""

    label: str
    job: str
    settings: dict[str, object] = field(default_factory=dict)
    iterations: int | None = None

    @property
    def changes(self) -> dict[str, object]:
        """The settings by their keys in a job."""
        return {key if "." in key else f"solver.{key}": v for key, v in self.settings.items()}


def data(label: str, **settings: object) -> Variant:
    if settings.get("model") == "linear":  # a job without secant pairs
        return Variant(label, "apts/data-10k-overlap-5", {"sample_overlap": 0.0} | settings)
    return Variant(label, "apts/data-10k", settings)


def weights(label: str, **settings: object) -> Variant:
    if settings.get("model") == "linear":
        return Variant(label, "apts/weights-10k-overlap-5", {"batch_overlap": 0.0} | settings)
    return Variant(label, "apts/weights-10k", settings)


ADAM = [
    Variant(f"Adam, learning rate {rate}", "fashion-mnist-adam-10k", {"learning_rate": rate})
    for rate in ADAM_RATES
]


def parts(count: int, iterations: int) -> Variant:
    label = f"data, N = 2, k = {count} parts, {iterations} iterations"
    settings = {"parts": count, "decay_steps": iterations}
    return Variant(label, "fashion-mnist-apts-parts-10k", settings, iterations)


def decayed(rate: float, form: str, iterations: int, size: int = 10_000) -> Variant:
    settings = {"learning_rate": rate, "decay": form, "decay_steps": iterations}
    settings |= {"batch_size": size, "parallel.chunks": 2}
    label = f"Adam, batch {size}, learning rate {rate}, {form}, {iterations} iterations"
    return Variant(label, "fashion-mnist-adam-10k-decay", settings, iterations)


def transformer_adam(rate: float, size: int = 1000) -> Variant:
    iterations = 250_000 // size
    settings = {"learning_rate": rate, "batch_size": size, "decay_steps": iterations}
    settings |= {"output.error_every": iterations // 10}
    label = f"Adam, batch {size}, learning rate {rate}, cosine"
    return Variant(label, "cifar-10-transformer-adam", settings, iterations)


STUDIES: dict[str, list[Variant]] = {
    PER_SECOND: [
        parts(20, 96),
        parts(10, 150),
        *(decayed(rate, form, 180) for rate in (0.01, 0.02, 0.03) for form in DECAYS),
        decayed(0.02, "cosine", 450),
        decayed(0.003, "cosine", 1800, 1_000),
        ADAM[0],
        data("data, N = 2, m = 15"),
        data("data, N = 2, m = 5 as published", memory=5),
    ],
    TRANSFORMER: [
        Variant("data, N = 2, k = 10 parts", "cifar-10-transformer-apts-parts", {}, 250),
        *(transformer_adam(rate) for rate in (1e-3, 3e-3)),
        transformer_adam(1e-3, 100),
    ],
    "accuracy": [
        *ADAM,
        Variant("SGD, momentum", "fashion-mnist-sgd-10k"),
        data("data, N = 2"),
        data("data, N = 2, m = 5 as published", memory=5),
        weights("weights, N = 2"),
        weights("weights, N = 2, m = 5 as published", memory=5),
    ],
    "subdomains": [
        *(
            data(f"data, N = {n}, order {order}", subdomains=n, model=model)
            for order, model in enumerate(("linear", "lsr1"), 1)
            for n in (2, 4, 6)
        ),
        *(
            weights(f"weights, N = {n}, order {order}", blocks=n, model=model)
            for order, model in enumerate(("linear", "lsr1"), 1)
            for n in (1, 2, 3)
        ),
    ],
    "depth": [
        weights(
            f"weights, six layers, N = {n}, order {order}",
            blocks=n,
            model=model,
            **{"network.hidden": [32] * 5},
        )
        for order, model in enumerate(("linear", "lsr1"), 1)
        for n in (2, 4, 6)
    ],
    "overlap": [
        *(
            data(f"data, N = 2, overlap {o} %", batch_overlap=o, sample_overlap=o)
            for o in (0, 1, 5)
        ),
        *(weights(f"weights, N = 2, overlap {o} %", batch_overlap=o) for o in (0, 1, 5)),
    ],
    "control": [
        variant(f"{name}, {how}", **settings)
        # In weights hardly a trial is rejected with two blocks.
        for name, variant in {
            "data, N = 2": data,
            "weights, N = 3": partial(weights, blocks=3),
        }.items()
        for how, settings in {
            "monotone": {},
            "nonmonotone, W = 5": {"window": 5},
            "nonmonotone, W = 10": {"window": 10},
            "trials uncontrolled": {"global_control": False},
            "local steps only": {"global_control": False, "global_steps": 0},
        }.items()
    ],
    **{
        f"full-{size}": [
            Variant(f"{name}, N = {n}, order {order}", f"apts/{name}-full-{size}", settings)
            for name, key in {"data": "subdomains", "weights": "blocks"}.items()
            for order, model in enumerate(("linear", "lsr1"), 1)
            for n in (2, 3)
            for settings in ({key: n, "model": model},)
        ]
        for size in ("small", "large")
    },
}


def runs_of(variant: Variant, seeds: Sequence[int], data_set: str, iterations: int) -> list[Run]:
    """A run for each seed, made where it is not there yet."""
    found = []
    named = "-".join(f"{key}={value}" for key, value in sorted(variant.settings.items()))
    changes = variant.changes | {"problem.data": data_set, "stop.max_iterations": iterations}
    with StopSignals() as signals:
        for seed in seeds:
            name = f"{data_set}-{variant.job.replace('/', '-')}-{named}-{iterations}-seed{seed}"
            found.append(kept(FOLDER, name, variant.job, changes | {"seed": seed}, signals))
    return found


def accuracy_at(run: Run, epoch: int) -> float:
    """Test accuracy in percent after so many epochs."""
    accuracies, epochs = run.history["test_accuracy"], run.history["epoch"]
    if np.isnan(epochs).all():
        epochs = run.history["iteration"]
    known = np.isfinite(accuracies)
    places = np.flatnonzero(np.abs(epochs[known] - epoch) < 1e-9)
    return 100 * float(accuracies[known][places[0]]) if len(places) else float("nan")


def race(name: str, seeds: Sequence[int], data_set: str) -> None:
    """Gradients and CPU seconds to the targets, where all seeds reach them; row after row."""
    print(f"\n{name}, {data_set}: gradients / CPU s to a test accuracy, {len(seeds)} seeds\n")
    table = []
    for variant in STUDIES[name]:
        runs = runs_of(variant, seeds, data_set, variant.iterations or MINI_BATCHES)
        reached = [describe_reach(runs, target) for target in TARGETS[name]]
        last = spread([100 * run.history["test_accuracy"][-1] for run in runs], 2)
        work = np.mean([run.history["gradient_evaluations"][-1] for run in runs])
        seconds = np.mean([training_seconds(run)[-1] for run in runs])
        table.append([variant.label, *reached, last, f"{work:.0f} / {seconds:.0f}"])
        print(write_markdown([], table[-1:]).splitlines()[-1], flush=True)
    headers = [
        "",
        *(f"{target} %" for target in TARGETS[name]),
        "at the end",
        "of gradients / CPU s",
    ]
    print("\n" + write_markdown(headers, table), flush=True)


def describe_reach(runs: Sequence[Run], target: float) -> str:
    """Mean gradients (and losses, three of which are one) and CPU seconds to an accuracy."""
    places = [np.flatnonzero(100 * run.history["test_accuracy"] >= target) for run in runs]
    if not all(len(each) for each in places):
        return f"{sum(len(each) > 0 for each in places)} of {len(runs)} seeds"
    first = [each[0] for each in places]
    work = np.mean([sum_work(run)[i] for run, i in zip(runs, first, strict=True)])
    seconds = np.mean([training_seconds(run)[i] for run, i in zip(runs, first, strict=True)])
    return f"{work:.0f} / {seconds:.1f}"


def rejected(run: Run) -> int:
    """Trials that global control refused."""
    return int((run.history["trial_accepted"][1:] == 0).sum())


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean, least and greatest."""
    mean, low, high = np.mean(values), np.min(values), np.max(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} … {high:.{digits}f})"


def study(name: str, seeds: Sequence[int], data_set: str) -> None:
    full = name.startswith("full")
    epochs, iterations = (FULL_EPOCHS, FULL_EPOCHS[-1]) if full else (EPOCHS, MINI_BATCHES)
    table = []
    for variant in STUDIES[name]:
        runs = runs_of(variant, seeds, data_set, iterations)
        accuracies = [np.mean([accuracy_at(run, epoch) for run in runs]) for epoch in epochs[:-1]]
        last = spread([accuracy_at(run, epochs[-1]) for run in runs])
        loss = np.mean([run.history["loss"][-1] for run in runs])
        work = np.mean([run.history["gradient_evaluations"][-1] for run in runs])
        refused = ""
        if "trial_accepted" in runs[0].history:
            refused = spread([rejected(run) for run in runs])
        seconds = np.mean([training_seconds(run)[-1] for run in runs])
        row = [variant.label, *accuracies, last, f"{loss:.4f}", f"{work:.0f}", f"{seconds:.0f}"]
        table.append([*row, refused])
    headers = ["", *epochs, "loss", "gradients", "CPU s", "rejected"]
    print(f"\n{name}, {data_set}: test accuracy in % by epoch, {len(seeds)} seeds\n")
    print(tabulate(table, headers=headers, floatfmt=".1f", tablefmt="github"), flush=True)


def rows(words: Sequence[str]) -> list[str]:
    """The labels of the tables' rows."""
    of_study = {name: [each.label for each in variants] for name, variants in STUDIES.items()}
    of_study[OVERHEAD] = overhead_rows()
    return [label for name in _parser().parse_args(words).studies for label in of_study[name]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", default=["accuracy", OVERHEAD])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data", default="fashion-mnist")
    return parser


def main() -> None:
    asked = _parser().parse_args()
    for name in asked.studies:
        if name == OVERHEAD:
            overhead()
        elif name in TARGETS:
            race(name, range(asked.seeds), "cifar-10" if name == TRANSFORMER else asked.data)
        else:
            study(name, range(asked.seeds), asked.data)


if __name__ == "__main__":
    main()
