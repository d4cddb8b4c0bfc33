// A small server: ./server [PORT]. It grants no capability and limits no rate. One thread
// polls all sockets, so what one message causes is complete before the next.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <list>
#include <map>
#include <random>
#include <sstream>
#include <vector>

#include "chat.pb.h"
#include "frame.h"

using namespace chat::v1;

constexpr int kTextBytesMax = 2048, kFrameBytesMax = 4096;
constexpr int kFirstFrameBytesMax = 1024;  // until a Register is accepted (CHAT-FRAME-6)
constexpr size_t kLagBytesMax = 4 << 20;   // how far a member may be behind
constexpr size_t kUnreadBytesMax = 64 << 10;  // of a client's own queue, before the server reads no more of it
constexpr int kWriteDeadlineMs = 30'000;
constexpr int kLingerMs = 1'000;  // reading on before a close, so that no reset destroys the last frame
constexpr int kShutdownMs = 3'000;  // CHAT-CLOSE-3 allows 5 seconds
constexpr int kRestartMs = 1'000;   // a restart takes about as long
constexpr int kApartMs = 10;
constexpr int kTickMs = 20;

volatile sig_atomic_t is_told_to_end = 0;

int64_t NowMs(auto clock) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(clock.time_since_epoch()).count();
}
int64_t SteadyMs() { return NowMs(std::chrono::steady_clock::now()); }

std::string Lower(std::string name) {
  for (char& c : name) if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  return name;
}

bool IsName(const std::string& name) {  // CHAT-NAME-1
  auto is_alnum = [](char c) { return (c >= '0' && c <= '9') || (Lower({c})[0] >= 'a' && Lower({c})[0] <= 'z'); };
  for (char c : name) if (!is_alnum(c) && c != '.' && c != '_' && c != '-') return false;
  return !name.empty() && name.size() <= 32 && is_alnum(name[0]);
}

bool IsText(const std::string& text) {  // CHAT-CHAT-6, on bytes of valid UTF-8
  for (size_t i = 0; i < text.size(); i++) {
    uint8_t c = text[i], next = i + 1 < text.size() ? text[i + 1] : 0;
    if (c < 0x20 || c == 0x7f || (c == 0xc2 && next < 0xa0)) return false;
    if (text.compare(i, 3, "\u2028") == 0 || text.compare(i, 3, "\u2029") == 0) return false;
  }
  return !text.empty();
}

struct Connection {
  int fd = -1;
  std::string in, out;
  std::string name;         // "": not registered
  bool is_ended = false;    // nothing more is queued
  bool is_read_out = false;  // the client has ended its stream
  bool is_lost = false;
  int64_t accepted_ms = SteadyMs();
  int64_t progress_ms = accepted_ms;  // when it last took bytes, or had none to take
  int64_t close_ms = 0;               // when a stream that was ended is closed
};

struct Server {
  std::string epoch;
  uint64_t seq = 0;  // of the last chat that was accepted
  int register_deadline_ms = 10'000;
  std::list<Connection> connections;
  std::map<std::string, Connection*> members;  // by lowered name

  void Queue(Connection& to, const std::string& frame) {
    if (to.is_ended) return;
    if (to.out.size() + frame.size() > kLagBytesMax) {  // CHAT-LIM-4, CHAT-LIM-5
      return Fail(to, ERROR_CODE_SLOW_CONSUMER, "Read faster.");
    }
    to.out += frame;
  }

  // Ends the session: the name is free (CHAT-NAME-5), what is queued is sent, and then the stream ends.
  void End(Connection& c, const std::string& last = "") {
    if (c.is_ended) return;
    c.out += last;
    c.is_ended = true;
    if (!c.name.empty()) members.erase(Lower(c.name));
  }

  static std::string ErrorFrame(ErrorCode code, const std::string& detail, bool is_fatal, uint64_t id) {
    ServerEnvelope envelope;
    envelope.mutable_error()->set_code(code);
    envelope.mutable_error()->set_detail(detail);
    envelope.mutable_error()->set_ends_session(is_fatal);
    envelope.mutable_error()->set_id(id);
    return FrameOf(envelope);
  }
  void Fail(Connection& c, ErrorCode code, const std::string& detail) { End(c, ErrorFrame(code, detail, true, 0)); }
  void Refuse(Connection& c, ErrorCode code, const std::string& detail, uint64_t id = 0) {
    Queue(c, ErrorFrame(code, detail, false, id));
  }

