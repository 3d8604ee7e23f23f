//go:build !unix

package httpserver

import "net"

func deepen(net.Listener) {}
