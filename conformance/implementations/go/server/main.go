// A small server: bin/server [PORT]. It grants no capability and limits no rate.
package main

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	pb "chat/chatv1"
)

const (
	shutdown  = 3 * time.Second // CHAT-CLOSE-3 allows 5 seconds
	restartMs = 1_000           // a restart takes about as long
	apartMs   = 10              // clients come back one by one (CHAT-CLOSE-7)
)

var registerDeadline = 10 * time.Second

// closing is the last message to the next client of a server that shuts down.
func (room *Room) closing() *pb.ServerEnvelope {
	retryAfterMs := uint32(restartMs + room.told*apartMs)
	room.told++
	return &pb.ServerEnvelope{Message: &pb.ServerEnvelope_ServerClosing{
		ServerClosing: &pb.ServerClosing{Detail: "The server shuts down.", RetryAfterMs: retryAfterMs},
	}}
}

func main() {
	if ms, err := strconv.Atoi(os.Getenv("REGISTER_DEADLINE_MS")); err == nil {
		registerDeadline = time.Duration(ms) * time.Millisecond
	}
	port := "0"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	random := make([]byte, 16)
	rand.Read(random)
	room := &Room{
		epoch:       fmt.Sprintf("%x", random), // CHAT-ORD-7: another one at each start
		connections: map[*Connection]bool{},
		members:     map[string]*Connection{},
		limits: &pb.Limits{
			FrameBytesMax: frameBytesMax, TextBytesMax: textBytesMax, NameBytesMax: 32,
			RegisterDeadlineMs:  uint32(registerDeadline.Milliseconds()),
			KeepaliveIntervalMs: 30_000, IdleDeadlineMs: 90_000,
			WriteDeadlineMs: uint32(writeDeadline.Milliseconds()), LagBytesMax: lagBytesMax,
		},
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		for {
			socket, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(room, socket.(*net.TCPConn))
		}
	}()
	fmt.Printf("listening on chat://%s\n", listener.Addr())
	<-signals
	room.close(time.Now().Add(shutdown))
}

// close tells all clients, and waits until they have read it or the time is over.
func (room *Room) close(until time.Time) {
	room.Lock()
	room.isClosing = true
	for connection := range room.connections {
		connection.end(room.closing())
	}
	for len(room.connections) > 0 && time.Now().Before(until) {
		room.Unlock()
		time.Sleep(10 * time.Millisecond)
		room.Lock()
	}
}
