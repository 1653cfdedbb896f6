"""What every parameter model shares."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A parameter model that refuses unknown keys and cannot be changed once it is built."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
