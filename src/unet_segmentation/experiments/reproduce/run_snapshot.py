"""What is needed to reproduce a run, as MLflow holds it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_segmentation.errors import TrackingError
from unet_segmentation.tracking.run_metadata import TOO_LARGE
from unet_segmentation.tracking.run_queries import RunRecord, fetch, load_parameters

NEW_FILE = "# not in the repository: "  # starts a line of the difference that names a new file


@dataclass(frozen=True)
class RunSnapshot:
    """Everything of a run but its result."""

    run: RunRecord
    parameters: dict[str, Any]  # all of them, nested
    commit: str  # of the code
    difference: bytes | None  # what was not committed, for `git apply`; None where everything was
    lock: bytes | None  # the lock file; None where the run logged none
    plan: dict[str, Any]  # as the run's version of the code wrote it: what `auto` was resolved to

    @property
    def lost_files(self) -> list[str]:
        """New files that were not committed, and of which the difference has only the names."""
        lines = (self.difference or b"").decode(errors="replace").splitlines()
        names = [line.removeprefix(NEW_FILE) for line in lines if line.startswith(NEW_FILE)]
        return [name for name in names if not name.startswith(("src/", f"conf/{self.run.problem}/"))]


def load_snapshot(uri: str, run: RunRecord) -> RunSnapshot:
    """Load what is needed to reproduce a run; raise TrackingError where it cannot be reproduced, and say why."""
    if run.status != "FINISHED":
        raise _refused(run, f"it did not finish ({run.status})")
    if added := run.tags.get("training.extra_epochs"):
        raise _refused(run, f"its training was extended after its end ({added} more epochs)")
    commit = run.tags.get("git.commit")
    if not commit:
        raise _refused(run, "it was not made in a git repository, so that its code is unknown")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        difference = _read_artifact(uri, run, "code/uncommitted.diff", folder)
        if run.tags.get("git.dirty") == "true" and difference is None:
            raise _refused(run, "its code was not committed, and the difference was not logged")
        if difference is not None and f"# {TOO_LARGE}".encode() in difference:
            raise _refused(run, f"its code was not committed, and {TOO_LARGE}")
        plan = _read_artifact(uri, run, "training/plan.json", folder)
        if plan is None:
            raise _refused(run, f"it trained no model (pipelines: {run.tags.get('pipelines', 'unknown')})")
        lock = _read_artifact(uri, run, "code/requirements.lock", folder)
    return RunSnapshot(
        run=run,
        parameters=load_parameters(uri, run.run_id),
        commit=commit,
        difference=difference,
        lock=lock,
        plan=json.loads(plan),
    )


def _read_artifact(uri: str, run: RunRecord, artifact: str, folder: Path) -> bytes | None:
    try:
        return fetch(uri, run.run_id, artifact, folder).read_bytes()
    except TrackingError:
        return None


def _refused(run: RunRecord, reason: str) -> TrackingError:
    return TrackingError(f"The run {run} cannot be reproduced: {reason}.")
