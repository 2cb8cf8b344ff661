"""The base of every group of settings in a job file: typed, closed, frozen."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """A group of settings: unknown keys and wrong types are errors, values cannot change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
