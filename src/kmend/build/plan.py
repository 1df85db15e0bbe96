"""Which fixes make up the next livepatch. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kmend.kit.errors import InputError
from kmend.model.fix import Fix, Patchset
from kmend.model.kernel import Kernel

_NUMBER_LIMIT = 1_000_000


def plan(fixes: Sequence[Fix], kernel: Kernel, *, number: int) -> Patchset:
    """The cumulative Patchset of some fixes, in the order given.

    Args:
        fixes: All that the livepatch is to contain; it replaces every earlier one as a whole.
        kernel: What it is for.
        number: Rises with every livepatch for this kernel.

    Raises:
        InputError: No fix, a fix twice, or a number that is not positive.
    """
    if not fixes:
        raise InputError("There is no fix to build.", hint="Name at least one fix folder.")
    names = [fix.name for fix in fixes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"Fix {', '.join(twice)} was given more than once.", hint="Name each fix folder once.")
    if not 0 < number < _NUMBER_LIMIT:
        raise InputError(f"Livepatch number {number} is out of range.", hint="Use a number from 1 to 999,999.")
    return Patchset(kernel=kernel, number=number, fixes=tuple(fixes))
