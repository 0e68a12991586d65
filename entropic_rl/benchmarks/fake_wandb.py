"""A server that answers as Weights & Biases' does, as far as a run needs it; or refuses, hangs, breaks, or dies."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

__all__ = ["Behaviour", "FakeWandb", "StoredRun", "fake_wandb"]

Behaviour = Literal["works", "refuses", "hangs", "500", "dies"]


@dataclass
class StoredRun:
    """What was sent of a run."""

    history: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What it logged, in order, without the pictures."""
        rows = [json.loads(line) for line in self.history]
        return [row for row in rows if not any(name.startswith("figure/") for name in row)]


class FakeWandb:
    """The server.

    Attributes:
        behaviour: ``dies`` works until rows have come, and refuses from then on.
        url: for ``WANDB_BASE_URL``.
        runs: by id.
        n_requests: so far.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour: Behaviour = behaviour
        self.runs: dict[str, StoredRun] = {}
        self.n_requests = 0
        self.closed = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if behaviour == "refuses":
            self._server.server_close()
        else:
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse from now on; those who wait for an answer get none."""
        self.closed.set()
        if self.behaviour != "refuses":
            self.behaviour = "refuses"
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        """What the real one would say."""
        if path.endswith("/graphql"):
            asked = json.loads(body)
            return {"data": self._queried(asked.get("operationName"), asked.get("variables") or {})}
        if path.endswith("/file_stream"):
            self._stream(self.runs.setdefault(path.split("/")[-2], StoredRun()), json.loads(body))
        return {}

    def _queried(self, name: str | None, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "project", "name": variables.get("project"), "entity": {"id": "entity", "name": "someone"}}
        if name == "RunResumeStatus":
            run = self.runs.get(variables["name"])
            return {"model": {**project, "bucket": run and _resumed(variables["name"], run)}}
        if name == "UpsertBucket":
            run = self.runs.setdefault(variables["name"], StoredRun())
            run.variables |= {key: value for key, value in variables.items() if value is not None}
            bucket = {"id": variables["name"], "name": variables["name"], "displayName": variables.get("displayName")}
            lines = {"historyLineCount": len(run.history), "config": None, "project": project}
            return {"upsertBucket": {"bucket": {**bucket, **lines}, "inserted": True}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload"} for file in variables["files"]]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        return {}

    def _stream(self, run: StoredRun, content: dict[str, Any]) -> None:
        files = content.get("files", {})
        if history := files.get("wandb-history.jsonl"):
            run.history[history["offset"] :] = history["content"]
        for line in files.get("wandb-summary.json", {}).get("content", ()):
            run.summary = json.loads(line)
        if content.get("complete"):
            run.exit_code = content.get("exitcode", 0)
        if run.history and self.behaviour == "dies":
            threading.Thread(target=self.stop, daemon=True).start()


@contextmanager
def fake_wandb(behaviour: Behaviour) -> Iterator[FakeWandb]:
    """A server on a port of this machine, stopped at the end."""
    fake = FakeWandb(behaviour)
    try:
        yield fake
    finally:
        fake.stop()


def _resumed(name: str, run: StoredRun) -> dict[str, Any]:
    tail = {"historyTail": json.dumps(run.history[-1:]), "eventsTail": "[]", "logLineCount": 0, "eventsLineCount": 0}
    known: dict[str, Any] = {
        "id": name,
        "name": name,
        "displayName": run.variables.get("displayName"),
        "tags": [],
        "notes": None,
    }
    stored = {"summaryMetrics": json.dumps(run.summary), "config": run.variables.get("config", "{}")}
    return {**tail, **known, **stored, "historyLineCount": len(run.history), "wandbConfig": '{"t": 1}'}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients that go are no trouble."""


class _Handler(BaseHTTPRequestHandler):
    fake: FakeWandb
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        """Every request is answered alike."""
        self.fake.n_requests += 1
        with suppress(ConnectionError):
            body = self._body()
            if self.fake.behaviour == "hangs":
                self.fake.closed.wait()
            if self.fake.closed.is_set():
                self.close_connection = True
            elif self.fake.behaviour == "500":
                self._send(500, b"{}")
            else:
                self._send(200, json.dumps(self.fake.answer(self.path, body)).encode())

    do_GET = do_PUT = do_POST  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
