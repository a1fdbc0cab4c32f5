#include "cart.hpp"

#include <cstring>
#include <functional>

void Cart::add(std::string tag, Item item) {
  auto [known, is_new] = items.try_emplace(std::move(tag), item);
  if (!is_new && known->second < item) known->second = std::move(item);
}

void Cart::settle() {
  std::erase_if(items, [&](const auto &entry) { return removed.contains(entry.first); });
}

static std::string quoted(std::string_view text) {
  std::string json = "\"";
  for (unsigned char byte : text) {
    const char *from = "\"\\\b\f\n\r\t", *found = byte ? std::strchr(from, byte) : nullptr;
    if (found) {
      (json += '\\') += "\"\\bfnrt"[found - from];
    } else if (byte < 0x20) {
      ((json += "\\u00") += "0123456789abcdef"[byte >> 4]) += "0123456789abcdef"[byte & 15];
    } else {
      json += static_cast<char>(byte);
    }
  }
  return json += '"';
}

std::string Cart::to_json() const {
  std::string json = "{\"items\":{";
  const char *between = "";
  for (const auto &[tag, item] : items) {
    json += between + quoted(tag) + ":{\"quantity\":" + std::to_string(item.quantity);
    json += ",\"sku\":" + quoted(item.sku) + "}";
    between = ",";
  }
  json += "},\"removed\":[";
  between = "";
  for (const auto &tag : removed) {
    json += between + quoted(tag);
    between = ",";
  }
  return json += "]}";
}

namespace {

// Well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
bool is_utf8(std::string_view text) {
  auto byte = [&](size_t n) { return static_cast<unsigned char>(text[n]); };
  for (size_t n = 0; n < text.size();) {
    unsigned first = byte(n++);
    if (first < 0x80) continue;
    size_t more = first < 0xc2 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0;
    if (more == 0 || text.size() - n < more) return false;
    unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (byte(n) < low || byte(n) > high) return false;
    for (n++; --more > 0; n++)
      if ((byte(n) & 0xc0) != 0x80) return false;
  }
  return true;
}

// Without exceptions: the first error stays, and everything ends soon after it.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::optional<std::string> error;

  void cart(Cart &into) {
    if (!is_utf8(text_)) return fail("UTF-8");
    fields({{"items", [&] { object([&](std::string tag) { into.add(std::move(tag), item()); }); }},
            {"removed", [&] { sequence('[', ']', [&] { into.removed.insert(string()); }); }}});
    space();
    if (at_ < text_.size()) fail("the end");
  }

 private:
  std::string_view text_;
  size_t at_ = 0;

  using Fields = std::map<std::string_view, std::function<void()>>;

  // An object with no fields but these, each at most once; those that were not there are left.
  Fields fields(Fields known) {
    object([&](std::string name) {
      auto found = known.find(name);
      if (found == known.end()) return fail("a known field");
      found->second();
      known.erase(found);
    });
    return known;
  }

  Item item() {
    Item item{};
    auto missing = fields({{"quantity", [&] { item.quantity = quantity(); }},
                           {"sku", [&] { item.sku = string(); }}});
    if (!missing.empty()) fail("quantity and sku");
    return item;
  }

  template <typename Entry>
  void object(Entry entry) {
    sequence('{', '}', [&] {
      std::string name = string();
      expect(':');
      entry(std::move(name));
    });
  }

  template <typename Part>
  void sequence(char open, char close, Part part) {
    expect(open);
    if (takes(close)) return;
    do part();
    while (!error && takes(','));
    expect(close);
  }

  uint32_t quantity() {
    space();
    uint64_t value = 0;
    size_t start = at_;
    for (; peek() >= '0' && peek() <= '9' && at_ - start < 10; at_++) {
      if (at_ == start && peek() == '0') break;
      value = 10 * value + static_cast<uint64_t>(peek() - '0');
    }
    int end = peek();
    if (value == 0 || value > UINT32_MAX || (end >= '0' && end <= '9') || end == '.' || (end | 0x20) == 'e')
      fail("a quantity");
    return static_cast<uint32_t>(value);
  }

  std::string string() {
    std::string text;
    expect('"');
    while (!error) {
      int byte = next();
      if (byte == '"') break;
      if (byte == '\\') escape(text);
      else if (byte < 0x20) fail("a text");
      else text += static_cast<char>(byte);
    }
    return text;
  }

  void escape(std::string &text) {
    int byte = next();
    const char *names = "\"\\/bfnrt", *found = byte > 0 ? std::strchr(names, byte) : nullptr;
    if (found) {
      text += "\"\\/\b\f\n\r\t"[found - names];
      return;
    }
    if (byte != 'u') return fail("an escape");
    uint32_t point = hex();
    if (point >= 0xd800 && point < 0xdc00) {
      if (next() != '\\' || next() != 'u') return fail("a text");
      uint32_t low = hex();
      if (low < 0xdc00 || low > 0xdfff) return fail("a text");
      point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    } else if (point >= 0xdc00 && point < 0xe000) {
      return fail("a text");  // half a character
    }
    if (point < 0x80) {
      text += static_cast<char>(point);
      return;
    }
    int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    text += static_cast<char>(((0xf80 >> more) & 0xff) | (point >> (6 * more)));
    while (more-- > 0) text += static_cast<char>(0x80 | ((point >> (6 * more)) & 0x3f));
  }

  uint32_t hex() {
    uint32_t value = 0;
    for (int n = 0; n < 4; n++) {
      int byte = next(), letter = byte | 0x20;
      if (byte >= '0' && byte <= '9') value = 16 * value + static_cast<uint32_t>(byte - '0');
      else if (letter >= 'a' && letter <= 'f') value = 16 * value + static_cast<uint32_t>(letter - 'a' + 10);
      else fail("an escape");
    }
    return value;
  }

  bool takes(char sign) {
    space();
    if (peek() != sign) return false;
    at_++;
    return true;
  }

  void expect(char sign) {
    if (!takes(sign)) fail(std::string(1, sign));
  }

  void space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') at_++;
  }

  int peek() const { return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : -1; }

  int next() {
    int byte = peek();
    if (byte < 0) fail("more");
    else at_++;
    return byte;
  }

  void fail(std::string_view what) {
    if (!error) error = std::string(what) + " is missing at " + std::to_string(at_);
  }
};

}  // namespace

std::optional<std::string> Cart::read(std::string_view json) {
  Reader reader(json);
  reader.cart(*this);
  return reader.error;
}
