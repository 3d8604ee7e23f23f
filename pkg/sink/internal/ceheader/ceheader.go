// Package ceheader writes texts into the headers of protocols that take printable ASCII only.
package ceheader

import "strings"

// Escape makes a text fit for a header as CloudEvents wants it: everything but printable ASCII, and also
// space, quote and percent, as percent and two digits for each byte. Source: section 3.1.3.2 of
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md.
func Escape(text string) string {
	const digits = "0123456789ABCDEF"
	var out strings.Builder
	for _, c := range []byte(strings.ToValidUTF8(text, "\uFFFD")) {
		if c <= ' ' || c > '~' || c == '"' || c == '%' {
			out.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}
