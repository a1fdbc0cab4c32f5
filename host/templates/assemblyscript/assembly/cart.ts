// The cart's JSON: {"items":{TAG:{"quantity":N,"sku":TEXT}},"removed":[TAG]}
//
// Read strictly, for what a merge skips is lost to the reader. Written in one way only, for equal
// carts must be equal bytes: sorted by bytes of UTF-8, without white space.

import { Buffer, Bytes } from './stator';

export class Item {
  constructor(public tag: Bytes, public quantity: u32, public sku: Bytes) {}

  // By tag; of equal tags the larger item first.
  compare(other: Item): i32 {
    const order = this.tag.compare(other.tag);
    if (order != 0) return order;
    if (this.quantity != other.quantity) return this.quantity > other.quantity ? -1 : 1;
    return other.sku.compare(this.sku);
  }
}

export class Cart {
  items: Item[] = [];
  removed: Bytes[] = [];

  copy(): Cart {
    const cart = new Cart();
    cart.items = this.items.slice(0);
    cart.removed = this.removed.slice(0);
    return cart;
  }

  // Sorts, keeps each tag once with its larger item, and drops what is removed.
  settle(): void {
    this.removed.sort((a, b) => a.compare(b));
    this.items.sort((a, b) => a.compare(b));
    const removed = new Array<Bytes>();
    for (let n = 0; n < this.removed.length; n++) {
      if (n == 0 || this.removed[n].compare(this.removed[n - 1]) != 0) removed.push(this.removed[n]);
    }
    const items = new Array<Item>();
    let gone = 0;
    for (let n = 0; n < this.items.length; n++) {
      const tag = this.items[n].tag;
      if (n > 0 && tag.compare(this.items[n - 1].tag) == 0) continue;
      while (gone < removed.length && removed[gone].compare(tag) < 0) gone++;
      if (gone == removed.length || removed[gone].compare(tag) != 0) items.push(this.items[n]);
    }
    this.items = items;
    this.removed = removed;
  }

  // A settled cart has one text only.
  toJson(): Bytes {
    const json = new Buffer();
    json.text('{"items":{');
    for (let n = 0; n < this.items.length; n++) {
      const item = this.items[n];
      if (n > 0) json.push(0x2c);
      quote(json, item.tag);
      json.text(':{"quantity":' + item.quantity.toString() + ',"sku":');
      quote(json, item.sku);
      json.push(0x7d);
    }
    json.text('},"removed":[');
    for (let n = 0; n < this.removed.length; n++) {
      if (n > 0) json.push(0x2c);
      quote(json, this.removed[n]);
    }
    json.text(']}');
    return json.bytes();
  }
}

const HEX = '0123456789abcdef';

function quote(json: Buffer, text: Bytes): void {
  json.push(0x22);
  for (let n = 0; n < text.length; n++) {
    const byte = text.get(n);
    const short = byte == 0x22 || byte == 0x5c ? byte
      : byte == 0x08 ? u8(0x62) : byte == 0x0c ? u8(0x66) : byte == 0x0a ? u8(0x6e)
      : byte == 0x0d ? u8(0x72) : byte == 0x09 ? u8(0x74) : u8(0);
    if (short) {
      json.push(0x5c);
      json.push(short);
    } else if (byte < 0x20) {
      json.text('\\u00');
      json.push(u8(HEX.charCodeAt(byte >> 4)));
      json.push(u8(HEX.charCodeAt(byte & 15)));
    } else {
      json.push(byte);
    }
  }
  json.push(0x22);
}

// Reads a cart from bytes; `error` says what is wrong with them.
export class Reader {
  error: string | null = null;
  private at: i32 = 0;

  constructor(private json: Bytes) {}

  cart(into: Cart): void {
    if (!isUtf8(this.json)) return this.fail('UTF-8');
    let seenItems = false, seenRemoved = false;
    for (let more = this.opens(0x7b, 0x7d); more; more = this.goesOn(0x7d)) {
      const name = this.name();
      if (name == 'items' && !seenItems) {
        seenItems = true;
        for (let more = this.opens(0x7b, 0x7d); more; more = this.goesOn(0x7d)) {
          const tag = this.text();
          this.expect(0x3a);
          into.items.push(this.item(tag));
        }
      } else if (name == 'removed' && !seenRemoved) {
        seenRemoved = true;
        for (let more = this.opens(0x5b, 0x5d); more; more = this.goesOn(0x5d)) {
          into.removed.push(this.text());
        }
      } else {
        this.fail('a known field');
      }
    }
    this.space();
    if (this.at < this.json.length) this.fail('the end');
  }

