"""Launching: what the environment says, and what is done about it."""

import sys

import pytest

from hpctrain.parallel.launch import (
    Launched,
    LaunchError,
    check_launch,
    find_launched_ranks,
    finish,
    start,
    yield_shared_cores,
)

BATCH_SCRIPT = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_PROCID": "0"}
STEP = BATCH_SCRIPT | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    "environ, launched",
    [
        ({}, Launched(1, "no launcher")),
        ({"PMI_SIZE": "3"}, Launched(3, "PMI_SIZE")),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, Launched(2, "OMPI_COMM_WORLD_SIZE")),
        (BATCH_SCRIPT, Launched(1, "no launcher")),
        (STEP, Launched(4, "SLURM_STEP_NUM_TASKS")),
        # mpirun in an allocation: its daemons are the step's tasks
        (STEP | {"PMI_SIZE": "8"}, Launched(8, "PMI_SIZE")),
        # an interactive shell is a step of SLURM's own
        (STEP | {"SLURM_STEP_ID": "4294967290"}, Launched(1, "no launcher")),
    ],
)
def test_number_of_ranks_is_what_the_launcher_says(environ, launched):
    assert find_launched_ranks(environ) == launched


def test_world_of_one_that_was_launched_as_several_is_an_error():
    with pytest.raises(LaunchError, match=r"started 4 ranks.*SLURM_STEP_NUM_TASKS.*srun --mpi="):
        check_launch(Launched(4, "SLURM_STEP_NUM_TASKS"), 1, "MPI (some version) sees only itself")


@pytest.mark.parametrize("launched, size", [(1, 1), (4, 4), (1, 4)])
def test_agreeing_worlds_pass(launched, size):
    check_launch(Launched(launched, "PMI_SIZE"), size, "")


def test_program_without_a_launcher_runs_alone_and_leaves_with_its_status(python):
    program = "from hpctrain.parallel import launch; c = launch.start();"
    job = python("-c", f"{program} print(c.size); launch.leave(launch.finish(c, 5))")
    assert (job.returncode, job.stdout, job.stderr) == (5, "1\n", "")


@pytest.mark.filterwarnings("ignore:suspicious MPI execution environment")
def test_wrong_launcher_stops_a_program_with_one_sentence(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    said = (
        r"^the launcher started 4 ranks \(OMPI_COMM_WORLD_SIZE\), but MPI \(.*\) sees only itself"
    )
    with pytest.raises(LaunchError, match=said):
        start()


def test_program_without_an_mpi_library_runs_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    communicator = start()
    assert (communicator.size, finish(communicator, 5)) == (1, 5)


def test_several_ranks_without_an_mpi_library_are_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(
        LaunchError, match=r"2 ranks \(PMI_SIZE\), but no MPI library could be loaded"
    ):
        start()


@pytest.mark.parametrize(
    "environ",
    [
        {"MPI_LOCALNRANKS": "4"},
        {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"},
        {"SLURM_STEP_TASKS_PER_NODE": "4(x2),2"},
    ],
)
def test_ranks_that_share_cores_yield(environ):
    yield_shared_cores(environ, cores=2)
    assert environ["MPIR_CVAR_POLLS_BEFORE_YIELD"] == "1"
    assert environ["OMPI_MCA_mpi_yield_when_idle"] == "1"


@pytest.mark.parametrize("environ", [{}, {"MPI_LOCALNRANKS": "2"}])
def test_ranks_with_cores_of_their_own_do_not(environ):
    before = dict(environ)
    yield_shared_cores(environ, cores=2)
    assert environ == before


def test_choice_of_the_user_about_yielding_stands():
    environ = {"MPI_LOCALNRANKS": "4", "MPIR_CVAR_POLLS_BEFORE_YIELD": "100"}
    yield_shared_cores(environ, cores=2)
    assert environ["MPIR_CVAR_POLLS_BEFORE_YIELD"] == "100"


def test_ranks_that_leave_end_the_job_without_an_abort(mpirun):
    program = "import sys; from hpctrain.parallel import launch; c = launch.start(); "
    job = mpirun(2, "-c", program + "launch.leave(launch.finish(c, c.rank))")
    assert job.returncode == 1 and "Abort" not in job.stderr and "Traceback" not in job.stderr
