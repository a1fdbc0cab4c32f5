// What concurrent versions of a shopping cart mean together.
//
// Each add puts an item under a tag of its own, a removal names the tags that its client saw. So the
// merge is the union of the items without the union of the removed tags: an add that a removal did
// not see survives it, and what it did see never comes back.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cart.h"
#include "stator.h"

#define SCHEMA_MAX 1

static text_t text_of(stator_list_u8_t bytes) { return (text_t){bytes.ptr, bytes.len}; }

static bool refuse(exports_stator_merge_resolver_failure_t *failure, uint8_t reason, size_t sibling,
                   const char *message) {
  failure->reason = reason;
  failure->sibling.is_some = true;
  failure->sibling.val = sibling;
  stator_string_dup(&failure->message, message);
  return false;
}

bool exports_stator_merge_resolver_resolve(
    exports_stator_merge_resolver_divergence_t *divergence,
    exports_stator_merge_resolver_resolution_t *resolution,
    exports_stator_merge_resolver_failure_t *failure) {
  cart_t merged = {0};
  bool live = false;
  for (size_t n = 0; n < divergence->siblings.len; n++) {
    stator_merge_types_version_t *version = &divergence->siblings.ptr[n];
    if (!version->value.is_some) continue;  // a delete takes nothing away from what it did not see
    live = true;
    if (version->schema > SCHEMA_MAX)
      return refuse(failure, STATOR_MERGE_TYPES_REASON_UNKNOWN_SCHEMA, n, "schemas up to 1 are known");
    const char *error = cart_read(&merged, text_of(version->value.val));
    if (error) return refuse(failure, STATOR_MERGE_TYPES_REASON_MALFORMED, n, error);
  }
  memset(resolution, 0, sizeof *resolution);  // no note, no events
  if (!live) {
    resolution->outcome.tag = STATOR_MERGE_TYPES_OUTCOME_DELETE;
    return true;
  }
  cart_settle(&merged);
  text_t json = cart_write(&merged);
  resolution->outcome.tag = STATOR_MERGE_TYPES_OUTCOME_VALUE;
  resolution->outcome.val.value = (stator_list_u8_t){(uint8_t *)json.at, json.bytes};
  return true;
}

// For `stator module test`, which checks the merge laws: what can really arise.

static uint64_t state;

// The seed alone decides: xorshift.
static uint32_t below(uint32_t n) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (state >> 33) % n;
}

static text_t named(const char *device, size_t n) {
  char *name = malloc(32);
  return (text_t){(uint8_t *)name, snprintf(name, 32, "%s:%zu", device, n)};
}

static cart_t edited(const cart_t *base, const char *device) {
  cart_t cart = {0};
  for (size_t n = 0; n < base->item_count; n++) cart_add(&cart, base->items[n]);
  for (size_t n = 0; n < base->removed_count; n++) cart_remove(&cart, base->removed[n]);
  for (uint32_t n = below(4); n > 0; n--) {
    if (below(3) == 0 && cart.item_count > 0) {
      cart_remove(&cart, cart.items[below(cart.item_count)].tag);
    } else {
      const char *sku = below(2) ? "22423" : "85123A";
      cart_add(&cart, (item_t){named(device, n), 1 + below(3), {(const uint8_t *)sku, strlen(sku)}});
    }
    cart_settle(&cart);
  }
  return cart;
}

static stator_merge_types_version_t version_of(const cart_t *cart) {
  text_t json = cart_write(cart);
  stator_merge_types_version_t version = {0};
  version.value.is_some = true;
  version.value.val = (stator_list_u8_t){(uint8_t *)json.at, json.bytes};
  return version;
}

// Devices that have read the same cart, each with a few edits of its own.
void exports_stator_merge_sampler_samples(uint64_t seed, uint32_t count,
                                          exports_stator_merge_sampler_list_divergence_t *samples) {
  static const char *devices[] = {"phone", "laptop", "tablet"};
  state = seed * 2 + 1;
  samples->ptr = calloc(count, sizeof *samples->ptr);
  samples->len = count;
  for (uint32_t n = 0; n < count; n++) {
    cart_t nothing = {0}, base = edited(&nothing, "base");
    exports_stator_merge_sampler_divergence_t *sample = &samples->ptr[n];
    stator_string_dup(&sample->subject.keyspace, "carts");
    sample->siblings.len = 2 + below(2);
    sample->siblings.ptr = calloc(sample->siblings.len, sizeof *sample->siblings.ptr);
    for (size_t device = 0; device < sample->siblings.len; device++) {
      cart_t cart = edited(&base, devices[device]);
      sample->siblings.ptr[device] = version_of(&cart);
    }
    sample->ancestor.tag = STATOR_MERGE_TYPES_ANCESTOR_KNOWN;
    sample->ancestor.val.known = version_of(&base);
  }
}

// For `stator module test` as well: what users are promised.

static bool lost(stator_string_t *why, const char *what, text_t tag) {
  char *text = malloc(tag.bytes + 64);
  int bytes = snprintf(text, tag.bytes + 64, "%s: %.*s", what, (int)tag.bytes, tag.at);
  *why = (stator_string_t){(uint8_t *)text, bytes};
  return false;
}

static const item_t *find(const cart_t *cart, text_t tag) {
  for (size_t n = 0; n < cart->item_count; n++)
    if (text_compare(cart->items[n].tag, tag) == 0) return &cart->items[n];
  return NULL;
}

static bool is_removed(const cart_t *cart, text_t tag) {
  for (size_t n = 0; n < cart->removed_count; n++)
    if (text_compare(cart->removed[n], tag) == 0) return true;
  return false;
}

bool exports_stator_merge_invariant_preserves(exports_stator_merge_invariant_divergence_t *before,
                                              exports_stator_merge_invariant_outcome_t *after,
                                              stator_string_t *why) {
  cart_t all = {0}, merged = {0};
  bool live = false;
  for (size_t n = 0; n < before->siblings.len; n++) {
    if (!before->siblings.ptr[n].value.is_some) continue;
    live = true;
    cart_read(&all, text_of(before->siblings.ptr[n].value.val));
  }
  if (after->tag != STATOR_MERGE_TYPES_OUTCOME_VALUE) {
    if (live) stator_string_dup(why, "there is no cart any more");
    return !live;
  }
  cart_read(&merged, text_of(after->val.value));
  for (size_t n = 0; n < all.removed_count; n++) {
    text_t tag = all.removed[n];
    if (!is_removed(&merged, tag)) return lost(why, "a removal is lost", tag);
    if (find(&merged, tag)) return lost(why, "a removed item is back", tag);
  }
  for (size_t n = 0; n < all.item_count; n++) {
    const item_t *kept = find(&merged, all.items[n].tag);
    bool is_there = kept && item_compare(kept, &all.items[n]) <= 0;
    if (!is_there && !is_removed(&all, all.items[n].tag))
      return lost(why, "an item is lost", all.items[n].tag);
  }
  return true;
}
