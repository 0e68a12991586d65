"""Kill it at any moment, any number of times, go on: the same bits as if nothing had happened."""

import random
import shutil
import signal
import time

import pytest

from tests.faults.trainings import RUN, outcome

SMALL = "--checkpoint-seconds 0 --checkpoint-every 2 --eval-episodes 2 --eval-max-steps 50 --no-progress --run-dir run"
ON = "--n-envs 4 --n-steps 32 --batch-size 64 --n-epochs 2 --net-arch 16"
OFF = "--n-envs 2 --learning-starts 64 --batch-size 16 --buffer-size 500 --net-arch 16 --train-freq 16"
CASES = {
    "ppo, batched CartPole": f"ppo --env CartPole-v1 {ON} --total-timesteps 2048 --normalize-obs --eval-freq 640",
    "ppo, sync LunarLander (Box2D)": f"ppo --env LunarLander-v3 {ON} --total-timesteps 1280",
    "a2c, sync CartPole": "a2c --env CartPole-v1 --env-backend sync --n-envs 4 --net-arch 16 --total-timesteps 800 "
    "--checkpoint-every 5 --normalize-reward --ent-coef linear:0.1:0",
    "sac, sync InvertedPendulum (MuJoCo)": f"sac --env InvertedPendulum-v5 {OFF} --total-timesteps 480",
    "discrete sac, batched FourRooms": f"discrete-sac --env entropic_rl/FourRooms-v0 {OFF} --total-timesteps 960",
    "ppo with a GRU, async CartPole": f"ppo --env CartPole-v1 --env-backend async {ON} --total-timesteps 1024 "
    "--recurrent gru --recurrent-size 8 --ent-coef target:0.4",
}
N_KILLS = 200  # in all; those of a comparison join them in test_comparison_kills.py
MOST_IN_A_ROW = 5


def arguments_of(case):
    words = CASES[case].split()
    own = {word for word in words if word.startswith("--")}
    shared = SMALL.split()
    pairs = [shared[i : i + 2] if shared[i] != "--no-progress" else shared[i : i + 1] for i in (0, 2, 4, 6, 8, 9)]
    pairs[-2:] = [["--no-progress"], ["--run-dir", RUN]]
    return words + [word for pair in pairs if pair[0] not in own for word in pair]


def reference(trainer, place, arguments):
    """What an undisturbed training leaves, and the seconds that one takes."""
    place.mkdir()
    ended = trainer.train(place, *arguments)
    assert ended["code"] == 0, ended["said"]
    return outcome(place / RUN), ended["seconds"]


def survive(trainer, place, arguments, *, seconds, moments, most):
    """One training killed up to ``most`` times in a row, brought to its end; how many kills met it alive."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    n = 0
    while n < most:
        ended = trainer.go_on(place, arguments, after=moments.uniform(0.0, seconds))
        if ended["code"] != -signal.SIGKILL:
            assert trainer.has_ended(ended), ended["said"]
            return n
        n += 1
    ended = trainer.go_on(place, arguments)
    assert trainer.has_ended(ended), ended["said"]
    return n


def check(trainer, tally, place, case, n_kills):
    arguments, moments = arguments_of(case), random.Random(case)
    expected, seconds = reference(trainer, place / "reference", arguments)
    killed = 0
    while killed < n_kills:
        most = min(MOST_IN_A_ROW, n_kills - killed)
        n = survive(trainer, place / "killed", arguments, seconds=seconds, moments=moments, most=most)
        assert outcome(place / "killed" / RUN) == expected
        tally(f"SIGKILL: {case}", "resumed, the same bits", n)
        killed += n


@pytest.mark.faults
@pytest.mark.parametrize("i", range(len(CASES)), ids=list(CASES))
def test_killed_at_random_moments_it_ends_with_the_same_bits(trainer, tally, tmp_path, i):
    share = [N_KILLS * k // len(CASES) for k in (i, i + 1)]
    check(trainer, tally, tmp_path, list(CASES)[i], share[1] - share[0])


def test_killed_twice_it_ends_with_the_same_bits(trainer, tally, tmp_path):
    check(trainer, tally, tmp_path, "ppo, batched CartPole", 2)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("case", "number"), list(zip(CASES, 2 * [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], strict=True))
)
def test_asked_to_stop_it_ends_with_75_and_goes_on_with_the_same_bits(trainer, tally, tmp_path, case, number):
    arguments, moments = arguments_of(case), random.Random(f"{case} {number}")
    expected, seconds = reference(trainer, tmp_path / "reference", arguments)
    place = tmp_path / "stopped"
    place.mkdir()
    n_asked = 0
    for _ in range(20):
        begun = time.perf_counter()
        ended = trainer.go_on(place, arguments, after=moments.uniform(0.2, 0.8) * seconds, number=number)
        if ended["code"] != 75:
            break
        assert f"stopped by {number.name}; go on with: train.py --resume {RUN}" in ended["said"]
        assert time.perf_counter() - begun < seconds + 30
        n_asked += 1
        if n_asked == 3:
            ended = trainer.go_on(place, arguments)
            break
    assert trainer.has_ended(ended), ended["said"]
    assert outcome(place / RUN) == expected
    tally(f"{number.name}: {case}", "exit code 75, resumed, the same bits", n_asked)
