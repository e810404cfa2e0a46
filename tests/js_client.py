"""matrix-js-sdk driven from a test: installs it once, then runs one Node.js process per client."""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parent / "clients" / "js"
# Less than the time limit of a test, which would be a failure instead of a skip.
INSTALL_TIMEOUT_S = 100
ANSWER_TIMEOUT_S = 60
OLDEST_NODE = 20


def _cache_folder() -> Path:
    """A folder outside the tree that is made anew when the pinned versions change."""
    digest = hashlib.sha256((SOURCES / "package.json").read_bytes()).hexdigest()[:16]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "hs-tests" / f"js-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # an account without a home
        folder = Path(tempfile.gettempdir()) / f"hs-tests-{os.getuid()}" / f"js-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
    return folder


# No scripts of packages run; no lock file, which would name the registry it came from; and the newest
# release of the SDK is installed beside the one that Node.js 20 runs, whatever it says about that.
_INSTALL = (
    "install",
    "--ignore-scripts",
    "--no-package-lock",
    "--no-audit",
    "--no-fund",
    "--engine-strict=false",
)


def install() -> Path:
    """The folder with the client script and the SDK; skips the test where Node.js or the SDK is not to be had."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("matrix-js-sdk needs Node.js and npm, which are not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"matrix-js-sdk needs Node.js {OLDEST_NODE} or newer, this is {version}")
    folder = _cache_folder()
    with (folder / "lock").open("w") as lock:
        # Several test processes may start at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            _run_install(npm, folder)
            (folder / "installed").touch()
        _copy(SOURCES / "client.mjs", folder)
    return folder


def _run_install(npm: str, folder: Path) -> None:
    _copy(SOURCES / "package.json", folder)
    command = [npm, *_INSTALL, "--fetch-retries=1", "--fetch-timeout=30000"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install matrix-js-sdk in time")
    if done.returncode != 0:
        pytest.skip(f"npm could not install matrix-js-sdk: {done.stderr.strip()[-500:]}")


def _copy(source: Path, folder: Path) -> None:
    """Replace the file in one step: a client of another test process may be starting."""
    copied = folder / f"{source.name}.new"
    shutil.copy(source, copied)
    copied.replace(folder / source.name)


class JsError(Exception):
    """What the SDK raised; `errcode` and `status` where a server's answer was the cause."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["message"])
        self.errcode: str | None = error["errcode"]
        self.status: int | None = error["status"]


class JsClient:
    """One MatrixClient in a process of its own; see tests/clients/js/client.mjs for its commands."""

    user_id: str

    def __init__(self, process: asyncio.subprocess.Process, base_url: str, log: Path) -> None:
        self._process = process
        self._base_url = base_url
        self._log = log
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def launch(cls, folder: Path, base_url: str, log: Path) -> "JsClient":
        """A running Node.js process that is not logged in; what it writes about itself goes to `log`."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                "node",
                "client.mjs",
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                limit=16 * 2**20,
            )
        return cls(process, base_url, log)

    async def close(self) -> None:
        """Stop syncing and end the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader

    async def do(self, command: str, **options: Any) -> Any:
        """The result of a command; JsError where the SDK raised."""
        self._last_id += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._last_id] = answer
        assert self._process.stdin is not None
        line = json.dumps({"id": self._last_id, "do": command, **options})
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        body = await asyncio.wait_for(answer, ANSWER_TIMEOUT_S)
        if "error" in body:
            raise JsError(body["error"])
        return body.get("result")

    async def call(self, method: str, *args: Any) -> Any:
        """The result of a method of MatrixClient."""
        return await self.do("call", method=method, args=list(args))

    async def register_and_start(self, username: str, password: str) -> None:
        """Register, log in and go through the first sync."""
        who = {"baseUrl": self._base_url, "username": username, "password": password}
        await self.do("register", **who)
        self.user_id = (await self.do("login", **who))["userId"]
        await self.do("start")

    async def say(self, room_id: str, text: str) -> str:
        """The event id of a message."""
        event_id: str = (await self.call("sendTextMessage", room_id, text))["event_id"]
        return event_id

    async def wait_for_text(self, room_id: str, sender: str, text: str) -> dict[str, Any]:
        """The message, once /sync has brought it."""
        found: dict[str, Any] = await self.do(
            "waitForEvent", roomId=room_id, sender=sender, content={"body": text}
        )
        return found

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            body = json.loads(line)
            waiting = self._answers.pop(body["id"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(body)
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(
                    AssertionError(f"the client went down:\n{self._log.read_text()[-3000:]}")
                )
