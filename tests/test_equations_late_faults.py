"""Faults of one's own equation that its probe does not see: references, some points, later θ."""

import pytest
from faulty_equations import HEAD, RIGHT, job, mine

from hpctrain import cli
from hpctrain.errors import InputError, UserCodeError
from hpctrain.parallel.communicator import Communicator
from hpctrain.run.assemble import make_objective, make_problem

LATE = f"""{HEAD}
    def residuals(self, at, u):
        if bool((at.t > 0.997).any()):
            raise ValueError("not beyond 0.997")
        return u.t - u.xx
"""
REFERENCES = {
    "three numbers": ("torch.ones(3)", r"mine\.py:11: Mine\.reference: u is a tensor of shape"),
    "a word": ("'1.0'", r"mine\.py:11: Mine\.reference: u is a value of type str"),
    "an error": ("[].pop()", r"Mine\.reference fails: .*mine\.py:12: IndexError: pop from empty"),
    "noise": ("torch.rand(at.count)", "it must act on each point for itself"),
    "a mean": ("at.t - at.x.mean()", "it must act on each point for itself"),
    "another field": ("{'v': at.t}", r"Mine\.reference names 'v': fields and quantities are u"),
    "a parameter": (
        "torch.ones(1).double().requires_grad_() * at.t",
        r"mine\.py:11: Mine\.reference: u depends on a tensor of shape \(1,\), which requires",
    ),
    "not finite": ("1 / at.t", r"Mine\.reference: u is inf at t = 0, x = 0: it must be finite"),
}


@pytest.mark.parametrize("fault", REFERENCES)
def test_a_faulty_reference_is_refused_before_the_run(tmp_path, fault):
    written, said = REFERENCES[fault]
    text = f"{RIGHT}    def reference(self, at):\n        return {written}\n"
    problem = make_problem(job(mine(tmp_path, text)))
    with pytest.raises(InputError, match=said) as caught:
        problem.make_monitor(Communicator(), 64, 1)
    assert "\n" not in str(caught.value)


def test_a_residual_that_fails_at_some_points_is_refused_before_the_run(tmp_path):
    asked = job(mine(tmp_path, LATE), "problem.points=300")
    problem = make_problem(asked)
    with pytest.raises(InputError, match=r"mine\.py:11: ValueError: not beyond 0\.997$"):
        make_objective(problem, Communicator(), asked.parallel.chunks, 1)


SPOILT = f"""{HEAD}
    spoil = False
    def residuals(self, at, u):
        e = torch.exp(u)
        r = u.t + torch.erf(e)
        if self.spoil:
            e.zero_()
        return r
"""


def test_a_derivative_that_torch_cannot_take_later_on_is_told_with_the_residuals_place(tmp_path):
    asked = job(mine(tmp_path, SPOILT))
    problem = make_problem(asked)
    objective = make_objective(problem, Communicator(), asked.parallel.chunks, 1)
    theta = problem.make_initial_parameters(0)
    objective.evaluate_with_gradient(theta)
    problem.equations.spoil = True
    with pytest.raises(UserCodeError, match=r"residual fails: .*mine\.py:10: RuntimeError: one of"):
        objective.evaluate_with_gradient(theta + 1)


STEEP = f"""{HEAD}
    def residuals(self, at, u):
        limit(u.value)
        return torch.clamp(u.t, -9e9) - u.xx

def limit(value):
    if float(value.min()) < -0.01:
        raise ValueError("below zero")
"""
MUTE = f"""{HEAD}
    def residuals(self, at, u):
        return Mute.apply(u.t) - u.xx

class Mute(torch.autograd.Function):
    calls = 0
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, adjoint):
        Mute.calls += 1
        if Mute.calls > 9:
            raise ArithmeticError("no way back")
        return adjoint
"""
JOB = """
[problem]
name = "{file}:Mine"
points = 300
[network]
depth = 2
width = 8
[solver]
name = "lbfgs"
[parallel]
threads = 1
[stop]
max_iterations = 50
"""


FAULTS = {
    "at one rank's points": (LATE, "Mine.residuals fails: {file}:11: ValueError: not beyond 0.997"),
    "at a later iterate": (STEEP, "Mine.residuals fails: {file}:15: ValueError: below zero"),
    "in its derivative": (
        MUTE, "the derivative of the residual fails: {file}:21: ArithmeticError: no way back",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ["at one rank's points", "at a later iterate"])
def test_a_failing_residual_ends_all_ranks_with_one_line_and_status_2(
    mpirun, write_job, tmp_path, case
):
    text, said = FAULTS[case]
    file = tmp_path / "mine.py"
    file.write_text(text)
    ended = mpirun(2, "-m", "hpctrain", "run", write_job(JOB.format(file=file)))
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count(f"hpctrain: {said.format(file=file)}\n") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("case", ["at a later iterate", "in its derivative"])
def test_on_one_rank_it_does_too_and_the_traceback_is_shown_when_asked_for(
    capsys, monkeypatch, write_job, tmp_path, case
):
    text, said = FAULTS[case]
    file = tmp_path / "mine.py"
    file.write_text(text)
    job = write_job(JOB.format(file=file))
    assert cli.main(["run", str(job)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"hpctrain: {said.format(file=file)}"
    monkeypatch.setenv("HPCTRAIN_DEBUG", "1")
    assert cli.main(["run", str(job)]) == 2
    shown = capsys.readouterr().err
    assert shown.endswith(f"hpctrain: {said.format(file=file)}\n")
    assert "Traceback" in shown and f'File "{file}", line ' in shown
