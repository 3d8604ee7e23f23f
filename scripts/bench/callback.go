package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// callback is the receiver of the normal callback: the emulator posts signed notifications, 64 at a time.
func (h *harness) callback(ctx context.Context) (section, error) {
	s := section{title: "Receiver of the normal callback", tables: []table{{header: []string{"confirmed when", "notifications/s", "CPU per notification, µs", "most memory, MiB"}}}}
	for _, c := range []struct{ what, store string }{
		{"on the disk (SQLite)", fmt.Sprintf("{path: %q}", h.dir+"/callback.db")}, {"printed (no store)", "{driver: none}"},
	} {
		rate, u, err := h.receive(ctx, c.store, scale(h, 30_000, 1_000))
		if err != nil {
			return s, err
		}
		s.tables[0].add(c.what, number(rate), micros(u.CPU), mebi(u.RSS))
		h.goal("callback receiver, "+c.what, "-", "%s notifications/s", number(rate))
	}
	s.note("Signed notifications of 1.5 KB over loopback, 64 at a time, sink stdout. CPU time includes the delivery to the sink.")
	return s, nil
}

// receive has n notifications posted; the usage's CPU time is that for each.
func (h *harness) receive(ctx context.Context, store string, n int) (rate float64, u usage, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, u, err
	}
	address := listener.Addr().String()
	_ = listener.Close()
	const key = "0123456789abcdef"
	w, err := h.newWorld(ctx, worldOptions{PushURL: "http://" + address, SignKey: key}, 0)
	if err != nil {
		return 0, u, err
	}
	defer w.close()
	args, err := h.configuration(fmt.Sprintf("sources: [callback]\ncallback: {listen: %q, sign_key: %q}\nstore: %s\nsinks: [{name: stdout, type: stdout}]\n", address, key, store))
	if err != nil {
		return 0, u, err
	}
	p, err := w.start(nil, h.program, args...)
	if err != nil {
		return 0, u, err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); sleep(ctx, 10*time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			break
		}
	}
	err = w.publish(ctx, n)
	if err == nil {
		err = p.lines.wait(ctx, time.Minute, int64(n))
	}
	u, killed := p.kill()
	if err = errors.Join(err, killed); err != nil {
		return 0, u, fmt.Errorf("%w\n%s", err, p.stderr.String())
	}
	u.CPU /= time.Duration(n)
	var posts pushes
	if err := w.control(ctx, &posts, "/pushes", nil); err != nil {
		return 0, u, err
	}
	return perSecond(posts.Acknowledged, posts.First, posts.Last), u, nil
}
