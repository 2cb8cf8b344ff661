"""The pieces of a run by themselves: a problem, its loss, and solvers that are stepped by hand."""

from collections.abc import Mapping
from typing import Any

from hpctrain.errors import InputError
from hpctrain.job.groups import describe_choice
from hpctrain.job.solver_options import check_options
from hpctrain.objective import Objective
from hpctrain.options import GivenClass, suggest
from hpctrain.parallel.launch import make_world
from hpctrain.parallel.threads import check_threads
from hpctrain.problems.base import Problem
from hpctrain.run import assemble
from hpctrain.run.python import GivenJob, agree_on_job, check_settings
from hpctrain.solvers import SOLVERS
from hpctrain.solvers.base import Setting, Solver

# Stand in a job of which only the problem is wanted.
OTHERS = {"solver": {"name": "adam"}, "parallel": {"chunks": 1}}


def make_problem(job: GivenJob, *, set: Mapping[str, Any] | None = None) -> Problem:
    """Makes the problem of a job, with its network, on the CPU; collective.

    Args:
        job: as `train` takes it; its tables may lack a solver. All but the problem, the network,
            seed and precision are left alone.
        set: settings instead of the job's.

    Raises:
        InputError: it is no such job.
    """
    if isinstance(job, Mapping):
        job = {**OTHERS, **job}
    ranks = make_world()
    try:
        asked = agree_on_job(job, check_settings(set), ranks)
        problem = ranks.run_on_all(lambda: assemble.make_problem(asked))
        assemble.check_ranks_agree(problem, ranks)
        return problem
    finally:
        ranks.free()


def make_objective(problem: Problem, *, chunks: int = 64, threads: int = 1) -> Objective:
    """Makes the loss of a problem, shared among all ranks of the program; collective.

    Args:
        problem: the problem.
        chunks: leaves of the summation tree: a power of two, at most the number of samples.
        threads: of each rank.

    Raises:
        InputError: there are more chunks than samples, or fewer than ranks, or too many threads.
    """
    check_threads(threads, f"threads = {threads}")
    ranks = make_world()
    if chunks & (chunks - 1) or not ranks.size <= chunks <= problem.samples:
        raise InputError(
            f"chunks = {chunks} is not allowed: a power of two, at least {ranks.size}, the number"
            f" of ranks, and at most {problem.samples}, the number of samples"
        )
    return assemble.make_objective(problem, ranks, chunks, threads)


def make_solver(
    objective: Objective, method: str | type[Solver[Any]], *, seed: int = 0, **options: Any
) -> Solver[Any]:
    """Makes a solver for an objective; collective.

    Args:
        objective: the loss.
        method: its name in a job, or a class of one's own.
        seed: of all that is random in it.
        options: as [solver] in a job has them.

    Raises:
        InputError: there is no such solver or option, or the loss does not give what it needs.
    """
    if isinstance(method, str):
        if method not in SOLVERS:
            known = f"{describe_choice(SOLVERS)}{suggest(method, SOLVERS)}"
            raise InputError(f"solver {method!r} is not allowed: {known}, or a class")
        found, name = SOLVERS[method], method
    else:
        found, name = method, GivenClass(method)
    return found(Setting(objective, seed), check_options(found, name, options, str(name)))
