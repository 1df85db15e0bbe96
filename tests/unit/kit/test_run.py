"""The one door for running programs."""

import pytest

from kmend.kit.errors import ProgramError
from kmend.kit.run import run


def test_a_missing_program_is_named():
    """Not setpriv, which would start it, and what to do about it."""
    with pytest.raises(ProgramError, match=r"^no-such-program is not on this machine\.$") as caught:
        run(["no-such-program", "--version"])
    assert "Install" in caught.value.hint
    assert caught.value.code is None


def test_the_program_is_looked_for_where_it_is_run(tmp_path):
    """The PATH that the caller gives counts."""
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\necho found\n")
    program.chmod(0o755)
    assert run(["only-here"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}).text == "found\n"
