"""The gate between a trained model and the released one: plain rules on tables and figures. No MLflow, no network."""
