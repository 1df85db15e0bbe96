"""Random small C programs in the manner of kernel code, and random edits of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

KINDS = ("noinline ", "", "static noinline ", "static ")
DECLARATIONS = """\
extern void note(const char *text, unsigned x);
extern cold void fail(const char *text, unsigned x);
extern unsigned call(unsigned (*function)(unsigned), unsigned x);
static unsigned shared = 7;
unsigned visible = 9;
static const u8 bytes[8] = {3, 1, 4, 1, 5, 9, 2, 6};
"""
_SWITCH = (
    'switch (x & 7) { case 0: x += NUMBER; break; case 2: x ^= 5; fail("two", x); break; case 3: x *= 7; break;'
    ' case 5: note("five", x); break; case 6: x |= 64; break; default: x++; }'
)
_ONLY_NUMBERS = (
    "switch (x & 7) { case 0: x += 11; break; case 1: x += 17; break; case 2: x += NUMBER; break; case 3: x += 5;"
    " break; case 4: x += 2; break; case 5: x += 4; break; case 6: x += 71; break; }"
)
_PLAIN = (
    "x = x * 33 + NUMBER;",
    "x ^= x >> 7; x += NUMBER;",
    'note("text NUMBER", x);',
    _SWITCH,
    _ONLY_NUMBERS,
    "for (unsigned i = 0; i < (x & 7) + 1; i++) x = x * 3 + i + NUMBER;",
    "{ static unsigned seen; seen += x + NUMBER; x ^= seen; }",
    "{ static unsigned total = 3; total += NUMBER; x += total; }",
    "shared += x + NUMBER; x ^= shared;",
    "visible += x; x += visible ^ NUMBER;",
    "x += bytes[(x + NUMBER) & 7];",
    'x += "0123456789abcdef"[(x + NUMBER) & 15];',
    'if (__builtin_expect(x > 0xf0000000u, 0)) { fail("odd NUMBER", x); x = NUMBER; }',
    "if (x & 1) note(__func__, NUMBER);",
    'if (__builtin_expect(x % 5 == NUMBER % 5, 0)) { fail("rare", x); fail("more", NUMBER); return x; }',
)
_CALLS = ("x += CALLEE(x + NUMBER);", "x += call(CALLEE, x + NUMBER);", "if (x & 4) return CALLEE(x ^ NUMBER);")
_TABLE = "x += table[(x + NUMBER) & 3](x);"
_IN_TABLE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A line of C with a number in it; ``callee`` is the function that it calls."""

    text: str
    number: int
    callee: str = ""

    def __str__(self) -> str:
        """As it stands in the file."""
        return self.text.replace("NUMBER", str(self.number)).replace("CALLEE", self.callee)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function of one number; ``kind`` is what stands before its type."""

    name: str
    kind: str
    body: tuple[Statement, ...]

    @property
    def head(self) -> str:
        """Its declaration."""
        return f"{self.kind}unsigned {self.name}(unsigned x)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Functions in the order of the file; each calls only those with a lower number, or new ones."""

    functions: tuple[Function, ...]
    extra: tuple[str, ...] = field(default=())

    @property
    def entries(self) -> tuple[str, ...]:
        """Functions that can be called from outside."""
        return tuple(sorted(one.name for one in self.functions if not one.kind.startswith("static")))

    def __str__(self) -> str:
        """The C file."""
        heads = [one.head + ";" for one in self.functions]
        table = "unsigned (*table[4])(unsigned) = {f0, f1, f0, f1};"
        bodies = [
            one.head + " {\n  " + "\n  ".join(map(str, one.body)) + "\n  return x;\n}" for one in self.functions
        ]
        return DECLARATIONS + "\n".join([*self.extra, *heads, table, *bodies]) + "\n"


_NUMBERS = st.integers(2, 250)


@st.composite
def _statements(draw: st.DrawFn, number: int) -> Statement:
    """A statement for the function of that number, whose callees have lower ones."""
    texts = [*_PLAIN, *(_CALLS * 3 if number else ()), *((_TABLE,) if number >= _IN_TABLE else ())]
    text = draw(st.sampled_from(texts))
    callee = f"f{draw(st.integers(0, number - 1))}" if "CALLEE" in text else ""
    return Statement(text=text, number=draw(_NUMBERS), callee=callee)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """A program of three to seven functions; the last can be called from outside."""
    count = draw(st.integers(3, 7))
    functions = [
        Function(
            name=f"f{number}",
            kind=draw(st.sampled_from(KINDS if number < count - 1 else KINDS[:2])),
            body=tuple(
                draw(st.lists(_statements(number), min_size=1, max_size=4, unique_by=lambda one: one.text))
            ),
        )
        for number in range(count)
    ]
    return Program(functions=tuple(functions))


