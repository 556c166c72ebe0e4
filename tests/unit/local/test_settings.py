from __future__ import annotations

import stat
from pathlib import Path

import pytest

from clouditia.errors import AuthenticationError, ConfigError
from clouditia.settings import (
    Target,
    check_key,
    check_target_name,
    config_dir,
    list_targets,
    load_target,
    normalize_url,
    read_key_file,
    remove_target,
    save_target,
    store_key,
)


def test_a_saved_target_is_loaded_as_it_was(tmp_path: Path) -> None:
    target = Target(
        "lab",
        "https://gpu.example:8443/prefix",
        key_file=tmp_path / "k",
        pin="ab" * 32,
        on_close="detach",
    )
    path = save_target(target)
    assert load_target("LAB") == target
    assert list_targets() == [target]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_key_is_in_a_target_file_or_in_a_repr() -> None:
    key_file = store_key("lab", "ck_a_secret")
    path = save_target(Target("lab", "https://gpu.example", key_file=key_file))
    assert "secret" not in path.read_text()
    assert "secret" not in repr(load_target("lab"))
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert load_target("lab").read_key() == "ck_a_secret"


def test_names_differ_only_beyond_their_case() -> None:
    save_target(Target("Lab", "https://one.example"))
    save_target(Target("LAB", "https://two.example"))
    assert [target.url for target in list_targets()] == ["https://two.example"]


@pytest.mark.parametrize("name", ["", ".lab", "a/b", "a b", "x" * 65, "..", "ä"])
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no name for a target"):
        check_target_name(name)


@pytest.mark.parametrize("name", ["embedded", "ENV"])
def test_reserved_names_cannot_be_saved(name: str) -> None:
    with pytest.raises(ConfigError, match="reserved"):
        save_target(Target(name, "https://gpu.example"))


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("https://gpu.example/", "https://gpu.example"),
        ("http://127.0.0.1:8888/prefix/", "http://127.0.0.1:8888/prefix"),
        ("https://[::1]:9/a/b", "https://[::1]:9/a/b"),
    ],
)
def test_urls_lose_their_last_slash(given: str, stored: str) -> None:
    assert normalize_url(given) == stored


@pytest.mark.parametrize("url", ["gpu.example", "ftp://x", "https://", "https://h:port", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="not the URL"):
        normalize_url(url)


@pytest.mark.parametrize(
    "url", ["https://h/?token=ck_1_secret", "https://me:secret@h", "https://h/#secret"]
)
def test_urls_with_secrets_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        normalize_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "hf_abc", "CK_abc", "ck_a b", "ck_a\x07"])
def test_only_our_keys_are_keys(key: str) -> None:
    with pytest.raises(AuthenticationError, match="ck_"):
        check_key(key, "a test")


@pytest.mark.parametrize("key", ["ck_1_x", "sk_1_x"])
def test_user_and_admin_keys_are_taken(key: str) -> None:
    assert check_key(f" {key}\n", "a test") == key


def test_a_wrong_key_is_not_repeated_in_the_message() -> None:
    with pytest.raises(AuthenticationError) as caught:
        check_key("hf_verysecret", "a test")
    assert "verysecret" not in str(caught.value)


def test_a_key_file_that_everybody_reads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k"
    path.write_text("ck_1_x")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=r"chmod 600"):
        read_key_file(path)
    path.chmod(0o600)
    assert read_key_file(path) == "ck_1_x"


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        read_key_file(tmp_path / "absent")


def test_the_environment_makes_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDITIA_GATEWAY", "https://gpu.example/")
    monkeypatch.setenv("CLOUDITIA_API_KEY", "ck_1_x")
    target = load_target("env")
    assert (target.url, target.read_key()) == ("https://gpu.example", "ck_1_x")


def test_the_environment_key_goes_to_no_target_with_a_key_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLOUDITIA_API_KEY", "ck_other_x")
    key_file = store_key("lab", "ck_lab_x")
    assert Target("lab", "https://gpu.example", key_file=key_file).read_key() == "ck_lab_x"


def test_without_any_key_the_next_step_is_named() -> None:
    with pytest.raises(AuthenticationError, match="CLOUDITIA_API_KEY"):
        Target("lab", "https://gpu.example").read_key()


def test_an_unknown_target_names_the_known_ones() -> None:
    save_target(Target("lab", "https://gpu.example"))
    with pytest.raises(ConfigError, match=r"known: lab.*clouditia login"):
        load_target("lob")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"url": 3}', '{"url": "https://h", "pin": 1}']
)
def test_a_damaged_target_file_is_named(content: str) -> None:
    path = save_target(Target("lab", "https://gpu.example"))
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"lab\.json"):
        load_target("lab")


def test_removing_a_target_removes_its_key() -> None:
    key_file = store_key("lab", "ck_1_x")
    save_target(Target("lab", "https://gpu.example", key_file=key_file))
    remove_target("lab")
    assert not key_file.exists()
    assert list_targets() == []
    with pytest.raises(ConfigError, match="no target"):
        remove_target("lab")


def test_a_folder_that_cannot_be_written_is_named() -> None:
    (config_dir() / "targets").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match="cannot be written"):
        save_target(Target("lab", "https://gpu.example"))
