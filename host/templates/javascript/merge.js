// What concurrent versions of a shopping cart mean together.
//
// Each add puts an item under a tag of its own, a removal names the tags that its client saw. So the
// merge is the union of the items without the union of the removed tags: an add that a removal did
// not see survives it, and what it did see never comes back.
//
// {"items":{TAG:{"quantity":N,"sku":TEXT}},"removed":[TAG]}

const SCHEMA_MAX = 1;
const QUANTITY_MAX = 2 ** 32 - 1;

export const resolver = {
  resolve({ siblings }) {
    const merged = new Cart();
    let live = false;
    siblings.forEach(({ value, schema }, sibling) => {
      if (value == null) return; // a delete takes nothing away from what it did not see
      live = true;
      if (schema > SCHEMA_MAX) {
        const message = `schema ${schema}: up to ${SCHEMA_MAX} is known`;
        throw { reason: 'unknown-schema', sibling, message };
      }
      try {
        new Reader(decode(value)).cart(merged);
      } catch (why) {
        throw { reason: 'malformed', sibling, message: why.message };
      }
    });
    const outcome = live ? { tag: 'value', val: merged.toJson() } : { tag: 'delete' };
    return { outcome, note: undefined, events: [] };
  },
};

class Cart {
  items = new Map(); // by tag
  removed = new Set();

  // Of two items under one tag the larger counts, whichever comes first.
  add(tag, item) {
    const known = this.items.get(tag);
    if (known === undefined || isLarger(item, known)) this.items.set(tag, item);
  }

  // One text only for each cart. By hand, since an object would put tags like "7" first.
  toJson() {
    const kept = [...this.items.keys()].filter((tag) => !this.removed.has(tag)).sort(byCodePoints);
    const items = kept.map((tag) => {
      const { quantity, sku } = this.items.get(tag);
      return `${JSON.stringify(tag)}:{"quantity":${quantity},"sku":${JSON.stringify(sku)}}`;
    });
    const removed = [...this.removed].sort(byCodePoints).map((tag) => JSON.stringify(tag));
    return encode(`{"items":{${items.join(',')}},"removed":[${removed.join(',')}]}`);
  }
}

function isLarger(a, b) {
  return a.quantity === b.quantity ? byCodePoints(a.sku, b.sku) > 0 : a.quantity > b.quantity;
}

// As bytes of UTF-8 are ordered. JavaScript's own order is by UTF-16 units, which differs where
// one text has a surrogate at the first difference.
function byCodePoints(a, b) {
  if (a === b) return 0;
  if (!SURROGATE.test(a) && !SURROGATE.test(b)) return a < b ? -1 : 1;
  let at = 0;
  while (a.charCodeAt(at) === b.charCodeAt(at)) at++;
  const weight = (unit) => (unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit);
  const [x, y] = [a, b].map((text) => (at < text.length ? weight(text.charCodeAt(at)) : -1));
  return x - y;
}

const SURROGATE = /[\ud800-\udfff]/;

// Reads strictly, for what a merge skips is lost to the reader. JSON.parse keeps only the last of
// names that are there twice.
class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  cart(into) {
    const seen = this.fields({
      items: () => this.object((tag) => into.add(tag, this.item())),
      removed: () => this.list(() => into.removed.add(this.string())),
    });
    this.space();
    if (this.at < this.text.length) this.fail('the end');
    return seen;
  }

  item() {
    const item = {};
    const seen = this.fields({
      quantity: () => { item.quantity = this.quantity(); },
      sku: () => { item.sku = this.string(); },
    });
    if (seen.size < 2) this.fail('quantity and sku');
    return item;
  }

  // An object with no fields but these, each at most once.
  fields(readers) {
    const seen = new Set();
    this.object((name) => {
      if (!Object.hasOwn(readers, name) || seen.has(name)) this.fail('another field');
      seen.add(name);
      readers[name]();
    });
    return seen;
  }

  object(entry) {
    this.sequence('{', '}', () => {
      const name = this.string();
      this.expect(':');
      entry(name);
    });
  }

  list(element) {
    this.sequence('[', ']', element);
  }

  sequence(open, close, part) {
    this.expect(open);
    if (this.takes(close)) return;
    do part(); while (this.takes(','));
    this.expect(close);
  }

  quantity() {
    const quantity = Number(this.token(/[1-9][0-9]{0,9}(?![0-9.eE])/y, 'a quantity'));
    return quantity <= QUANTITY_MAX ? quantity : this.fail('a quantity');
  }

  string() {
    const string = /"[^"\\\u0000-\u001f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\u0000-\u001f]*)*"/y;
    const text = JSON.parse(this.token(string, 'a text'));
    if (SURROGATE.test(text)) encodeURIComponent(text); // fails for half a character
    return text;
  }

  token(pattern, what) {
    this.space();
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) this.fail(what);
    this.at = pattern.lastIndex;
    return found[0];
  }

  takes(sign) {
    this.space();
    if (this.text[this.at] !== sign) return false;
    this.at++;
    return true;
  }

  expect(sign) {
    if (!this.takes(sign)) this.fail(sign);
  }

  space() {
    while (' \t\n\r'.includes(this.text[this.at] ?? '-')) this.at++;
  }

  fail(what) {
    throw new Error(`${what} is missing at ${this.at}`);
  }
}

