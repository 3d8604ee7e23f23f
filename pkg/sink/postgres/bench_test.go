package postgres

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/vodrelay/vodrelay/pkg/sink/sinktest"
	"github.com/vodrelay/vodrelay/pkg/store/pgtest"
)

// BenchmarkSend is events into the default table of a real server whose commits wait for the disk.
func BenchmarkSend(b *testing.B) {
	server := pgtest.Start(b)
	for _, senders := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			s := open(b, server.Database())
			require.NoError(b, s.Send(context.Background(), sinktest.Upload(0)))
			var next atomic.Int64
			var group errgroup.Group
			for range senders {
				group.Go(func() error {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if err := s.Send(context.Background(), sinktest.Upload(int(i))); err != nil {
							return err
						}
					}
					return nil
				})
			}
			require.NoError(b, group.Wait())
		})
	}
}
