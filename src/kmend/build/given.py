"""New functions whose address the kernel does not keep longer than the livepatch is there. Pure.

Constructors and destructors of shadow variables are called at once (Documentation/livepatch/shadow-vars.rst,
kernel/livepatch/shadow.c). RCU callbacks are called soon, and the livepatch's exit function waits for all of
them (Documentation/RCU/rcubarrier.rst, "Unloading Modules That Use call_rcu()"); other flavours of RCU have a
barrier of their own and are not waited for.
"""

from __future__ import annotations

from collections.abc import Mapping

from kmend.elf.code import ARGUMENTS, Use, uses
from kmend.elf.objects import Piece, Reference, Undefined

# Which argument (from 0) is the function.
_TAKES_FUNCTION: Mapping[str, int] = {
    "klp_shadow_alloc": 4,
    "klp_shadow_get_or_alloc": 4,
    "klp_shadow_free": 2,
    "klp_shadow_free_all": 1,
    "call_rcu": 1,
    "call_rcu_hurry": 1,
}


def is_given_for_a_while(owner: Piece, reference: Reference) -> bool:
    """Whether a function's address goes into a call that keeps it no longer than the livepatch, and nowhere else.

    It is loaded into the argument's register by an instruction of its own, and reaches the call without a branch,
    a label or another use in between.

    Args:
        owner: The function that takes the address.
        reference: Where it does.
    """
    if not any(map(_argument, owner.references)):
        return False
    everything = uses(owner.code)
    labels = {one.instruction.target() for one in everything}
    at = next((number for number, use in enumerate(everything) if _covers(use, reference)), len(everything) - 1)
    loaded = everything[at]
    if loaded.instruction.mnemonic not in {"mov", "lea"} or loaded.reads or len(loaded.writes) != 1:
        return False
    (register,) = loaded.writes
    for use in everything[at + 1 :]:
        if use.instruction.offset in labels:
            return False
        if use.instruction.is_branch:
            calls = use.instruction.mnemonic.startswith(("call", "jmp"))
            return calls and any(_covers(use, one) and _argument(one) == register for one in owner.references)
        if register in use.reads | use.writes:
            return False
    return False


def _covers(use: Use, reference: Reference) -> bool:
    return use.instruction.offset <= reference.offset < use.instruction.end


def _argument(reference: Reference) -> str:
    """The register in which a call takes a function that it does not keep; empty for all other references."""
    target = reference.target
    if not isinstance(target, Undefined) or not reference.is_branch or reference.delta:
        return ""
    argument = _TAKES_FUNCTION.get(target.name)
    return "" if argument is None else ARGUMENTS[argument]
