"""What the numbers of a run broke on as one file: safetensors, described in its header; loading never runs code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from entropic_rl.errors import RunDirectoryError, first_line
from entropic_rl.health import Evidence
from entropic_rl.policies import ActorCritic
from entropic_rl.run_directory import OFFENDING
from entropic_rl.spaces import ActionSpec, ObservationSpec

__all__ = ["LARGEST", "StoredEvidence", "load_evidence", "save_evidence"]

LARGEST = 64 * 2**20
"""Bytes of numbers that are kept at most, nothing where there are more: room for a minibatch of images and networks."""
_FORMAT = 1
_HEADER = 2**20  # bytes, far more than names and settings take


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """Evidence out of a file.

    Attributes:
        evidence: the same that was saved.
        settings: of the run: ``agent``, ``run`` and ``config`` as plain values.
        observation: what its agent sees; only flat vectors can be given to it.
        action: its policy head.
    """

    evidence: Evidence
    settings: dict[str, Any]
    observation: ObservationSpec
    action: ActionSpec


def save_evidence(evidence: Evidence, settings: Mapping[str, Any], policy: ActorCritic, directory: Path) -> bool:
    """Write ``offending_batch.safetensors``; returns whether there is one now, which more than LARGEST bytes prevent.

    Args:
        evidence: of one run.
        settings: of the run, as :class:`StoredEvidence` has them.
        policy: of the training, which says what is seen and done.
        directory: of the run.
    """
    tensors = {name: x.contiguous() for name, x in evidence.tensors.items()}
    if sum(x.nbytes for x in tensors.values()) > LARGEST:
        return False
    observation, action = policy.observation, policy.action
    description = {
        "kind": evidence.kind,
        "notes": evidence.notes,
        "names": list(tensors),
        "settings": dict(settings),
        "observation": {"size": observation.size, "frames": observation.frames, "image": observation.image},
        "action": {
            "kind": action.kind,
            "n_outputs": action.n_outputs,
            "nvec": action.nvec,
            "event_shape": action.event_shape,
            "bounded": action.bounded,
        },
    }
    text = json.dumps(description, default=int)  # sizes may be numbers of NumPy
    header = {"format": str(_FORMAT), "description": text, "sha256": _digest(text, tensors)}
    temporary = directory / f"{OFFENDING}.tmp"
    temporary.unlink(missing_ok=True)  # it may be a link to a file of somebody else's
    try:
        with temporary.open("xb") as file:
            file.write(save(tensors, metadata=header))
        os.replace(temporary, directory / OFFENDING)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True


def load_evidence(path: Path) -> StoredEvidence:
    """Read back what :func:`save_evidence` wrote.

    Raises:
        RunDirectoryError: there is no such file, it is damaged, or somebody else's.
    """
    header, tensors = _read(path)
    if not header.keys() >= {"format", "description", "sha256"}:
        raise RunDirectoryError(f"{path} is no offending batch: expected an {OFFENDING} out of a run directory")
    if header["format"] != str(_FORMAT):
        raise RunDirectoryError(
            f"{path} has format {header['format'][:20]}: expected {_FORMAT}; use the version of entropic_rl it is of"
        )
    if _digest(header["description"], tensors) != header["sha256"]:
        raise RunDirectoryError(f"{path} is damaged: it is not what its SHA-256 says; train again")
    try:
        return _described(json.loads(header["description"]), tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RunDirectoryError(f"{path} is damaged ({first_line(error)[:100]}); train again") from None


def _described(said: dict[str, Any], tensors: dict[str, Tensor]) -> StoredEvidence:
    seen, done = said["observation"], said["action"]
    image = None if seen["image"] is None else tuple(seen["image"])
    observation = ObservationSpec(seen["size"], lambda obs: obs, seen["frames"], image)
    shapes = {name: tuple(done[name]) for name in ("nvec", "event_shape", "bounded")}
    action = ActionSpec(kind=done["kind"], n_outputs=done["n_outputs"], to_env=lambda given: given, **shapes)
    in_order = {name: tensors[name] for name in said["names"]}
    evidence = Evidence(str(said["kind"]), in_order, dict(said["notes"]))
    return StoredEvidence(evidence, dict(said["settings"]), observation, action)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header's texts, and the tensors."""
    try:
        size = path.stat().st_size
        if not path.is_file() or size > LARGEST + _HEADER:
            raise RunDirectoryError(
                f"{path} is no offending batch: expected a file of at most {LARGEST + _HEADER:,} bytes"
            )
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise RunDirectoryError(f"no file {path}: expected an {OFFENDING} out of a run directory") from None
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise RunDirectoryError(f"cannot read {path}: {first_line(error)[:200]}; train again") from None


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Of everything in a file that means something."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        x = tensors[name]
        digest.update(json.dumps([name, str(x.dtype), list(x.shape)]).encode())
        digest.update(x.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
