"""States on disk: whole or not there, checked before they are believed, and one process at a time."""

import json
import shutil
import signal
import subprocess
import sys
import warnings

import pytest
import torch

from entropic_rl import checkpoint
from entropic_rl.checkpoint import Clock, newest_checkpoint, remove_checkpoints, remove_newer, save_checkpoint
from entropic_rl.errors import RunDirectoryError
from entropic_rl.run_directory import check_run_directory, locked
from entropic_rl.snapshots import difference, take


class Holder:
    """Whatever attributes a test needs."""

    def __init__(self, **parts):
        vars(self).update(parts)


def state(value=1.0):
    return take({"it": Holder(x=torch.full((2, 3), value), n=value, empty=torch.empty(0), flag=torch.tensor([True]))})


def save(directory, *steps):
    for step in steps:
        save_checkpoint(directory, step, state(float(step)), {"offsets": [step]})


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_state_and_notes_come_back_bit_for_bit(tmp_path):
    save(tmp_path, 5)
    step, snapshot, notes = newest_checkpoint(tmp_path)
    assert (step, notes) == (5, {"offsets": [5]})
    assert difference(snapshot, state(5.0)) is None


def test_every_kind_of_number_comes_back(tmp_path):
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)
    it = Holder(**{str(kind): torch.tensor([0, 1, 1], dtype=kind) for kind in kinds}, nan=float("nan"), huge=2**200)
    save_checkpoint(tmp_path, 1, take({"it": it}), {})
    assert difference(newest_checkpoint(tmp_path)[1], take({"it": it})) is None


def test_views_of_one_storage_are_saved(tmp_path):
    whole = torch.arange(6.0)
    it = Holder(whole=whole, part=whole[2:4], turned=whole.view(2, 3).T)
    save_checkpoint(tmp_path, 1, take({"it": it}, copy=False), {})
    assert difference(newest_checkpoint(tmp_path)[1], take({"it": it})) is None


def test_nothing_there_is_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "nowhere") is None


def test_two_are_kept_and_nothing_else_is_left(tmp_path):
    save(tmp_path, 1, 2, 3, 10)
    assert names(tmp_path) == [f"{3:015d}", f"{10:015d}"]
    save_checkpoint(tmp_path, 11, state(), {}, kept=1)
    assert names(tmp_path) == [f"{11:015d}"]
    remove_checkpoints(tmp_path)
    assert not tmp_path.exists()


def test_what_a_killed_attempt_left_is_not_believed_and_goes_away(tmp_path):
    save(tmp_path, 1)
    shutil.copytree(tmp_path / f"{1:015d}", tmp_path / f"{2:015d}.tmp")
    assert newest_checkpoint(tmp_path)[0] == 1
    save(tmp_path, 2)
    assert names(tmp_path) == [f"{1:015d}", f"{2:015d}"]


@pytest.mark.parametrize("name", ["tensors.safetensors", "tree.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damaged_one_is_passed_over_with_a_warning(tmp_path, name, damage):
    save(tmp_path, 1, 2)
    file = tmp_path / f"{2:015d}" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    changed = {"flip": content, "cut": content[:-1], "empty": b""}
    file.write_bytes(changed[damage]) if damage in changed else file.unlink()
    with pytest.warns(UserWarning, match=r"0002 is damaged and was passed over \(.+\)"):
        step, snapshot, _ = newest_checkpoint(tmp_path)
    assert step == 1
    assert difference(snapshot, state(1.0)) is None


def test_none_sound_is_none_with_a_warning_each(tmp_path):
    save(tmp_path, 1, 2)
    for folder in tmp_path.iterdir():
        (folder / "tree.json").write_text("[]")
    with pytest.warns(UserWarning, match="passed over") as said:
        assert newest_checkpoint(tmp_path) is None
    assert len(said) == 2


def test_futures_that_will_not_be_go(tmp_path):
    save(tmp_path, 1, 2, 13)
    remove_newer(tmp_path, 2)
    assert newest_checkpoint(tmp_path)[0] == 2
    remove_newer(tmp_path / "none", 2)


def test_damaged_one_is_written_anew(tmp_path):
    save(tmp_path, 1, 2)
    (tmp_path / f"{2:015d}" / "tree.json").unlink()
    save(tmp_path, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert newest_checkpoint(tmp_path)[0] == 2


def rewrite_manifest(folder, **changes):
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_later_format_is_refused(tmp_path):
    save(tmp_path, 1, 2)
    rewrite_manifest(tmp_path / f"{2:015d}", format=99)
    with pytest.raises(RunDirectoryError, match=r"format 99: expected at most 1; it needs a later version"):
        newest_checkpoint(tmp_path)


def test_older_formats_migrate_one_after_the_other(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def renamed(old, new):
        return lambda both: both | {"notes": {new: both["notes"][old]}}

    monkeypatch.setattr(checkpoint, "_FORMAT", 3)
    monkeypatch.setattr(checkpoint, "_MIGRATIONS", {1: renamed("offsets", "ends"), 2: renamed("ends", "places")})
    assert newest_checkpoint(tmp_path)[2] == {"places": [1]}


@pytest.mark.parametrize("call", ["mkdir", "replace", "fsync"])
def test_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch, call):
    save(tmp_path, 1, 2)

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(f"os.{call}", refuse)
        with pytest.raises(RunDirectoryError, match=r"\(No space left on device\); make room"):
            save(tmp_path, 3)
    assert names(tmp_path) == [f"{1:015d}", f"{2:015d}"]
    assert newest_checkpoint(tmp_path)[0] == 2


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path):
    save(tmp_path, 1)
    assert names(tmp_path / f"{1:015d}") == ["manifest.json", "tensors.safetensors", "tree.json"]


def test_lock_keeps_a_second_process_out_and_dies_with_its_own(tmp_path):
    code = (
        "import sys; from pathlib import Path; from entropic_rl.run_directory import locked\n"
        "with locked(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    run_dir = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        with pytest.raises(RunDirectoryError, match="another process is at work in"), locked(run_dir):
            pass
        other.send_signal(signal.SIGKILL)
    check_run_directory(run_dir)  # what is left of it is no record
    with locked(run_dir):
        (run_dir / "record").touch()
    assert (run_dir / "record").exists()


def test_lock_leaves_no_directory_into_which_nothing_came(tmp_path):
    with locked(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_run_killed_before_its_settings_were_written_leaves_an_empty_directory(tmp_path):
    (tmp_path / "config.json.tmp").write_text("{")
    check_run_directory(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunDirectoryError, match="is not empty"):
        check_run_directory(tmp_path)


def test_sound_checkpoint_of_the_same_step_stays_and_a_damaged_one_is_replaced(tmp_path):
    save_checkpoint(tmp_path, 1, state(1.0), {})
    save_checkpoint(tmp_path, 1, state(2.0), {})
    first = newest_checkpoint(tmp_path)
    assert first is not None
    tensors = tmp_path / f"{1:015d}" / "tensors.safetensors"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1])
    save_checkpoint(tmp_path, 1, state(1.0), {})
    assert tensors.read_bytes() == whole


def test_clock_leaves_fifty_times_as_long_for_work_as_writing_took(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock, never = Clock(10.0), Clock(0.0)
    due = []
    for second in (9.9, 10.0, 400.0):
        now[0] = second
        due.append((clock.is_due(), never.is_due()))
    with clock.writing():
        now[0] += 1.0  # takes a second
    for waited in (10.0, 49.9, 50.0):
        now[0] = 401.0 + waited
        due.append((clock.is_due(), never.is_due()))
    assert due == [(False, False), (True, False), (True, False), (False, False), (False, False), (True, False)]
