"""Parts of long work: left anywhere, found again, and the same bits; those of other work are refused."""

import shutil

import pytest
import torch

from entropic_rl.checkpoint import newest_checkpoint
from entropic_rl.errors import NotResumableError
from entropic_rl.interruption import Stopped
from entropic_rl.kept_parts import KeptParts
from entropic_rl.parts import ALONE
from entropic_rl.snapshots import Snapshot
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Fitting, Table
from entropic_rl.supervised.networks import Perceptrons
from entropic_rl.supervised.tasks import Classification

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
TABLE = Table(X, (X[:, 0] > 0).long() + (X[:, 1] > 0).long())
TRAIN, HELD_OUT = torch.arange(40).expand(3, -1), torch.arange(40, 60).expand(3, -1)
BASE = {"net_arch": (8,), "n_epochs": 4, "batch_size": 16, "dropout": 0.2, "batch_norm": True, "learning_rate": 0.05}
CASES = {
    "adam": {},
    "steered": {"ent_coef": "target:0.5"},
    "scheduled": {"ent_coef": "linear:1:0", "learning_rate": "cosine:0.05:0.001"},
    "sgd": {"optimizer": "sgd"},
    "rmsprop": {"optimizer": "rmsprop", "l1": 0.01},
    "lbfgs": {"optimizer": "lbfgs", "batch_size": None, "dropout": 0.0},
    "early stopping": {"early_stopping": True, "n_epochs": 6, "n_epochs_no_change": 2, "tol": 0.05},
    "diverging": {"optimizer": "sgd", "learning_rate": 1e30},
}


def kept(directory, *, settings="ours", every=0.0, stop=lambda: False, begin=lambda: None):
    return KeptParts(directory, settings=settings, every_seconds=every, should_stop=stop, begin=begin)


def fitted(parts, on_epoch=None, **changed):
    fit = FitConfig(**{**BASE, **changed})
    fitting = Fitting(Perceptrons.of(fit, 4, 3, [0, 1, 2]), Classification(), fit, [0, 1, 2], may_diverge=True)
    parts.fit(fitting, TABLE, TRAIN, HELD_OUT if fit.early_stopping else None, on_epoch)
    return fitting


def stopped_after(last, directory, **changed):
    """Stop after that many epochs."""
    passed = []
    with pytest.raises(Stopped):
        fitted(kept(directory, stop=lambda: len(passed) == last), lambda *_: passed.append(1), **changed)


def killed_in(last, directory, **changed):
    """Die in an epoch, with a checkpoint after each before it."""

    def after(epoch, _):
        if epoch == last:
            raise _KilledError

    with pytest.raises(_KilledError):
        fitted(kept(directory, every=1e-9), after, **changed)


def gone_on(directory, **changed):
    """The training, and the epochs that were left."""
    heard = []
    return fitted(kept(directory), lambda epoch, _: heard.append(epoch), **changed), heard


def outcome(fitting):
    history = {name: torch.stack(own) for name, own in fitting.history.items()}
    return fitting.network.state_dict() | history | {
        "n_epochs": fitting.n_epochs, "ent_coef": fitting.ent_coef, "diverged": fitting.diverged
    }  # fmt: skip


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor.nan_to_num(7.0), other[name].nan_to_num(7.0)), name


def same(found):
    return found


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("case", CASES)
def test_training_that_was_stopped_at_any_epoch_ends_with_the_same_bits(case, tmp_path):
    expected = outcome(fitted(ALONE, **CASES[case]))
    for last in range(1, len(expected["loss"]) + 1):
        stopped_after(last, tmp_path / str(last), **CASES[case])
        again, heard = gone_on(tmp_path / str(last), **CASES[case])
        assert heard == list(range(last + 1, len(expected["loss"]) + 1))
        assert_same(outcome(again), expected)


