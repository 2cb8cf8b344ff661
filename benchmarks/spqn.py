"""Compares ASPQN and MSPQN with L-BFGS at equal work: `python -m benchmarks.spqn`, 20 minutes.

The paper's jobs, each up to the same number of true gradient evaluations (evaluations of the full
network on all samples; a block's sweep counts as the part that it is). The table goes to
docs/results.md.
"""

from tabulate import tabulate

from benchmarks.runs import last_within, train

SOLVERS = ("lbfgs", "aspqn", "mspqn")
SEEDS = range(3)
BUDGETS = (1000, 2500, 5000, 10_000)


def rows(_words: list[str]) -> list[str]:
    """The labels of the table's rows, by the first two columns."""
    return [f"{solver} | {seed}" for solver in SOLVERS for seed in SEEDS]


def main() -> None:
    table = []
    for solver in SOLVERS:
        for seed in SEEDS:
            run = train(
                f"burgers-{solver}",
                seed=seed,
                stop__max_gradient_evaluations=max(BUDGETS),
                stop__error=1e-12,
                stop__max_iterations=10**6,
                output__error_every=50 if solver == "lbfgs" else 1,
            )
            errors = [f"{last_within(run, budget):.2e}" for budget in BUDGETS]
            last = {name: column[-1] for name, column in run.history.items()}
            losses, seconds = last["loss_evaluations"], last["seconds"]
            table.append([solver, seed, *errors, f"{losses:.0f}", int(last["iteration"]),
                          f"{seconds:.0f}"])  # fmt: skip
    headers = ["solver", "seed", *(f"{b} gradients" for b in BUDGETS), "loss evaluations",
               "outer iterations", "s (2 ranks)"]  # fmt: skip
    print(tabulate(table, headers=headers, tablefmt="github"))


if __name__ == "__main__":
    main()
