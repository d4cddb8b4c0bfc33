// Package frame reads and writes frames: a length as a varint, then one envelope.
package frame

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/protobuf/proto"
)

// Errors of the bytes themselves, apart from those of the connection.
var (
	ErrTooLong   = errors.New("the length is above the bound")
	ErrMalformed = errors.New("the bytes are no frame or no envelope")
)

// Encode makes a frame of an envelope.
func Encode(envelope proto.Message) []byte {
	body, err := proto.Marshal(envelope)
	if err != nil {
		panic(err) // an envelope of our own that holds invalid UTF-8
	}
	return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
}

// Read takes the next frame from a stream. The error is io.EOF if the stream ends between
// two frames, and io.ErrUnexpectedEOF if it ends inside one.
func Read(stream *bufio.Reader, bodyBytesMax uint64, envelope proto.Message) error {
	if _, err := stream.Peek(1); err != nil {
		return err
	}
	length, err := binary.ReadUvarint(stream)
	switch {
	case err == io.EOF:
		return io.ErrUnexpectedEOF
	case err != nil && err.Error() == "binary: varint overflows a 64-bit integer":
		return ErrMalformed // CHAT-FRAME-4
	case err != nil:
		return err
	case length > bodyBytesMax:
		return ErrTooLong // CHAT-FRAME-5: before the body comes
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(stream, body); err == io.EOF {
		return io.ErrUnexpectedEOF
	} else if err != nil {
		return err
	}
	if proto.Unmarshal(body, envelope) != nil {
		return ErrMalformed // CHAT-FRAME-8, CHAT-FRAME-11
	}
	return nil
}
