"""Documents and bytes as a careless or a hostile hand leaves them."""

import copy
import json
import math
from random import Random
from typing import Any

DEEP = 3000
_MARKUP = "<script>document.title='run'</script>"
_NAMES = ("", "x", "__class__", "../x", "a" * 500, "value", "\u0000", _MARKUP, "é")
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 255, -0.0, 0.5, 1e-320, 1e308, -1e308, 2**31, 2**63, 10**40),
    *("", " ", "NaN", "nan", "inf", "1", "1e9", "0x10", "\u0000", "../../etc/passwd", "x" * 1000),
    *(_MARKUP, "${oc.env:HOME}", "\ud7ff\u202e", "4 ms", "50%"),
    *([], {}, [[]], [None], [1, "a"], {"": 0}, {"a": {"b": []}}, [0] * 300),
)
_TEXTS = (
    *(
        "",
        " ",
        "null",
        "[]",
        "{",
        '{"a": 1, "a": 2}',
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "\\",
    ),
    *(
        "[" * DEEP,
        '{"a":' * DEEP,
        "9" * 5000,
        "- " * DEEP,
        "? " * DEEP,
        "a: &x [1]\nb: *x\n",
        "\t:",
    ),
    *("!!python/object/apply:os.system ['true']", "${oc.env:HOME}", "a: ${b}\nb: ${a}", "\ufeff{}"),
    "a: &a [1,1]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]",
)


def odd_value(random: Random) -> Any:
    """Something that a document should hardly hold at any place."""
    if random.random() < 0.2:
        return random.choice((math.nan, math.inf, -math.inf))
    return copy.deepcopy(random.choice(_VALUES))


def odd_text(random: Random) -> str:
    """A text that is hardly a document."""
    return random.choice(_TEXTS)


def damaged(document: Any, random: Random) -> Any:
    """A copy of plain data with one to three places changed."""
    changed = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(changed))
        if not places:
            return odd_value(random)
        holder, key = random.choice(places)
        _change(holder, key, random)
    return changed


def damaged_bytes(content: bytes, random: Random) -> bytes:
    """Bytes with a few of them flipped, cut, doubled or put in."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8))):
        place = random.randrange(len(changed) + 1)
        kind = random.randrange(5)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[place:]
        elif kind == 2:
            del changed[place : place + random.randrange(1, 64)]
        elif kind == 3:
            changed[place:place] = random.randbytes(random.randrange(1, 64))
        elif place < len(changed):
            changed[place : place + 4] = random.choice((b"\xff" * 4, b"\0" * 4, b"\x80\0\0\0"))
    return bytes(changed)


def as_text(document: Any, random: Random) -> bytes:
    """A document as JSON, or now and then something else entirely."""
    if random.random() < 0.1:
        return odd_text(random).encode("utf-8", "surrogatepass")
    content = json.dumps(document).encode()
    return damaged_bytes(content, random) if random.random() < 0.15 else content


def _places(document: Any) -> Any:
    """Every holder and key in a document; of long lists, the first few."""
    stack = [document]
    while stack:
        holder = stack.pop()
        if isinstance(holder, dict):
            keys: list[Any] = list(holder)
        elif isinstance(holder, list):
            keys = list(range(min(len(holder), 8)))
        else:
            continue
        for key in keys:
            yield holder, key
            stack.append(holder[key])


def _change(holder: Any, key: Any, random: Random) -> None:
    kind = random.randrange(6)
    value = holder[key]
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[random.choice(_NAMES)] = odd_value(random)
    elif kind == 1:
        holder.insert(key, odd_value(random))
    elif kind == 2 and isinstance(holder, dict):
        holder[random.choice(_NAMES)] = holder.pop(key)
    elif kind == 3 and isinstance(value, (int, float)) and not isinstance(value, bool):
        holder[key] = random.choice((-value, value + 1, value * 1e9, str(value), [value]))
    elif kind == 4 and isinstance(value, list) and value:
        value.append(copy.deepcopy(value[0]))
    else:
        holder[key] = odd_value(random)
