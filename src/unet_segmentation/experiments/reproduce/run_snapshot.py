"""What MLflow holds of a run that it takes to make it again."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking.run_metadata import TOO_LARGE
from unet_segmentation.tracking.run_queries import RunRecord, fetch, parameters_of

NOT_KEPT = "# not in the repository: "  # a line of the difference that names a new file


@dataclass(frozen=True)
class RunSnapshot:
    """Everything of a run but its result.

    Attributes:
        run: the run.
        parameters: all of them, nested, as they were given.
        commit: of the code.
        difference: what was not committed, for `git apply`; None where everything was.
        lock: the lock file; None where the run logged none.
        plan: of its training: what `auto` had been resolved to.
    """

    run: RunRecord
    parameters: dict[str, Any]
    commit: str
    difference: bytes | None
    lock: bytes | None
    plan: dict[str, Any]

    @property
    def not_kept(self) -> list[str]:
        """New files that were not committed and are not in the difference either, but by name."""
        lines = (self.difference or b"").decode(errors="replace").splitlines()
        names = [line.removeprefix(NOT_KEPT) for line in lines if line.startswith(NOT_KEPT)]
        return [name for name in names if not name.startswith(("src/", f"conf/{self.run.problem}/"))]


def load_snapshot(uri: str, run: RunRecord) -> RunSnapshot:
    """Read what it takes to make a run again.

    Args:
        uri: MLflow's store.
        run: the run.

    Raises:
        TrackingError: it cannot be made again; says why.
    """
    if run.status != "FINISHED":
        raise _refused(run, f"it did not come to its end ({run.status})")
    if added := run.tags.get("training.extra_epochs"):
        raise _refused(run, f"its training was gone on with after its end ({added} more epochs)")
    commit = run.tags.get("git.commit")
    if not commit:
        raise _refused(run, "it was not made from a git repository, so that its code is not known")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        difference = _bytes_of(uri, run, "code/uncommitted.diff", folder)
        if run.tags.get("git.dirty") == "true" and difference is None:
            raise _refused(run, "its code was not committed, and the difference was not logged")
        if difference is not None and f"# {TOO_LARGE}".encode() in difference:
            raise _refused(run, f"its code was not committed, and {TOO_LARGE}")
        plan = _bytes_of(uri, run, "training/plan.json", folder)
        if plan is None:
            raise _refused(run, f"it trained no network (pipelines: {run.tags.get('pipelines', 'not known')})")
        lock = _bytes_of(uri, run, "code/requirements.lock", folder)
    return RunSnapshot(
        run=run,
        parameters=parameters_of(uri, run.run_id),
        commit=commit,
        difference=difference,
        lock=lock,
        plan=json.loads(plan),
    )


def _bytes_of(uri: str, run: RunRecord, artifact: str, folder: Path) -> bytes | None:
    try:
        return fetch(uri, run.run_id, artifact, folder).read_bytes()
    except TrackingError:
        return None


def _refused(run: RunRecord, reason: str) -> TrackingError:
    return TrackingError(f"The run {run} cannot be made again: {reason}.")
