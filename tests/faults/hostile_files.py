"""Files for every loader of the package: as they should be, and as somebody would make them who means harm."""

import csv
import hashlib
import io
import json
import os
import pickle
import shutil
import stat
import struct
import zipfile
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from entropic_rl.agents import agent_class
from entropic_rl.agents.config import A2CConfig, PPOConfig, action_head
from entropic_rl.cell import Cell
from entropic_rl.config import RunConfig, jsonable
from entropic_rl.environments import make_env
from entropic_rl.errors import NumbersError
from entropic_rl.evidence import load_evidence, save_evidence
from entropic_rl.interruption import Stopped
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.policy_files import save_policy
from entropic_rl.run_directory import OFFENDING, write_json
from entropic_rl.runs import train_cells
from entropic_rl.spaces import observation_spec
from tests.synthetic import SESSION, write_plan, write_run

DEEP = 200_000  # levels of nesting
MODULE = "import os\nos.environ['RAN'] = '1'\nopen('ran', 'w').close()\nclass Agent: Config = dict\n"


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


# Files as they should be: name of a loader -> what writes one into an empty folder and says what to load.


def run_directory(folder, **settings):
    run = RunConfig(env="CartPole-v1", n_envs=2, **settings)
    config = PPOConfig(n_steps=8, batch_size=8)
    with make_env("CartPole-v1") as env:
        observation, action = observation_spec(env.observation_space), action_head(config, env.action_space)
    save_policy(ActorCritic(NetworkConfig.of(config), observation, action, [0]), 0, folder)
    write_json(folder / "config.json", {"agent": "ppo", **jsonable(run), **jsonable(config)})
    verdict = {"layer": "0", "state": "dead", "cause": "x", "remedy": "y", "evidence": {}}
    write_json(folder / "gradient_flow.json", {"verdicts": {"policy": []}, "unused": verdict})
    return folder


def stopped_run(folder):
    """A training that was stopped after a step, with its checkpoint."""
    run = RunConfig(env="CartPole-v1", n_envs=2, total_timesteps=64, eval_episodes=1, env_backend="sync", device="cpu")
    cell = Cell("ppo", run, PPOConfig(n_steps=8, batch_size=8, net_arch=(4,)), folder)
    with suppress(Stopped):
        train_cells(agent_class("ppo"), [cell], checkpoints=folder / "checkpoints", should_stop=lambda: True)
    return folder


def broken_run(folder):
    """What a training of which a number broke leaves."""
    run = RunConfig(env="CartPole-v1", n_envs=2, total_timesteps=64, device="cpu", coverage="off")
    config = A2CConfig(n_steps=4, net_arch=(4,), learning_rate=1e38)
    with suppress(NumbersError):
        train_cells(agent_class("a2c"), [Cell("a2c", run, config, folder)])
    return folder / OFFENDING


def stopped_classifiers(folder):
    """A calibration that was stopped after an epoch, with its checkpoint."""
    from entropic_rl.calibrate.cli import calibrate

    words = f"--data wine --ent-coef 0 --seeds 1 --net-arch 4 --no-progress --out {folder}".split()
    asked = iter([False])  # before the training
    with mock.patch("entropic_rl.interruption.Stop.__call__", side_effect=lambda: next(asked, True)):
        calibrate("calibrate.py", words)
    return folder


def sb3_file(folder):
    """As ``model.save`` of Stable-Baselines3 leaves it, but for parts that nobody reads."""
    layers = {"mlp_extractor.policy_net.0": (64, 4), "mlp_extractor.policy_net.2": (64, 64), "action_net": (2, 64)}
    layers |= {"mlp_extractor.value_net.0": (64, 4), "mlp_extractor.value_net.2": (64, 64), "value_net": (1, 64)}
    state = {f"{name}.weight": torch.zeros(size) for name, size in layers.items()}
    state |= {f"{name}.bias": torch.zeros(size[0]) for name, size in layers.items()}
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        archive.writestr("policy.pth", torched(state))
        archive.writestr("data", "{}")
    return folder / "model.zip"


