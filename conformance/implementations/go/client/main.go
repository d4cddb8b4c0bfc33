// The smallest client: bin/client chat://127.0.0.1:7000 Alice
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	pb "chat/chatv1"
	"chat/frame"
)

// The longest envelope that this client reads. Servers announce 4,096 or so.
const bodyBytesMax = 1 << 20

func main() {
	conn, err := net.Dial("tcp", strings.TrimPrefix(os.Args[1], "chat://"))
	if err != nil {
		end(err.Error())
	}
	send(conn, &pb.ClientEnvelope{Message: &pb.ClientEnvelope_Register{
		Register: &pb.Register{Name: os.Args[2]},
	}})
	stream := bufio.NewReader(conn)
	for {
		var received pb.ServerEnvelope
		if err := frame.Read(stream, bodyBytesMax, &received); err == io.EOF {
			return
		} else if err != nil {
			end(err.Error())
		}
		switch message := received.Message.(type) {
		case *pb.ServerEnvelope_Registered:
			go sendLines(conn)
		case *pb.ServerEnvelope_Chat:
			fmt.Printf("@%s: %s\n", message.Chat.Sender, message.Chat.Text)
		case *pb.ServerEnvelope_Error:
			if message.Error.EndsSession {
				end(message.Error.Detail)
			}
			fmt.Fprintln(os.Stderr, message.Error.Detail)
		case *pb.ServerEnvelope_ServerClosing:
			return
		} // Everything else is ignored, and so this client works with later servers.
	}
}

func sendLines(conn net.Conn) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		send(conn, &pb.ClientEnvelope{Message: &pb.ClientEnvelope_Chat{
			Chat: &pb.Chat{Text: lines.Text()},
		}})
	}
	send(conn, &pb.ClientEnvelope{Message: &pb.ClientEnvelope_Leave{Leave: &pb.Leave{}}})
}

func send(conn net.Conn, envelope *pb.ClientEnvelope) {
	conn.Write(frame.Encode(envelope)) // if it is lost, reading says so
}

func end(sentence string) {
	fmt.Fprintln(os.Stderr, sentence)
	os.Exit(1)
}