  private item(tag: Bytes): Item {
    const item = new Item(tag, 0, tag);
    let seenSku = false;
    for (let more = this.opens(0x7b, 0x7d); more; more = this.goesOn(0x7d)) {
      const name = this.name();
      if (name == 'quantity' && item.quantity == 0) {
        item.quantity = this.quantity();
      } else if (name == 'sku' && !seenSku) {
        seenSku = true;
        item.sku = this.text();
      } else {
        this.fail('a known field');
      }
    }
    if (item.quantity == 0 || !seenSku) this.fail('quantity and sku');
    return item;
  }

  private name(): string {
    const name = this.text().toString();
    this.expect(0x3a);
    return name;
  }

  private quantity(): u32 {
    this.space();
    let value: u64 = 0;
    const start = this.at;
    while (this.peek() >= 0x30 && this.peek() <= 0x39 && this.at - start < 10) {
      if (this.at == start && this.peek() == 0x30) break;
      value = 10 * value + (this.json.get(this.at++) - 0x30);
    }
    const next = this.peek();
    const ends = !(next >= 0x30 && next <= 0x39) && next != 0x2e && (next | 0x20) != 0x65;
    if (value == 0 || value > u32.MAX_VALUE || !ends) this.fail('a quantity');
    return u32(value);
  }

  private text(): Bytes {
    this.expect(0x22);
    const start = this.at;
    while (this.peek() >= 0x20 && this.peek() != 0x22 && this.peek() != 0x5c) this.at++;
    const plain = new Bytes(this.json.at + start, this.at - start);
    if (this.peek() == 0x22) {
      this.at++;
      return plain; // as it lies there
    }
    const text = new Buffer();
    text.put(plain);
    while (this.error == null) {
      const byte = this.next();
      if (byte == 0x22) break;
      if (byte == 0x5c) this.escape(text);
      else if (byte < 0x20) this.fail('a text');
      else text.push(u8(byte));
    }
    return text.bytes();
  }

  private escape(text: Buffer): void {
    const byte = this.next();
    if (byte == 0x22 || byte == 0x5c || byte == 0x2f) return text.push(u8(byte));
    if (byte == 0x62) return text.push(0x08);
    if (byte == 0x66) return text.push(0x0c);
    if (byte == 0x6e) return text.push(0x0a);
    if (byte == 0x72) return text.push(0x0d);
    if (byte == 0x74) return text.push(0x09);
    if (byte != 0x75) return this.fail('an escape');
    let point = this.hex();
    if (point >= 0xd800 && point < 0xdc00) {
      if (this.next() != 0x5c || this.next() != 0x75) return this.fail('a text');
      const low = this.hex();
      if (low < 0xdc00 || low > 0xdfff) return this.fail('a text');
      point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    } else if (point >= 0xdc00 && point < 0xe000) {
      return this.fail('a text'); // half a character
    }
    text.text(String.fromCodePoint(point));
  }

  private hex(): i32 {
    let value = 0;
    for (let n = 0; n < 4; n++) {
      const byte = this.next(), letter = byte | 0x20;
      if (byte >= 0x30 && byte <= 0x39) value = 16 * value + byte - 0x30;
      else if (letter >= 0x61 && letter <= 0x66) value = 16 * value + letter - 0x57;
      else this.fail('an escape');
    }
    return value;
  }

  // Whether the sequence that starts here has an element.
  private opens(open: i32, close: i32): bool {
    this.expect(open);
    this.space();
    if (this.peek() != close) return this.error == null;
    this.at++;
    return false;
  }

  // Whether another element comes.
  private goesOn(close: i32): bool {
    if (this.error != null) return false;
    this.space();
    const byte = this.next();
    if (byte == 0x2c) return true;
    if (byte != close) this.fail('a comma');
    return false;
  }

  private expect(byte: i32): void {
    this.space();
    if (this.next() != byte) this.fail(String.fromCharCode(byte));
  }

  private space(): void {
    while (this.peek() == 0x20 || (this.peek() >= 0x09 && this.peek() <= 0x0d && this.peek() != 0x0b && this.peek() != 0x0c)) this.at++;
  }

  private peek(): i32 {
    return this.at < this.json.length ? i32(this.json.get(this.at)) : -1;
  }

  private next(): i32 {
    const byte = this.peek();
    if (byte < 0) this.fail('more');
    else this.at++;
    return byte;
  }

  private fail(what: string): void {
    if (this.error == null) this.error = what + ' is missing at ' + this.at.toString();
  }
}

// Well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
function isUtf8(text: Bytes): bool {
  let at = text.at;
  const end = at + text.length;
  while (at < end) {
    const first = load<u8>(at++);
    if (first < 0x80) continue;
    let more: usize = first < 0xc2 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0;
    if (more == 0 || end - at < more) return false;
    const low: u8 = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const high: u8 = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (load<u8>(at) < low || load<u8>(at) > high) return false;
    for (at++; --more > 0; at++) if ((load<u8>(at) & 0xc0) != 0x80) return false;
  }
  return true;
}