  void Handle(Connection& from, const ClientEnvelope& envelope) {
    if (from.name.empty()) {
      if (envelope.has_register_()) return DoRegister(from, envelope.register_());
      return Fail(from, ERROR_CODE_NOT_REGISTERED, "Send Register first.");
    }
    switch (envelope.message_case()) {
      case ClientEnvelope::kChat:
        return DoChat(from, envelope.chat());
      case ClientEnvelope::kLeave:
        return End(from);
      case ClientEnvelope::kRegister:
        return Refuse(from, ERROR_CODE_ALREADY_REGISTERED, "You are registered already.");
      case ClientEnvelope::MESSAGE_NOT_SET:
        return Refuse(from, ERROR_CODE_UNKNOWN_MESSAGE, "This server does not know that message.");
      default:  // every message of a capability, also one of a later schema
        return Refuse(from, ERROR_CODE_NOT_GRANTED, "This server grants no capability.");
    }
  }

  void DoRegister(Connection& from, const Register& asked) {
    std::string key = Lower(asked.name());
    if (!IsName(asked.name())) {
      return Fail(from, ERROR_CODE_NAME_INVALID, "A name is 1 to 32 letters, digits, '.', '_' or '-'.");
    }
    if (key == "all" || key == "server") return Fail(from, ERROR_CODE_NAME_RESERVED, "Choose another name.");
    if (members.count(key)) return Fail(from, ERROR_CODE_NAME_IN_USE, "A member has that name; choose another.");
    from.name = asked.name();
    ServerEnvelope envelope;
    Registered& registered = *envelope.mutable_registered();
    registered.set_name(from.name);
    registered.set_epoch(epoch);
    registered.set_seq(seq);
    if (asked.has_resume()) registered.set_resume_failure(RESUME_FAILURE_UNKNOWN_TOKEN);  // CHAT-RES-10
    Limits& limits = *registered.mutable_limits();
    limits.set_frame_bytes_max(kFrameBytesMax);
    limits.set_text_bytes_max(kTextBytesMax);
    limits.set_name_bytes_max(32);
    limits.set_register_deadline_ms(register_deadline_ms);
    limits.set_keepalive_interval_ms(30'000);
    limits.set_idle_deadline_ms(90'000);
    limits.set_write_deadline_ms(kWriteDeadlineMs);
    limits.set_lag_bytes_max(kLagBytesMax);
    Queue(from, FrameOf(envelope));
    members[key] = &from;
  }

  void DoChat(Connection& from, const Chat& chat) {
    if (chat.text().size() > kTextBytesMax) {
      return Refuse(from, ERROR_CODE_TEXT_TOO_LONG, "A text has at most 2048 bytes.", chat.id());
    }
    if (!IsText(chat.text())) {
      return Refuse(from, ERROR_CODE_TEXT_INVALID, "A text is one line without control characters.", chat.id());
    }
    ServerEnvelope envelope;
    Chat& relayed = *envelope.mutable_chat();
    relayed.set_text(chat.text());
    relayed.set_sender(from.name);
    relayed.set_seq(++seq);
    relayed.set_time_unix_ms(NowMs(std::chrono::system_clock::now()));
    std::string frame = FrameOf(envelope);
    std::map<std::string, Connection*> all = members;  // a slow one may leave meanwhile
    for (auto& [key, member] : all) if (member != &from) Queue(*member, frame);
  }

  // Cuts what arrived into frames, whatever its pieces (CHAT-FRAME-7). After a fatal error
  // or a Leave, nothing more is looked at (CHAT-ERR-10, CHAT-LEAVE-4).
  void Read(Connection& c) {
    char chunk[4096];
    ssize_t n = read(c.fd, chunk, sizeof chunk);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    c.is_read_out = n <= 0;
    c.is_lost = n < 0;
    if (n > 0 && !c.is_ended) c.in.append(chunk, n);
    std::string body;
    while (!c.is_ended) {
      Cut cut = TakeFrame(c.in, c.name.empty() ? kFirstFrameBytesMax : kFrameBytesMax, body);
      ClientEnvelope envelope;
      if (cut == Cut::kIncomplete) break;
      if (cut == Cut::kTooLong) {
        Fail(c, ERROR_CODE_FRAME_TOO_LONG, "Send shorter messages.");
      } else if (cut == Cut::kMalformed || !envelope.ParseFromString(body)) {  // CHAT-FRAME-8
        Fail(c, ERROR_CODE_MALFORMED_FRAME, "That is no frame with a ClientEnvelope.");
      } else {
        Handle(c, envelope);
      }
    }
    if (c.is_read_out && !c.in.empty()) Fail(c, ERROR_CODE_MALFORMED_FRAME, "The stream ends inside a frame.");
    if (c.is_read_out) End(c);  // CHAT-LEAVE-5
  }

  void Write(Connection& c) {
    ssize_t n = send(c.fd, c.out.data(), c.out.size(), MSG_NOSIGNAL);
    if (n > 0) {
      c.out.erase(0, n);
      c.progress_ms = SteadyMs();
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
      c.is_lost = true;
      End(c);
    }
  }

  // Deadlines, and the end of a stream whose queue is sent. True: the connection is over.
  bool Tick(Connection& c, int64_t now_ms) {
    if (c.name.empty() && now_ms - c.accepted_ms > register_deadline_ms) {  // CHAT-REG-5
      Fail(c, ERROR_CODE_REGISTER_TIMEOUT, "Register sooner after you connect.");
    }
    if (c.out.empty()) c.progress_ms = now_ms;
    if (now_ms - c.progress_ms > kWriteDeadlineMs) c.is_lost = true;
    if (c.is_ended && c.out.empty() && c.close_ms == 0) {
      shutdown(c.fd, SHUT_WR);
      c.close_ms = now_ms + kLingerMs;
    }
    bool is_over = c.is_lost || (c.close_ms != 0 && (c.is_read_out || now_ms > c.close_ms));
    if (is_over) {
      End(c);
      close(c.fd);
    }
    return is_over;
  }
};

int main(int argc, char** args) {
  struct sigaction told {};
  told.sa_handler = [](int) { is_told_to_end = 1; };
  sigaction(SIGTERM, &told, nullptr);
  Server server;
  std::random_device random;
  std::ostringstream epoch;
  for (int i = 0; i < 4; i++) epoch << std::hex << random();
  server.epoch = epoch.str();  // CHAT-ORD-7: another one at each start
  if (const char* ms = getenv("REGISTER_DEADLINE_MS")) server.register_deadline_ms = atoi(ms);

  int listener = socket(AF_INET, SOCK_STREAM, 0);
  int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(argc > 1 ? atoi(args[1]) : 0);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener, SOMAXCONN) != 0) {
    perror("the port cannot be had");
    return 1;
  }
  fcntl(listener, F_SETFL, O_NONBLOCK);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  std::cout << "listening on chat://127.0.0.1:" << ntohs(address.sin_port) << std::endl;

