"""A run's folder: its own, whole or absent, and never another run's."""

import threading
from datetime import datetime

import pytest

from ppl_vae import InputError
from ppl_vae.cli import report


@pytest.fixture
def frozen(monkeypatch, tmp_path):
    """An empty folder in which the clock stands still."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 1, 12)

    monkeypatch.setattr(report, "datetime", Frozen)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_that_start_in_the_same_second_are_all_kept(frozen):
    started = threading.Barrier(4)
    folders = []

    def run(number):
        folder = report.new_run(None, "train-digits")
        started.wait()
        with report.whole_folder(folder) as place:
            (place / "result.json").write_text(str(number))
        folders.append(folder)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 4
    assert {(folder / "result.json").read_text() for folder in folders} == {"0", "1", "2", "3"}
    assert all(folder.name.startswith("train-digits-20260101-120000-") for folder in folders)
    assert len(list((frozen / "runs").iterdir())) == 4  # no partial folder is left


def test_a_run_whose_folder_was_filled_meanwhile_is_kept_beside_it(tmp_path):
    folder = report.new_run(tmp_path / "a", "")
    folder.mkdir()
    (folder / "other").write_text("kept")
    with pytest.raises(InputError, match=r"a was filled by something else .*, which is in .*a-\w{6} instead"):  # noqa: SIM117
        with report.whole_folder(folder) as place:
            (place / "result.json").write_text("ours")
    assert (folder / "other").read_text() == "kept"
    assert [path.read_text() for path in tmp_path.glob("a-*/result.json")] == ["ours"]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "a").mkdir()
    with report.whole_folder(report.new_run(tmp_path / "a", "")) as place:
        (place / "result.json").write_text("ours")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "result.json").read_text() == "ours"


@pytest.mark.parametrize("reason", ["file", "rights"])
def test_a_folder_that_cant_be_written_is_told_at_the_start(tmp_path, monkeypatch, reason):
    folder = tmp_path / "deep" / "er"
    if reason == "file":
        (tmp_path / "deep").write_text("a file")
    else:
        monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match=r"er can't be written \(.* is no folder to write in\): name another folder"):
        report.new_run(folder, "")
