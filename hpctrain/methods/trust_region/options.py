"""Settings of trust-region steps, alone or as the parts of another method."""

from typing import Literal

from pydantic import Field, model_validator

from hpctrain.errors import InputError
from hpctrain.methods.trust_region.control import RadiusOptions, TrustRegionOptions
from hpctrain.methods.trust_region.models import HessianModel, LinearModel, LSR1Model, Model
from hpctrain.methods.trust_region.step import CG_ITERATIONS, TrialRule
from hpctrain.methods.trust_region.subproblem import Norm
from hpctrain.objective import Objective
from hpctrain.options import Options, refuse_idle


class StepOptions(Options):
    """Settings of trust-region steps with any model, in the 2-norm."""

    cg_iterations: int = Field(
        CG_ITERATIONS,
        ge=1,
        description="cap on products with B a step, where conjugate gradients minimise the model",
    )
    debug: bool = Field(False, description="assert in every step that it keeps its bounds")
    trust_region: RadiusOptions = Field(
        RadiusOptions(), description="the radius, and the constants of its control"
    )


class ModelOptions(StepOptions):
    """Settings of trust-region steps with a model that the job chooses, in the 2-norm."""

    model: Literal["linear", "lsr1", "hessian"] = Field(
        "lsr1", description="of the loss: order 1, order 2 by L-SR1, or with its exact Hessian"
    )
    memory: int = Field(10, ge=1, description="secant pairs kept, m (lsr1)")

    @property
    def norm(self) -> Norm:
        """Of steps."""
        return 2

    @model_validator(mode="after")
    def _refuse_settings_of_other_models(self) -> "ModelOptions":
        beside = f'with model = "{self.model}"'
        if self.model != "lsr1":
            refuse_idle(self, {"memory": beside})
        if self.model == "linear" or (self.model == "lsr1" and self.norm == 2):
            refuse_idle(self, {"cg_iterations": f"{beside} in the {self.norm}-norm"})
        return self


class NormedModelOptions(ModelOptions):
    """Settings of trust-region steps in a norm that the job chooses, and of their acceptance."""

    window: int = Field(
        1, ge=1, description="W, losses whose greatest a trial is compared with; 1 is monotone"
    )
    trust_region: TrustRegionOptions = Field(
        TrustRegionOptions(), description="the radius, and the constants of its control"
    )

    @property
    def norm(self) -> Norm:
        return self.trust_region.norm


def make_rule(options: ModelOptions) -> TrialRule:
    """The rule of the steps that the options describe."""
    o = options
    return TrialRule(_make_model(o), o.trust_region, o.norm, o.cg_iterations, o.debug)


def _make_model(options: ModelOptions) -> Model:
    match options.model:
        case "linear":
            return LinearModel()
        case "lsr1":
            return LSR1Model(options.memory)
        case "hessian":
            return HessianModel()


def check_model(objective: Objective, options: ModelOptions) -> None:
    """Raises an InputError where the loss cannot give what the model needs."""
    if options.model == "hessian" and not objective.has_subsets:
        raise InputError('solver.model = "hessian": this problem\'s loss has no Hessian products')


def describe_window(size: int) -> list[str]:
    """A nonmonotone acceptance, in a line; none for a monotone one."""
    return [f"nonmonotone: rho by the greatest of {size} losses"] if size > 1 else []
