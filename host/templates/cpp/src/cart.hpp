// The cart's JSON: {"items":{TAG:{"quantity":N,"sku":TEXT}},"removed":[TAG]}
//
// Read strictly, for what a merge skips is lost to the reader. Written in one way only, for equal
// carts must be equal bytes: sorted by bytes of UTF-8, without white space.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

struct Item {
  uint32_t quantity;
  std::string sku;

  // Of two items under one tag the larger counts.
  auto operator<=>(const Item &) const = default;
};

struct Cart {
  std::map<std::string, Item> items;  // by tag
  std::set<std::string> removed;

  void add(std::string tag, Item item);

  // Drops what is removed.
  void settle();

  // A settled cart has one text only.
  std::string to_json() const;

  // Reads a cart and adds what is in it. Nothing, or what is wrong with the text.
  std::optional<std::string> read(std::string_view json);
};
