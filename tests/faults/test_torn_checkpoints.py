"""Every call that changes the disk, killed or refused once; every byte of what is read, changed once."""

import errno
import shutil
import warnings

import pytest
import torch
from gymnasium import spaces

from entropic_rl.checkpoint import newest_checkpoint, save_checkpoint
from entropic_rl.errors import RunDirectoryError, UserError
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.policy_files import load_policy, save_policy
from entropic_rl.snapshots import difference, take
from entropic_rl.spaces import ObservationSpec, action_spec
from tests.faults.trainings import RUN, outcome

ARGUMENTS = (
    "ppo --env CartPole-v1 --n-envs 2 --total-timesteps 192 --n-steps 16 --batch-size 32 --n-epochs 1 --net-arch 4 "
    "--coverage off --checkpoint-every 2 --checkpoint-seconds 0 --eval-episodes 1 --eval-max-steps 10 --no-progress "
    f"--run-dir {RUN}"
).split()


@pytest.fixture(scope="module")
def whole(trainer, tmp_path_factory):
    """What an undisturbed training leaves, and how often it changes the disk."""
    place = tmp_path_factory.mktemp("whole")
    ended = trainer.train(place, *ARGUMENTS, fault="kill", at=10**9)
    assert ended["code"] == 0, ended["said"]
    return outcome(place / RUN), ended["calls"]


def check_killed_at(trainer, place, expected, calls):
    """Killed at each of these calls in a training of its own, then gone on with."""
    for at in calls:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        assert trainer.train(place, *ARGUMENTS, fault="kill", at=at)["code"] == -9, at
        ended = trainer.go_on(place, ARGUMENTS)
        assert trainer.has_ended(ended), (at, ended["said"])
        assert outcome(place / RUN) == expected, at
        left = [path.name for path in (place / RUN).rglob("*.tmp")]
        assert not left or ended["code"] == 2, (at, left)  # it had finished but for its last checkpoint


def test_killed_at_some_calls_that_change_the_disk(trainer, whole, tally, tmp_path):
    expected, n_calls = whole
    calls = range(3, n_calls, n_calls // 3)
    check_killed_at(trainer, tmp_path / "killed", expected, calls)
    tally("SIGKILL at a call that changes the disk", "resumed, the same bits", len(calls))


@pytest.mark.faults
@pytest.mark.parametrize("part", range(4))
def test_killed_at_every_call_that_changes_the_disk(trainer, whole, tally, tmp_path, part):
    expected, n_calls = whole
    calls = range(1 + part, n_calls + 1, 4)
    check_killed_at(trainer, tmp_path / "killed", expected, calls)
    tally("SIGKILL at a call that changes the disk", "resumed, the same bits", len(calls))


def check_refused_at(trainer, tally, place, expected, *, calls, number):
    for at in calls:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        ended = trainer.train(place, *ARGUMENTS, fault=number, at=at)
        name = errno.errorcode[number]
        if ended["code"] == 0:  # of what is only cleared away
            tally(f"{name} at a call that changes the disk", "trained on, the same bits")
        else:
            assert ended["code"] == 2, (at, ended["said"])
            lines = [line for line in ended["said"].splitlines() if line.strip()]
            assert len(lines) == 1, (at, ended["said"])
            assert lines[0].startswith("train.py: error: "), (at, lines)
            ended = trainer.go_on(place, ARGUMENTS)
            assert trainer.has_ended(ended), (at, ended["said"])
            tally(f"{name} at a call that changes the disk", "one line, exit code 2, resumed, the same bits")
        assert outcome(place / RUN) == expected, at


@pytest.mark.faults
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG], ids=errno.errorcode.get)
def test_refused_at_every_call_that_changes_the_disk(trainer, whole, tally, tmp_path, number):
    expected, n_calls = whole
    check_refused_at(trainer, tally, tmp_path / "full", expected, calls=range(1, n_calls + 1), number=number)