  ServerEnvelope closing;
  closing.mutable_server_closing()->set_detail("The server shuts down.");
  int64_t exit_ms = 0;
  while (exit_ms == 0 || (!server.connections.empty() && SteadyMs() < exit_ms)) {
    if (is_told_to_end && exit_ms == 0) {
      exit_ms = SteadyMs() + kShutdownMs;
      uint32_t retry_after_ms = kRestartMs;
      for (Connection& c : server.connections) {
        closing.mutable_server_closing()->set_retry_after_ms(retry_after_ms);
        server.End(c, FrameOf(closing));
        retry_after_ms += kApartMs;  // clients come back one by one (CHAT-CLOSE-7)
      }
    }
    std::vector<pollfd> polled{{listener, static_cast<short>(exit_ms == 0 ? POLLIN : 0), 0}};
    for (Connection& c : server.connections) {
      // A client that does not read its answers is not read (CHAT-LIM-6).
      bool is_read = !c.is_read_out && (c.is_ended || c.out.size() < kUnreadBytesMax);
      polled.push_back({c.fd, static_cast<short>((is_read ? POLLIN : 0) | (c.out.empty() ? 0 : POLLOUT)), 0});
    }
    poll(polled.data(), polled.size(), kTickMs);
    size_t i = 1;
    for (auto it = server.connections.begin(); it != server.connections.end(); i++) {
      if (polled[i].revents & (POLLIN | POLLERR | POLLHUP) && !it->is_read_out) server.Read(*it);
      if (!it->out.empty()) server.Write(*it);
      it = server.Tick(*it, SteadyMs()) ? server.connections.erase(it) : std::next(it);
    }
    if (polled[0].revents & POLLIN) {
      int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
      if (fd >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        server.connections.emplace_back().fd = fd;
      }
    }
  }
}
