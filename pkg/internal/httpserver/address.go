package httpserver

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// CheckListen says what is wrong with an address to listen on; port is a good one to name as an example.
func CheckListen(address string, port int) error {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("write host:port, such as 127.0.0.1:%d or [::1]:%d", port, port)
	}
	if n, err := strconv.Atoi(text); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is not a port, write a number up to 65535, such as %d", text, port)
	}
	return nil
}

// Closed is the rule for a server that asks for no proof of who asks it: it returns an error with the remedy for an
// address that others than this machine can reach. It is asked again with the address that became of the
// configured one, since localhost can be anything in /etc/hosts.
func Closed(address, remedy string) error {
	if IsLoopback(address) {
		return nil
	}
	return fmt.Errorf("others can reach this address: %s, or listen on 127.0.0.1", remedy)
}

// IsLoopback reports whether only this machine reaches the address, a host and a port. An empty host is every
// address.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Addr reads an IP address with or without a port; one of IPv4 that is written as IPv6 is the same one.
func Addr(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	addr, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return addr.Unmap().WithZone(""), err == nil
}

// Networks are addresses that something is decided by.
type Networks []netip.Prefix

// ParseNetworks reads networks and single addresses.
func ParseNetworks(texts []string) (Networks, error) {
	var all Networks
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return nil, fmt.Errorf("%q: is neither an address nor a network, write 203.0.113.7 or 203.0.113.0/24", text)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if prefix.Masked() != prefix {
			return nil, fmt.Errorf("%q: has bits behind its mask, write %s", text, prefix.Masked())
		}
		all = append(all, prefix)
	}
	return all, nil
}

// Contain reports whether addr is in one of the networks.
func (n Networks) Contain(addr netip.Addr) bool {
	for _, prefix := range n {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
