"""The released models of a problem: MLflow's registered model of its name, with two aliases.

`champion` is the released version, `previous` the one before it. The tag `replaces` of a version names the version that
was the champion before it (0: none). It is set before the alias `champion` moves, which is one step, so that a process
that is killed leaves a champion, and the next release or rollback can finish its work.

Two releases at once: on a local store one waits for the other's lock and then finds another champion than the one it
was compared with. A server has no lock for its clients. There the number of the new version decides, which the server
assigns one by one: of those that would replace the same champion the lowest wins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from unet_segmentation.errors import ReleaseError, TrackingError
from unet_segmentation.tracking.mlflow_client import LONGEST_VALUE
from unet_segmentation.tracking.settings import is_local

CHAMPION, PREVIOUS = "champion", "previous"  # aliases
REPLACES, RELEASED = "replaces", "released"  # tags of a version
LOCK_TIMEOUT = 60.0  # seconds for another release of this machine; it takes one or two
ABANDONED_AFTER = 60.0  # seconds after which an unreleased version on a server counts as one whose process is gone


class ConcurrentReleaseError(ReleaseError):
    """Another release came first."""


@dataclass(frozen=True)
class Version:
    """A version of a problem's registered model."""

    problem: str  # names the registered model
    number: int  # from 1
    run_id: str
    model_id: str  # of the logged model; empty for a version that was registered by hand from something else
    created: float  # seconds since 1970, by the store's clock
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"version {self.number} of {self.problem}"