// QuickJS has no TextDecoder; what stands in for it is as strict.
const decoder = globalThis.TextDecoder && new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = globalThis.TextEncoder && new TextEncoder();

function decode(bytes) {
  if (decoder) return decoder.decode(bytes);
  let units = '';
  for (let at = 0; at < bytes.length; at += 4096) {
    units += String.fromCharCode(...bytes.subarray(at, at + 4096));
  }
  return decodeURIComponent(escape(units));
}

function encode(text) {
  if (encoder) return encoder.encode(text);
  const units = unescape(encodeURIComponent(text));
  const bytes = new Uint8Array(units.length);
  for (let at = 0; at < units.length; at++) bytes[at] = units.charCodeAt(at);
  return bytes;
}

// For `stator module test`, which checks the merge laws: what can really arise.
export const sampler = {
  samples(seed, count) {
    const below = dice(seed);
    // StarlingMonkey has a u64 as BigInt, QuickJS as number.
    const time = typeof seed === 'bigint' ? 0n : 0;
    return Array.from({ length: count }, () => sample(below, time));
  },
};

// Devices that have read the same cart, each with a few edits of its own.
function sample(below, time) {
  const base = edited(new Cart(), 'base', below);
  const edits = Array.from({ length: 2 + below(2) }, (_, n) => edited(base, `device-${n}`, below));
  return {
    subject: { keyspace: 'carts', key: encode('sample') },
    siblings: edits.map((cart) => version(cart, time)),
    ancestor: { tag: 'known', val: version(base, time) },
  };
}

function version(cart, writtenAtMs) {
  return { value: cart.toJson(), schema: 0, writtenAtMs };
}

function edited(base, device, below) {
  const cart = new Cart();
  cart.items = new Map(base.items);
  cart.removed = new Set(base.removed);
  for (let n = below(4); n > 0; n--) {
    if (below(3) === 0 && cart.items.size > 0) {
      const tag = [...cart.items.keys()][below(cart.items.size)];
      cart.items.delete(tag);
      cart.removed.add(tag);
    } else {
      cart.add(`${device}:${n}`, { quantity: 1 + below(3), sku: ['22423', '85123A'][below(2)] });
    }
  }
  return cart;
}

// The seed alone decides: xorshift.
function dice(seed) {
  let state = BigInt(seed) * 2n + 1n;
  return (n) => {
    state ^= BigInt.asUintN(64, state << 13n);
    state ^= state >> 7n;
    state ^= BigInt.asUintN(64, state << 17n);
    return Number(state % BigInt(n));
  };
}

// For `stator module test` as well: what users are promised.
export const invariant = {
  preserves(before, after) {
    const live = before.siblings.filter(({ value }) => value != null);
    if (after.tag !== 'value') {
      if (live.length > 0) throw 'there is no cart any more';
      return;
    }
    const all = new Cart();
    const merged = new Cart();
    for (const { value } of live) new Reader(decode(value)).cart(all);
    new Reader(decode(after.val)).cart(merged);
    for (const tag of all.removed) {
      if (!merged.removed.has(tag)) throw `the removal of ${tag} is lost`;
      if (merged.items.has(tag)) throw `the removed item ${tag} is back`;
    }
    for (const [tag, item] of all.items) {
      const kept = merged.items.get(tag);
      const isThere = kept !== undefined && !isLarger(item, kept);
      if (!all.removed.has(tag) && !isThere) throw `the item ${tag} is lost`;
    }
  },
};