def comparison(folder):
    plan = write_plan(folder, 2)
    for cell in plan.cells(folder):
        write_run(cell, 1.0 + cell.run.seed, tables={"visits": np.ones(4)})
    (folder / "sessions.jsonl").write_text(json.dumps(SESSION) + "\n")
    (folder / "figures").mkdir()
    return folder


def table(folder, ending):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 2)), np.arange(20) % 2
    path = folder / f"data.{ending}"
    if ending == "npz":
        np.savez(path, X=X, y=y)
    elif ending == "parquet":
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "y": y}), path)
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["a", "b", "y"], *([*row, label] for row, label in zip(X, y, strict=True))])
    return path


def label_book(folder):
    (folder / "pool.csv").write_text("a,b\n1,2\n3,4\n5,7\n")
    (folder / "labels.csv").write_text("row,label\n0,cat\n1,dog\n")
    (folder / "labels.session.json").write_text(json.dumps({"key": "row"}))
    return folder


def learner(folder):
    from sklearn.linear_model import LogisticRegression

    from entropic_rl.active.learner import ActiveLearner

    made = ActiveLearner(LogisticRegression(), np.eye(4), classes=["cat", "dog"], directory=folder)
    made.teach([0, 1, 2], ["cat", "dog", "cat"])
    made.query(1)
    return folder


def text(name, content):
    def write(folder):
        (folder / name).write_text(content)
        return folder / name

    return write


CURVE = "measured_on,model,n_labels,accuracy,nll,ece_debiased,signed_gap\nout-of-fold,entropic,10,0.5,0.7,0.1,0.1\n"
BENIGN = {
    "evaluate": run_directory,
    "resume": stopped_run,
    "replay": broken_run,
    "unfinished": stopped_classifiers,
    "suggest": run_directory,
    "to_sb3": run_directory,
    "cell": run_directory,
    "diagnosis": run_directory,
    "from_sb3": sb3_file,
    "comparison": comparison,
    "settings": text("settings.yaml", "total_timesteps: 1000\nenv-kwargs: {a: [1, 2]}\n"),
    "dataset": lambda folder: table(folder, "csv"),
    "dataset npz": lambda folder: table(folder, "npz"),
    "dataset parquet": lambda folder: table(folder, "parquet"),
    "pool": lambda folder: table(folder, "csv"),
    "pool npz": lambda folder: table(folder, "npz"),
    "pool parquet": lambda folder: table(folder, "parquet"),
    "labels": label_book,
    "answers": text("answers.csv", "row,label\n0,cat\n"),
    "curve": text("labels.curve.csv", CURVE),
    "learner": learner,
}


# Hostile ones: loader, what is wrong, how a benign one becomes such, and how it has to end.


def replaced(name, content):
    """One of the files holds something else."""

    def change(folder):
        for path in folder.rglob(name) if folder.is_dir() else [folder]:
            path.write_bytes(content() if callable(content) else content)

    return change


def said(name, **values):
    """A JSON file says something else."""

    def change(folder):
        for path in folder.rglob(name):
            content = json.loads(path.read_text())
            path.write_text(json.dumps({**content, **values}))
        (folder / "evil.py").write_text(MODULE)

    return change


