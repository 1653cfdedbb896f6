"""Making a run again from what MLflow holds of it, and saying whether the result is the same."""
