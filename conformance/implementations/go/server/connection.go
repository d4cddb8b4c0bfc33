package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	pb "chat/chatv1"
	"chat/frame"
)

const (
	frameBytesMax      = 4096
	firstFrameBytesMax = 1024     // until a Register is accepted (CHAT-FRAME-6)
	lagBytesMax        = 4 << 20  // how far a member may be behind
	unreadBytesMax     = 64 << 10 // of a client's own queue, before the server reads no more of it
	writeDeadline      = 30 * time.Second
	linger             = time.Second // reading on before a close, so that no reset destroys the last frame
)

// Connection is one client: a goroutine reads it, another one writes its queue. The room's
// lock guards all fields.
type Connection struct {
	room    *Room
	socket  *net.TCPConn
	name    string // "": not registered
	ended   bool   // nothing more is queued
	frames  [][]byte
	bytes   int // in frames
	changed *sync.Cond
	written chan struct{} // closed when the writer is done
}

func serve(room *Room, socket *net.TCPConn) {
	c := &Connection{room: room, socket: socket, written: make(chan struct{})}
	c.changed = sync.NewCond(room)
	room.Lock()
	room.connections[c] = true
	if room.isClosing {
		c.end(room.closing())
	}
	room.Unlock()
	go c.write()
	c.read()
	<-c.written
	socket.Close()
	room.Lock()
	delete(room.connections, c)
	room.Unlock()
}

// read handles what arrives until the session ends, and drops what arrives after that.
func (c *Connection) read() {
	stream := bufio.NewReader(c.socket)
	c.socket.SetReadDeadline(time.Now().Add(registerDeadline))
	bodyBytesMax := uint64(firstFrameBytesMax)
	for ended := false; !ended; {
		var envelope pb.ClientEnvelope
		err := frame.Read(stream, bodyBytesMax, &envelope)
		c.room.Lock()
		switch {
		case err == nil && !c.ended:
			c.room.handle(c, &envelope)
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.fail(pb.ErrorCode_ERROR_CODE_REGISTER_TIMEOUT, "Register sooner after you connect.")
		case err == frame.ErrTooLong:
			c.fail(pb.ErrorCode_ERROR_CODE_FRAME_TOO_LONG, "Send shorter messages.")
		case err == frame.ErrMalformed || err == io.ErrUnexpectedEOF:
			c.fail(pb.ErrorCode_ERROR_CODE_MALFORMED_FRAME, "That is no frame with a ClientEnvelope.")
		default: // the end of the stream, or a lost connection (CHAT-LEAVE-5)
			c.end(nil)
		}
		// A client that does not read its answers is not read (CHAT-LIM-6).
		for c.bytes > unreadBytesMax && !c.ended {
			c.changed.Wait()
		}
		if c.name != "" && bodyBytesMax == firstFrameBytesMax && !c.ended {
			c.socket.SetReadDeadline(time.Time{})
			bodyBytesMax = frameBytesMax
		}
		ended = c.ended
		c.room.Unlock()
	}
	io.Copy(io.Discard, stream)
}

// write sends what is queued, without the lock, so that no client waits for another.
func (c *Connection) write() {
	defer close(c.written)
	c.room.Lock()
	defer c.room.Unlock()
	for {
		for len(c.frames) == 0 && !c.ended {
			c.changed.Wait()
		}
		if len(c.frames) == 0 {
			break
		}
		next := c.frames[0]
		c.frames = c.frames[1:]
		c.room.Unlock()
		c.socket.SetWriteDeadline(time.Now().Add(writeDeadline))
		_, err := c.socket.Write(next)
		c.room.Lock()
		c.bytes -= len(next)
		c.changed.Broadcast()
		if err != nil { // it does not read, or is gone
			c.frames = nil
			c.end(nil)
		}
	}
	c.socket.CloseWrite()
	c.socket.SetReadDeadline(time.Now().Add(linger))
}

// send, queue, refuse, fail and end need the room's lock.
func (c *Connection) send(envelope *pb.ServerEnvelope) { c.queue(frame.Encode(envelope)) }

func (c *Connection) queue(encoded []byte) {
	if c.ended {
		return
	}
	if c.bytes+len(encoded) > lagBytesMax { // CHAT-LIM-4, CHAT-LIM-5
		c.fail(pb.ErrorCode_ERROR_CODE_SLOW_CONSUMER, "Read faster.")
		return
	}
	c.frames = append(c.frames, encoded)
	c.bytes += len(encoded)
	c.changed.Broadcast()
}

// refuse answers with an error after which the session goes on.
func (c *Connection) refuse(code pb.ErrorCode, detail string, id uint64) {
	c.send(&pb.ServerEnvelope{Message: &pb.ServerEnvelope_Error{
		Error: &pb.Error{Code: code, Detail: detail, Id: id},
	}})
}

// fail answers with a fatal error.
func (c *Connection) fail(code pb.ErrorCode, detail string) {
	c.end(&pb.ServerEnvelope{Message: &pb.ServerEnvelope_Error{
		Error: &pb.Error{Code: code, Detail: detail, EndsSession: true},
	}})
}

// end ends the session: the name is free (CHAT-NAME-5), and the writer sends what is queued,
// the last frame behind it, and then closes.
func (c *Connection) end(last *pb.ServerEnvelope) {
	if c.ended {
		return
	}
	if last != nil {
		c.frames = append(c.frames, frame.Encode(last))
	}
	c.ended = true
	c.room.leave(c)
	c.changed.Broadcast()
}
