"""HTTP server and MLflow pyfunc model."""
