"""A W&B server on loopback: it takes what a run sends and keeps it, and answers no more than wandb needs."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from threading import Lock, Thread
from typing import Any

import yaml

ENTITY = "tester"


class Sweep:
    """A grid of settings, handed out one after another to the agents that ask, whichever machine they are on."""

    def __init__(self, config: str) -> None:
        self.config = config  # YAML
        parameters = yaml.safe_load(config)["parameters"]
        points = product(*(parameter["values"] for parameter in parameters.values()))
        self.waiting = [dict(zip(parameters, point, strict=True)) for point in points]
        self.handed_out: dict[str, tuple[str, dict[str, Any]]] = {}  # agent and settings, by the run's name

    def command(self, agent: str, is_busy: bool) -> list[dict[str, Any]]:
        """Return what an agent is to do now."""
        if is_busy:
            return []
        if not self.waiting:
            return [{"type": "exit"}]
        settings = self.waiting.pop(0)
        run = f"run{len(self.handed_out)}"
        self.handed_out[run] = agent, settings
        args = {key: {"value": value} for key, value in settings.items()}
        return [{"type": "run", "run_id": run, "program": "", "args": args}]


class WandbServer(ThreadingHTTPServer):
    """What a run has sent: variables of `operations` by name, `history` rows, uploaded `files` by path.

    A `sweep` that was created here is handed out to its agents. Once `lost` is set it answers nothing more.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.operations: dict[str, list[dict[str, Any]]] = {}
        self.history: list[dict[str, Any]] = []
        self.exit_codes: list[int] = []
        self.files: dict[str, bytes] = {}
        self.sweep: Sweep | None = None
        self.lost = False
        self.lock = Lock()

    def config(self) -> dict[str, Any]:
        """Return the run's settings as they were last sent."""
        sent = [json.loads(run["config"]) for run in self.operations["UpsertBucket"] if run.get("config")]
        return {key: entry["value"] for key, entry in sent[-1].items() if key != "_wandb"}

    def artifacts(self) -> dict[str, dict[str, Any]]:
        """Return what was said of each artifact when it was created, by the artifact's name."""
        return {artifact["artifactCollectionName"]: artifact for artifact in self.operations["CreateArtifact"]}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over connections that wandb drops when it ends."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Keep what a GraphQL operation says, and return its data."""
        with self.lock:
            self.operations.setdefault(operation, []).append(variables)
        return _ANSWERS[operation](self, variables) if operation in _ANSWERS else {}

    def take_stream(self, message: dict[str, Any]) -> None:
        """Keep the history rows and the exit code of a message of the file stream."""
        with self.lock:
            lines = message.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.history += map(json.loads, lines)
            if message.get("complete"):
                self.exit_codes.append(message["exitcode"])


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    """Serve on a free port of 127.0.0.1."""
    with WandbServer() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _viewer(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    account = {"id": "U1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
    return {"viewer": {**account, "teams": {"edges": []}}}


def _run(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    entity = {"id": "E1", "name": ENTITY}
    project = {"id": "P1", "name": variables["project"], "entity": entity}
    run = {key: variables.get(key) for key in ("name", "displayName", "config")}
    return {"upsertBucket": {"bucket": {"id": "R1", **run, "project": project}, "inserted": True}}


def _resume_status(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    """Tell what is there of a run that is to be resumed; none of what the others sent is."""
    sent = [run for run in server.operations.get("UpsertBucket", []) if run.get("name") == variables["name"]]
    project = {"id": "P1", "name": variables["project"], "entity": {"id": "E1", "name": ENTITY}}
    if not sent:
        return {"model": project | {"bucket": None}}
    tail = json.dumps([json.dumps(server.history[-1])] if server.history else [])
    texts = {"summaryMetrics": "{}", "config": "{}", "historyTail": tail, "eventsTail": "[]"}
    texts["wandbConfig"] = json.dumps({"t": 1})  # that it has begun
    counts = {"logLineCount": 0, "historyLineCount": len(server.history), "eventsLineCount": 0}
    bucket = {"id": "R1", "name": variables["name"], "displayName": sent[0].get("displayName"), "tags": []}
    return {"model": project | {"bucket": bucket | texts | counts}}


def _run_files(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    files = [{"name": name, "uploadUrl": f"{server.address}/{name}"} for name in variables["files"]]
    return {"createRunFiles": {"runID": "R1", "uploadHeaders": [], "files": files}}


def _artifact(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    name = variables["artifactCollectionName"]
    return {"createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": {"id": name}}}}


def _artifact_manifest(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    artifact = variables["artifactID"]
    file = {"uploadUrl": f"{server.address}/{artifact}/manifest.json", "uploadHeaders": []}
    return {"createArtifactManifest": {"artifactManifest": {"id": artifact, "file": file}}}


def _artifact_files(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    edges = []
    for file in variables["artifactFiles"]:
        artifact, name = file["artifactID"], file["name"]
        node = {"name": name, "uploadUrl": f"{server.address}/{artifact}/{name}", "uploadHeaders": []}
        edges.append({"node": node | {"artifact": {"id": artifact}}})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def _sweep(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    server.sweep = Sweep(variables["config"])
    project = {"id": "P1", "name": variables["projectName"], "entity": {"id": "E1", "name": ENTITY}}
    return {"upsertSweep": {"sweep": {"name": "sweep1", "project": project}, "configValidationWarnings": []}}


def _sweep_with_runs(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"project": {"sweep": {"id": "S1", "name": "sweep1", "config": server.sweep.config, "runs": {"edges": []}}}}


def _agent(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    return {"createAgent": {"agent": {"id": f"agent{len(server.operations['CreateAgent'])}"}}}


def _heartbeat(server: WandbServer, variables: dict[str, Any]) -> dict[str, Any]:
    commands = server.sweep.command(variables["id"], is_busy=any(json.loads(variables["runState"]).values()))
    return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}


_ANSWERS: dict[str, Callable[[WandbServer, dict[str, Any]], dict[str, Any]]] = {
    "Viewer": _viewer,
    "UpsertBucket": _run,
    "RunResumeStatus": _resume_status,
    "CreateRunFiles": _run_files,
    "ArtifactType": lambda server, variables: {"project": None},
    "CreateArtifact": _artifact,
    "CreateArtifactManifest": _artifact_manifest,
    "CreateArtifactFiles": _artifact_files,
    "UpsertSweep": _sweep,
    "SweepWithRuns": _sweep_with_runs,
    "CreateAgent": _agent,
    "Heartbeat": _heartbeat,
    "CommitArtifact": lambda server, variables: {"commitArtifact": {"artifact": {"id": "A", "digest": ""}}},
}


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        message = json.loads(self._body())
        if self.server.lost:
            self.close_connection = True
            return
        if self.path == "/graphql":
            operation = re.search(r"(?:query|mutation)\s+(\w+)", message["query"])[1]
            variables = message.get("variables") or {}
            data = self.server.answer(operation, variables.get("input") or variables)
            self._answer({"data": data})
        else:
            self.server.take_stream(message)
            self._answer({})

    def do_PUT(self) -> None:
        body = self._body()
        with self.server.lock:
            self.server.files[self.path.lstrip("/")] = body
        self._answer({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass
