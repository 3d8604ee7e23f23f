package pipeline

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/event"
	"github.com/vodrelay/vodrelay/pkg/retry"
)

func BenchmarkMatch(b *testing.B) {
	e := parse(b, upload)
	for _, src := range []string{
		`type == "NewFileUpload"`,
		`FileUploadEvent.MetaData.Duration > 60`,
		`type == "NewFileUpload" and payload.MediaBasicInfo.Type in ["mp4", "flv"] and any(payload.MetaData.VideoStreamSet, .Height > 720)`,
	} {
		cond := condition(b, src)
		b.Run(src[:min(len(src), 30)], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if ok, err := cond.Match(b.Context(), e); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkSet(b *testing.B) {
	e := parse(b, upload)
	p, err := Set(Field{"FileUploadEvent.MediaBasicInfo.Name", "upper(payload.MediaBasicInfo.Name)"}, Field{"Seconds", "payload.MetaData.Duration"})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Process(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandle(b *testing.B) {
	for _, sinks := range []int{1, 3} {
		var routes []Route
		for i := range sinks {
			routes = append(routes, Route{
				Name: fmt.Sprint(i), Concurrency: 64, Retry: retry.DefaultPolicy(),
				Sink: SinkFunc(func(context.Context, event.Event) error { return nil }),
			})
		}
		p := build(b, nil, routes...)
		d := delivery(b, upload)
		ctx, cancel := context.WithTimeout(b.Context(), event.LeaseTime)
		defer cancel()
		b.Run(fmt.Sprintf("%d sinks", sinks), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Handle(ctx, d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
