"""Many runs on the same data."""