def test_refused_at_some_calls_that_change_the_disk(trainer, whole, tally, tmp_path):
    expected, n_calls = whole
    calls = range(5, n_calls, n_calls // 2)
    check_refused_at(trainer, tally, tmp_path / "full", expected, calls=calls, number=errno.ENOSPC)


@pytest.mark.faults
@pytest.mark.parametrize("limit", [100, 600, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000])
def test_limit_on_the_size_of_files_is_one_line_and_resumable(trainer, whole, tally, tmp_path, limit):
    expected, _ = whole
    ended = trainer.train(tmp_path, *ARGUMENTS, limit=limit)
    if ended["code"] != 0:
        lines = [line for line in ended["said"].splitlines() if line.strip()]
        assert ended["code"] == 2, ended["said"]
        assert len(lines) == 1, ended["said"]
        ended = trainer.go_on(tmp_path, ARGUMENTS)
    assert trainer.has_ended(ended), ended["said"]
    assert outcome(tmp_path / RUN) == expected
    tally("limit on the size of files", "one line, exit code 2, resumed, the same bits")


class Holder:
    """A small state: numbers of several kinds."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.weights = torch.randn(2, 8, 16, generator=generator)
        self.counts = torch.arange(seed, seed + 64)
        self.flags, self.name, self.at = torch.tensor([True, False]), "it", [seed, {"x": seed / 3}]


def damaged(content):
    """Every byte changed once (all of its bits, and one of them), and every truncation."""
    for i in range(len(content)):
        for mask in (0xFF, 1 << (i % 8)):
            changed = bytearray(content)
            changed[i] ^= mask
            yield bytes(changed)
        yield content[:i]


@pytest.mark.faults
@pytest.mark.parametrize("name", ["tensors.safetensors", "tree.json", "manifest.json"])
def test_no_damaged_byte_of_a_checkpoint_gives_other_numbers(tmp_path, tally, name):
    states = {step: take({"it": Holder(step)}) for step in (1, 2)}
    for step, state in states.items():
        save_checkpoint(tmp_path, step, state, {"offsets": [step]})
    file = tmp_path / f"{2:015d}" / name
    assert sum(path.stat().st_size for path in file.parent.iterdir()) < 4096
    n = {"passed over, the one before was loaded": 0, "refused in one line": 0, "loaded, the same numbers": 0}
    for content in damaged(file.read_bytes()):
        file.write_bytes(content)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                step, snapshot, notes = newest_checkpoint(tmp_path)
            except RunDirectoryError:
                n["refused in one line"] += 1
                continue
        assert difference(snapshot, states[step]) is None, content
        assert notes == {"offsets": [step]}
        assert len(said) == 2 - step, content
        n["passed over, the one before was loaded" if step == 1 else "loaded, the same numbers"] += 1
    for how, times in n.items():
        tally(f"damaged {name} of a checkpoint", how, times)


OBSERVATION = ObservationSpec.vector(3)
ACTION = action_spec(spaces.Discrete(2))


@pytest.mark.faults
@pytest.mark.parametrize("name", ["policy.safetensors", "policy.json"])
def test_no_damaged_byte_of_a_policy_gives_other_weights(tmp_path, tally, name):
    policy = ActorCritic(NetworkConfig(net_arch=(4,)), OBSERVATION, ACTION, [7])
    save_policy(policy, 0, tmp_path)
    file, obs = tmp_path / name, torch.linspace(-1.0, 1.0, 12).view(1, 4, 3)
    n, said = {"refused in one line": 0, "loaded, the same weights": 0}, []
    for content in damaged(file.read_bytes()):
        file.write_bytes(content)
        try:
            loaded = load_policy(tmp_path, OBSERVATION, ACTION)
        except UserError as error:
            said.append(str(error))
            n["refused in one line"] += 1
            continue
        assert difference(take({"it": loaded.state_dict()}), take({"it": policy.state_dict()})) is None, content
        assert torch.equal(loaded.distribution(obs).logits, policy.distribution(obs).logits), content
        n["loaded, the same weights"] += 1
    assert not [text for text in said if "\n" in text]
    for how, times in n.items():
        tally(f"damaged {name}", how, times)
