package store

import (
	"context"
	"database/sql/driver"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// doubtEvery is the shortest time between two doubts, so that a server that stays read-only is not asked
	// for new sessions all the time.
	doubtEvery = time.Second
	// pingAfter is how long a session may have been unused without being tried first.
	pingAfter = time.Second

	bornAt = "vodrelay_born" // the key of a session's beginning, in pgx's data of a connection
)

// sessions replaces the sessions of a pool after an error that may be their own: the server was read-only when
// they began and is not any more, or the other way about; their protocol is broken; they hang. Whatever began
// before such an error is not used again, and new sessions take its place.
type sessions struct{ doubted atomic.Int64 } // when, in Unix nanoseconds

// began notes a new session.
func (s *sessions) began(conn *pgx.Conn) { conn.PgConn().CustomData()[bornAt] = time.Now().UnixNano() }

func (s *sessions) stale(conn *pgx.Conn) bool {
	born, _ := conn.PgConn().CustomData()[bornAt].(int64)
	return born <= s.doubted.Load()
}

// check refuses a session that is not to be used again; the pool then closes it.
func (s *sessions) check(_ context.Context, conn *pgx.Conn) error {
	if s.stale(conn) {
		return driver.ErrBadConn
	}
	return nil
}

// worthPing spares a session that check will refuse a ping, which might hang.
func (s *sessions) worthPing(_ context.Context, p stdlib.ShouldPingParams) bool {
	return p.IdleDuration > pingAfter && !s.stale(p.Conn)
}

// failed looks at an error of a transaction.
func (s *sessions) failed(err error) {
	if !diagnose(err).session {
		return
	}
	last, now := s.doubted.Load(), time.Now().UnixNano()
	if now-last >= int64(doubtEvery) {
		s.doubted.CompareAndSwap(last, now)
	}
}
