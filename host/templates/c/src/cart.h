// The cart's JSON: {"items":{TAG:{"quantity":N,"sku":TEXT}},"removed":[TAG]}
//
// Read strictly, for what a merge skips is lost to the reader. Written in one way only, for equal
// carts must be equal bytes: sorted by bytes of UTF-8, without white space. Nothing is ever freed: an
// instance lives for one call.

#ifndef CART_H
#define CART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
  const uint8_t *at;
  size_t bytes;
} text_t;

typedef struct {
  text_t tag;
  uint32_t quantity;
  text_t sku;
} item_t;

typedef struct {
  item_t *items;
  size_t item_count, item_room;
  text_t *removed;
  size_t removed_count, removed_room;
} cart_t;

void cart_add(cart_t *cart, item_t item);
void cart_remove(cart_t *cart, text_t tag);

// Reads a cart from bytes, and adds what is in it to `into`. NULL, or what is wrong with the bytes.
const char *cart_read(cart_t *into, text_t json);

// Sorts, keeps each tag once with its larger item, and drops what is removed.
void cart_settle(cart_t *cart);

// A settled cart has one text only.
text_t cart_write(const cart_t *cart);

int text_compare(text_t a, text_t b);

// By tag; of equal tags the larger item first.
int item_compare(const void *a, const void *b);

#endif
