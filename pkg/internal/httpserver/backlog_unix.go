//go:build unix

package httpserver

import (
	"net"
	"syscall"
)

// backlog is how many connections may wait to be accepted; the kernel lowers it to what net.core.somaxconn says.
const backlog = 1<<16 - 1

// deepen has l keep as many waiting connections as the kernel allows. Go reads how many that are in /proc/sys, which systemd
// hides from a service with ProcSubset=pid, and is content with 128 then. Source: listen(2), and package net.
func deepen(l net.Listener) {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return
	}
	if raw, err := socket.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = syscall.Listen(int(fd), backlog) }) // it listens with fewer, else
	}
}
