"""agent.toml: every key is read, documented, and refused with a clear word when it is wrong."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kmend.agent.settings import KEYS, Settings, UpdatePolicy, load_settings
from kmend.kit.errors import InputError

PAGE = (Path(__file__).parents[3] / "docs/reference/agent-config.md").read_text()
MOMENT = datetime(2026, 11, 24, 12, tzinfo=UTC)


def load(tmp_path, text):
    """The settings in a text."""
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load_settings(path)


def test_the_page_and_the_code_have_the_same_keys():
    """One row of the page for each key, in the same order."""
    table = PAGE.split("| key | default | meaning |")[1].split("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == KEYS


def test_the_page_names_the_defaults():
    """Numbers and words of the second column are those of the code."""
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE))
    for name in KEYS:
        default = getattr(Settings(), name)
        if isinstance(default, bool):
            assert rows[name] == str(default).lower()
        elif isinstance(default, int):
            assert rows[name] == str(default)
        elif default and isinstance(default, str):
            assert rows[name] == f'`"{default}"`'


def test_the_example_of_the_page_is_right(tmp_path):
    """What people copy is accepted."""
    found = load(tmp_path, re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1])
    assert found.update_policy == UpdatePolicy.LOCAL_FIRST
    assert found.blocklist == ("7", "CVE-2026-52928")
    assert [str(one) for one in found.windows] == ["Sat,Sun 02:00-05:00", "daily 22:00-23:30"]


def test_no_file_means_defaults(tmp_path):
    """The file may be missing, or empty."""
    assert load_settings(tmp_path / "none.toml") == Settings() == load(tmp_path, "")
    assert Settings().soak_minutes == 15
    assert Settings().in_words == {}


def test_what_is_set_can_be_said_in_words(tmp_path):
    """For `info`: only what differs from the defaults."""
    found = load(
        tmp_path, 'pin_date = 2026-11-24\nblocklist = [3]\ndelay_hours = 0\nwindows = ["Mon 01:00-02:00"]'
    )
    assert found.in_words == {
        "pin_date": "2026-11-25T00:00:00+00:00",
        "windows": "Mon 01:00-02:00",
        "blocklist": "3",
    }


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T13:00:00+01:00", MOMENT),
        ("2026-11-24T12:00:00Z", MOMENT),
    ],
)
def test_pin_date(tmp_path, text, moment):
    """A date is its whole day; a time counts to the second."""
    assert load(tmp_path, f"pin_date = {text}").pin_date == moment


WRONG = {
    "soak_mins = 3": "unknown soak_mins",
    "soak_minutes = '3'": "soak_minutes must be a number from 0 to 1440",
    "soak_minutes = true": "soak_minutes must be a number",
    "soak_minutes = -1": "soak_minutes must be a number",
    "transition_seconds = 0": "transition_seconds must be a number from 1 to 3600",
    "pin_number = 0": "pin_number must be a number from 1",
    "pin_number = 3\ndelay_hours = 1": "cannot stand beside",
    "pin_number = 3\npin_date = 2026-01-01": "cannot stand beside",
    "pin_date = 2026-11-24T12:00:00": "a time with an offset",
    "pin_date = '2026-11-24'": "pin_date must be a date",
    "update_policy = 'offline'": "must be 'remote' or 'local-first' or 'local'",
    "update_policy = ['remote']": "update_policy must be",
    "channel = 'Stable!'": "cannot be the name of a channel",
    "repository = 'ftp://x'": "not a repository address",
    "repository = 'folder'": "full path of a folder",
    "repository = ''": "repository must be a text",
    "windows = 'daily 01:00-02:00'": "windows must be a list",
    "proxy = 'socks5://h:1'": "proxy must be an address such as",
    "proxy = 'http://h:1/path'": "proxy must be an address such as",
    "ca_file = 'ca.pem'": "ca_file must be a full path",
    "windows = []": "windows must be a list",
    "windows = ['weekly 01:00-02:00']": "is not a window such as",
    "windows = ['Mon 25:00-26:00']": "is not a window such as",
    "windows = ['Mon, Tue 01:00-02:00']": "is not a window such as",
    "windows = ['Mon 1:00-2:00']": "is not a window such as",
    "time_zone = 'Mars/Olympus'": "knows no time zone",
    "time_zone = '../etc/passwd'": "knows no time zone",
    "blocklist = 3": "blocklist must be a list",
    "blocklist = [0]": "neither a livepatch's number",
    "blocklist = [true]": "neither a livepatch's number",
    "blocklist = ['a b']": "neither a livepatch's number",
    "blocklist = [": "is not TOML",
    "watch_units = 1": "watch_units must be true or false",
    "metrics_file = 'kmend.prom'": "a full path that ends in .prom",
    "metrics_file = '/run/kmend.txt'": "a full path that ends in .prom",
    "watch_ignore = 'web'": "watch_ignore must be a list",
    "watch_ignore = ['']": "watch_ignore must be a list",
}


def test_a_proxys_password_is_not_shown(tmp_path):
    """Neither by info nor in an error."""
    found = load(tmp_path, 'proxy = "http://user:SECRET@proxy:3128"')
    assert found.proxy == "http://user:SECRET@proxy:3128"
    assert found.in_words == {"proxy": "http://***@proxy:3128"}
    with pytest.raises(InputError) as caught:
        load(tmp_path, 'proxy = "ftp://user:SECRET@proxy:3128"')
    assert "SECRET" not in caught.value.message


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named(tmp_path, text):
    """The file, the key, and what would be right."""
    with pytest.raises(InputError, match=re.escape(WRONG[text])) as caught:
        load(tmp_path, text)
    assert "agent.toml" in caught.value.message
    assert caught.value.hint


def test_a_file_that_cannot_be_read(tmp_path):
    """Bytes that are no text, and a folder in the file's place."""
    (tmp_path / "agent.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not TOML"):
        load_settings(tmp_path / "agent.toml")
    with pytest.raises(InputError, match="cannot be read"):
        load_settings(tmp_path)
