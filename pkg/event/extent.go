package event

import (
	"errors"
	"io"
)

// ErrNotJSON says that something has not the outline of JSON.
var ErrNotJSON = errors.New("not JSON")

// EachField calls fn for each field of the JSON object that data begins with, in order, and returns where the
// object ends. It finds the ends of values by brackets and quotation marks alone and keeps nothing, so that no
// value is too deep or too large, and one that is not JSON inside costs none of the others: fn judges what it
// uses. The error is fn's, io.ErrUnexpectedEOF when data ends before the object, or ErrNotJSON.
func EachField(data []byte, fn func(name string, value []byte) error) (end int, err error) {
	s := &scanner{data: data}
	return s.each('{', '}', func() error {
		name := s.name()
		s.take(':')
		value := s.extent()
		if s.bad {
			return s.failure()
		}
		return fn(unquote(name), value)
	})
}

// EachItem is EachField for the items of a list.
func EachItem(data []byte, fn func(item []byte) error) (end int, err error) {
	s := &scanner{data: data}
	return s.each('[', ']', func() error {
		item := s.extent()
		if s.bad {
			return s.failure()
		}
		return fn(item)
	})
}

// each calls next at each member between the two brackets.
func (s *scanner) each(open, end byte, next func() error) (int, error) {
	s.take(open)
	for first := true; s.more(end); first = false {
		if !first {
			s.take(',')
		}
		if err := next(); err != nil {
			return s.at, err
		}
	}
	s.take(end)
	if s.bad {
		return s.at, s.failure()
	}
	return s.at, nil
}

// failure tells a text that is cut short from one that is not JSON.
func (s *scanner) failure() error {
	if s.at >= len(s.data) {
		return io.ErrUnexpectedEOF
	}
	return ErrNotJSON
}

// extent is the value that is next, whatever is in it.
func (s *scanner) extent() []byte {
	s.peek()
	start := s.at
	for depth := 0; ; {
		switch c := s.peek(); c {
		case 0, '}', ']', ',', ':':
			if s.bad = c == 0 || depth == 0; s.bad {
				break
			}
			if c == '}' || c == ']' {
				depth--
			}
			s.at++
		case '"':
			s.quoted()
		case '{', '[':
			depth++
			s.at++
		default:
			s.word()
		}
		if s.bad {
			return nil
		}
		if depth == 0 {
			return s.data[start:s.at]
		}
	}
}

// word goes past what should be a number or a literal.
func (s *scanner) word() {
	for s.at++; s.at < len(s.data); s.at++ {
		switch s.data[s.at] {
		case ',', ':', '"', '{', '[', ']', '}', ' ', '\t', '\n', '\r':
			return
		}
	}
}