def checkpointed(change):
    """The tree of a checkpoint says something else, and its manifest agrees."""

    def write(folder):
        [path] = folder.rglob("tree.json")
        content = json.loads(path.read_text())
        new = change(content)
        path.write_bytes(new if isinstance(new, bytes) else json.dumps(content).encode())
        manifest = json.loads(path.with_name("manifest.json").read_text())
        manifest["sha256"]["tree.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name("manifest.json").write_text(json.dumps(manifest))

    return write


def noted(**notes):
    return checkpointed(lambda content: content["notes"].update(notes))


def rooted(node):
    """The agent of a checkpoint is something else."""
    return checkpointed(lambda content: content["tree"].update(agent=node))


def linked(place, target):
    """A file or folder is a link that leads out of the folder."""

    def change(folder):
        outside = folder.parent / "outside"
        outside.mkdir(exist_ok=True)
        (outside / "kept.svg").write_text("kept")
        for path in folder.glob(place) if "*" in place else [folder / place]:
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.symlink_to(outside / target if target else outside, target_is_directory=not target)

    return change


def resaved(notes=None, tensors=None, **settings):
    """An offending batch says something else, and its digest agrees."""

    def change(path):
        stored = load_evidence(path)
        evidence = stored.evidence
        evidence = replace(evidence, notes=evidence.notes | (notes or {}), tensors=evidence.tensors | (tensors or {}))
        policy = SimpleNamespace(observation=stored.observation, action=stored.action)
        parts = {name: value | settings.pop(name, {}) for name, value in stored.settings.items() if name != "agent"}
        save_evidence(evidence, stored.settings | parts | settings, policy, path.parent)
        (path.parent / "evil.py").write_text(MODULE)

    return change


def rezipped(path, **others):
    """A zip file with ``others`` (``__`` for a dot) in place of its entries or beside them."""
    others = {name.replace("__", "."): content for name, content in others.items()}
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (kept | others).items():
            archive.writestr(name, content)
    return path


def entries(**others):
    return lambda path: rezipped(path, **others)


def entry_named(name):
    """An entry whose name leads elsewhere."""

    def change(path):
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, "elsewhere")

    return change


def entry_linked(path):
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")


