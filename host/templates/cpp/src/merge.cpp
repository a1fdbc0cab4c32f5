// What concurrent versions of a shopping cart mean together.
//
// Each add puts an item under a tag of its own, a removal names the tags that its client saw. So the
// merge is the union of the items without the union of the removed tags: an add that a removal did
// not see survives it, and what it did see never comes back.
//
// No exceptions: Debian's libc++ for WebAssembly has none.

#include <cstring>
#include <iterator>
#include <string>

#include "cart.hpp"
#include "stator.h"

constexpr uint32_t SCHEMA_MAX = 1;

static std::string_view text_of(const stator_list_u8_t &bytes) {
  return {reinterpret_cast<const char *>(bytes.ptr), bytes.len};
}

// Bytes for the host, which are never freed: an instance lives for one call.
template <typename Bytes>
static Bytes given(const std::string &text) {
  auto *kept = new std::string(text);
  return {reinterpret_cast<uint8_t *>(kept->data()), kept->size()};
}

static bool refuse(exports_stator_merge_resolver_failure_t *failure, uint8_t reason, size_t sibling,
                   const std::string &message) {
  failure->reason = reason;
  failure->sibling = {true, static_cast<uint32_t>(sibling)};
  failure->message = given<stator_string_t>(message);
  return false;
}

bool exports_stator_merge_resolver_resolve(exports_stator_merge_resolver_divergence_t *divergence,
                                           exports_stator_merge_resolver_resolution_t *resolution,
                                           exports_stator_merge_resolver_failure_t *failure) {
  Cart merged;
  bool live = false;
  for (size_t n = 0; n < divergence->siblings.len; n++) {
    const auto &version = divergence->siblings.ptr[n];
    if (!version.value.is_some) continue;  // a delete takes nothing away from what it did not see
    live = true;
    if (version.schema > SCHEMA_MAX)
      return refuse(failure, STATOR_MERGE_TYPES_REASON_UNKNOWN_SCHEMA, n,
                    "schema " + std::to_string(version.schema) + ": up to 1 is known");
    if (auto error = merged.read(text_of(version.value.val)))
      return refuse(failure, STATOR_MERGE_TYPES_REASON_MALFORMED, n, *error);
  }
  std::memset(resolution, 0, sizeof *resolution);  // no note, no events
  if (!live) {
    resolution->outcome.tag = STATOR_MERGE_TYPES_OUTCOME_DELETE;
    return true;
  }
  merged.settle();
  resolution->outcome.tag = STATOR_MERGE_TYPES_OUTCOME_VALUE;
  resolution->outcome.val.value = given<stator_list_u8_t>(merged.to_json());
  return true;
}

// For `stator module test`, which checks the merge laws: what can really arise.

namespace {

// The seed alone decides: xorshift.
struct Dice {
  uint64_t state;

  uint32_t below(uint32_t n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<uint32_t>((state >> 33) % n);
  }
};

Cart edited(Cart cart, const std::string &device, Dice &dice) {
  for (uint32_t n = dice.below(4); n > 0; n--) {
    if (dice.below(3) == 0 && !cart.items.empty()) {
      auto gone = std::next(cart.items.begin(), dice.below(static_cast<uint32_t>(cart.items.size())));
      cart.removed.insert(gone->first);
    } else {
      cart.add(device + ":" + std::to_string(n), {1 + dice.below(3), dice.below(2) ? "22423" : "85123A"});
    }
    cart.settle();
  }
  return cart;
}

stator_merge_types_version_t version_of(const Cart &cart) {
  stator_merge_types_version_t version{};
  version.value = {true, given<stator_list_u8_t>(cart.to_json())};
  return version;
}

}  // namespace

// Devices that have read the same cart, each with a few edits of its own.
void exports_stator_merge_sampler_samples(uint64_t seed, uint32_t count,
                                          exports_stator_merge_sampler_list_divergence_t *samples) {
  Dice dice{seed * 2 + 1};
  *samples = {new exports_stator_merge_sampler_divergence_t[count]{}, count};
  for (uint32_t n = 0; n < count; n++) {
    auto &sample = samples->ptr[n];
    Cart base = edited({}, "base", dice);
    sample.subject.keyspace = given<stator_string_t>("carts");
    size_t devices = 2 + dice.below(2);
    sample.siblings = {new stator_merge_types_version_t[devices]{}, devices};
    for (size_t device = 0; device < devices; device++)
      sample.siblings.ptr[device] =
          version_of(edited(base, "device-" + std::to_string(device), dice));
    sample.ancestor.tag = STATOR_MERGE_TYPES_ANCESTOR_KNOWN;
    sample.ancestor.val.known = version_of(base);
  }
}

// For `stator module test` as well: what users are promised.
bool exports_stator_merge_invariant_preserves(exports_stator_merge_invariant_divergence_t *before,
                                              exports_stator_merge_invariant_outcome_t *after,
                                              stator_string_t *why) {
  auto lost = [&](const std::string &what) {
    *why = given<stator_string_t>(what);
    return false;
  };
  Cart all, merged;
  bool live = false;
  for (size_t n = 0; n < before->siblings.len; n++) {
    const auto &value = before->siblings.ptr[n].value;
    if (!value.is_some) continue;
    live = true;
    all.read(text_of(value.val));
  }
  if (after->tag != STATOR_MERGE_TYPES_OUTCOME_VALUE)
    return live ? lost("there is no cart any more") : true;
  merged.read(text_of(after->val.value));
  for (const auto &tag : all.removed) {
    if (!merged.removed.contains(tag)) return lost("the removal of " + tag + " is lost");
    if (merged.items.contains(tag)) return lost("the removed item " + tag + " is back");
  }
  for (const auto &[tag, item] : all.items) {
    auto kept = merged.items.find(tag);
    bool is_there = kept != merged.items.end() && kept->second >= item;
    if (!is_there && !all.removed.contains(tag)) return lost("the item " + tag + " is lost");
  }
  return true;
}
