package emulator

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// delivery names one delivery of one event.
type delivery struct {
	event int64  // below 2^48
	count uint32 // 1 for the first delivery; 0 in stable handles
	app   uint16 // index of the application
}

// handleCodec turns deliveries into opaque handles and back. A handle is an
// encrypted block, so the emulator remembers nothing for it, and a made-up one
// does not decode.
type handleCodec struct{ block cipher.Block }

const (
	handlePrefix = "emu"
	handleCheck  = 0x764f4431
)

var handleEncoding = base64.RawURLEncoding.Strict()

func newHandleCodec(seed uint64) handleCodec {
	key := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("vod emulator handles"), seed))
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic(err) // a 16-byte key is valid
	}
	return handleCodec{block: block}
}

func (c handleCodec) append(dst []byte, d delivery) []byte {
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[:], uint64(d.event)<<16|uint64(d.app))
	binary.BigEndian.PutUint32(b[8:], d.count)
	binary.BigEndian.PutUint32(b[12:], handleCheck)
	c.block.Encrypt(b[:], b[:])
	return handleEncoding.AppendEncode(append(dst, handlePrefix...), b[:])
}

func (c handleCodec) parse(handle string) (delivery, bool) {
	var b [aes.BlockSize]byte
	if len(handle) != len(handlePrefix)+handleEncoding.EncodedLen(len(b)) || handle[:len(handlePrefix)] != handlePrefix {
		return delivery{}, false
	}
	if _, err := handleEncoding.Decode(b[:], []byte(handle[len(handlePrefix):])); err != nil {
		return delivery{}, false
	}
	c.block.Decrypt(b[:], b[:])
	if binary.BigEndian.Uint32(b[12:]) != handleCheck {
		return delivery{}, false
	}
	head := binary.BigEndian.Uint64(b[:])
	return delivery{event: int64(head >> 16), app: uint16(head), count: binary.BigEndian.Uint32(b[8:])}, true
}

// requestID returns the n-th request ID, in the form of a UUID.
func (c handleCodec) requestID(n uint64) string {
	var b [aes.BlockSize]byte
	binary.BigEndian.PutUint64(b[8:], n)
	c.block.Encrypt(b[:], b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