def torched(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def npy(array, shape=None):
    """An array as ``.npy``; ``shape`` is what its header claims."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    content = buffer.getvalue()
    return content if shape is None else content.replace(b"(20, 2), ", f"({shape}, 2), ".encode())


def claimed(size):
    """A zip whose directory claims that an entry is so large."""

    def change(path):
        content = bytearray(path.read_bytes())
        at = content.find(b"PK\x01\x02")
        while at >= 0:
            content[at + 24 : at + 28] = struct.pack("<I", size)
            at = content.find(b"PK\x01\x02", at + 4)
        path.write_bytes(content)

    return change


def tensors_claimed(length, described):
    return struct.pack("<Q", length) + json.dumps(described).encode()


def zipped(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def typed_by_a_pickle(path):
    """A column whose type is an Arrow extension that older pyarrow unpickled (CVE-2023-47248)."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    about = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Bomb())}
    fields = [pa.field("a", pa.float64(), metadata=about), pa.field("y", pa.int64())]
    pq.write_table(pa.table([[0.5, 1.5] * 5, [0, 1] * 5], schema=pa.schema(fields)), path)


NESTED = b'{"a":' * DEEP + b"1" + b"}" * DEEP
LISTS = b"[" * DEEP + b"]" * DEEP
WIDE = {"params": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = [
    *[(loader, f"config.json: {what}", replaced("config.json", content), "refused")
      for loader in ("cell", "evaluate") for what, content in {
          "nested": NESTED, "a list": b"[]", "a pickle": lambda: pickle.dumps(Bomb()), "nested lists": LISTS,
          "a number of 10,000 digits": b'{"agent": 1' + b"0" * 10_000 + b"}",
      }.items()],
    *[(loader, f"names a module that lies in the folder: {where}", said("config.json", **{where: name}), "refused")
      for loader in ("evaluate", "suggest", "to_sb3") for where, name in {
          "agent": "evil:Agent", "gym_packages": ["evil"], "env": "evil:Env-v0", "env_wrappers": ["evil:Agent"],
      }.items()],
    *[("evaluate", f"policy.safetensors: {what}", replaced("policy.safetensors", content), "refused")
      for what, content in {
          "a pickle": lambda: pickle.dumps(Bomb()), "of torch.save": lambda: torched({"params": Bomb()}),
          "a header of 2^63 bytes": tensors_claimed(2**63, {}), "numbers that are not there": tensors_claimed(86, WIDE),
          "a header of nothing": tensors_claimed(0, {}), "nested": struct.pack("<Q", len(NESTED)) + NESTED,
          "nothing": b"",
      }.items()],
    ("evaluate", "policy.safetensors is a folder", linked("policy.safetensors", ""), "refused"),
    ("evaluate", "policy.json: nested", replaced("policy.json", NESTED), "refused"),
    *[("evaluate", f"policy.json: network {network}", said("policy.json", network=network), "refused")
      for network in ({"net_arch": [2**40]}, {"net_arch": ["x"]}, {"net_arch": [-1]}, {"activation": "__import__"}, [],
                      {"features_dim": 2**40}, {"recurrent": "os.system"}, {"net_arch": 5})],
    *[("replay", what, replaced("*", content), "refused") for what, content in {
        "a pickle": lambda: pickle.dumps(Bomb()), "of torch.save": lambda: torched({"x": Bomb()}), "nothing": b"",
        "a header of 2^63 bytes": tensors_claimed(2**63, {}), "numbers that are not there": tensors_claimed(86, WIDE),
        "nested": struct.pack("<Q", len(NESTED)) + NESTED}.items()],
    *[("replay", f"{what}: its digest agrees", change, "refused") for what, change in {
        "an agent that lies in the folder": resaved(agent="evil:Agent"),
        "an agent of Stable-Baselines3": resaved(agent="sb3:PPO"),
        "wide layers": resaved(config={"net_arch": [2**40]}), "layers of texts": resaved(config={"net_arch": ["x"]}),
        "long rollouts": resaved(config={"n_steps": 2**60}), "many environments": resaved(run={"n_envs": 2**60}),
        "steps of __class__": resaved(notes={"network": "__class__"}), "no number": resaved(notes={"global_step": []}),
        "wrong parameters": resaved(tensors={"state.ent_coef": torch.zeros(3)}),
        "parameters of nothing": resaved(tensors={"state.x": torch.zeros(1)}),
        "far actions": resaved(tensors={"batch.action": torch.full((1, 8), 2**60)}),
        "observations of other sizes": resaved(tensors={"batch.obs": torch.zeros(1, 8, 2)}),
    }.items()],
    ("replay", "wrappers that lie in the folder", resaved(run={"env_wrappers": ["evil:Agent"]}), "read"),
    ("diagnosis", "nested", replaced("gradient_flow.json", NESTED), "refused"),
    *[("diagnosis", f"verdicts {verdicts}", said("gradient_flow.json", verdicts=verdicts), "refused")
      for verdicts in (1, {"policy": [1]}, {"policy": [{"__class__": "os.system"}]})],
    *[("resume", f"{name}: {what}", replaced(name, content), "read")
      for name in ("manifest.json", "tree.json", "tensors.safetensors") for what, content in {
          "nested": NESTED, "a list": b"[]", "a pickle": lambda: pickle.dumps(Bomb()), "nothing": b""}.items()],
    ("resume", "its tree is nested", checkpointed(lambda _: b'{"tree":' + NESTED + b"}"), "read"),
    ("resume", "its tree is a list", checkpointed(lambda _: b'{"tree": [], "notes": {}}'), "refused"),
    ("resume", "its checkpoints are a link", linked("checkpoints", ""), "refused"),
    ("resume", "its metrics are a link", linked("metrics.jsonl", "kept.svg"), "refused"),
    *[("resume", f"offsets {offsets}", noted(offsets=offsets), "refused")
      for offsets in ([2**60], [-1], ["x"], [], [0, 0], 1)],
    *[("resume", f"the agent is {node}", rooted(node), "refused") for node in (
        {"object": {"__class__": {"value": "os.system"}}, "class": "PPO"}, {"each": []}, {"into": {}}, {}, [], 1,
        {"same": "nobody"}, {"tensor": "../../x"}, {"object": {}, "class": "Popen"}, {"generator": {"value": 1}},
        {"list": [{"value": 1}]}, {"value": "x"}, {"copies": [{"value": 1}]}, {"_init__": 1},
    )],
    *[("unfinished", f"unfinished.json: {what}", replaced("unfinished.json", content), "refused")
      for what, content in {"nested": NESTED, "a list": b"[]", "a pickle": lambda: pickle.dumps(Bomb())}.items()],
    *[("unfinished", f"{name} {value}", said("unfinished.json", **{name: value}), "refused") for name, value in (
        ("words", ["--data", "evil.py"]), ("words", [1]), ("words", []), ("settings", 1), ("command", "x"),
        ("verb", []), ("config", 1), ("config", "!!python/object/apply:os.system ['touch ran']"),
    )],
    *[("unfinished", f"{name}: {what}", replaced(name, content), "read")
      for name in ("manifest.json", "tree.json", "tensors.safetensors") for what, content in {
          "nested": NESTED, "a pickle": lambda: pickle.dumps(Bomb())}.items()],
    *[("unfinished", f"the training is {node}", checkpointed(lambda content, node=node: content["tree"].update(
        fitting=node)), "refused") for node in ({"object": {}, "class": "Popen"}, [], {"tensor": "../../x"}, 1)],
    ("unfinished", "made with nothing", noted(made_with=1), "refused"),
    ("unfinished", "of another digest", noted(digest="x"), "refused"),
    ("unfinished", "its checkpoints are a link", linked("checkpoints", ""), "refused"),
    ("from_sb3", "data is a pickle", lambda path: rezipped(path, data=pickle.dumps(Bomb())), "read"),
    ("from_sb3", "the optimizer is a pickle", lambda path: rezipped(path, policy__optimizer__pth=pickle.dumps(Bomb())),
     "read"),
    ("from_sb3", "policy.pth is a pickle", lambda path: rezipped(path, policy__pth=pickle.dumps(Bomb())), "refused"),
    ("from_sb3", "a tensor is a pickle", lambda path: rezipped(path, policy__pth=torched({"x": Bomb()})), "refused"),
    ("from_sb3", "named ../../x", entry_named("../../x"), "read"),
    ("from_sb3", "named /tmp/x", entry_named("/tmp/hostile-entry"), "read"),
    ("from_sb3", "a link in it", entry_linked, "read"),
    ("from_sb3", "claims 4 GB", claimed(2**32 - 2), "refused"),
    ("from_sb3", "no zip", replaced("model.zip", b"PK\x03\x04" + bytes(100)), "refused"),
    *[("comparison", f"{name}: {what}", replaced(name, content), "refused")
      for name in ("plan.json", "summary.json") for what, content in {
          "nested": NESTED, "a list": b"[]", "a pickle": lambda: pickle.dumps(Bomb())}.items()],
    *[("comparison", f"{name}: {what}", replaced(name, content), "read")
      for name in ("metrics.jsonl", "sessions.jsonl") for what, content in {
          "nested": NESTED, "a list": b"[]\n", "a pickle": lambda: pickle.dumps(Bomb()), "texts": b'{"env_steps": "x"}',
      }.items()],
    *[("comparison", f"exploration.npz: {what}", replaced("exploration.npz", content), "refused")
      for what, content in {"a pickle": lambda: pickle.dumps(Bomb()), "objects": lambda: zipped("visits.npy", npy(
          np.array([Bomb()], object))), "text": b"x"}.items()],
    ("comparison", "its agent lies in the folder", said("plan.json", bases=[
        {"agent": "evil:Agent", "run": {"env": "CartPole-v1"}, "config": {}}]), "refused"),
    ("comparison", "sweeps ../../x", said("plan.json", sweep={"../../x": ["../../y"]}), "refused"),
    ("comparison", "figures/ is a link", linked("figures", ""), "refused"),
    ("comparison", "cells/ is a link", linked("cells", ""), "refused"),
    ("comparison", "a run is a link", linked("cells/*", ""), "refused"),
    ("comparison", "report.html.tmp is a link", linked("report.html.tmp", "kept.svg"), "refused"),
    ("comparison", "curves.csv.tmp is a link", linked("curves.csv.tmp", "kept.svg"), "refused"),
    *[("settings", what, replaced("settings.yaml", content.encode()), "refused") for what, content in {
        "!!python/object/apply": "total_timesteps: !!python/object/apply:os.system ['touch ran']",
        "!!python/name": "device: !!python/name:os.system",
        "!!python/module": "env_kwargs: {a: !!python/module:evil}",
        "nested": "env_kwargs: " + "[" * 1500 + "]" * 1500, "aliases": ALIASES,
        "aliases in a setting": "env_kwargs:\n" + "".join(f"  {line}\n" for line in ALIASES.splitlines()),
        "a number of 10,000 digits": "seed: " + "1" * 10_000, "no date": "seed: 2001-99-99",
        "itself": "env_kwargs: &a {a: *a}", "two documents": "seed: 1\n---\nseed: 2", "a pickle": "\x80\x04",
    }.items()],
    *[(f"{loader} npz", what, change, end) for loader in ("dataset", "pool") for what, change, end in [
        ("a pickle", replaced("data.npz", lambda: pickle.dumps(Bomb())), "refused"),
        ("a pickle in it", lambda path: rezipped(path, X__npy=pickle.dumps(Bomb())), "refused"),
        ("objects in it", lambda path: rezipped(path, X__npy=npy(np.array([[Bomb()]] * 20, object))), "refused"),
        ("named ../../x", entry_named("../../x.npy"), "refused"),
        ("a link in it", entry_linked, "refused"),
        ("claims 10^15 rows", lambda path: rezipped(path, X__npy=npy(np.zeros((20, 2)), 10**15)), "refused"),
    ]],
    *[(f"{loader} parquet", "a pickle", replaced("data.parquet", lambda: pickle.dumps(Bomb())), "refused")
      for loader in ("dataset", "pool")],
    *[(f"{loader} parquet", "a pickle as its type", typed_by_a_pickle, "read")
      for loader in ("dataset", "pool")],
    *[(loader, "a cell of 1 MB", replaced("data.csv", b"a,b,y\n1,2," + b"x" * 10**6 + b"\n"), "refused")
      for loader in ("dataset",)],
    *[(loader, "a pickle", replaced("data.csv", lambda: pickle.dumps(Bomb())), "refused")
      for loader in ("dataset", "pool")],
    ("labels", "its notes are nested", replaced("labels.session.json", NESTED), "read"),
    ("labels", "its notes are a pickle", replaced("labels.session.json", lambda: pickle.dumps(Bomb())), "read"),
    ("labels", "its notes are written through a link", linked("labels.session.json.tmp", "kept.svg"), "read"),
    ("labels", "a pickle", replaced("labels.csv", lambda: pickle.dumps(Bomb()) + b"\n"), "refused"),
    ("answers", "a pickle", replaced("answers.csv", lambda: pickle.dumps(Bomb())), "refused"),
    ("curve", "a pickle", replaced("labels.curve.csv", lambda: pickle.dumps(Bomb())), "refused"),
    ("curve", "a cell of 1 MB", replaced("labels.curve.csv", CURVE.encode() + b"x" * 10**6), "refused"),
    *[("learner", f"{name}: {what}", replaced(name, content), "refused")
      for name in ("learner.json", "rounds.json") for what, content in {
          "nested": NESTED, "a list": b"[]", "a pickle": lambda: pickle.dumps(Bomb())}.items()],
    ("learner", "rounds of another kind", replaced("rounds.json", b'{"rounds": [{"__class__": "os.system"}]}'),
     "refused"),
]  # fmt: skip
