package main

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	pb "chat/chatv1"
	"chat/frame"
)

const textBytesMax = 2048

var (
	validName = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._-]{0,31}\z`)
	// Line breaks and control characters (CHAT-CHAT-6).
	forbidden = regexp.MustCompile(`[\x{0}-\x{1f}\x{7f}-\x{9f}\x{2028}\x{2029}]`)
)

// Room is what all members agree on. One lock guards it, and so each message is handled
// whole, and every member's queue has the chats in the same order (CHAT-ORD-2).
type Room struct {
	sync.Mutex
	epoch       string
	seq         uint64 // of the last chat that was accepted
	isClosing   bool
	told        int // of the shutdown
	connections map[*Connection]bool
	members     map[string]*Connection // by lowered name
	limits      *pb.Limits
}

// handle acts on one message. The caller holds the lock.
func (room *Room) handle(from *Connection, envelope *pb.ClientEnvelope) {
	if room.isClosing { // CHAT-CLOSE-5
		return
	}
	if from.name == "" {
		if message, ok := envelope.Message.(*pb.ClientEnvelope_Register); ok {
			room.register(from, message.Register)
		} else {
			from.fail(pb.ErrorCode_ERROR_CODE_NOT_REGISTERED, "Send Register first.")
		}
		return
	}
	switch message := envelope.Message.(type) {
	case *pb.ClientEnvelope_Chat:
		room.chat(from, message.Chat)
	case *pb.ClientEnvelope_Leave:
		from.end(nil)
	case *pb.ClientEnvelope_Register:
		from.refuse(pb.ErrorCode_ERROR_CODE_ALREADY_REGISTERED, "You are registered already.", 0)
	case nil:
		from.refuse(pb.ErrorCode_ERROR_CODE_UNKNOWN_MESSAGE, "This server does not know that message.", 0)
	default: // every message of a capability, also one of a later schema
		from.refuse(pb.ErrorCode_ERROR_CODE_NOT_GRANTED, "This server grants no capability.", 0)
	}
}

func (room *Room) register(from *Connection, register *pb.Register) {
	key := strings.ToLower(register.Name)
	switch {
	case !validName.MatchString(register.Name):
		from.fail(pb.ErrorCode_ERROR_CODE_NAME_INVALID, "A name is 1 to 32 letters, digits, '.', '_' or '-'.")
	case key == "all" || key == "server":
		from.fail(pb.ErrorCode_ERROR_CODE_NAME_RESERVED, "Choose another name.")
	case room.members[key] != nil:
		from.fail(pb.ErrorCode_ERROR_CODE_NAME_IN_USE, "A member has that name; choose another.")
	default:
		from.name = register.Name
		registered := &pb.Registered{Name: from.name, Epoch: room.epoch, Seq: room.seq, Limits: room.limits}
		if register.Resume != nil { // CHAT-RES-10
			registered.ResumeFailure = pb.ResumeFailure_RESUME_FAILURE_UNKNOWN_TOKEN
		}
		from.send(&pb.ServerEnvelope{Message: &pb.ServerEnvelope_Registered{Registered: registered}})
		room.members[key] = from
	}
}

func (room *Room) chat(from *Connection, chat *pb.Chat) {
	if len(chat.Text) > textBytesMax {
		detail := fmt.Sprintf("A text has at most %d bytes.", textBytesMax)
		from.refuse(pb.ErrorCode_ERROR_CODE_TEXT_TOO_LONG, detail, chat.Id)
		return
	}
	if chat.Text == "" || forbidden.MatchString(chat.Text) {
		from.refuse(pb.ErrorCode_ERROR_CODE_TEXT_INVALID, "A text is one line without control characters.", chat.Id)
		return
	}
	room.seq++
	encoded := frame.Encode(&pb.ServerEnvelope{Message: &pb.ServerEnvelope_Chat{Chat: &pb.Chat{
		Text: chat.Text, Sender: from.name, Seq: room.seq, TimeUnixMs: time.Now().UnixMilli(),
	}}})
	for _, member := range room.members {
		if member != from {
			member.queue(encoded)
		}
	}
}

func (room *Room) leave(member *Connection) {
	if member.name != "" && room.members[strings.ToLower(member.name)] == member {
		delete(room.members, strings.ToLower(member.name))
	}
}
