"""The cart's JSON: {"items":{TAG:{"quantity":N,"sku":TEXT}},"removed":[TAG]}

Read strictly, for what a merge skips is lost to the reader. Written in one way only, for equal
carts must be equal bytes: sorted by code points, without white space.
"""

import json

QUANTITY_MAX = 2**32 - 1


class Object(list):
    """A JSON object as its pairs: in a dict a name that is there twice would be lost."""


class Cart:
    def __init__(self):
        self.items: dict[str, tuple[int, str]] = {}  # by tag: quantity and sku
        self.removed: set[str] = set()

    def add(self, tag: str, item: tuple[int, str]) -> None:
        """Of two items under one tag the larger counts, whichever comes first."""
        self.items[tag] = max(item, self.items.get(tag, item))

    def absorb(self, other: "Cart") -> None:
        for tag, item in other.items.items():
            self.add(tag, item)
        self.removed |= other.removed

    def to_json(self) -> bytes:
        items = {
            tag: {"quantity": quantity, "sku": sku}
            for tag, (quantity, sku) in sorted(self.items.items())
            if tag not in self.removed
        }
        cart = {"items": items, "removed": sorted(self.removed)}
        return json.dumps(cart, separators=(",", ":"), ensure_ascii=False).encode()


def parse(value: bytes) -> Cart:
    """Reads a cart. A ValueError says what is wrong with it."""
    cart = Cart()
    fields = unique(json.loads(value.decode(), object_pairs_hook=Object), "items", "removed")
    for tag, item in pairs(fields.get("items", Object())):
        item = unique(item, "quantity", "sku")
        cart.add(text(tag), (quantity(item.get("quantity")), text(item.get("sku"))))
    removed = fields.get("removed", [])
    if type(removed) is not list:
        raise ValueError("removed is no list")
    cart.removed = {text(tag) for tag in removed}
    return cart


def pairs(value) -> Object:
    if not isinstance(value, Object):
        raise ValueError(f"{value!r:.40} is no object")
    return value


def unique(value, *known: str) -> dict:
    fields = {}
    for name, field in pairs(value):
        if name not in known or name in fields:
            raise ValueError(f"the field {name!r:.40} is unknown, or there twice")
        fields[name] = field
    return fields


def text(value) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is no text")
    value.encode()  # an escape may stand for half a character
    return value


def quantity(value) -> int:
    if type(value) is not int or not 1 <= value <= QUANTITY_MAX:
        raise ValueError(f"{value!r:.40} is no quantity")
    return value
