"""The kernel log's times on the guest's clock."""

import pytest

from kmend.cli.demo.guest_clock import MARK, moments
from kmend.kit.errors import MachineError

LOG = f"""\
[    9.990] systemd[1]: started
[   10.000] {MARK} 1760000010000
[   10.100] {MARK} 1760000010080
[   20.000] livepatch: enabling patch 'kmend_1'
[   20.050] livepatch: 'kmend_1': starting patching transition
[   21.450] livepatch: 'kmend_1': patching complete
[   30.000] livepatch: 'kmend_1': starting patching transition
"""


def test_the_nearest_mark_counts():
    """A mark that took long to get into the log is not believed; the first transition is taken."""
    assert moments(LOG, "kmend_1") == (1760000020000, 1760000020050, 1760000021450)


@pytest.mark.parametrize("missing", [MARK, "enabling", "starting", "complete"])
def test_a_log_that_does_not_tell_is_an_error(missing):
    """Nothing is guessed."""
    with pytest.raises(MachineError):
        moments("\n".join(line for line in LOG.splitlines() if missing not in line), "kmend_1")
