"""Damaged files, made from a whole one: the same seed gives the same files.

A damage is what disks, downloads, editors and an attacker do to bytes. Half of them strike the first bytes, where a
format keeps its sizes.
"""

import random
from collections.abc import Callable, Iterator, Sequence

EXTREMES = [bytes([value]) * size for size in (1, 2, 4, 8) for value in (0x00, 0x7F, 0x80, 0xFF)]


def damaged(whole: bytes, count: int, seed: int, tokens: Sequence[bytes], head: int = 128) -> Iterator[bytes]:
    """Yields ``count`` damaged copies; the tokens are words of the format, put in where they may hurt."""
    random_numbers = random.Random(seed)
    for _ in range(count):
        content = whole
        for _ in range(random_numbers.choice((1, 1, 1, 2, 5))):
            content = random_numbers.choice(DAMAGES)(content, random_numbers, tokens, head)
        yield content


def _place(content: bytes, source: random.Random, head: int) -> int:
    limit = len(content) if source.random() < 0.5 else min(head, len(content))
    return source.randrange(limit + 1)


def _flip(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    place = _place(content, source, head)
    return (
        content[:place]
        + bytes(byte ^ (1 << source.randrange(8)) for byte in content[place : place + 1])
        + content[place + 1 :]
    )


def _scramble(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    place = _place(content, source, head)
    size = min(source.choice((2, 4, 16)), len(content) - place)
    return content[:place] + source.randbytes(size) + content[place + size :]


def _truncate(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    return content[: _place(content, source, head)]


def _insert(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    place = _place(content, source, head)
    return content[:place] + source.randbytes(source.choice((1, 3, 40))) + content[place:]


def _append(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    return content + source.choice((b"\0", b"\n", b"rubbish", content, source.randbytes(20)))


def _delete(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    place = _place(content, source, head)
    return content[:place] + content[place + source.choice((1, 2, 8, 100)) :]


def _repeat(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    place = _place(content, source, head)
    return content[: place + source.choice((1, 8, 100))] + content[place:]


def _swap(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    first, second = sorted(_place(content, source, head) for _ in range(2))
    size = min(source.choice((1, 4, 16)), second - first, len(content) - second)
    parts = (content[:first], content[second : second + size], content[first + size : second])
    return b"".join(parts) + content[first : first + size] + content[second + size :]


def _extreme(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    place, value = _place(content, source, head), source.choice(EXTREMES)
    return content[:place] + value + content[place + len(value) :]


def _put_token(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    place, token = _place(content, source, head), source.choice(tokens)
    replaced = source.choice((0, 1, len(token)))
    return content[:place] + token + content[place + replaced :]


def _exchange_token(content: bytes, source: random.Random, tokens: Sequence[bytes], head: int) -> bytes:
    """One word of the format in the place of another."""
    present = [token for token in tokens if token and token in content]
    if not present:
        return _put_token(content, source, tokens, head)
    return content.replace(source.choice(present), source.choice(tokens), 1)


Damage = Callable[[bytes, random.Random, Sequence[bytes], int], bytes]
DAMAGES: tuple[Damage, ...] = (
    _flip,
    _scramble,
    _truncate,
    _insert,
    _append,
    _delete,
    _repeat,
    _swap,
    _extreme,
    _put_token,
    _exchange_token,
)
