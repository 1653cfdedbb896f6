"""The project's errors: mistakes that a user can mend, shown as one message and never as a traceback."""

from __future__ import annotations

from collections.abc import Iterator


class ProjectError(Exception):
    """Something the user can mend. The message names the file or key, what is wrong and the way out."""


class ConfigurationError(ProjectError):
    """A parameter, an environment or a name in the configuration is wrong."""


class SourceError(ProjectError):
    """An archive cannot be had, is not what it should be, or holds something it must not."""


class DataError(ProjectError):
    """The images or masks are not what the configuration declares."""


class ResourceError(ProjectError):
    """The machine lacks something: disk, memory, a device."""


class TrackingError(ProjectError):
    """The MLflow store cannot be reached or refuses what it is given."""


class ReleaseError(ProjectError):
    """A model was not released, or a release not taken back. The message says why."""


def iter_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything it was raised from, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def find_project_error(error: BaseException) -> ProjectError | None:
    """Find the project's error inside whatever a library wrapped around it (Kedro's ``DatasetError``, say)."""
    return next((cause for cause in iter_causes(error) if isinstance(cause, ProjectError)), None)
