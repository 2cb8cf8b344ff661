"""A job file is either a complete job, or one line that says what is wrong with it."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpctrain import solvers
from hpctrain.job.settings import (
    Job,
    JobError,
    OutputOptions,
    ParallelOptions,
    load_job,
    parse_job,
    write_toml,
)
from hpctrain.job.stop import StopOptions
from hpctrain.networks.kinds import NETWORKS
from hpctrain.networks.kinds.dense import DenseOptions
from hpctrain.problems.equations.options import PinnOptions
from hpctrain.problems.options import PROBLEMS
from hpctrain.solvers.spqn import SPQNOptions

FOLDER = Path(__file__).parents[1] / "jobs"
JOBS = sorted(
    path for part in ("", "library/", "records/") for path in FOLDER.glob(f"{part}*.toml")
)
SMALL = """
[problem]
name = "burgers"
points = 128
[network]
depth = 4
width = 5
[solver]
name = "aspqn"
blocks = 4
"""
CLASSIFIER = """
[problem]
name = "classification"
data = "fashion-mnist"
[network]
kind = "fcnn"
[solver]
name = "adam"
"""
NAMES = ", ".join(f'"{name}"' for name in PROBLEMS.groups)
KINDS = ", ".join(f'"{kind}"' for kind in NETWORKS.groups if kind != "none")
SOLVERS = ", ".join(f'"{name}"' for name in solvers.SOLVERS)
SOLVERS += ', or a class of your own as "my_method.py:MyMethod"'
EQUATIONS = ", ".join(name for name, group in PROBLEMS.groups.items() if group is PinnOptions)
DENSE_KEYS = ", ".join(DenseOptions.model_fields)
SPQN_KEYS = ", ".join([*SPQNOptions.model_fields, "stop"])

# An override of SMALL, and the line it leads to.
FORBIDDEN_VALUES = {
    "solver.blocks=12": "solver.blocks = 12 is not allowed:"
    " at most 4, the number of the network's layers",
    "parallel.chunks=48": "parallel.chunks = 48 is not allowed: a power of two",
    "parallel.chunks=0": "parallel.chunks = 0 is not allowed: an integer, at least 1",
    "parallel.threads=0": "parallel.threads = 0 is not allowed:"
    " an integer, at least 1 and at most 1024",
    "parallel.threads=100000": "parallel.threads = 100000 is not allowed:"
    " an integer, at least 1 and at most 1024",
    "parallel.device=gpu": 'parallel.device = "gpu" is not allowed: one of "auto", "cpu", "cuda"',
    "parallel.transport=ucx": 'parallel.transport = "ucx" is not allowed:'
    ' one of "auto", "mpi", "mpi-gpu", "nccl", "gloo"',
    "network.depth=0": "network.depth = 0 is not allowed: an integer, at least 1",
    "network.depth=4.0": "network.depth = 4.0 is not allowed: an integer, at least 1",
    'network.depth="4"': 'network.depth = "4" is not allowed: an integer, at least 1',
    "network.depth=true": "network.depth = true is not allowed: an integer, at least 1",
    "network.kind=cnn": f'network.kind = "cnn" is not allowed: one of {KINDS},'
    ' or a torch module of your own as "my_net.py:Net" (did you mean fcnn?)',
    "problem.constraints=3": 'problem.constraints = 3 is not allowed: one of "hard", "soft", or a'
    " list of strings (and 1 more)",
    "network.separate=3": "network.separate = 3 is not allowed: true or false or a list of lists of"
    " strings (and 1 more)",
    "network.subdomains=3": "network.subdomains = 3 is not allowed: a table, each value an integer,"
    " at least 2, or a list of numbers, not empty",
    "network.subdomains={x=0}": "network.subdomains.x = 0 is not allowed: an integer, at least 2,"
    " or a list of numbers, not empty (and 1 more)",
    "network.fourier_scale={x=0}": 'network.fourier_scale = {"x": 0} is not allowed: a number,'
    " above 0, or a table, each value a number, above 0 (and 1 more)",
    "network.time_step=inf": "network.time_step = Infinity is not allowed:"
    " a number, above 0 and finite",
    "network=3": f"network = 3 is not allowed: a table with kind, one of {KINDS},"
    ' or a torch module of your own as "my_net.py:Net"',
    "precision=float16": 'precision = "float16" is not allowed: one of "float64", "float32"',
    "problem.name=burger": 'problem.name = "burger" is not allowed:'
    f' one of {NAMES}, or a class of your own as "my_pde.py:Heat" (did you mean burgers?)',
    "problem.points=true": "problem.points = true is not allowed: an integer, at least 1",
    "problem=3": f"problem = 3 is not allowed: a table with name, one of {NAMES},"
    ' or a class of your own as "my_pde.py:Heat"',
    "problem.name=[1]": f"problem.name = [1] is not allowed: one of {NAMES},"
    ' or a class of your own as "my_pde.py:Heat"',
    "stop.test_accuracy=0.9": "stop.test_accuracy = 0.9 is not allowed:"
    ' not measured for problem.name = "burgers", which has stop.error',
    "problem.scale_distance=1": "problem.scale_distance = 1 is not allowed: true or false",
    "output.path=''": 'output.path = "" is not allowed: a string, not empty',
    "output.error_every=0": "output.error_every = 0 is not allowed: an integer, at least 1",
    "stop.error=nan": "stop.error = NaN is not allowed: a number, above 0 and finite",
    "stop.error=[1, 'a']": 'stop.error = [1, "a"] is not allowed: a number, above 0 and finite',
    "stop.max_seconds=1h": 'stop.max_seconds = "1h" is not allowed: a number, above 0 and finite',
    "seed=-1": "seed = -1 is not allowed: an integer, at least 0 and at most 9223372036854775807",
    "solver=3": f"solver = 3 is not allowed: a table with name, one of {SOLVERS}",
    "solver.name=adma": f'solver.name = "adma" is not allowed: one of {SOLVERS}'
    " (did you mean adam?)",
    "solver.name=aspqm": f'solver.name = "aspqm" is not allowed: one of {SOLVERS}'
    " (did you mean aspqn?)",
    "solver.beta1=0.5": "solver.beta1 is a setting of apts-parts, adam, not of aspqn;"
    f" allowed: {SPQN_KEYS}",
    "solver.name=7": f"solver.name = 7 is not allowed: one of {SOLVERS}",
    "solver.momentum=0": "solver.momentum = 0 is not allowed: a number, above 0 and at most 1",
    "solver.line_search.c1=2": "solver.line_search.c1 = 2 is not allowed:"
    " a number, above 0 and below 1",
    "solver.line_search=3": "solver.line_search = 3 is not allowed:"
    " a table with c1, c2, max_trials",
    "solver.blcoks=2": f"unknown key solver.blcoks; allowed: {SPQN_KEYS} (did you mean blocks?)",
    "solver.line_search.zoom=2": "unknown key solver.line_search.zoom; allowed: c1, c2, max_trials",
    "sovler.blocks=2": f"unknown key sovler; allowed: {', '.join(Job.model_fields)}"
    " (did you mean solver?)",
}

# A text that is no job, and the line it leads to.
BAD_TEXTS = {
    "a = " + "[" * 5000: "not valid TOML: maximum recursion depth exceeded",
    "[problem\n": "not valid TOML: Expected ']' at the end of a table declaration"
    " (at line 1, column 9)",
    SMALL + "[solver]\n": "not valid TOML: Cannot declare ('solver',) twice (at line 11, column 8)",
    SMALL.replace("depth = 4", ""): "network.depth is missing: an integer, at least 1",
    SMALL.replace("depth", "dpeth"): f"unknown key network.dpeth; allowed: {DENSE_KEYS}"
    " (did you mean depth?) (and 1 more)",
    SMALL.replace('name = "aspqn"', ""): f"solver.name is missing: one of {SOLVERS}",
    SMALL.partition("[solver]")[0]: f"solver is missing: a table with name, one of {SOLVERS}",
    "seed = 1": f"problem is missing: a table with name, one of {NAMES},"
    ' or a class of your own as "my_pde.py:Heat" (and 1 more)',
    SMALL.replace('name = "burgers"', ""): f"problem.name is missing: one of {NAMES},"
    ' or a class of your own as "my_pde.py:Heat"',
    SMALL.partition("[network]")[0] + '[solver]\nname = "adam"': "network is missing:"
    ' a table with kind, one of "mlp", "residual", "modified"',
    SMALL.replace(
        "depth = 4\nwidth = 5", 'kind = "lenet"'
    ): 'network.kind = "lenet" is not allowed:'
    ' one of "mlp", "residual", "modified" for problem.name = "burgers"',
    SMALL + '"two\\nlines" = 1\n': f'unknown key solver."two\\nlines"; allowed: {SPQN_KEYS}',
}


@pytest.mark.parametrize("override", FORBIDDEN_VALUES)
def test_forbidden_value_is_named_with_file_key_value_and_what_is_allowed(override):
    with pytest.raises(JobError) as caught:
        parse_job(SMALL, "jobs/x.toml", [override])
    origin = "jobs/x.toml" if override.startswith("sovler") else "jobs/x.toml with --set"
    assert str(caught.value) == f"{origin}: {FORBIDDEN_VALUES[override]}"


FOR_IMAGES = (
    'one of "lenet", "resnet-18", "fcnn", "dense-resnet", "conv-resnet", or a torch module of'
)
FOR_IMAGES += ' your own as "my_net.py:Net" for problem.name = "classification"'

# An override of CLASSIFIER, and the line it leads to.
FORBIDDEN_FOR_CLASSIFIERS = {
    "problem.data=cifar": 'problem.data = "cifar" is not allowed: one of "fashion-mnist", "mnist",'
    ' "cifar-10", "svhn", or an HDF5 file of your own as "my_data.h5"'
    " (did you mean cifar-10?)",
    "network.kind=resnet18": f'network.kind = "resnet18" is not allowed: one of {KINDS},'
    ' or a torch module of your own as "my_net.py:Net" (did you mean resnet-18?)',
    "network.kind=mlp": f'network.kind = "mlp" is not allowed: {FOR_IMAGES}',
    "network.kind=": f"network.kind is missing: {FOR_IMAGES}",
    "problem.points=10": f"problem.points is a setting of {EQUATIONS}, not of classification;"
    " allowed: name, data, data_path, samples, test_samples, scaling, output, train_accuracy",
    "problem.scaling=log": 'problem.scaling = "log" is not allowed:'
    ' one of "standard", "unit", "none"',
    "network.hidden=32": "network.hidden = 32 is not allowed: a list of integers, at least 1 each",
    "network.hidden=[32, 0]": "network.hidden = 0 is not allowed:"
    " a list of integers, at least 1 each",
    "network={kind='none', hidden=[3]}": "network.hidden is a setting of fcnn, not of none;"
    " allowed: kind",
    "stop.error=1e-3": "stop.error = 0.001 is not allowed:"
    ' not measured for problem.name = "classification", which has stop.test_accuracy',
    "stop.test_accuracy=90": "stop.test_accuracy = 90 is not allowed:"
    " a number, above 0 and at most 1",
    "solver.batch_size=0": "solver.batch_size = 0 is not allowed: an integer, at least 1",
}


@pytest.mark.parametrize("override", FORBIDDEN_FOR_CLASSIFIERS)
def test_forbidden_value_of_a_classifier_is_named(override):
    text = CLASSIFIER.replace('"fcnn"', '"fcnn"\nhidden = [32, 32]')
    with pytest.raises(JobError) as caught:
        parse_job(text, "jobs/x.toml", [override])
    origin, _, line = str(caught.value).partition(": ")
    assert origin.startswith("jobs/x.toml")
    assert line.removesuffix(" (and 1 more)") == FORBIDDEN_FOR_CLASSIFIERS[override]


@pytest.mark.parametrize("kind", ["lenet", "resnet-18", "nets/my_net.py:Net"])
def test_a_classifier_takes_any_network_for_images(kind):
    job = parse_job(CLASSIFIER, "x.toml", [f"network.kind={kind}"])
    assert job.network.kind == kind
    assert parse_job(write_toml(job), "resolved") == job


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_bad_text_is_named_with_file_and_place(text):
    with pytest.raises(JobError) as caught:
        parse_job(text, "jobs/x.toml")
    assert str(caught.value) == f"jobs/x.toml: {BAD_TEXTS[text]}"


@pytest.mark.parametrize("override", ["solver.blocks", "=3", "solver.=3", "a b=3", ""])
def test_override_without_key_or_value_is_refused(override):
    with pytest.raises(JobError, match="expected KEY=VALUE") as caught:
        parse_job(SMALL, "x.toml", [override])
    assert str(caught.value).startswith(f"--set {override}: ")


ADAM = SMALL.replace(
    'name = "aspqn"\nblocks = 4', 'name = "adam"\nlearning_rate = 0.1\nbatch_size = 8'
)
LEFT_OUT = r"^solver.name=lbfgs does not have solver.learning_rate, solver.batch_size: left out$"


def test_another_solver_leaves_out_what_the_file_sets_of_the_first_only():
    with pytest.warns(UserWarning, match=LEFT_OUT):
        job = parse_job(ADAM, "x.toml", ["solver.memory=7", "solver.name=lbfgs"])
    assert job.solver == parse_job(ADAM, "x.toml", ["solver={name='lbfgs', memory=7}"]).solver


def test_another_solver_leaves_out_settings_within_a_table_that_both_have():
    text = SMALL.replace("blocks = 4", "line_search.c2 = 0.8\nline_search.c1 = 0.01")
    with pytest.warns(UserWarning, match=r"does not have solver\.line_search\.c2: left out"):
        job = parse_job(text, "x.toml", ["solver.name=newton"])
    assert job.solver[0].line_search.c1 == 0.01


@pytest.mark.filterwarnings("error")
def test_another_solver_keeps_what_it_has_too():
    text = ADAM.replace("batch_size = 8", "")
    assert parse_job(text, "x.toml", ["solver.name=sgd"]).solver[0].learning_rate == 0.1
    assert parse_job(SMALL, "x.toml", ["solver.name=mspqn"]).solver[0].blocks == 4


@pytest.mark.parametrize("text, override", [(ADAM, "solver.beta3=1"), (SMALL, "solver.beta1=0.5")])
def test_a_key_that_was_given_for_another_solver_stays_an_error(text, override):
    with pytest.raises(JobError, match=override.partition("=")[0]):
        parse_job(text, "x.toml", ["solver.name=mspqn", override])


def test_a_misspelt_key_of_the_file_is_not_left_out():
    text = SMALL.replace("blocks", "blcoks")
    with pytest.raises(JobError, match=r"unknown key solver\.blcoks"):
        parse_job(text, "x.toml", ["solver.name=adam"])


def test_an_override_without_a_value_leaves_a_setting_out():
    assert parse_job(ADAM, "x.toml", ["solver.batch_size="]).solver[0].batch_size is None
    with pytest.raises(JobError, match=r"^--set solver.memory=: there is no solver.memory to"):
        parse_job(ADAM, "x.toml", ["solver.memory="])


def test_a_text_that_cannot_name_a_file_is_refused():
    with pytest.raises(JobError, match=r"output\.path = 'a\\udcff' is not allowed: a text in the"):
        parse_job(SMALL, "x.toml", ["output.path=a\udcff"])


def test_override_below_a_value_is_refused():
    with pytest.raises(JobError, match=r"^--set solver.name.x=1: solver.name is not a table$"):
        parse_job(SMALL, "x.toml", ["solver.name.x=1"])


def test_overrides_are_toml_values_or_bare_words():
    overrides = ["solver.blocks=2", "network.kind=mlp", "output.path=runs/a b.h5", "seed = 3"]
    overrides += ['problem.name="my_pde.py:Heat"', "stop.error=1e-3", "stop.max_seconds=60"]
    job = parse_job(SMALL, "x.toml", [*overrides, "seed=4"])
    assert (job.solver[0].blocks, job.network.kind, job.seed) == (2, "mlp", 4)
    assert (job.output.path, job.problem.name) == ("runs/a b.h5", "my_pde.py:Heat")
    assert (job.stop.error, job.stop.max_seconds) == (1e-3, 60.0)


def test_unreadable_files_are_named(tmp_path):
    latin = tmp_path / "latin.toml"
    latin.write_bytes('# Schrödinger\nname = "ö"'.encode("latin-1"))
    assert _complaint(latin) == f"{latin}: not a text in UTF-8 (byte 6)"
    assert _complaint(tmp_path) == f"{tmp_path}: cannot read the job file: Is a directory"
    missing = tmp_path / "none.toml"
    assert _complaint(missing) == f"{missing}: cannot read the job file: No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_file_without_permission_is_named(tmp_path):
    locked = tmp_path / "locked.toml"
    locked.write_text(SMALL)
    locked.chmod(0)
    assert _complaint(locked) == f"{locked}: cannot read the job file: Permission denied"


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_shipped_job_survives_being_written_and_read(path):
    job = load_job(path)
    assert parse_job(write_toml(job), "resolved") == job
    assert job.output.path == f"runs/{path.stem}.h5"


def test_resolved_job_states_its_defaults():
    resolved = write_toml(parse_job(SMALL, "x.toml"))
    for line in ("seed = 0", "chunks = 64", "local_steps = 50", "c1 = 0.0001", "error_every = 10"):
        assert line in resolved.splitlines()


finite = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@given(
    name=st.text().map(lambda text: f"{text.replace(chr(10), ' ')}x.py:Own"),
    time_step=finite,
    stop=st.builds(
        StopOptions,
        error=st.none() | finite,
        gradient_norm=st.none() | finite,
        max_iterations=st.integers(1),
    ),
)
def test_any_job_survives_being_written_and_read(name, time_step, stop):
    job = Job(
        problem=PinnOptions(name=name),
        network=DenseOptions(depth=8, width=1, time_step=time_step),
        solver=SPQNOptions(),
        stop=stop,
    )
    assert parse_job(write_toml(job), "resolved") == job


GROUPS = [
    *(Job, ParallelOptions, OutputOptions, StopOptions),
    *PROBLEMS.tags.values(),
    *NETWORKS.tags.values(),
]


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_says_what_it_means(group):
    assert all(field.description for field in group.model_fields.values())


def _complaint(path: Path) -> str:
    with pytest.raises(JobError) as caught:
        load_job(path)
    return str(caught.value)
