package webhook

import (
	"crypto/x509"
	"encoding/json"
	"slices"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// Option is what a sink that is built on this one needs beside the configuration.
type Option func(*Sink)

// WithExtensions adds CloudEvents attributes to every event, in both formats of CloudEvents. Their names must consist of
// lower-case letters and digits and be none of CloudEvents' own, and their values must be valid UTF-8.
func WithExtensions(attributes ...event.Attribute) Option {
	return func(s *Sink) { s.extensions = slices.Clone(attributes) }
}

// WithBearer adds the token to every request. It is called for each, and its error is Send's.
func WithBearer(token func() (string, error)) Option {
	return func(s *Sink) { s.bearer = token }
}

// WithRoots trusts these certificates instead of the system's, unless tls.ca_file is set.
func WithRoots(roots *x509.CertPool) Option {
	return func(s *Sink) { s.roots = roots }
}

// extend adds the extensions where the format has its attributes.
func (s *Sink) extend(message event.Message) event.Message {
	switch {
	case len(s.extensions) == 0:
	case s.format == event.FormatCloudEventsBinary:
		message.Attributes = append(message.Attributes, s.extensions...)
	case s.format == event.FormatCloudEvents:
		body := []byte{'{'}
		for _, a := range s.extensions {
			value, _ := json.Marshal(a.Value) // a text always can be
			body = append(append(body, '"'), a.Name...)
			body = append(append(append(body, `":`...), value...), ',')
		}
		message.Body = append(body, message.Body[1:]...) // an object that is not empty
	}
	return message
}
