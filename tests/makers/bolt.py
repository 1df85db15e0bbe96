"""A bolt database from nested dicts: buckets in the value itself or on pages of their own, leaves and branches."""

import struct
from typing import Any

PAGE = 4096
_HEADER = struct.Struct("<QHHI")
_LEAF = struct.Struct("<IIII")
_BRANCH = struct.Struct("<IIQ")
_MAGIC = 0xED0CDAED


def fnv(content: bytes) -> int:
    """The checksum of a meta page."""
    found = 14695981039346656037
    for byte in content:
        found = ((found ^ byte) * 1099511628211) % (1 << 64)
    return found


class Maker:
    """Pages, one after another; the first four are two metas, a free list and one that is free."""

    def __init__(self, *, inline: bool) -> None:
        self.inline = inline
        self.pages: dict[int, bytes] = {}
        self.next = 4

    def database(self, tree: dict[bytes, Any], *, transaction: int = 7) -> bytes:
        """The file."""
        root = self.bucket(tree)
        metas = [meta(number, root, transaction - 1 + number) for number in (0, 1)]
        free = _HEADER.pack(2, 0x10, 0, 0)
        filled = {0: metas[0], 1: metas[1], 2: free, **self.pages}
        last = max(filled) + len(filled[max(filled)]) // PAGE + 1
        content = bytearray(last * PAGE)
        for number, page in filled.items():
            content[number * PAGE : number * PAGE + len(page)] = page
        return bytes(content)

    def bucket(self, tree: dict[bytes, Any]) -> int:
        """The root page of a bucket with this in it."""
        items = [(key, *self.value(tree[key])) for key in sorted(tree)]
        if len(items) <= 4:
            return self.page(leaf(items))
        groups = [items[place : place + 4] for place in range(0, len(items), 4)]
        return self.page(branch([(group[0][0], self.page(leaf(group))) for group in groups]))

    def value(self, value: Any) -> tuple[int, bytes]:
        """Flags and bytes of one value."""
        if not isinstance(value, dict):
            return 0, value
        flat = not any(isinstance(one, dict) for one in value.values())
        if self.inline and flat and len(value) <= 4:
            items = [(key, 0, value[key]) for key in sorted(value)]
            return 1, struct.pack("<QQ", 0, 0) + leaf(items)
        return 1, struct.pack("<QQ", self.bucket(value), 0)

    def page(self, content: bytes) -> int:
        """A page, with as many that flow over as it needs; its number."""
        number, more = self.next, (len(content) - 1) // PAGE
        identity, flags, count, _ = _HEADER.unpack_from(content)
        self.pages[number] = _HEADER.pack(identity or number, flags, count, more) + content[_HEADER.size :]
        self.next += 1 + more
        return number


def leaf(items: list[tuple[bytes, int, bytes]]) -> bytes:
    """A leaf page."""
    table, data = b"", b""
    for number, (key, flags, value) in enumerate(items):
        place = (len(items) - number) * _LEAF.size + len(data)
        table += _LEAF.pack(flags, place, len(key), len(value))
        data += key + value
    return _HEADER.pack(0, 2, len(items), 0) + table + data


def branch(items: list[tuple[bytes, int]]) -> bytes:
    """A branch page."""
    table, data = b"", b""
    for number, (key, page) in enumerate(items):
        place = (len(items) - number) * _BRANCH.size + len(data)
        table += _BRANCH.pack(place, len(key), page)
        data += key
    return _HEADER.pack(0, 1, len(items), 0) + table + data


def meta(number: int, root: int, transaction: int) -> bytes:
    """A meta page."""
    content = struct.pack("<IIIIQQQQQ", _MAGIC, 2, PAGE, 0, root, 0, 2, 100, transaction)
    return _HEADER.pack(number, 4, 0, 0) + content + struct.pack("<Q", fnv(content))
