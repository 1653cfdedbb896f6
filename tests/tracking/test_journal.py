"""The journal on the disk, as a process leaves it that is killed at a bad moment."""

from __future__ import annotations

import os
import shutil
import signal

import pytest

from tests.tracking.runs import (
    begin,
    begin_training,
    client_of,
    finish,
    in_a_killed_process,
    killed_training,
    runs_of,
    steps_of,
    train,
)
from unet_segmentation.tracking import journal as journal_module
from unet_segmentation.tracking.journal import FOLDER, Journal, RunHeader
from unet_segmentation.tracking.uploader import upload_pending

HEADER = RunHeader(uri="", experiment="e", run_name="r", started=0.0)


@pytest.mark.parametrize("torn", [b'{"name": "log_metrics", "time": 1.0, "argu', '{"name": "set_ö'.encode()[:-1]])
def test_a_line_that_was_being_written_is_skipped(root, torn):
    first = killed_training(root, "said")
    (journal,) = Journal.find_all(root)
    operations = journal.folder / "operations.jsonl"
    with operations.open("ab") as stream:
        stream.write(torn)
    names = [operation.name for operation, _ in journal.pending()]
    assert names[-1] == "log_metrics"
    run, claim = begin_training(root)
    run.decide_resumption(True)
    train(run, 1, 6)
    assert finish(run, claim).message is None
    (stored,) = runs_of(client_of(root))
    assert (stored.info.run_id, stored.info.status) == (first, "FINISHED")
    assert steps_of(client_of(root), first) == dict.fromkeys(range(1, 7), 1)
    assert not (root / FOLDER).exists()


def test_what_follows_a_torn_line_is_read(root):
    journal = Journal.create(root, HEADER)
    journal.append("set_tags", arguments={"values": {"a": "1"}})
    with (journal.folder / "operations.jsonl").open("ab") as stream:
        stream.write(b'{"name": "set_tags", "ti')
    (before,) = journal.pending()
    journal.mark_sent([before[0]], before[1])
    assert list(journal.pending()) == []
    Journal(journal.folder).append("close", arguments={"status": "KILLED"})  # as the process that sends the rest
    (after,) = journal.pending()
    assert after[0].name == "close"
    assert after[1] == (journal.folder / "operations.jsonl").stat().st_size


@pytest.mark.parametrize("first_gone", ["header.json", "state.json"])
def test_a_process_killed_while_it_removes_a_journal_leaves_none(root, monkeypatch, first_gone):
    remove = shutil.rmtree

    def partly(folder, **options):
        if not (folder / "header.json").is_file():  # it is the folder of a file that was sent
            return remove(folder, **options)
        for file in sorted(folder.iterdir(), key=lambda file: file.name != first_gone)[:1]:
            file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        run = begin(root)
        run.log_metrics({"train/loss": 0.5}, step=3)
        monkeypatch.setattr(journal_module.shutil, "rmtree", partly)
        run.finish("FINISHED")

    in_a_killed_process(work)
    assert list((root / FOLDER).iterdir())
    assert upload_pending(root) == (0, 0), "the end of the run was sent"
    (stored,) = runs_of(client_of(root))
    assert stored.info.status == "FINISHED"
    assert steps_of(client_of(root), stored.info.run_id) == {3: 1}
    assert not (root / FOLDER).exists()


def test_journals_of_one_second_are_sent_in_their_order(root):
    journals = [Journal.create(root, HEADER).folder for _ in range(20)]
    assert [journal.folder for journal in Journal.find_all(root)] == journals
    shutil.rmtree(root / FOLDER)


def test_nothing_follows_the_end_of_a_run(root):
    journal = Journal.create(root, HEADER)
    for nested, name in (("a", "close"), ("a", "set_tags"), ("b", "set_tags"), (None, "close"), ("b", "set_tags")):
        journal.append(name, nested=nested, arguments={})
    journal.append("set_tags", arguments={})
    names = [(operation.nested, operation.name) for operation, _ in journal.pending()]
    assert names == [("a", "close"), ("b", "set_tags"), (None, "close")]
    journal.remove()
