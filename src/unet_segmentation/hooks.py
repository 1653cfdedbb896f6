"""Kedro hooks: what happens around a run. Heavy imports stay inside the methods."""


class TrackingHooks:
    """Placeholder until tracking lands."""


class ConsoleHooks:
    """Placeholder until tracking lands."""
