"""What systemctl and the container runtimes say, in their own words; the programs are stand-ins."""

import json
import os
from datetime import UTC, datetime

import pytest

from kmend.linux.containers import container_runs, runtimes
from kmend.linux.services import failed_units, going_down

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Puts a program with a shell script in front of all others."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(name, script):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return put


def test_failed_units(programs):
    """The first word of each line."""
    programs(
        "systemctl",
        """cat <<'END'
nginx.service loaded failed failed A high performance web server
app@1.service loaded failed failed App
END""",
    )
    assert failed_units() == ("app@1.service", "nginx.service")
    programs("systemctl", "true")
    assert failed_units() == ()
    programs("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
    assert failed_units() is None


@pytest.mark.parametrize(
    ("word", "down"), [("stopping", True), ("running", False), ("degraded", False), ("", None)]
)
def test_going_down(programs, word, down):
    """Only stopping is a shutdown; the exit code says nothing."""
    programs("systemctl", f"echo {word}; exit 1")
    assert going_down() is down


DOCKER = """
case "$1" in
  ps) echo aaa; echo bbb; echo ccc; echo gone;;
  inspect) cat <<'END'
aaa|/web|0|2026-10-01T10:00:00.123456789Z
bbb|/crashing|7|2026-11-24T11:59:30.5Z
ccc|/once|1|2026-11-01 10:00:00.5 +0000 UTC
END
  echo 'Error: no such object: gone' >&2; exit 1;;
esac"""


@pytest.mark.parametrize("runtime", ["docker", "podman", "nerdctl"])
def test_docker_and_its_like(programs, runtime):
    """Restarts are counted; one that was started again a moment ago is not steady."""
    programs(runtime, DOCKER)
    assert runtime in runtimes()
    found = container_runs(runtime, now=NOW)
    assert [(one.name, one.restarts, one.steady) for one in found] == [
        ("web", 0, True),
        ("crashing", 7, False),
        ("once", 1, True),
    ]


def test_no_containers(programs):
    """An empty list is an answer."""
    programs("docker", 'test "$1" = ps || exit 1')
    assert container_runs("docker", now=NOW) == ()


def crictl_container(name, attempt, created):
    """As crictl lists it."""
    return {
        "id": f"{name}{attempt}",
        "podSandboxId": "pod1",
        "metadata": {"name": name, "attempt": attempt},
        "createdAt": str(int(created.timestamp() * 1e9)),
    }


def test_kubernetes(programs):
    """The newest attempt of each container of a pod."""
    old = datetime(2026, 10, 1, tzinfo=UTC)
    listed = [
        crictl_container("web", 0, old),
        crictl_container("web", 1, old),
        crictl_container("bad", 4, NOW),
        crictl_container("db", 0, NOW),
    ]
    programs("crictl", f"cat <<'END'\n{json.dumps({'containers': listed})}\nEND")
    found = container_runs("crictl", now=NOW)
    assert [(one.id, one.restarts, one.steady) for one in found] == [
        ("pod1/web", 1, True),
        ("pod1/bad", 4, False),
        ("pod1/db", 0, True),
    ]


@pytest.mark.parametrize(
    ("runtime", "script"),
    [
        ("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1"),
        ("docker", 'test "$1" = ps && echo aaa || echo "what|is|this"'),
        ("crictl", "echo no json"),
        ("crictl", "echo '[]'"),
        ("crictl", "echo '{\"containers\": [{}]}'"),
    ],
)
def test_a_runtime_that_does_not_answer(programs, runtime, script):
    """An error, or an answer that makes no sense, is no answer."""
    programs(runtime, script)
    assert container_runs(runtime, now=NOW) is None
