"""APTS on image data: `python -m benchmarks.apts STUDY… [--seeds K] [--data NAME]`.

Studies, each a few jobs under K seeds (0, 1, … K - 1), of one rank and one thread:

    accuracy    APTS in data and in weights against Adam and SGD, mini-batches of 10,000, 30 epochs
    subdomains  N = 2, 4, 6 in data and 1, 2, 3 in weights, orders 1 and 2
    depth       N = 2, 4, 6 in weights on a network of six layers, orders 1 and 2
    overlap     mini-batches, and shares of them, that overlap by 0, 1 and 5 %
    control     with and without global control, monotone and not: accuracies and rejected steps
    full        all samples in every iteration, 100 epochs, the small and the large network
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

from benchmarks.overhead import overhead
from hpctrain.job import load_job
from hpctrain.signals import StopSignals
from hpctrain.store.run_file import Run, read_run
from hpctrain.study.starts import PlannedRun, ensure

FOLDER = Path("runs/apts")
EPOCHS = (1, 2, 5, 10, 20, 30)
FULL_EPOCHS = (1, 10, 50, 100)
# Iterations of 30 epochs of mini-batches of 10,000.
MINI_BATCHES = 180
ADAM_RATES = ("0.01", "0.0025", "0.001")


@dataclass(frozen=True)
class Variant:
    """A job with settings of its own, the solver's by their last names, and its name in a table."""

    label: str
    job: str
    settings: dict[str, object] = field(default_factory=dict)


def data(label: str, **settings: object) -> Variant:
    return Variant(label, "apts/data-10k", settings)


def weights(label: str, **settings: object) -> Variant:
    return Variant(label, "apts/weights-10k", settings)


ADAM = [
    Variant(f"Adam, learning rate {rate}", "fashion-mnist-adam-10k", {"learning_rate": rate})
    for rate in ADAM_RATES
]
STUDIES: dict[str, list[Variant]] = {
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
            "no global control": {"global_control": "false"},
        }.items()
    ],
    "full": [
        Variant(f"{name}, {size}, N = {n}, order {order}", f"apts/{name}-full-{size}", settings)
        for size in ("small", "large")
        for name, key in {"data": "subdomains", "weights": "blocks"}.items()
        for order, model in enumerate(("linear", "lsr1"), 1)
        for n in (2, 3)
        for settings in ({key: n, "model": model},)
    ],
}


def runs_of(variant: Variant, seeds: Sequence[int], data_set: str, iterations: int) -> list[Run]:
    """A run for each seed, made where it is not there yet."""
    found, file = [], f"jobs/{variant.job}.toml"
    named = "-".join(f"{key}={value}" for key, value in sorted(variant.settings.items()))
    changes = {
        key if "." in key else f"solver.{key}": value for key, value in variant.settings.items()
    }
    changes |= {"problem.data": data_set, "stop.max_iterations": iterations}
    changes |= {"parallel.threads": 1, "output.checkpoint_every": 0}
    with StopSignals() as signals:
        for seed in seeds:
            overrides = tuple(f"{key}={value}" for key, value in (changes | {"seed": seed}).items())
            name = f"{data_set}-{variant.job.replace('/', '-')}-{named}-{iterations}-seed{seed}"
            job = load_job(file, overrides)
            run = PlannedRun(variant.label, f"seed {seed}", name, file, overrides, job, ranks=1)
            found.append(read_run(ensure(run, FOLDER, signals, "benchmarks.apts:")))
    return found


def accuracy_at(run: Run, epoch: int) -> float:
    """Test accuracy in percent after so many epochs."""
    accuracies, epochs = run.history["test_accuracy"], run.history["epoch"]
    if np.isnan(epochs).all():
        epochs = run.history["iteration"]
    known = np.isfinite(accuracies)
    places = np.flatnonzero(np.abs(epochs[known] - epoch) < 1e-9)
    return 100 * float(accuracies[known][places[0]]) if len(places) else float("nan")


def cpu_seconds(run: Run) -> float:
    """Of training: phases local, global and communication."""
    inside = [name in ("local", "global", "communication") for name in run.phase_names]
    return float(np.nansum(run.phases[:, :, inside, 1]))


def rejected(run: Run) -> int:
    """Trials that global control refused."""
    return int((run.history["trial_accepted"][1:] == 0).sum())


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean, least and greatest."""
    mean, low, high = np.mean(values), np.min(values), np.max(values)
    return f"{mean:.{digits}f} ({low:.{digits}f} … {high:.{digits}f})"


def study(name: str, seeds: Sequence[int], data_set: str) -> None:
    full = name == "full"
    epochs, iterations = (FULL_EPOCHS, FULL_EPOCHS[-1]) if full else (EPOCHS, MINI_BATCHES)
    rows = []
    for variant in STUDIES[name]:
        runs = runs_of(variant, seeds, data_set, iterations)
        accuracies = [np.mean([accuracy_at(run, epoch) for run in runs]) for epoch in epochs[:-1]]
        last = spread([accuracy_at(run, epochs[-1]) for run in runs])
        loss = np.mean([run.history["loss"][-1] for run in runs])
        work = np.mean([run.history["gradient_evaluations"][-1] for run in runs])
        refused = ""
        if "trial_accepted" in runs[0].history:
            refused = spread([rejected(run) for run in runs])
        seconds = np.mean([cpu_seconds(run) for run in runs])
        row = [variant.label, *accuracies, last, f"{loss:.4f}", f"{work:.0f}", f"{seconds:.0f}"]
        rows.append([*row, refused])
    headers = ["", *epochs, "loss", "gradients", "CPU s", "rejected"]
    print(f"\n{name}, {data_set}: test accuracy in % by epoch, {len(seeds)} seeds\n")
    print(tabulate(rows, headers=headers, floatfmt=".1f", tablefmt="github"), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", default=["accuracy", "overhead"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data", default="fashion-mnist")
    asked = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in asked.studies:
        if name == "overhead":
            overhead()
        else:
            study(name, range(asked.seeds), asked.data)


if __name__ == "__main__":
    main()
