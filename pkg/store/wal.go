package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// The format of a write-ahead log: https://sqlite.org/fileformat2.html#the_write_ahead_log.
const (
	walHeaderSize = 32
	walFrameSize  = 24 // of a frame's own header; a page follows
	walMagic      = 0x377f0682
)

// walHeader is the beginning of a write-ahead log.
type walHeader struct {
	order    binary.ByteOrder // of the words that checksums add up
	pageSize int
	salts    [8]byte
	sum      [2]uint32
}

var errWALHeader = errors.New("its header is damaged")

func readWALHeader(wal io.ReaderAt) (walHeader, error) {
	var b [walHeaderSize]byte
	if _, err := wal.ReadAt(b[:], 0); err != nil {
		return walHeader{}, err
	}
	h := walHeader{order: binary.LittleEndian, pageSize: int(binary.BigEndian.Uint32(b[8:])), salts: [8]byte(b[16:24])}
	magic := binary.BigEndian.Uint32(b[:])
	if magic&1 != 0 {
		h.order = binary.BigEndian
	}
	h.sum = walSum(h.order, [2]uint32{}, b[:24])
	if magic&^1 != walMagic || h.sum != walSumAt(b[24:]) || h.pageSize < 512 || h.pageSize > 65536 {
		return walHeader{}, errWALHeader
	}
	return h, nil
}

// walSum goes on from a checksum over b, which is a multiple of 8 bytes long.
func walSum(order binary.ByteOrder, sum [2]uint32, b []byte) [2]uint32 {
	for ; len(b) >= 8; b = b[8:] {
		sum[0] += order.Uint32(b) + sum[1]
		sum[1] += order.Uint32(b[4:]) + sum[0]
	}
	return sum
}

func walSumAt(b []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// walContent is what a write-ahead log adds to its database.
type walContent struct {
	pageSize int
	frames   int    // up to the last whole commit
	first    []byte // page 1 as of then; nil: it is not in the log
}

// readWAL reads a write-ahead log of size bytes. An error says that commits are in it which SQLite would
// pass over: it stops at the first frame that is damaged, as it must, since a crash leaves such a frame
// behind. But a crash leaves no more than one commit behind it, because each is synced before the next.
func readWAL(wal io.ReaderAt, size int64) (walContent, error) {
	if size < walHeaderSize+walFrameSize {
		return walContent{}, nil
	}
	h, err := readWALHeader(wal)
	if errors.Is(err, errWALHeader) {
		var written bool
		if written, err = everWritten(wal, size); err == nil && written {
			err = errWALHeader
		}
		return walContent{}, err
	}
	if err != nil {
		return walContent{}, err
	}
	content := walContent{pageSize: h.pageSize}
	frame := make([]byte, walFrameSize+h.pageSize)
	sum, valid, beyond := h.sum, true, 0
	var first []byte // of a commit that is not complete yet
	for n := 1; ; n++ {
		_, err := wal.ReadAt(frame, walHeaderSize+int64(n-1)*int64(len(frame)))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return walContent{}, err
		}
		stored := walSumAt(frame[16:])
		good := [8]byte(frame[8:16]) == h.salts && stored == walSum(h.order, walSum(h.order, sum, frame[:8]), frame[walFrameSize:])
		sum = stored
		commits := binary.BigEndian.Uint32(frame[4:]) != 0
		switch {
		case !good:
			valid = false
		case !valid && commits:
			beyond++
		case valid:
			if binary.BigEndian.Uint32(frame) == 1 {
				first = slices.Clone(frame[walFrameSize:])
			}
			if commits {
				content.frames, content.first = n, first
			}
		}
	}
	if beyond > 1 {
		return walContent{}, fmt.Errorf("it is damaged behind frame %d, where %d more commits are", content.frames, beyond)
	}
	return content, nil
}

// everWritten reports whether the log has anything but zeros. A crash of the machine before the first sync, and
// so before the first commit, can leave them.
func everWritten(wal io.ReaderAt, size int64) (bool, error) {
	all := io.NewSectionReader(wal, 0, size)
	b := make([]byte, 64<<10)
	for {
		n, err := all.Read(b)
		if bytes.ContainsFunc(b[:n], func(r rune) bool { return r != 0 }) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
