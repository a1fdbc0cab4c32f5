// What concurrent versions of a shopping cart mean together.
//
// Each add puts an item under a tag of its own, a removal names the tags that its client saw. So the
// merge is the union of the items without the union of the removed tags: an add that a removal did
// not see survives it, and what it did see never comes back.

import { Cart, Item, Reader } from './cart';
import { Ancestor, Answer, Bytes, Divergence, Outcome, Reason, Version } from './stator';

const SCHEMA_MAX: u32 = 1;

export function merge(divergence: Divergence): Answer {
  const merged = new Cart();
  let live = false;
  for (let n = 0; n < divergence.siblings.length; n++) {
    const version = divergence.siblings[n], value = version.value;
    if (!value) continue; // a delete takes nothing away from what it did not see
    live = true;
    if (version.schema > SCHEMA_MAX) {
      const message = 'schema ' + version.schema.toString() + ': up to 1 is known';
      return Answer.failure(Reason.UnknownSchema, n, message);
    }
    const reader = new Reader(value);
    reader.cart(merged);
    const error = reader.error;
    if (error != null) return Answer.failure(Reason.Malformed, n, error);
  }
  if (!live) return Answer.of(Outcome.Delete);
  merged.settle();
  return Answer.value(merged.toJson());
}

// For `stator module test`, which checks the merge laws: what can really arise. Devices that have
// read the same cart, each with a few edits of its own.
export function sample(seed: u64, number: i32): Divergence {
  const dice = new Dice(seed * 0x9e3779b97f4a7c15 + number);
  const base = edited(new Cart(), 'base', dice);
  const siblings = new Array<Version>();
  const devices: u32 = 2 + dice.below(2);
  for (let n: u32 = 0; n < devices; n++) {
    siblings.push(version(edited(base, 'device-' + n.toString(), dice)));
  }
  const divergence = new Divergence(Bytes.of('carts'), Bytes.of('sample'), siblings);
  divergence.ancestorIs = Ancestor.Known;
  divergence.ancestor = version(base);
  return divergence;
}

function version(cart: Cart): Version {
  return new Version(cart.toJson());
}

function edited(base: Cart, device: string, dice: Dice): Cart {
  const cart = base.copy();
  for (let n = dice.below(4); n > 0; n--) {
    if (dice.below(3) == 0 && cart.items.length > 0) {
      const gone = cart.items.splice(dice.below(u32(cart.items.length)), 1);
      cart.removed.push(gone[0].tag);
    } else {
      const sku = dice.below(2) == 0 ? '22423' : '85123A';
      cart.items.push(new Item(Bytes.of(device + ':' + n.toString()), 1 + dice.below(3), Bytes.of(sku)));
    }
  }
  cart.settle();
  return cart;
}

// The seed alone decides: xorshift.
class Dice {
  constructor(private state: u64) {
    this.state |= 1;
  }

  below(n: u32): u32 {
    this.state ^= this.state << 13;
    this.state ^= this.state >> 7;
    this.state ^= this.state << 17;
    return u32((this.state >> 33) % n);
  }
}

// For `stator module test` as well: what users are promised. Says what is missing.
export function preserves(before: Divergence, after: Bytes | null): string | null {
  const all = new Cart(), merged = new Cart();
  let live = false;
  for (let n = 0; n < before.siblings.length; n++) {
    const value = before.siblings[n].value;
    if (!value) continue;
    live = true;
    new Reader(value).cart(all);
  }
  if (!after) return live ? 'there is no cart any more' : null;
  new Reader(after).cart(merged);
  merged.settle();
  for (let n = 0; n < all.removed.length; n++) {
    const tag = all.removed[n];
    if (!has(merged.removed, tag)) return 'the removal of ' + tag.toString() + ' is lost';
    if (find(merged, tag)) return 'the removed item ' + tag.toString() + ' is back';
  }
  for (let n = 0; n < all.items.length; n++) {
    const item = all.items[n], kept = find(merged, item.tag);
    const isThere = kept ? kept.compare(item) <= 0 : false;
    if (!isThere && !has(all.removed, item.tag)) return 'the item ' + item.tag.toString() + ' is lost';
  }
  return null;
}

function has(tags: Bytes[], tag: Bytes): bool {
  for (let n = 0; n < tags.length; n++) if (tags[n].compare(tag) == 0) return true;
  return false;
}

function find(cart: Cart, tag: Bytes): Item | null {
  for (let n = 0; n < cart.items.length; n++) {
    if (cart.items[n].tag.compare(tag) == 0) return cart.items[n];
  }
  return null;
}
