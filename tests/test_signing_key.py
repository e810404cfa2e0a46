"""The signing key: made once, rotated without losing one, whatever the moment of a crash."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from signedjson.key import get_verify_key

from hs.cli import EXIT_DATABASE, main
from hs.matrix.keys import (
    OldKey,
    format_old_keys,
    format_signing_keys,
    key_id_of,
    parse_old_keys,
    signing_key_from_seed,
)
from hs.signing_key import (
    SigningKeyError,
    load_signing_key,
    load_signing_keys,
    path_of_old_keys,
    read_signing_keys,
    rotate_signing_key,
)

FIRST = signing_key_from_seed("a_1", b"\x01" * 32)
NOW = 1_700_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A key file with one key."""
    made = tmp_path / "signing.key"
    made.write_text(format_signing_keys([FIRST]))
    return made


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "signing.key"
    key = load_signing_key(path)
    assert load_signing_keys(path, NOW).current == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["signing.key"]


def test_a_rotated_key_signs_from_the_next_start_on(path: Path) -> None:
    assert load_signing_keys(path, NOW).old == ()
    fresh = rotate_signing_key(path)
    # The running server still signs with the first key, so it has not expired.
    assert read_signing_keys(path).retiring == (FIRST,)
    started = load_signing_keys(path, NOW + 5)
    assert started.current == fresh
    assert started.retiring == ()
    assert started.old == (OldKey(get_verify_key(FIRST), NOW + 5),)
    assert load_signing_keys(path, NOW + 99) == started
    assert FIRST.encode().hex() not in path_of_old_keys(path).read_text()


def test_all_keys_stay_known_newest_first(path: Path) -> None:
    second = rotate_signing_key(path)
    third = rotate_signing_key(path)
    started = load_signing_keys(path, NOW)
    assert started.current == third
    assert [old.key_id for old in started.old] == [key_id_of(second), "ed25519:a_1"]
    rotate_signing_key(path)
    later = load_signing_keys(path, NOW + 9)
    assert [(old.key_id, old.expired_ts) for old in later.old] == [
        (key_id_of(third), NOW + 9),
        (key_id_of(second), NOW),
        ("ed25519:a_1", NOW),
    ]


@pytest.mark.parametrize("crash_at", range(6))
def test_a_crash_at_any_step_loses_no_key(path: Path, crash_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renames are the only steps that change what a reader sees: each is left out in turn, and all after it."""
    renames = 0
    rename = Path.rename

    def crash(self: Path, target: Path) -> Path:
        nonlocal renames
        renames += 1
        if renames > crash_at:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", crash)
    try:
        rotate_signing_key(path)
        load_signing_keys(path, NOW)
        rotate_signing_key(path)
        load_signing_keys(path, NOW + 1)
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    started = load_signing_keys(path, NOW + 7)
    known = {key_id_of(started.current), *(old.key_id for old in started.old)}
    assert "ed25519:a_1" in known
    assert len(known) == 1 + len(started.old)
    # An expiry that was written stays: nothing was signed after it.
    expiries = [old.expired_ts for old in started.old]
    assert (
        expiries == {0: [], 1: [NOW + 7], 2: [NOW], 3: [NOW], 4: [NOW + 7, NOW], 5: [NOW + 1, NOW]}[crash_at]
    )
    assert load_signing_keys(path, NOW + 8) == started


def test_broken_files_are_said_with_their_line(path: Path) -> None:
    rotate_signing_key(path)
    load_signing_keys(path, NOW)
    old = path_of_old_keys(path)
    for text in (
        "ed25519 a_1 AAAA 5",
        "ed25519 a_1 x",
        format_old_keys(list(read_signing_keys(path).old)) + "x",
    ):
        old.write_text(text)
        with pytest.raises(SigningKeyError, match="line"):
            load_signing_keys(path, NOW)
    path.write_text("ed25519 a_1\n")
    with pytest.raises(SigningKeyError, match="line 1"):
        load_signing_key(path)
    path.write_text("\n")
    with pytest.raises(SigningKeyError, match="holds no key"):
        rotate_signing_key(path)


def test_old_keys_are_read_as_they_were_written() -> None:
    keys = [OldKey(get_verify_key(FIRST), 7)]
    assert parse_old_keys("\n" + format_old_keys(keys)) == keys


def test_the_command_line_rotates_and_shows(path: Path, tmp_path: Path) -> None:
    config = tmp_path / "hs.toml"
    config.write_text(f'server_name = "a.example"\nsigning_key_path = "{path}"\n')

    def run(command: str) -> str:
        result = CliRunner().invoke(main, ["keys", command, "--config", str(config)])
        assert result.exit_code == 0, result.output
        return result.output

    assert "ed25519:a_1" in run("show")
    fresh = run("rotate").split()[0]
    shown = run("show")
    assert "until the restart" in shown
    assert fresh in shown
    load_signing_keys(path, NOW)
    assert "signed until 2023-11-14 22:13 UTC" in run("show")


def test_there_is_nothing_to_rotate_before_the_first_start(tmp_path: Path) -> None:
    config = tmp_path / "hs.toml"
    config.write_text('server_name = "a.example"\n')
    result = CliRunner().invoke(main, ["keys", "rotate", "--config", str(config)])
    assert result.exit_code == EXIT_DATABASE
    assert "cannot read the signing key" in result.output