class Registry:
    """The released models of one problem in one MLflow store; connects with the first question."""

    def __init__(self, uri: str, problem: str) -> None:
        mlflow.set_tracking_uri(uri)  # the SQL store looks logged models up in the global one
        self.problem = problem
        self._uri, self._client = uri, mlflow.MlflowClient(uri, registry_uri=uri)

    def champion(self) -> Version | None:
        """Return the released version; None where there is none yet."""
        return self._aliased(CHAMPION)

    def previous(self) -> Version | None:
        """Return the version that was the champion before; None where there is none."""
        return self._aliased(PREVIOUS)

    def promote(self, model_id: str, run_id: str, *, expected: int, tags: Mapping[str, str]) -> Version:
        """Make a logged model the champion, and the champion the previous one.

        The number of the version that it was compared with is expected to be the champion's; 0: there is none.

        Raises:
            ConcurrentReleaseError: there is another champion by now, or another release is about to replace it.
        """
        with self._lock():
            self._ensure_model()
            self._finish_interrupted()
            self._check_champion(expected)
            tags = {name: value[:LONGEST_VALUE] for name, value in tags.items()} | {REPLACES: str(expected)}
            source = f"models:/{model_id}"
            version = _version(
                self._client.create_model_version(self.problem, source, run_id=run_id, tags=tags, model_id=model_id)
            )
            try:
                self._check_first(version, expected)
                self._check_champion(expected)
            except ConcurrentReleaseError:
                self._client.delete_model_version(self.problem, str(version.number))
                raise
            self._move(version, expected)
            self._client.set_model_version_tag(self.problem, str(version.number), RELEASED, _now())
        return version

    def describe(self, version: Version, text: str) -> None:
        """Set what MLflow shows as the description of a version (Markdown)."""
        self._client.update_model_version(self.problem, str(version.number), text[:LONGEST_VALUE])

    def roll_back(self, user: str, why: str | None) -> tuple[Version, Version]:
        """Swap the champion and the previous version; log who asked for it, and why. Return both, as they are now.

        Raises:
            ReleaseError: there is no previous version.
            ConcurrentReleaseError: a release came in between.
        """
        with self._lock():
            self._finish_interrupted()
            champion, previous = self.champion(), self.previous()
            if champion is None:
                raise ReleaseError(f"No model of {self.problem} was released yet: there is nothing to roll back.")
            if previous is None or previous.number == champion.number:
                raise ReleaseError(f"{champion}, the champion, is the first: there is no version to go back to.")
            self._client.set_model_version_tag(self.problem, str(previous.number), REPLACES, str(champion.number))
            self._check_champion(champion.number)
            self._move(previous, champion.number)
            note = f"{_now()} by {user}" + (f": {why}" if why else "")
            self._client.set_model_version_tag(self.problem, str(champion.number), "rolled_back", note[:LONGEST_VALUE])
        return previous, champion

    # -- steps

    def _aliased(self, alias: str) -> Version | None:
        try:
            version = self._client.get_model_version_by_alias(self.problem, alias)
        except MlflowException as error:
            # RESOURCE_DOES_NOT_EXIST: no such model. INVALID_PARAMETER_VALUE: it has no such alias.
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise
        return _version(version)

    def _ensure_model(self) -> None:
        try:
            self._client.create_registered_model(self.problem, tags={"problem": self.problem})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _finish_interrupted(self) -> None:
        """Finish a release or rollback that was killed after the alias `champion` had moved."""
        champion, previous = self.champion(), self.previous()
        replaced = int(champion.tags.get(REPLACES, 0)) if champion else 0
        half_done = replaced and (previous is None or previous.number != replaced)
        if half_done and any(version.number == replaced for version in self._versions()):
            self._client.set_registered_model_alias(self.problem, PREVIOUS, str(replaced))

    def _versions(self) -> list[Version]:
        return [_version(version) for version in self._client.search_model_versions(f"name = '{self.problem}'")]

    def _check_champion(self, expected: int) -> None:
        champion = self.champion()
        if (champion.number if champion else 0) != expected:
            now = f"{champion} is the champion" if champion else f"{self.problem} has no champion any more"
            compared = f"version {expected}" if expected else "no champion at all"
            raise ConcurrentReleaseError(
                f"another release came first: {now} since, and this run was compared with {compared}. Release it "
                "again: it is then compared with the new champion"
            )

    def _check_first(self, version: Version, expected: int) -> None:
        """Check on a server that no version with a lower number is about to replace the same champion."""
        if is_local(self._uri):
            return
        for other in self._versions():
            unreleased = other.tags.get(REPLACES) == str(expected) and RELEASED not in other.tags
            if unreleased and other.number < version.number and version.created - other.created < ABANDONED_AFTER:
                raise ConcurrentReleaseError(
                    f"another release came first: {other} is about to become the champion. Release this run again: it "
                    "is then compared with the new champion"
                )

    def _move(self, version: Version, replaced: int) -> None:
        """Move the aliases, that of the champion first."""
        self._client.set_registered_model_alias(self.problem, CHAMPION, str(version.number))
        if replaced:
            self._client.set_registered_model_alias(self.problem, PREVIOUS, str(replaced))
        champion = self.champion()
        if champion is None or champion.number != version.number:
            raise ConcurrentReleaseError(
                f"{version} was made the champion, and at the same moment another release or rollback made it "
                f"{champion or 'none'}"
            )

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Exclude other processes of this machine from a local store during a release."""
        if not is_local(self._uri):
            yield
            return
        database = Path(self._uri.removeprefix("sqlite:///"))
        try:
            with FileLock(database.with_name(f"{database.name}.release.lock"), timeout=LOCK_TIMEOUT):
                yield
        except Timeout:
            raise TrackingError(
                f"Another release has been at work in {database} for {LOCK_TIMEOUT:.0f} s. Wait for it, and release "
                "again."
            ) from None


def find_model(uri: str, run_id: str) -> str:
    """Return the id of the model, of the latest epoch, that a run has logged; raise ReleaseError if it has none."""
    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    run = client.get_run(run_id)
    logged = sorted(run.outputs.model_outputs if run.outputs else [], key=lambda output: output.step, reverse=True)
    for output in logged:
        if client.get_logged_model(output.model_id).status == "READY":
            return output.model_id
    raise ReleaseError(
        f"The run {run.info.run_name} ({run_id}) has no model in MLflow. Where its server was away, send what is left "
        "(kedro mlflow sync); else log it: kedro run --pipelines evaluation"
    )


def _version(version: ModelVersion) -> Version:
    model_id = getattr(version, "model_id", None) or ""
    if not model_id and str(version.source).startswith("models:/m-"):
        model_id = str(version.source).removeprefix("models:/")
    return Version(
        problem=version.name,
        number=int(version.version),
        run_id=version.run_id or "",
        model_id=model_id,
        created=version.creation_timestamp / 1000,
        tags=dict(version.tags),
    )


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