@st.composite
def edits(draw: st.DrawFn, program: Program) -> Program:
    """The same program with one to three changes, some of which change nothing that counts."""
    kinds = (_number, _number, _add, _add, _drop, _new_function, _new_data, _reorder, _unused)
    for step in range(draw(st.integers(1, 3))):
        program = draw(st.sampled_from(kinds))(draw, program, step)
    return program


def _with_body(program: Program, at: int, body: list[Statement]) -> Program:
    changed = replace(program.functions[at], body=tuple(body))
    return replace(program, functions=(*program.functions[:at], changed, *program.functions[at + 1 :]))


def _pick(draw: st.DrawFn, program: Program) -> tuple[int, list[Statement]]:
    at = draw(st.integers(0, len(program.functions) - 1))
    return at, list(program.functions[at].body)


def _number(draw: st.DrawFn, program: Program, _: int) -> Program:
    """Another number in one statement."""
    at, body = _pick(draw, program)
    if body:
        line = draw(st.integers(0, len(body) - 1))
        body[line] = replace(body[line], number=draw(_NUMBERS))
    return _with_body(program, at, body)


def _insert(draw: st.DrawFn, program: Program, statement: Statement) -> Program:
    at, body = _pick(draw, program)
    body.insert(draw(st.integers(0, len(body))), statement)
    return _with_body(program, at, body)


def _add(draw: st.DrawFn, program: Program, _: int) -> Program:
    """One more statement: a call, a string, a static variable, a branch."""
    at, body = _pick(draw, program)
    name = program.functions[at].name
    number = int(name[1:]) if name.startswith("f") else 0
    body.insert(draw(st.integers(0, len(body))), draw(_statements(number)))
    return _with_body(program, at, body)


def _drop(draw: st.DrawFn, program: Program, _: int) -> Program:
    """One statement less."""
    at, body = _pick(draw, program)
    if len(body) > 1:
        body.pop(draw(st.integers(0, len(body) - 1)))
    return _with_body(program, at, body)


def _new_function(draw: st.DrawFn, program: Program, step: int) -> Program:
    """A function that was not there, and a call of it."""
    body = draw(st.lists(_statements(0), min_size=1, max_size=3, unique_by=lambda one: one.text))
    fresh = Function(name=f"new{step}", kind=draw(st.sampled_from(KINDS[2:])), body=tuple(body))
    call = Statement(text="x += CALLEE(x + NUMBER);", number=draw(_NUMBERS), callee=fresh.name)
    program = _insert(draw, program, call) if draw(st.integers(0, 4)) else program
    at = draw(st.integers(0, len(program.functions)))
    return replace(program, functions=(*program.functions[:at], fresh, *program.functions[at:]))


def _new_data(draw: st.DrawFn, program: Program, step: int) -> Program:
    """A variable or constant that was not there, and its use."""
    text, use = draw(st.sampled_from((
        (f"static unsigned extra{step} = 5;", f"extra{step} += NUMBER; x ^= extra{step};"),
        (f"static unsigned zero{step};", f"zero{step} += x; x += zero{step} + NUMBER;"),
        (f"static const u16 more{step}[4] = {{7, 70, 700, 7000}};", f"x += more{step}[(x ^ NUMBER) & 3];"),
        (f'static const char *const names{step}[2] = {{"left", "right"}};', f"note(names{step}[x & 1], NUMBER);"),
    )))  # fmt: skip
    program = replace(program, extra=(*program.extra, text))
    return _insert(draw, program, Statement(text=use, number=draw(_NUMBERS)))


def _reorder(draw: st.DrawFn, program: Program, _: int) -> Program:
    """Functions in another order in the file."""
    return replace(program, functions=tuple(draw(st.permutations(program.functions))))


def _unused(_: st.DrawFn, program: Program, step: int) -> Program:
    """What leaves no trace in the object."""
    text = f"struct unused{step} {{ int a; }}; static inline int idle{step}(int x) {{ return x + 1; }}"
    return replace(program, extra=(*program.extra, text))
