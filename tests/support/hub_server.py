"""A server that speaks the Hub's protocol as huggingface_hub uses it: repositories, commits, uploads and downloads."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_test"
LARGE = (".safetensors", ".mp4")


class Hub(ThreadingHTTPServer):
    """The state of the server.

    Attributes:
        repos: Of each repository, its commits, oldest first: sha and contents of the files by name.
        private: Repositories that need the token.
        blobs: Contents that were uploaded, by their SHA-256.
        requests: Method and path of each request, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: set[str] = set()
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, repo: str) -> dict[str, bytes]:
        return self.repos[repo][-1][1]

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        commits = self.repos.setdefault(repo, [])
        sha = hashlib.sha1(f"{repo}{len(commits)}{sorted(files)}".encode()).hexdigest()
        commits.append((sha, files))
        return sha


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer()

    do_POST = do_PUT = do_HEAD = do_GET  # noqa: N815

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {path}")
        if self.headers.get("Authorization") not in (None, f"Bearer {TOKEN}"):
            return self.refuse(401, "")
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return method(self, body, *found.groups())
        self.refuse(404, "EntryNotFound")

    def send(self, data: bytes | Any, status: int = 200, **headers: str) -> None:
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str) -> None:
        self.send({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

    def found(self, repo: str, revision: str | None = None) -> tuple[str, dict[str, bytes]] | None:
        is_hidden = repo in self.server.private and self.headers.get("Authorization") is None
        if repo not in self.server.repos or is_hidden:
            self.refuse(401 if is_hidden else 404, "RepoNotFound")
            return None
        commits = self.server.repos[repo]
        matching = [each for each in commits if each[0] == revision] if revision not in (None, "main") else commits
        if not matching:
            self.refuse(404, "RevisionNotFound")
            return None
        return matching[-1]

    def whoami(self, _: bytes) -> None:
        orgs = [{"name": "org", "type": "org"}]
        self.send({"type": "user", "name": "tester", "orgs": orgs, "auth": {"type": "access_token"}})

    def create(self, body: bytes) -> None:
        values = json.loads(body)
        repo = f"{values['organization']}/{values['name']}"
        if repo in self.server.repos:
            return self.send({"url": f"{self.server.address}/{repo}"}, 409)
        self.server.commit(repo, {".gitattributes": b"*.safetensors filter=lfs\n"})
        if values.get("visibility") == "private" or values.get("private"):
            self.server.private.add(repo)
        self.send({"url": f"{self.server.address}/{repo}"})

    def validate(self, body: bytes) -> None:
        assert json.loads(body)["content"].startswith("---\n")
        self.send({"warnings": [], "errors": []})

    def preupload(self, body: bytes, repo: str, _: str) -> None:
        if self.found(repo) is None:
            return
        files = [
            {
                "path": each["path"],
                "uploadMode": "lfs" if each["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for each in json.loads(body)["files"]
        ]
        self.send({"files": files})

    def batch(self, body: bytes, repo: str) -> None:
        objects = [
            each | {"actions": {"upload": {"href": f"{self.server.address}/upload/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        self.send({"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.blobs[oid] = body
        self.send(b"")

    def commit(self, body: bytes, repo: str, _: str) -> None:
        found = self.found(repo)
        if found is None:
            return
        files = dict(found[1])
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.server.commit(repo, files)
        self.send({"commitUrl": f"{self.server.address}/{repo}/commit/{sha}", "commitOid": sha})

    def info(self, _: bytes, repo: str, revision: str | None = None) -> None:
        if (found := self.found(repo, revision)) is not None:
            siblings = [{"rfilename": name, "size": len(data)} for name, data in found[1].items()]
            self.send({"_id": "0", "id": repo, "sha": found[0], "siblings": siblings, "private": False, "tags": []})

    def tree(self, _: bytes, repo: str, revision: str) -> None:
        if (found := self.found(repo, revision)) is not None:
            self.send([self.entry(name, data) for name, data in found[1].items()])

    def entry(self, name: str, data: bytes) -> dict[str, Any]:
        entry = {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
        if name.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def download(self, _: bytes, repo: str, revision: str, name: str) -> None:
        if (found := self.found(repo, revision)) is not None:
            if name not in found[1]:
                return self.refuse(404, "EntryNotFound")
            data = found[1][name]
            is_large = name.endswith(LARGE)
            etag = (hashlib.sha256 if is_large else hashlib.sha1)(data).hexdigest()
            linked = {"X_Linked_Etag": f'"{etag}"', "X_Linked_Size": str(len(data))} if is_large else {}
            self.send(data, ETag=f'"{etag}"', X_Repo_Commit=found[0], **linked)


ROUTES: list[tuple[str, Any]] = [
    (r"GET /api/whoami-v2", Handler.whoami),
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate),
    (r"POST /api/models/([^/]+/[^/]+)/preupload/(\w+)", Handler.preupload),
    (r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /upload/(\w+)", Handler.upload),
    (r"POST /api/models/([^/]+/[^/]+)/commit/(\w+)", Handler.commit),
    (r"GET /api/models/([^/]+/[^/]+)/tree/(\w+)", Handler.tree),
    (r"GET /api/models/([^/]+/[^/]+)/revision/([\w.-]+)", Handler.info),
    (r"GET /api/models/([^/]+/[^/]+)", Handler.info),
    (r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/(\w+)/(.+)", Handler.download),
]


@contextmanager
def serving() -> Iterator[Hub]:
    """A server that answers while the context lasts."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
