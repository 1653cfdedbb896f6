"""The base of every pydantic model here."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A model that refuses unknown keys and cannot be changed once it is built."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
