// Package group does many small things with few slow operations: while one runs, what arrives waits, and all
// of it goes into the next. Nobody waits for company, so a single thing is as fast as without it. Batcher is
// for things of any type, Writer for pieces of one stream.
package group

import "context"

// groupBytes is the length beyond which a group is not made longer, unless by its last piece.
const groupBytes = 1 << 20

// Writer owns one goroutine, the only caller of its commit function.
type Writer struct{ batches *Batcher[*piece] }

// piece is one Write that waits.
type piece struct {
	*Item
	data []byte
}

// New starts a Writer. commit gets whole pieces in the order of their Writes, one behind the other, and its
// error is the error of every Write that is in them. It must not keep the slice.
func New(commit func(pieces []byte) error) *Writer {
	var buffer []byte
	return &Writer{NewBatcher(Limits{Workers: 1, Bytes: groupBytes}, func(taken []*piece) {
		buffer = buffer[:0]
		for _, p := range taken {
			buffer = append(buffer, p.data...)
		}
		err := commit(buffer)
		for _, p := range taken {
			p.Finish(err)
		}
		if cap(buffer) > 2*groupBytes { // one huge piece must not be paid for from then on
			buffer = nil
		}
	}, nil)}
}

// Write returns when data is committed. When ctx is done first it returns ctx's error at once; data is
// then left out if its commit has not begun. Safe for concurrent use. data must not change any more, not even
// when Write has returned.
func (w *Writer) Write(ctx context.Context, data []byte) error {
	return w.batches.Submit(ctx, &piece{NewItem(len(data)), data})
}

// Close commits what waits and ends the goroutine. When ctx is done first it returns ctx's error; the
// goroutine then ends as soon as its commit does.
func (w *Writer) Close(ctx context.Context) error { return w.batches.Close(ctx) }
