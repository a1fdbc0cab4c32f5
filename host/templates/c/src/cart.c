#include "cart.h"

#include <stdlib.h>
#include <string.h>

// Room for one more in an array that doubles.
static void *grown(void *array, size_t count, size_t *room, size_t each) {
  if (count < *room) return array;
  *room = *room ? 2 * *room : 16;
  return realloc(array, *room * each);
}

void cart_add(cart_t *cart, item_t item) {
  cart->items = grown(cart->items, cart->item_count, &cart->item_room, sizeof item);
  cart->items[cart->item_count++] = item;
}

void cart_remove(cart_t *cart, text_t tag) {
  cart->removed = grown(cart->removed, cart->removed_count, &cart->removed_room, sizeof tag);
  cart->removed[cart->removed_count++] = tag;
}

int text_compare(text_t a, text_t b) {
  int order = memcmp(a.at, b.at, a.bytes < b.bytes ? a.bytes : b.bytes);
  return order != 0 ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

static int removed_compare(const void *a, const void *b) {
  return text_compare(*(const text_t *)a, *(const text_t *)b);
}

int item_compare(const void *left, const void *right) {
  const item_t *a = left, *b = right;
  int order = text_compare(a->tag, b->tag);
  if (order != 0) return order;
  if (a->quantity != b->quantity) return a->quantity > b->quantity ? -1 : 1;
  return text_compare(b->sku, a->sku);
}

void cart_settle(cart_t *cart) {
  qsort(cart->removed, cart->removed_count, sizeof *cart->removed, removed_compare);
  qsort(cart->items, cart->item_count, sizeof *cart->items, item_compare);
  size_t gone = 0, kept = 0;
  for (size_t n = 0; n < cart->removed_count; n++)
    if (n == 0 || text_compare(cart->removed[n], cart->removed[gone - 1]) != 0)
      cart->removed[gone++] = cart->removed[n];
  cart->removed_count = gone;
  gone = 0;
  text_t last = {NULL, 0};
  for (size_t n = 0; n < cart->item_count; n++) {
    item_t item = cart->items[n];
    bool is_first = n == 0 || text_compare(item.tag, last) != 0;
    last = item.tag;
    while (gone < cart->removed_count && text_compare(cart->removed[gone], item.tag) < 0) gone++;
    bool is_gone = gone < cart->removed_count && text_compare(cart->removed[gone], item.tag) == 0;
    if (is_first && !is_gone) cart->items[kept++] = item;
  }
  cart->item_count = kept;
}

// Bytes that grow at their end.
typedef struct {
  uint8_t *at;
  size_t bytes, room;
} buffer_t;

static void push(buffer_t *to, uint8_t byte) {
  to->at = grown(to->at, to->bytes, &to->room, 1);
  to->at[to->bytes++] = byte;
}

static void put(buffer_t *to, const char *text) {
  while (*text) push(to, *text++);
}

static void quote(buffer_t *to, text_t text) {
  push(to, '"');
  for (size_t n = 0; n < text.bytes; n++) {
    uint8_t byte = text.at[n];
    const char *from = "\"\\\b\f\n\r\t", *found = byte ? strchr(from, byte) : NULL;
    if (found) {
      push(to, '\\');
      push(to, "\"\\bfnrt"[found - from]);
    } else if (byte < 0x20) {
      put(to, "\\u00");
      push(to, "0123456789abcdef"[byte >> 4]);
      push(to, "0123456789abcdef"[byte & 15]);
    } else {
      push(to, byte);
    }
  }
  push(to, '"');
}

static void number(buffer_t *to, uint32_t value) {
  if (value >= 10) number(to, value / 10);
  push(to, '0' + value % 10);
}

text_t cart_write(const cart_t *cart) {
  buffer_t json = {0};
  put(&json, "{\"items\":{");
  for (size_t n = 0; n < cart->item_count; n++) {
    if (n > 0) push(&json, ',');
    quote(&json, cart->items[n].tag);
    put(&json, ":{\"quantity\":");
    number(&json, cart->items[n].quantity);
    put(&json, ",\"sku\":");
    quote(&json, cart->items[n].sku);
    push(&json, '}');
  }
  put(&json, "},\"removed\":[");
  for (size_t n = 0; n < cart->removed_count; n++) {
    if (n > 0) push(&json, ',');
    quote(&json, cart->removed[n]);
  }
  put(&json, "]}");
  return (text_t){json.at, json.bytes};
}

// What is read, and how far; `error` says what is missing there.
typedef struct {
  const uint8_t *at, *end;
  const char *error;
} reader_t;

static void fail(reader_t *from, const char *error) {
  if (!from->error) from->error = error;
}

static int peek(const reader_t *from) { return from->at < from->end ? *from->at : -1; }

static int next(reader_t *from) {
  if (from->at == from->end) fail(from, "it ends too early");
  return from->at < from->end ? *from->at++ : -1;
}

static void space(reader_t *from) {
  while (peek(from) == ' ' || peek(from) == '\t' || peek(from) == '\n' || peek(from) == '\r') from->at++;
}

static void expect(reader_t *from, char byte) {
  space(from);
  if (next(from) != byte) fail(from, "it is not of a cart's form");
}

// Whether the sequence that starts here has an element.
static bool opens(reader_t *from, char open, char close) {
  expect(from, open);
  space(from);
  if (peek(from) != close) return !from->error;
  from->at++;
  return false;
}

// Whether another element comes.
static bool goes_on(reader_t *from, char close) {
  if (from->error) return false;
  space(from);
  int byte = next(from);
  if (byte != ',' && byte != close) fail(from, "a comma is missing");
  return byte == ',';
}

static uint32_t hex(reader_t *from) {
  uint32_t value = 0;
  for (int n = 0; n < 4; n++) {
    int byte = next(from), letter = byte | 0x20;
    if (byte >= '0' && byte <= '9') value = 16 * value + byte - '0';
    else if (letter >= 'a' && letter <= 'f') value = 16 * value + letter - 'a' + 10;
    else fail(from, "an escape is wrong");
  }
  return value;
}

static void put_point(buffer_t *to, uint32_t point) {
  if (point < 0x80) {
    push(to, point);
    return;
  }
  int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  push(to, ((0xf80 >> more) & 0xff) | (point >> (6 * more)));
  while (more-- > 0) push(to, 0x80 | ((point >> (6 * more)) & 0x3f));
}

static void escape(reader_t *from, buffer_t *to) {
  int byte = next(from);
  const char *names = "\"\\/bfnrt", *found = byte > 0 ? strchr(names, byte) : NULL;
  if (found) {
    push(to, "\"\\/\b\f\n\r\t"[found - names]);
    return;
  }
  if (byte != 'u') fail(from, "an escape is wrong");
  uint32_t point = hex(from);
  if (point >= 0xd800 && point < 0xdc00) {
    if (next(from) != '\\' || next(from) != 'u') fail(from, "half a character");
    uint32_t low = hex(from);
    if (low < 0xdc00 || low > 0xdfff) fail(from, "half a character");
    point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
  } else if (point >= 0xdc00 && point < 0xe000) {
    fail(from, "half a character");
  }
  if (!from->error) put_point(to, point);
}

static text_t text(reader_t *from) {
  expect(from, '"');
  const uint8_t *start = from->at;
  while (peek(from) >= 0x20 && peek(from) != '"' && peek(from) != '\\') from->at++;
  text_t plain = {start, from->at - start};
  if (peek(from) == '"') {
    from->at++;
    return plain;  // as it lies there
  }
  buffer_t whole = {0};
  for (size_t n = 0; n < plain.bytes; n++) push(&whole, start[n]);
  while (!from->error) {
    int byte = next(from);
    if (byte == '"') break;
    if (byte == '\\') escape(from, &whole);
    else if (byte < 0x20) fail(from, "a text has no end");
    else push(&whole, byte);
  }
  return (text_t){whole.at, whole.bytes};
}

static uint32_t quantity(reader_t *from) {
  space(from);
  uint64_t value = 0;
  const uint8_t *start = from->at;
  while (peek(from) >= '0' && peek(from) <= '9' && from->at - start < 10) {
    if (from->at == start && peek(from) == '0') break;
    value = 10 * value + *from->at++ - '0';
  }
  int end = peek(from);
  if (value == 0 || value > UINT32_MAX || (end >= '0' && end <= '9') || end == '.' || (end | 0x20) == 'e')
    fail(from, "a quantity is no positive integer");
  return value;
}

// Reads the name of a field that was not there before; -1 if it is none of these two.
static int field(reader_t *from, const char *first, const char *second, bool seen[2]) {
  text_t name = text(from);
  expect(from, ':');
  int found = -1;
  if (name.bytes == strlen(first) && memcmp(name.at, first, name.bytes) == 0) found = 0;
  if (name.bytes == strlen(second) && memcmp(name.at, second, name.bytes) == 0) found = 1;
  if (found < 0 || seen[found]) {
    fail(from, "a field is unknown, or there twice");
    return -1;
  }
  seen[found] = true;
  return found;
}

static item_t item(reader_t *from, text_t tag) {
  item_t item = {tag, 0, {NULL, 0}};
  bool seen[2] = {false, false};
  for (bool more = opens(from, '{', '}'); more; more = goes_on(from, '}')) {
    int found = field(from, "quantity", "sku", seen);
    if (found == 0) item.quantity = quantity(from);
    if (found == 1) item.sku = text(from);
  }
  if (!seen[0] || !seen[1]) fail(from, "an item has no quantity or no sku");
  return item;
}

// Well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
static bool is_utf8(text_t text) {
  for (size_t n = 0; n < text.bytes;) {
    uint8_t first = text.at[n++];
    if (first < 0x80) continue;
    size_t more = first < 0xc2 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0;
    if (more == 0 || text.bytes - n < more) return false;
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (text.at[n] < low || text.at[n] > high) return false;
    for (n++; --more > 0; n++)
      if ((text.at[n] & 0xc0) != 0x80) return false;
  }
  return true;
}

const char *cart_read(cart_t *into, text_t json) {
  if (!is_utf8(json)) return "it is not UTF-8";
  reader_t from = {json.at, json.at + json.bytes, NULL};
  bool seen[2] = {false, false};
  for (bool more = opens(&from, '{', '}'); more; more = goes_on(&from, '}')) {
    int found = field(&from, "items", "removed", seen);
    if (found == 0)
      for (bool more = opens(&from, '{', '}'); more; more = goes_on(&from, '}')) {
        text_t tag = text(&from);
        expect(&from, ':');
        cart_add(into, item(&from, tag));
      }
    if (found == 1)
      for (bool more = opens(&from, '[', ']'); more; more = goes_on(&from, ']'))
        cart_remove(into, text(&from));
  }
  space(&from);
  if (from.at != from.end) fail(&from, "something follows the cart");
  return from.error;
}
