"""Verbs of classifiers that were stopped or killed go on with the same bits, and refuse what they cannot go on with."""

import json
import os
import re
import shutil
import signal

import pytest

import entropic_rl.checkpoint
from entropic_rl import kept_parts
from entropic_rl.cli import main
from entropic_rl.supervised.fitting import Fitting

WINE = "--data wine --seeds 2 --n-epochs 6 --net-arch 8 --no-progress"
VERBS = {
    "calibrate": f"{WINE} --ent-coef 0 0.5 --early-stopping",
    "robustness": f"{WINE} --ent-coef 0 --adversarial 0.1 --eps 0 0.1 0.2 --n-steps 3 --n-queries 3 --n-restarts 1",
    "study": f"pruning {WINE} --values 50 90 --fine-tuning 2",
    "active-learning": f"{WINE} --strategies margin --initial 12 --batch 8 --budget 36",
}
SAVED = {"calibrate": 1, "robustness": 3, "study": 2, "active-learning": 2}  # parts that a second life lasts for
_WALL_CLOCK = r'"seconds(_training)?": [0-9.e-]+|[0-9.]+ s\b|(?<=in )[0-9.]+ s'


def run(verb, *words):
    return main([str(word) for word in words], verb=verb)


def outcome(out):
    """All files, but for what says how long it took; pictures come from the same numbers."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {
        str(path.relative_to(out)): re.sub(_WALL_CLOCK, "", path.read_text()).replace(str(out), "OUT") for path in files
    }


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """No pictures, which take seconds; checkpoints at every epoch where the clock is to ask for them."""
    for verb in ("calibrate", "robustness", "active"):
        monkeypatch.setattr(f"entropic_rl.{verb}.report.pictures", lambda *_: [])
    monkeypatch.setattr("entropic_rl.studies.sparse.drawn", lambda _: '<svg width="1pt" viewBox="0 0 1 1"></svg>')
    monkeypatch.setattr(entropic_rl.checkpoint, "_PATIENCE", 0)


class _KilledError(BaseException):
    pass


@pytest.fixture
def at_epoch(monkeypatch):
    """``at_epoch(n, do)``: what happens after so many epochs of all trainings together."""
    real, passed = Fitting.epoch, []

    def set_up(n, do):
        passed.clear()

        def epoch(fitting, *arguments):
            found = real(fitting, *arguments)
            passed.append(1)
            if len(passed) == n:
                do()
            return found

        monkeypatch.setattr(Fitting, "epoch", epoch)

    return set_up


def die_after(n, patch):
    """Die when so many parts have been kept."""
    real, saved = kept_parts.save_checkpoint, []

    def save(*arguments, **options):
        real(*arguments, **options)
        saved.append(1)
        if len(saved) == n:
            raise _KilledError

    patch.setattr(kept_parts, "save_checkpoint", save)


def terminated():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("verb", VERBS)
def test_asked_to_stop_and_killed_later_it_goes_on_with_the_same_bits(verb, at_epoch, tmp_path, capfd, monkeypatch):
    words = VERBS[verb].split()
    (tmp_path / "once").mkdir()
    monkeypatch.chdir(tmp_path / "once")
    assert run(verb, *words, "--out", "out") == 0
    (tmp_path / "twice").mkdir()
    monkeypatch.chdir(tmp_path / "twice")
    at_epoch(4 if verb == "calibrate" else 9, terminated)
    assert run(verb, *words, "--out", "out") == 75
    prog = f"{verb.replace('-', '_')}.py"
    assert f"{prog}: stopped by SIGTERM; go on with: {prog} --resume out\n" in capfd.readouterr().err
    with monkeypatch.context() as patch:
        die_after(SAVED[verb], patch)
        with pytest.raises(_KilledError):
            run(verb, "--resume", "out", "--no-progress")
    assert run(verb, "--resume", "out", "--no-progress") == 0
    assert outcome(tmp_path / "twice" / "out") == outcome(tmp_path / "once" / "out")


@pytest.fixture
def begun(at_epoch, tmp_path, monkeypatch):
    """``begun(verb)`` leaves ``out`` in a folder of its own, stopped on its way."""

    def begin(verb):
        monkeypatch.chdir(tmp_path)
        at_epoch(4, terminated)
        assert run(verb, *VERBS[verb].split(), "--out", "out") == 75
        return tmp_path / "out"

    return begin


def said(capfd):
    """The last line on the error stream."""
    return capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("verb", VERBS)
def test_directory_of_unfinished_work_takes_no_other(verb, begun, tmp_path, capfd):
    begun(verb)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert run(verb, *VERBS[verb].split(), "--out", "out") == 2
    assert "run directory out holds unfinished work, which --resume out goes on with: expected a new or empty" in said(
        capfd
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_interrupted_twice_it_stops_at_once_and_goes_on_from_what_there_is(at_epoch, tmp_path, monkeypatch):
    def interrupted_twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.chdir(tmp_path)
    words = VERBS["calibrate"].split()
    assert run("calibrate", *words, "--out", "once") == 0
    at_epoch(4, interrupted_twice)
    assert run("calibrate", *words, "--out", "out", "--checkpoint-seconds", "1e-9") == 130
    assert run("calibrate", "--resume=out", "--no-progress", "--checkpoint-seconds", "0") == 0
    numbers = [json.loads((tmp_path / name / "calibration.json").read_text()) for name in ("once", "out")]
    assert numbers[0]["groups"] == numbers[1]["groups"]


@pytest.mark.parametrize("last", [1, 3, 9])
def test_curve_of_a_classifier_of_scikit_learn_is_kept_when_it_is_whole(last, tmp_path, monkeypatch):
    from entropic_rl.active.learner import ActiveLearner

    real, passed = ActiveLearner.query, []

    def query(learner, n):
        passed.append(1)
        if len(passed) == last:
            raise _KilledError
        return real(learner, n)

    monkeypatch.chdir(tmp_path)
    words = f"{WINE} --strategies margin --model logistic-regression --initial 12 --batch 8 --budget 36".split()
    monkeypatch.setattr(ActiveLearner, "query", query)
    with pytest.raises(_KilledError):
        run("active-learning", *words, "--out", "out")
    monkeypatch.setattr(ActiveLearner, "query", real)
    assert len(list((tmp_path / "out").glob("checkpoints/*/*"))) == (last - 1) // 3  # queries of a curve
    assert run("active-learning", "--resume", "out", "--no-progress") == 0
    assert run("active-learning", *words, "--out", "once") == 0
    for name in ("curves.csv", "asked.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "once" / name).read_bytes()


def test_settings_of_a_file_are_those_of_the_beginning(at_epoch, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("n_epochs: 7\nlearning_rate: 0.02\n")
    words = [*WINE.replace("--n-epochs 6", "--config mine.yaml").split()]
    monkeypatch.chdir(tmp_path)
    assert run("calibrate", *words, "--out", "once") == 0
    at_epoch(4, terminated)
    assert run("calibrate", *words, "--out", "out") == 75
    (tmp_path / "mine.yaml").unlink()
    assert run("calibrate", "--resume", "out", "--no-progress") == 0
    one, other = ((tmp_path / name / "records.csv").read_bytes() for name in ("once", "out"))
    assert one == other
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert not (tmp_path / "out" / "unfinished.json").exists()


@pytest.mark.parametrize(
    ("words", "end"),
    {
        "alone": (["--resume"], "--resume: expected one argument"),
        "with a setting": (["--resume", "out", "--seeds", "3"], "only --checkpoint-seconds may stand"),
        "with a bad interval": (["--resume", "out", "--checkpoint-seconds", "-1"], "checkpoint_seconds: expected "),
        "nowhere": (["--resume", "nowhere"], "no unfinished.json in nowhere: expected a directory of"),
    }.values(),
)  # fmt: skip
def test_words_that_cannot_resume_are_refused_in_one_line(words, end, begun, capfd):
    begun("calibrate")
    assert run("calibrate", *words) == 2
    assert end in said(capfd)


@pytest.mark.parametrize(
    ("change", "end"),
    {
        "no JSON": (lambda _: "{", "cannot read out/unfinished.json"),
        "no object": (lambda _: "[]", "expected a JSON object, got a list"),
        "no words": (lambda own: json.dumps(own | {"words": [1]}), "is damaged: expected words and settings"),
        "no settings": (lambda own: json.dumps(own | {"settings": 3}), "is damaged: expected words and settings"),
        "another verb": (lambda own: json.dumps(own | {"verb": "study"}), "was begun by study: expected calibrate"),
        "other words": (lambda own: json.dumps(own | {"words": [*own["words"], "--seeds", "3"]}), "other data or se"),
        "another group": (lambda own: json.dumps(own | {"words": [*own["words"], "--wandb-group=x"]}), "other data or"),
        "other settings": (lambda own: json.dumps(own | {"settings": {}}), "other settings than these words give"),
        "unknown words": (lambda own: json.dumps(own | {"words": ["--what"]}), "unknown argument '--what'"),
    }.values(),
)  # fmt: skip
def test_beginning_that_is_damaged_or_of_others_is_refused(change, end, begun, capfd):
    path = begun("calibrate") / "unfinished.json"
    path.write_text(change(json.loads(path.read_text())))
    assert run("calibrate", "--resume", "out", "--no-progress") == 2
    assert end in said(capfd)
    assert path.exists()


def test_file_in_place_of_the_parts_is_refused_in_one_line(at_epoch, tmp_path, monkeypatch, capfd):
    (tmp_path / "mine.yaml").write_text("n_epochs: 7\n")
    monkeypatch.chdir(tmp_path)
    at_epoch(4, terminated)
    assert run("calibrate", *WINE.replace("--n-epochs 6", "--config mine.yaml").split(), "--out", "out") == 75
    shutil.rmtree("out/checkpoints")
    (tmp_path / "out" / "checkpoints").write_text("")
    assert run("calibrate", "--resume", "out", "--no-progress") == 2
    assert "out/checkpoints is a file: expected a folder" in said(capfd)


def test_data_that_changed_in_between_is_refused(at_epoch, tmp_path, monkeypatch, capfd):
    rows = [f"{(7 * i) % 11},{(5 * i) % 13},{'ab'[i % 2]}" for i in range(80)]
    (tmp_path / "mine.csv").write_text("\n".join(["x,y,label", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    words = [*WINE.replace("wine", "mine.csv --target label").split(), "--out", "out"]
    at_epoch(4, terminated)
    assert run("calibrate", *words) == 75
    (tmp_path / "mine.csv").write_text("\n".join(["x,y,label", "3,3,b", *rows[1:]]) + "\n")
    assert run("calibrate", "--resume", "out", "--no-progress") == 2
    assert "was made of other data or settings" in said(capfd)


def test_finished_work_is_not_gone_on_with(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run("study", "learning-rate", "--data", "one-weight", "--seeds", "2", "--no-progress", "--out", "out") == 0
    assert run("study", "--resume", "out") == 2
    assert "out is finished: expected unfinished work to go on with" in said(capfd)


def test_settings_that_training_refuses_leave_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run("calibrate", *VERBS["calibrate"].split(), "--learning-rate", "1e30", "--out", "out") == 2
    assert "the loss is not finite" in said(capfd)
    assert list(tmp_path.iterdir()) == []


def test_nobody_else_works_in_the_directory_meanwhile(begun, at_epoch, capfd):
    begun("calibrate")
    found = []
    at_epoch(1, lambda: found.append(run("calibrate", "--resume", "out", "--no-progress")))
    assert run("calibrate", "--resume", "out", "--no-progress") == 0
    assert found == [2]
    assert "another process is at work in out" in capfd.readouterr().err


def test_work_that_was_killed_before_it_began_begins_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for name in (".lock", "unfinished.json.tmp"):
        (tmp_path / "out" / name).write_text("{")
    assert run("calibrate", *VERBS["calibrate"].split(), "--out", "out") == 0
