// The smallest client: ./client chat://127.0.0.1:7000 Alice

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <iostream>
#include <thread>

#include "chat.pb.h"
#include "frame.h"

using namespace chat::v1;

// The longest envelope that this client reads. Servers announce 4,096 or so.
constexpr uint64_t kBodyBytesMax = 1 << 20;

[[noreturn]] void End(const std::string& sentence) {
  std::cerr << sentence << std::endl;
  _exit(1);
}

int Connect(std::string address) {
  address = address.substr(address.find("://") + 3);
  size_t colon = address.rfind(':');
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(address.substr(0, colon).c_str(), address.substr(colon + 1).c_str(), &hints, &found) != 0) {
    End("there is no such host");
  }
  for (addrinfo* it = found; it; it = it->ai_next) {
    int fd = socket(it->ai_family, it->ai_socktype, it->ai_protocol);
    if (connect(fd, it->ai_addr, it->ai_addrlen) == 0) return fd;
    close(fd);
  }
  End("the server cannot be reached");
}

void Send(int fd, const ClientEnvelope& envelope) {
  std::string frame = FrameOf(envelope);
  for (size_t sent = 0; sent < frame.size();) {
    ssize_t n = send(fd, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;  // reading says that the connection is lost
    sent += n;
  }
}

void SendLines(int fd) {
  ClientEnvelope envelope;
  for (std::string text; std::getline(std::cin, text);) {
    envelope.mutable_chat()->set_text(text);
    Send(fd, envelope);
  }
  envelope.mutable_leave();
  Send(fd, envelope);
}

int main(int, char** args) {
  int fd = Connect(args[1]);
  ClientEnvelope hello;
  hello.mutable_register_()->set_name(args[2]);
  Send(fd, hello);
  std::string bytes, body;
  char chunk[4096];
  for (ssize_t n; (n = read(fd, chunk, sizeof chunk)) > 0;) {
    bytes.append(chunk, n);
    Cut cut;
    while ((cut = TakeFrame(bytes, kBodyBytesMax, body)) == Cut::kFrame) {
      ServerEnvelope received;
      if (!received.ParseFromString(body)) End("that was no message of a server");
      switch (received.message_case()) {
        case ServerEnvelope::kRegistered:
          std::thread(SendLines, fd).detach();
          break;
        case ServerEnvelope::kChat:
          std::cout << "@" << received.chat().sender() << ": " << received.chat().text() << std::endl;
          break;
        case ServerEnvelope::kError:
          if (received.error().ends_session()) End(received.error().detail());
          std::cerr << received.error().detail() << std::endl;
          break;
        case ServerEnvelope::kServerClosing:
          _exit(0);
        default:
          break;  // Everything else is ignored, and so this client works with later servers.
      }
    }
    if (cut != Cut::kIncomplete) End("the server sent bytes that are no frame");
  }
  _exit(0);  // although a line may still be typed
}
