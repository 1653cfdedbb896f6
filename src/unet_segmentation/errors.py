"""The project's errors: mistakes that the user can fix, shown as one message and never as a traceback."""

from __future__ import annotations

from collections.abc import Iterator

# Packages that only some commands import, and the extra of pyproject.toml that installs each.
EXTRAS = {
    "fastapi": "serving",
    "gcsfs": "gcs",
    "kedro_viz": "viz",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "optuna": "search",
    "rasterio": "geo",
    "s3fs": "s3",
    "starlette": "serving",
    "uvicorn": "serving",
}


class ProjectError(Exception):
    """Something that the user can fix. The message names the file or key, what is wrong and what helps."""


class ConfigurationError(ProjectError):
    """A parameter, an environment or a name in the configuration is wrong."""


class SourceError(ProjectError):
    """An archive cannot be downloaded, is damaged, or contains something that it must not."""


class DataError(ProjectError):
    """The images or masks are not what the configuration declares."""


class ResourceError(ProjectError):
    """The machine lacks something: disk, memory, a device."""


class TrackingError(ProjectError):
    """The MLflow server or store cannot be reached, or refuses a request."""


class ReleaseError(ProjectError):
    """A model was not released or not rolled back. The message says why."""


def iter_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and everything it was raised from, outermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def find_project_error(error: BaseException) -> ProjectError | None:
    """Return the project's error, or a missing optional package, in what a library wrapped around it."""
    for cause in iter_causes(error):
        if isinstance(cause, ProjectError):
            return cause
        if isinstance(cause, ModuleNotFoundError) and (extra := EXTRAS.get((cause.name or "").partition(".")[0])):
            return ConfigurationError(
                f"The package {cause.name} is not installed; it belongs to the extra {extra!r}. "
                f"Install it with: pip install 'unet-segmentation[{extra}]'"
            )
    return None
