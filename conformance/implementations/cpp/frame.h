// Frames: a length as a varint, then one envelope. ParseDelimitedFromZeroCopyStream of the
// library keeps 32 bits of a length without a check, so this reads the length.
#pragma once

#include <cstdint>
#include <google/protobuf/message_lite.h>
#include <string>

enum class Cut { kFrame, kIncomplete, kTooLong, kMalformed };

constexpr int kLengthBytesMax = 10;

inline std::string FrameOf(const google::protobuf::MessageLite& envelope) {
  std::string body = envelope.SerializeAsString(), frame;
  uint64_t length = body.size();
  for (; length > 127; length /= 128) frame.push_back(static_cast<char>(length % 128 + 128));
  frame.push_back(static_cast<char>(length));
  return frame + body;
}

// Moves one body from the front of the bytes into `body`.
inline Cut TakeFrame(std::string& bytes, uint64_t body_bytes_max, std::string& body) {
  uint64_t length = 0;
  for (size_t i = 0; i < bytes.size(); i++) {
    uint8_t next = static_cast<uint8_t>(bytes[i]);
    bool is_last = next < 128, is_tenth = i + 1 == kLengthBytesMax;
    if (is_tenth && (!is_last || next > 1)) return Cut::kMalformed;  // CHAT-FRAME-4
    length |= static_cast<uint64_t>(next & 127) << (7 * i);
    if (!is_last) continue;
    if (length > body_bytes_max) return Cut::kTooLong;  // CHAT-FRAME-5: before the body comes
    if (bytes.size() < i + 1 + length) return Cut::kIncomplete;
    body = bytes.substr(i + 1, length);
    bytes.erase(0, i + 1 + length);
    return Cut::kFrame;
  }
  return Cut::kIncomplete;
}
