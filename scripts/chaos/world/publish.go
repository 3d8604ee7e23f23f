package world

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vodrelay/vodrelay/scripts/chaos/ledger"
)

// refuseMark is in the events that the webhook answers with 422.
const refuseMark = "chaos-refuse"

// publisher puts events into the queue at a rate, with bursts.
type publisher struct {
	world  *World
	random *rand.Rand
	serial int
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context, rate int) error {
	const step = 100 * time.Millisecond
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	due := 0.0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		due += float64(rate) * step.Seconds()
		n := int(due)
		due -= float64(n)
		if p.random.IntN(80) == 0 {
			n += 50 + p.random.IntN(100)
		}
		if n == 0 {
			continue
		}
		if err := p.publish(context.WithoutCancel(ctx), n); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
}

// publish makes n events, enters them into the ledger and publishes them.
func (p *publisher) publish(ctx context.Context, n int) error {
	var lines bytes.Buffer
	from := p.serial + 1
	for range n {
		p.serial++
		published, e := p.event(p.serial)
		p.world.ledger.Publish(e)
		lines.Write(published)
		lines.WriteByte('\n')
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	first, err := p.world.emulator.publish(ctx, lines.Bytes())
	if err != nil {
		return err
	}
	for i := range n {
		p.world.ledger.Number(from+i, first+int64(i))
	}
	return nil
}

// event makes an event: as it is published, and with what a target must get, which is the same without fields that
// are null. Every byte of every value counts: numbers that no float holds, escapes that need not be, any script.
func (p *publisher) event(serial int) (published []byte, e ledger.Event) {
	types := []struct{ name, field string }{
		{"NewFileUpload", "FileUploadEvent"}, {"NewFileUpload", "FileUploadEvent"}, {"ProcedureStateChanged", "ProcedureStateChangeEvent"},
		{"FileDeleted", "FileDeleteEvent"}, {"ChaosUnknown", "ChaosUnknownEvent"},
	}
	kind := types[p.random.IntN(len(types))]
	e = ledger.Event{Serial: serial, Type: kind.name, Published: time.Now()}
	var all, want bytes.Buffer
	both := func(format string, args ...any) {
		fmt.Fprintf(&all, format, args...)
		fmt.Fprintf(&want, format, args...)
	}
	null := func(text string) {
		if p.random.IntN(3) == 0 {
			all.WriteString(text)
		}
	}
	odd := []string{
		`"n":9007199254740993`, `"n":12345678901234567891`, `"n":0.10`, `"n":1e21`, `"n":-0.0`, `"s":"<b>&\u003c\u2028"`,
		`"s":"\u00e9é 影片 🎬 \ud83c\udfac"`, `"s":"tab\tquote\"slash\/"`, `"l":[true,{},[],""]`, `"s":""`,
	}
	both(`{"EventType":"%s"`, kind.name)
	null(`,"EditMediaCompleteEvent":null`)
	both(`,"%s":{"FileId":"52858907%011d","Context":"%s"`, kind.field, serial, ledger.Mark(serial))
	null(`,"MetaData":null`)
	both(`,"Odd":{%s}`, odd[p.random.IntN(len(odd))])
	both(`,"MediaBasicInfo":{"Name":"clip %d","Description":"%s"`, serial, bytes.Repeat([]byte("x"), p.random.IntN(600)))
	null(`,"SourceInfo":null`)
	if p.world.refuses && p.random.IntN(60) == 0 {
		e.Refused = true
		both(`,"Category":"%s"`, refuseMark)
	}
	both(`}}`)
	null(`,"ClipCompleteEvent":null`)
	both(`}`)
	e.Body = want.Bytes()
	return all.Bytes(), e
}
