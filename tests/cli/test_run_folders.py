"""A run's folder: its own, never another run's; what fails leaves nothing, what is cut off can go on."""

import json
import os
import threading

import pytest

from ppl_vae import InputError
from ppl_vae.errors import Outage
from ppl_vae.runs.folder import RECORD, Interrupted, begun, going_on, read_record
from ppl_vae.runs.plain_json import write_json

OPTIONS = {"epochs": 3}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def keep_a_part(running):
    write_json(running.parts / "fit.json", [])


def test_runs_that_start_in_the_same_second_are_all_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    started = threading.Barrier(4)

    def run(number):
        started.wait()
        with begun(None, "train-digits", "train", OPTIONS) as running:
            write_json(running.path / "result.json", number)
            running.finish()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folders = list((tmp_path / "runs").iterdir())
    assert {json.loads((folder / "result.json").read_text()) for folder in folders} == {0, 1, 2, 3}
    assert all(names(folder) == ["result.json", RECORD] for folder in folders)


def test_of_two_runs_in_one_folder_the_second_is_refused(tmp_path):
    with begun(tmp_path / "a", "", "train", OPTIONS):
        with pytest.raises(InputError, match="a is there already and not empty: name another folder by --run"):  # noqa: SIM117
            with begun(tmp_path / "a", "", "compare", OPTIONS):
                pass
        with pytest.raises(InputError, match=r"run.json is in use by another run \(process \d+\): wait until it ends"):  # noqa: SIM117
            with begun(tmp_path / "a", "", "train", OPTIONS):
                pass
        assert read_record(tmp_path / "a")["finished"] is False


@pytest.mark.parametrize("error", [InputError("no"), KeyboardInterrupt(), RuntimeError("no")])
def test_a_run_that_fails_leaves_nothing(tmp_path, error):
    (tmp_path / "empty").mkdir()

    def fail(folder):
        with begun(folder, "", "train", OPTIONS) as running:
            write_json(running.path / "result.json", 1)
            raise error

    for folder in (tmp_path / "deep" / "a", tmp_path / "empty"):
        with pytest.raises(type(error)):
            fail(folder)
    assert names(tmp_path) == ["empty"]
    assert not names(tmp_path / "empty")


def test_a_run_that_was_stopped_says_how_it_goes_on(tmp_path):
    folder = tmp_path / "a"

    def stop():
        with begun(folder, "", "train", OPTIONS) as running:
            keep_a_part(running)
            raise KeyboardInterrupt(15)

    with pytest.raises(Interrupted, match=r"stopped; `ppl-vae train --resume .*/a` goes on") as caught:
        stop()
    assert caught.value.args[1] == 15
    with going_on(folder, "train", {"epochs": 6}) as running:
        assert names(running.parts) == ["fit.json"]
        running.finish(kind="images")
    assert names(folder) == [RECORD]
    record = read_record(folder)
    assert (record["finished"], record["options"], record["kind"]) == (True, {"epochs": 6}, "images")


def test_a_script_goes_on_by_the_same_command(tmp_path):
    def stop():
        with begun(tmp_path / "a", "", "examples/a.py", OPTIONS) as running:
            keep_a_part(running)
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(Interrupted, match=r"stopped; `examples/a.py --run .*/a` goes on"):
            stop()
    with begun(tmp_path / "a", "", "examples/a.py", OPTIONS) as running:
        running.finish()
    with pytest.raises(InputError, match="not empty"), begun(tmp_path / "a", "", "examples/a.py", OPTIONS):
        pass


def test_a_full_disk_keeps_what_was_done(tmp_path):
    def fail(keeps):
        with begun(tmp_path / "a", "", "compare", OPTIONS) as running:
            if keeps:
                keep_a_part(running)
            raise Outage("the disk is full: make room")

    with pytest.raises(Outage, match=r"^the disk is full: make room$"):
        fail(keeps=False)
    assert not names(tmp_path)
    with pytest.raises(Outage, match=r"the disk is full: make room; `ppl-vae compare --resume .*/a` goes on"):
        fail(keeps=True)
    assert names(tmp_path / "a") == ["parts", RECORD]


def test_a_failure_of_a_longer_training_leaves_the_run_finished(tmp_path):
    with begun(tmp_path / "a", "", "train", OPTIONS) as running:
        running.finish(kind="images")
    before = (tmp_path / "a" / RECORD).read_bytes()
    with pytest.raises(InputError, match=r"^no$"), going_on(tmp_path / "a", "train", {"epochs": 9}):
        raise InputError("no")
    assert (tmp_path / "a" / RECORD).read_bytes() == before


def test_the_folder_at_hand_is_taken(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    with begun(Path("."), "", "train", OPTIONS) as running:
        running.finish()
    assert names(tmp_path) == [RECORD]


@pytest.mark.parametrize("name", ["file/er", "x" * 300])
def test_a_folder_that_cant_be_written_is_told_at_the_start(tmp_path, name):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(InputError, match=r"can't be written \(.*\): name another folder by --run"):  # noqa: SIM117
        with begun(tmp_path / name, "", "train", OPTIONS):
            pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "can't be read"),
        (b"[]", "another version"),
        (b'{"format": 1', "can't be read"),
        (b"\xff\xfe", "can't be read"),
        (b"[" * 100_000, "can't be read"),
        (b'{"format": 1, "finished": true}', "changed or damaged"),
    ],
)
def test_a_damaged_record_gets_one_line(tmp_path, content, words):
    (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_record(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_any_changed_letter_of_a_record_is_seen(tmp_path):
    with begun(tmp_path / "a", "", "train", OPTIONS) as running:
        running.finish(kind="images")
    place = tmp_path / "a" / RECORD
    whole = place.read_bytes()
    for index in range(0, len(whole), 7):
        place.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        with pytest.raises(InputError, match=r"can't be read|another version"):
            read_record(tmp_path / "a")
    os.remove(place)
    with pytest.raises(InputError, match=r"a has no run\.json"):
        read_record(tmp_path / "a")
