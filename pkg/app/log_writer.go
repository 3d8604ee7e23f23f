package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vodrelay/vodrelay/pkg/safetext"
)

const (
	// maxLogLines and maxLogBytes bound the lines that wait while another batch is being written.
	maxLogLines = 8192
	maxLogBytes = 1 << 20
	// LogSyncTime is how long Log.Sync waits at most.
	LogSyncTime = 750 * time.Millisecond
)

var errLogStuck = errors.New("the last lines of the log were not taken in time: whatever reads it is slow or has stopped reading")

// logWriter writes lines in their order by a goroutine of its own, which ends when there is nothing to write.
// Nobody who logs waits for whoever reads the log: what does not fit is dropped and counted, and the next line
// that fits follows one that says how many are missing.
type logWriter struct {
	out    io.Writer
	notice func(missing int64) []byte // the line

	mu      sync.Mutex
	waiting []byte // whole lines
	spare   []byte // waiting's next memory
	lines   int    // in waiting
	dropped int64  // since waiting was full
	failed  int64  // lines that out did not take, and no notice says so yet
	missing int64  // all that were ever dropped or failed
	writing bool
	idle    chan struct{} // closed when the goroutine ends
}

// Write takes whole lines, and never blocks or fails.
func (l *logWriter) Write(lines []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped > 0 || l.lines >= maxLogLines || len(l.waiting)+len(lines) > maxLogBytes {
		l.dropped++ // and so is what comes until waiting is taken, or the notice would have no place
		l.missing++
		return len(lines), nil
	}
	l.waiting = append(l.waiting, lines...)
	l.lines++
	if !l.writing {
		l.writing, l.idle = true, make(chan struct{})
		go l.write(l.idle)
	}
	return len(lines), nil
}

func (l *logWriter) write(idle chan<- struct{}) {
	defer close(idle)
	for batch, noticed := l.take(nil); batch != nil; batch, noticed = l.take(batch) {
		if n, err := l.out.Write(batch); err != nil {
			l.lose(batch[max(0, n):], noticed)
		}
	}
}

// take is what waits, nil if nothing does, which ends the goroutine. Its last line says of how many that they
// are missing, if noticed is more than 0. It gets the memory of the batch before.
func (l *logWriter) take(before []byte) (batch []byte, noticed int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before != nil {
		l.spare = before[:0]
	}
	if l.lines == 0 {
		l.writing = false
		return nil, 0
	}
	batch, noticed = l.waiting, l.dropped+l.failed
	if noticed > 0 {
		batch = append(batch, l.notice(noticed)...)
	}
	l.waiting, l.spare = l.spare, nil
	l.lines, l.dropped, l.failed = 0, 0, 0
	return batch, noticed
}

// lose counts lines that out did not take, the last of which may be a notice.
func (l *logWriter) lose(lines []byte, noticed int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := int64(bytes.Count(lines, []byte("\n")))
	if noticed > 0 {
		n--
	}
	l.failed += n + noticed
	l.missing += n
}

// Missing is how many lines were ever dropped.
func (l *logWriter) Missing() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missing
}

// Sync waits until nothing is left to be written, LogSyncTime at most.
func (l *logWriter) Sync() error {
	l.mu.Lock()
	writing, idle, lines := l.writing, l.idle, l.lines
	l.mu.Unlock()
	if !writing {
		return nil
	}
	timer := time.NewTimer(LogSyncTime)
	defer timer.Stop()
	select {
	case <-idle:
		return nil
	case <-timer.C:
		return fmt.Errorf("%w; %s", errLogStuck, safetext.Count(lines, "line waits", "lines wait"))
	}
}
