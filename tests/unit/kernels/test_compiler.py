"""Whether the kernel's compiler is on this machine."""

import os

import pytest

from kmend.kernels import compiler


@pytest.fixture
def gcc(tmp_path, monkeypatch):
    """A program gcc-99 that says who it is."""
    program = tmp_path / "gcc-99"
    program.write_text("#!/bin/sh\necho 'gcc-99 (Debian 99.1-1) 99.1.0'\necho Copyright\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_the_same_compiler_answers_the_same_text(gcc):
    """The first line is what a kernel keeps of its compiler."""
    text = "gcc-99 (Debian 99.1-1) 99.1.0"
    assert compiler.installed(text) == text


def test_a_compiler_that_is_not_there_is_empty():
    """No program, no answer."""
    assert compiler.installed("gcc-98 (Debian 98) 98.0") == ""
