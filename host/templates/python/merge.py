"""What concurrent versions of a shopping cart mean together.

Each add puts an item under a tag of its own, a removal names the tags that its client saw. So the
merge is the union of the items without the union of the removed tags: an add that a removal did not
see survives it, and what it did see never comes back.
"""

import random

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.types import (
    Ancestor_Known,
    Divergence,
    Failure,
    Outcome,
    Outcome_Delete,
    Outcome_Value,
    Reason,
    Resolution,
    Subject,
    Version,
)

from cart import Cart, parse

SCHEMA_MAX = 1


class Resolver(exports.Resolver):
    def resolve(self, divergence: Divergence) -> Resolution:
        merged = Cart()
        live = False
        for sibling, version in enumerate(divergence.siblings):
            if version.value is None:  # a delete takes nothing away from what it did not see
                continue
            live = True
            if version.schema > SCHEMA_MAX:
                message = f"schema {version.schema}: up to {SCHEMA_MAX} is known"
                raise Err(Failure(Reason.UNKNOWN_SCHEMA, sibling, message))
            try:
                merged.absorb(parse(version.value))
            except (ValueError, RecursionError) as why:
                raise Err(Failure(Reason.MALFORMED, sibling, str(why)))
        outcome = Outcome_Value(merged.to_json()) if live else Outcome_Delete()
        return Resolution(outcome, None, [])


class Sampler(exports.Sampler):
    """For `stator module test`, which checks the merge laws: what can really arise."""

    def samples(self, seed: int, count: int) -> list[Divergence]:
        dice = random.Random(seed)
        return [sample(dice) for _ in range(count)]


def sample(dice: random.Random) -> Divergence:
    """Devices that have read the same cart, each with a few edits of its own."""
    base = edited(Cart(), "base", dice)
    edits = [edited(base, f"device-{n}", dice) for n in range(dice.randint(2, 3))]
    subject = Subject("carts", b"sample")
    return Divergence(subject, [version(cart) for cart in edits], Ancestor_Known(version(base)))


def version(cart: Cart) -> Version:
    return Version(cart.to_json(), 0, 0)


def edited(base: Cart, device: str, dice: random.Random) -> Cart:
    cart = Cart()
    cart.absorb(base)
    for n in range(dice.randrange(4)):
        if dice.random() < 0.3 and cart.items:
            tag = dice.choice(sorted(cart.items))
            del cart.items[tag]
            cart.removed.add(tag)
        else:
            cart.add(f"{device}:{n}", (dice.randint(1, 3), dice.choice(["22423", "85123A"])))
    return cart


class Invariant(exports.Invariant):
    """For `stator module test` as well: what users are promised."""

    def preserves(self, before: Divergence, after: Outcome) -> None:
        carts = [parse(version.value) for version in before.siblings if version.value is not None]
        if not isinstance(after, Outcome_Value):
            if carts:
                raise Err("there is no cart any more")
            return
        merged = parse(after.value)
        removed = {tag for cart in carts for tag in cart.removed}
        if removed - merged.removed:
            raise Err(f"the removal of {min(removed - merged.removed)} is lost")
        for tag, item in ((tag, item) for cart in carts for tag, item in cart.items.items()):
            if tag in removed and tag in merged.items:
                raise Err(f"the removed item {tag} is back")
            if tag not in removed and merged.items.get(tag, (0, "")) < item:
                raise Err(f"the item {tag} is lost")