@pytest.mark.parametrize("last", [1, 3, 4])
def test_training_that_was_killed_goes_on_from_the_clock_s_last_checkpoint(last, tmp_path, monkeypatch):
    monkeypatch.setattr("entropic_rl.checkpoint._PATIENCE", 0)
    killed_in(last, tmp_path)
    again, heard = gone_on(tmp_path)
    assert heard[0] == last  # the epoch before was the last to be written down
    assert_same(outcome(again), outcome(fitted(ALONE)))


def test_training_goes_on_from_the_checkpoint_before_a_torn_one(tmp_path, monkeypatch):
    monkeypatch.setattr("entropic_rl.checkpoint._PATIENCE", 0)
    killed_in(4, tmp_path)
    before, newest = sorted((tmp_path / "00001").iterdir())
    assert [int(before.name), int(newest.name)] == [2, 3]
    (newest / "tensors.safetensors").write_bytes(b"torn")
    with pytest.warns(UserWarning, match="damaged and was passed over"):
        again, heard = gone_on(tmp_path)
    assert heard == [3, 4]
    assert_same(outcome(again), outcome(fitted(ALONE)))


def test_part_that_is_done_is_not_done_again(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return Snapshot({"score": 0.1 + 0.2, "none": float("nan")}, {"rows": torch.arange(3)})

    for n in (1, 2):
        parts = kept(tmp_path)
        first, second = parts.part(make, same, 1, "a"), parts.part(make, same, torch.ones(2))
        assert len(calls) == 2
        assert (first.tree["score"], str(second.tree["none"])) == (0.1 + 0.2, "nan")
        assert torch.equal(second.tensors["rows"], torch.arange(3))
        assert (parts.seconds_before > 0.0) is (n == 2)


@pytest.mark.parametrize(
    ("settings", "made_of"),
    [("theirs", (1, torch.ones(2))), ("ours", (2, torch.ones(2))), ("ours", (1, torch.zeros(2)))],
)
def test_parts_of_other_work_are_refused(settings, made_of, tmp_path):
    kept(tmp_path).part(Snapshot, same, 1, torch.ones(2))
    with pytest.raises(NotResumableError, match="00001 was made of other data or settings"):
        kept(tmp_path, settings=settings).part(Snapshot, same, *made_of)


def test_training_on_other_rows_is_refused(tmp_path, monkeypatch):
    fitted(kept(tmp_path))
    changed = X.clone()
    changed[7, 2] += 1e-6
    monkeypatch.setattr(f"{__name__}.TABLE", Table(changed, TABLE.target))
    with pytest.raises(NotResumableError, match="other data or settings"):
        fitted(kept(tmp_path))


def test_training_of_another_shape_is_refused_in_one_line(tmp_path):
    fitted(kept(tmp_path), dropout=0.0)
    found = newest_checkpoint(tmp_path / "00001")
    assert found is not None
    with pytest.raises(NotResumableError, match="damaged or of another version"):
        fitted(kept(tmp_path), optimizer="sgd", dropout=0.0)


def test_part_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    kept(tmp_path).part(Snapshot, same)
    with pytest.raises(NotResumableError, match=r"00001 is damaged or of another version \('score'\); begin anew"):
        kept(tmp_path).part(Snapshot, lambda found: found.tree["score"])


def test_nothing_is_begun_before_the_first_part_and_it_is_begun_once(tmp_path):
    begun = []
    parts = kept(tmp_path / "parts", begin=lambda: begun.append(1))
    assert not begun
    parts.check()
    parts.part(Snapshot, same)
    assert begun == [1]


def test_who_is_asked_to_stop_stops_before_a_part_and_keeps_those_done(tmp_path):
    stop = []
    parts = kept(tmp_path, stop=lambda: bool(stop))
    parts.part(Snapshot, same)
    stop.append(1)
    with pytest.raises(Stopped):
        parts.part(Snapshot, same)
    with pytest.raises(Stopped):
        parts.check()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00001"]


def test_alone_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ALONE.check()
    assert ALONE.part(lambda: Snapshot({"a": 1}), lambda found: found.tree["a"]) == 1
    fitted(ALONE)
    shutil.rmtree(tmp_path)  # nobody minds
    assert ALONE.seconds_before == 0.0
